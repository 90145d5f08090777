"""The store finder: import, one store, the nearest."""

import time
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import StoreHive
from api.auth import BrandAdmin
from api.dependencies import (
    BrandPath,
    IdPath,
    Lat,
    LatParam,
    Limit,
    Lon,
    LonParam,
    Metres,
    MetresParam,
    Model,
    answer,
    instant_ms,
)
from api.errors import UnsupportedMediaType
from api.pagination import LimitParam
from api.strict_json import IMPORT_BODY, StrictRoute, body_chunks, raw_body
from discovery.errors import Invalid, NotAvailable, NotFound
from discovery.hive import Hive
from discovery.stores.finder import Question

router = APIRouter(prefix="/v1/brands/{brand}/stores", tags=["stores"], route_class=StrictRoute)

GEOJSON = "application/geo+json"
IMPORT_TYPES = ("text/csv", GEOJSON)

Services = Annotated[list[Annotated[str, Field(strict=True, min_length=1, max_length=100)]], Field(max_length=64)]
OpenText = Annotated[str, Field(strict=True, max_length=40, description="now, or an RFC 3339 time.")]


class NearestIn(Model):
    """Where to look from, and which stores count. The point is used and forgotten."""

    lat: Lat
    lon: Lon
    limit: Limit = 5
    max_distance_m: Metres | None = None
    open: OpenText | None = None
    services: Services = Field(default_factory=list)


class ImportOut(BaseModel):
    """What the import changed, and the rows with something to say; row 1 of a CSV is its header."""

    added: int
    changed: int
    removed: int
    unchanged: int
    rejected: list[dict[str, Any]]
    warnings: list[dict[str, Any]]


class FeatureCollection(BaseModel):
    """GeoJSON; each Feature's `id` is the store_id, its properties also `distance_m`, `bearing_deg`, `open`."""

    type: Literal["FeatureCollection"]
    features: list[dict[str, Any]]
    fallback: dict[str, Any] | None = None


@router.put("", response_model=ImportOut)
@raw_body(IMPORT_BODY)
async def put_stores(
    request: Request,
    brand: BrandPath,
    _access: BrandAdmin,
    hive: StoreHive,
    dry_run: bool = False,
    on_error: Literal["refuse", "skip"] = "refuse",
) -> Response:
    """Replace the brand's stores by a `text/csv` or `application/geo+json` body. Until then the old set answers."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in IMPORT_TYPES:
        raise UnsupportedMediaType("Send text/csv or application/geo+json.")
    with TemporaryFile() as file:  # on disk: an import may be 512 MB; stores are public, no person's point is in it
        await _spool(request, file)
        report = await hive.stores.import_stores(brand, kind, file, on_error, dry_run=dry_run)
    return answer(report.as_json())


async def _spool(request: Request, file: BinaryIO) -> None:
    async for chunk in body_chunks(request, IMPORT_BODY):
        await run_in_threadpool(file.write, chunk)
    file.seek(0)


@router.post("/nearest", response_model=FeatureCollection)
async def post_nearest(brand: BrandPath, body: NearestIn, _access: BrandAdmin, hive: StoreHive) -> Response:
    """The nearest stores of one point, nearest first."""
    return await _nearest(hive, brand, body.lat, body.lon, body.limit, body.max_distance_m, body.open, body.services)


@router.get("/nearest", response_model=FeatureCollection)
async def get_nearest(
    brand: BrandPath,
    _access: BrandAdmin,
    hive: StoreHive,
    lat: LatParam,
    lon: LonParam,
    limit: LimitParam = 5,
    max_distance_m: MetresParam | None = None,
    open: OpenText | None = None,
    services: Annotated[str, Query(max_length=2000, description="Separated by `;`.")] = "",
) -> Response:
    """The same for quick use. Prefer POST: so no point stands in a URL."""
    wanted = [name.strip() for name in services.split(";") if name.strip()]
    return await _nearest(hive, brand, lat, lon, limit, max_distance_m, open, wanted)


@router.get("/{store_id}", response_model=dict[str, Any])
async def get_store(brand: BrandPath, store_id: IdPath, _access: BrandAdmin, hive: StoreHive) -> Response:
    """One store as a GeoJSON Feature."""
    return await _answer(hive, brand, lambda: hive.stores.get_store(brand, store_id))


async def _nearest(
    hive: Hive,
    brand: str,
    lat: float,
    lon: float,
    limit: int,
    max_distance_m: float | None,
    open_at: str | None,
    services: list[str],
) -> Response:
    at_ms = time.time_ns() // 1_000_000 if open_at in (None, "now") else _at_ms(str(open_at))
    question = Question(lat, lon, at_ms, limit, max_distance_m, open_at is not None, tuple(services))
    return await _answer(hive, brand, lambda: hive.stores.nearest(brand, question))


async def _answer(hive: Hive, brand: str, ask: Callable[[], bytes]) -> Response:
    """Ask what this worker holds; before a 404 look once into the state."""
    try:
        return Response(ask(), media_type=GEOJSON)
    except NotFound:
        await hive.stores.look_again(brand)
    return Response(ask(), media_type=GEOJSON)


def _at_ms(text: str) -> int:
    if text == "on_arrival":
        raise NotAvailable("on_arrival comes with a later version", field="open")
    try:
        return instant_ms(text)
    except ValueError:
        raise Invalid("must be now or an RFC 3339 time with an offset", field="open") from None
