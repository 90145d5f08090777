"""Where a brand's stores are looked for: bands by hexagon, of whole days that are over."""

import asyncio
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator
from starlette.responses import Response

from api.access import StoreHive
from api.auth import BrandAdmin
from api.dependencies import BrandPath, whole_number
from api.pagination import LimitParam
from api.strict_json import StrictRoute
from discovery.errors import Invalid, NotFound
from discovery.hive import Hive
from discovery.stores import demand_answers
from discovery.stores.demand_answers import Map
from discovery.stores.demand_days import MOST_DAYS

router = APIRouter(prefix="/v1/brands/{brand}/demand", tags=["stores"], route_class=StrictRoute)

GEOJSON, CSV = "application/geo+json", "text/csv; charset=utf-8"
_EPOCH = date(1970, 1, 1)

FromDay = Annotated[str, Query(alias="from", pattern=r"^\d{4}-\d\d-\d\d$", description="First UTC day, as 2026-11-01.")]
ToDay = Annotated[str, Query(alias="to", pattern=r"^\d{4}-\d\d-\d\d$", description="Last UTC day, included.")]
Resolution = Annotated[Literal[5, 6, 7], BeforeValidator(whole_number), Query(description="Of the H3 cells.")]
Format = Annotated[Literal["geojson", "csv"], Query(description="Of the answer.")]


class DemandOut(BaseModel):
    """GeoJSON hexagons. Counts are bands, of several days the sums of their bands; `other` sums what is withheld."""

    type: Literal["FeatureCollection"]
    resolution: int
    other: dict[str, Any] | None
    unserved_share: float | None
    missing_services: list[dict[str, Any]]
    features: list[dict[str, Any]]


class PlacesOut(BaseModel):
    """GeoJSON hexagons, the best place for one more store first."""

    type: Literal["FeatureCollection"]
    resolution: int
    features: list[dict[str, Any]]


@router.get("", response_model=DemandOut)
async def get_demand(
    brand: BrandPath,
    _access: BrandAdmin,
    hive: StoreHive,
    from_day: FromDay,
    to_day: ToDay,
    resolution: Resolution = 7,
    format: Format = "geojson",
) -> Response:
    """Hexagons with bands of searches, searchers and distance to the nearest store; of whole UTC days that are over.

    A cell that fewer than five people searched in, and the next smallest beside it, are in `other`, or nowhere.
    """
    found, head = await _map(hive, brand, from_day, to_day, resolution)
    if format == "csv":
        return Response(await asyncio.to_thread(demand_answers.as_csv, found), media_type=CSV)
    return Response(await asyncio.to_thread(demand_answers.geojson, found, head), media_type=GEOJSON)


@router.get("/next", response_model=PlacesOut)
async def get_next_places(
    brand: BrandPath,
    _access: BrandAdmin,
    hive: StoreHive,
    from_day: FromDay,
    to_day: ToDay,
    resolution: Resolution = 7,
    limit: LimitParam = 10,
    format: Format = "geojson",
) -> Response:
    """Where to open next: cells by how much nearer one more store there would be to those who searched."""
    found, head = await _map(hive, brand, from_day, to_day, resolution)
    stores = hive.catalogue.brand(brand).stores
    chosen = await asyncio.to_thread(demand_answers.where_next, found, stores, limit)
    if format == "csv":
        return Response(demand_answers.candidates_csv(chosen), media_type=CSV)
    return Response(demand_answers.candidates_geojson(chosen, head), media_type=GEOJSON)


async def _map(hive: Hive, brand: str, from_day: str, to_day: str, resolution: int) -> tuple[Map, dict[str, Any]]:
    first, last = _day(from_day, "from"), _day(to_day, "to")
    if not 0 <= last - first < MOST_DAYS:
        raise Invalid(f"must be from the day of from on, {MOST_DAYS} days at most", "to")
    if brand not in hive.catalogue:
        await hive.stores.look_again(brand)
    if brand not in hive.catalogue:
        raise NotFound("no such brand")
    days = await hive.demand_days.rows(brand, range(first, last + 1))
    found = await asyncio.to_thread(demand_answers.put_together, days, resolution)
    return found, {"from": from_day, "to": to_day, "resolution": resolution}


def _day(text: str, field: str) -> int:
    try:
        return (datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date() - _EPOCH).days
    except ValueError:
        raise Invalid("must be a day, as 2026-11-21", field) from None
