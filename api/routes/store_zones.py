"""The zone of a store: the area it serves."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from api.access import StoreHive
from api.auth import BrandAdmin
from api.dependencies import BrandPath, IdPath, Model, answer
from api.etags import etagged
from api.publishable import BrandGetReader
from api.strict_json import StrictRoute, body_limit
from discovery.errors import NotFound

router = APIRouter(prefix="/v1/brands/{brand}/stores/{store_id}/zone", tags=["stores"], route_class=StrictRoute)

ZONE_BODY = 1024 * 1024
_EXAMPLE: dict[str, Any] = {
    "type": "Polygon",
    "coordinates": [[[2.25, 48.81], [2.42, 48.81], [2.42, 48.91], [2.25, 48.91], [2.25, 48.81]]],
}


class ZoneIn(Model):
    """A GeoJSON Polygon or MultiPolygon, holes and all: 10,000 positions at most."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any]
    bbox: list[float] | None = None


class ZoneOut(BaseModel):
    """`repaired`: what was wrong with the geometry and could be mended, in words."""

    store_id: str
    repaired: list[str]


@router.put("", response_model=ZoneOut)
@body_limit(ZONE_BODY)
async def put_zone(brand: BrandPath, store_id: IdPath, body: ZoneIn, _access: BrandAdmin, hive: StoreHive) -> Response:
    """Put or replace the area that a store serves. Invalid geometries are repaired, or refused with the reason."""
    geometry = {"type": body.type, "coordinates": body.coordinates}
    repaired = await hive.stores.put_zone(brand, store_id, geometry)
    return answer({"store_id": store_id, "repaired": repaired})


@router.get("", response_model=dict[str, Any])
async def get_zone(
    request: Request, brand: BrandPath, store_id: IdPath, _access: BrandGetReader, hive: StoreHive
) -> Response:
    """The area as it is used: repaired, and cut at 180 degrees."""
    try:
        zone = hive.stores.reads.zone(brand, store_id)
    except NotFound:
        await hive.stores.look_again(brand)
        zone = hive.stores.reads.zone(brand, store_id)
    return etagged(request, zone, "application/geo+json")


@router.delete("", status_code=204)
async def delete_zone(brand: BrandPath, store_id: IdPath, _access: BrandAdmin, hive: StoreHive) -> Response:
    """The store serves no area any more."""
    await hive.stores.remove_zone(brand, store_id)
    return Response(status_code=204)
