"""The nearest stores of many points in one call: JSON or CSV in, JSON or CSV out, streamed."""

import asyncio
from collections.abc import Iterator

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api.auth import BrandAccess
from api.store_questions import NearestIn, now, points_question
from discovery.errors import NotFound
from discovery.hive import Hive
from discovery.stores.points import Points
from discovery.stores.question import Question

CSV = "text/csv"


async def nearest_of_points(request: Request, hive: Hive, access: BrandAccess, body: NearestIn) -> Response:
    """The answer to a body with ``points``."""
    points, question = await asyncio.to_thread(points_question, body, now())
    return await answer_points(hive, access, points, question, as_csv=CSV in request.headers.get("accept", ""))


async def answer_points(
    hive: Hive, access: BrandAccess, points: Points, question: Question, *, as_csv: bool
) -> Response:
    """Each point counts as a request of the key; the first one did before the body was read."""
    key = hive.catalogue.brand(access.brand).keys.get(access.key_id) if access.key_id else None
    if key is not None:
        hive.stores.usage.charge(access.brand, access.key_id, key.quota_per_day, len(points.ids) - 1)
    try:
        pieces = await _ask(hive, access.brand, points, question, as_csv)
    except NotFound:
        await hive.stores.look_again(access.brand)
        pieces = await _ask(hive, access.brand, points, question, as_csv)
    return StreamingResponse(pieces, media_type="text/csv; charset=utf-8" if as_csv else "application/json")


async def _ask(hive: Hive, brand: str, points: Points, question: Question, as_csv: bool) -> Iterator[bytes]:
    return await hive.stores.reads.nearest_of_all(brand, points, question, now(), as_csv=as_csv)
