"""The store finder: import."""

from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import StoreHive
from api.auth import BrandAdmin
from api.dependencies import BrandPath, answer
from api.errors import UnsupportedMediaType
from api.strict_json import IMPORT_BODY, StrictRoute, body_chunks, raw_body

router = APIRouter(prefix="/v1/brands/{brand}/stores", tags=["stores"], route_class=StrictRoute)

GEOJSON = "application/geo+json"
IMPORT_TYPES = ("text/csv", GEOJSON)

class ImportOut(BaseModel):
    """What the import changed, and the rows with something to say; row 1 of a CSV is its header."""

    added: int
    changed: int
    removed: int
    unchanged: int
    rejected: list[dict[str, Any]]
    warnings: list[dict[str, Any]]


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
