"""Whole store sets in and out, and one store put or removed."""

from collections.abc import Callable, Iterator
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api.access import StoreHive
from api.auth import BrandAdmin
from api.dependencies import BrandPath, IdPath, Model, answer
from api.errors import UnsupportedMediaType
from api.strict_json import IMPORT_BODY, StrictRoute, body_chunks, body_limit, raw_body
from discovery.errors import NotFound
from discovery.hive import Hive
from discovery.stores.exporting import csv_pieces, geojson_pieces
from discovery.stores.importers import MEDIA_TYPES
from discovery.stores.store_set import StoreSet

router = APIRouter(prefix="/v1/brands/{brand}", tags=["stores"], route_class=StrictRoute)

GEOJSON = "application/geo+json"
STORE_BODY = 256 * 1024
_EXPORTS: dict[str, tuple[str, Callable[[StoreSet], Iterator[bytes]]]] = {
    "geojson": (GEOJSON, geojson_pieces),
    "csv": ("text/csv; charset=utf-8", csv_pieces),
}
OnError = Literal["refuse", "skip"]


class PointIn(Model):
    """GeoJSON: longitude first."""

    type: Literal["Point"]
    coordinates: Annotated[list[Annotated[float, Field(strict=True)]], Field(min_length=2, max_length=3)]


class StoreProperties(Model):
    """The fields of a store, as `GET` shows them."""

    store_id: str | None = None
    name: str | None = None
    address: str | None = None
    city: str | None = None
    country: str | None = None
    postcode: str | None = None
    phone: str | None = None
    website: str | None = None
    opening_hours: str | None = None
    timezone: str | None = None
    services: list[str] = Field(default_factory=list)
    tags: dict[str, str] = Field(default_factory=dict)


class StoreIn(Model):
    """A store as a GeoJSON Feature."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "Feature",
                    "geometry": {"type": "Point", "coordinates": [2.3522, 48.8566]},
                    "properties": {"name": "Paris 1", "opening_hours": "Mo-Sa 09:00-19:00", "services": ["wifi"]},
                }
            ]
        }
    )

    type: Literal["Feature"]
    id: str | None = None
    geometry: PointIn
    properties: StoreProperties


class ImportOut(BaseModel):
    """What the import changed, and the rows with something to say; row 1 of a CSV is its header."""

    added: int
    changed: int
    removed: int
    unchanged: int
    rejected: list[dict[str, Any]]
    warnings: list[dict[str, Any]]


@router.put("/stores", response_model=ImportOut)
@raw_body(IMPORT_BODY)
async def put_stores(
    request: Request,
    brand: BrandPath,
    _access: BrandAdmin,
    hive: StoreHive,
    dry_run: bool = False,
    on_error: OnError = "refuse",
) -> Response:
    """Replace the brand's stores by a file: CSV, GeoJSON, or JSON of schema.org, Woosmap or Overpass.

    Until the new set is in, the old one answers.
    """
    return await _import(request, brand, hive, on_error, dry_run=dry_run, merge=False)


@router.patch("/stores", response_model=ImportOut)
@raw_body(IMPORT_BODY)
async def patch_stores(
    request: Request,
    brand: BrandPath,
    _access: BrandAdmin,
    hive: StoreHive,
    dry_run: bool = False,
    on_error: OnError = "refuse",
) -> Response:
    """Merge a file into the brand's stores: those of the same id are replaced, whole; the others stay."""
    return await _import(request, brand, hive, on_error, dry_run=dry_run, merge=True)


@router.get("/export", response_model=dict[str, Any])
async def export_stores(
    brand: BrandPath, _access: BrandAdmin, hive: StoreHive, format: Literal["geojson", "csv"] = "geojson"
) -> Response:
    """All stores as one file, as of one moment; an import reads it back as the same stores. Zones are not in it."""
    try:
        stores = hive.catalogue.brand(brand).stores
    except NotFound:
        await hive.stores.look_again(brand)
        stores = hive.catalogue.brand(brand).stores
    media_type, pieces = _EXPORTS[format]
    name = {"Content-Disposition": f'attachment; filename="stores.{format}"'}
    return StreamingResponse(pieces(stores), media_type=media_type, headers=name)


@router.put("/stores/{store_id}", response_model=dict[str, Any])
@body_limit(STORE_BODY)
async def put_store(
    brand: BrandPath, store_id: IdPath, body: StoreIn, _access: BrandAdmin, hive: StoreHive
) -> Response:
    """Add a store, or replace it whole. For many at once, import a file."""
    await hive.stores.put_store(brand, store_id, body.model_dump(exclude_none=True))
    return Response(hive.stores.reads.store(brand, store_id), media_type=GEOJSON)


@router.delete("/stores/{store_id}", status_code=204)
async def delete_store(brand: BrandPath, store_id: IdPath, _access: BrandAdmin, hive: StoreHive) -> Response:
    """Remove one store."""
    await hive.stores.remove_store(brand, store_id)
    return Response(status_code=204)


async def _import(
    request: Request, brand: str, hive: Hive, on_error: OnError, *, dry_run: bool, merge: bool
) -> Response:
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in MEDIA_TYPES:
        raise UnsupportedMediaType(f"Send one of {', '.join(MEDIA_TYPES)}.")
    with TemporaryFile() as file:  # on disk: an import may be 512 MB; stores are public, no person's point is in it
        await _spool(request, file)
        report = await hive.stores.import_stores(brand, given, file, on_error, dry_run=dry_run, merge=merge)
    return await run_in_threadpool(answer, report.as_json())


async def _spool(request: Request, file: BinaryIO) -> None:
    async for chunk in body_chunks(request, IMPORT_BODY):
        await run_in_threadpool(file.write, chunk)
    file.seek(0)
