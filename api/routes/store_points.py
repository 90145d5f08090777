"""``POST …/stores/nearest`` with points as CSV: the same address as for JSON, told apart by the content type."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from api.access import StoreHive
from api.auth import BrandAdmin
from api.dependencies import BrandPath, MetresParam
from api.pagination import LimitParam
from api.store_batch import CSV, answer_points
from api.store_questions import ListParam, NearestIn, OpenText, SpeedParam, nearest_question, now, split_names
from api.strict_json import LIST_BODY, StrictRoute, body_chunks, raw_body
from discovery.stores.points import points_of_csv


class CsvRoute(StrictRoute):
    """Takes requests whose body says that it is CSV, and leaves the others to the next route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """No match for another content type."""
        kinds = [value for name, value in scope.get("headers", ()) if name == b"content-type"]
        if len(kinds) != 1 or kinds[0].partition(b";")[0].strip().lower() != CSV.encode():
            return Match.NONE, {}
        return super().matches(scope)


router = APIRouter(prefix="/v1/brands/{brand}/stores", tags=["stores"], route_class=CsvRoute)


@router.post("/nearest", include_in_schema=False)
@raw_body(LIST_BODY)
async def post_nearest_csv(
    request: Request,
    brand: BrandPath,
    access: BrandAdmin,
    hive: StoreHive,
    limit: LimitParam = 5,
    max_distance_m: MetresParam | None = None,
    min_distance_m: MetresParam = 0.0,
    open: Annotated[OpenText | None, Query()] = None,
    speed_kmh: SpeedParam | None = None,
    services: ListParam = "",
) -> Response:
    """The nearest of each point of a CSV with columns `lat`, `lon`, perhaps `id`; CSV out unless JSON is asked for."""
    content = b"".join([chunk async for chunk in body_chunks(request, LIST_BODY)])
    points = await asyncio.to_thread(points_of_csv, content)
    body = NearestIn.model_construct(
        lat=0.0,
        lon=0.0,
        limit=limit,
        max_distance_m=max_distance_m,
        min_distance_m=min_distance_m,
        open=open,
        speed_kmh=speed_kmh,
        services=split_names(services),
    )
    as_csv = "application/json" not in request.headers.get("accept", "")
    return await answer_points(hive, access, points, nearest_question(body, now()), as_csv=as_csv)
