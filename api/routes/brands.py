"""Brands and their keys, made by the operator."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import StoreHive
from api.auth import OperatorOnly
from api.dependencies import BrandPath, IdPath, Model, rfc3339
from api.strict_json import StrictRoute
from discovery.stores.brand_keys import MAX_ORIGINS, MAX_QUOTA
from discovery.stores.catalogue import BrandKey

router = APIRouter(prefix="/v1/brands", tags=["stores"], route_class=StrictRoute)

_DAY_MS = 86_400_000


class BrandIn(Model):
    """What a brand is called."""

    name: Annotated[str, Field(strict=True, min_length=1, max_length=200)]
    website: Annotated[str, Field(strict=True, max_length=500)] | None = None


class BrandOut(BaseModel):
    """One brand."""

    brand: str
    name: str
    website: str | None


class KeyIn(Model):
    """Which kind of key, the origins of the pages that a publishable one is for, and most requests in a UTC day."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"kind": "secret"},
                {"kind": "publishable", "origins": ["https://www.example.com"], "quota_per_day": 100_000},
            ]
        }
    )

    kind: Literal["secret", "publishable"]
    origins: (
        Annotated[list[Annotated[str, Field(strict=True, max_length=300)]], Field(max_length=MAX_ORIGINS)] | None
    ) = None
    quota_per_day: Annotated[int, Field(strict=True, ge=1, le=MAX_QUOTA)] | None = None


class KeyOut(BaseModel):
    """The key, shown this once: only its hash is kept."""

    key_id: str
    key: str
    kind: str
    origins: list[str]
    quota_per_day: int | None


class DayOut(BaseModel):
    """Requests of one UTC day."""

    day: str
    requests: int


class KnownKeyOut(BaseModel):
    """A live key, without the key itself; `usage`: days of the last 31 that had requests."""

    key_id: str
    kind: str
    origins: list[str]
    quota_per_day: int | None
    made_at: str
    usage: list[DayOut]


class KeysOut(BaseModel):
    """The live keys of a brand, the oldest first."""

    keys: list[KnownKeyOut]


@router.put("/{brand}")
async def put_brand(brand: BrandPath, body: BrandIn, _operator: OperatorOnly, hive: StoreHive) -> BrandOut:
    """Create a brand or change its name."""
    await hive.stores.put_brand(brand, body.name, body.website)
    return BrandOut(brand=brand, name=body.name, website=body.website)


@router.post("/{brand}/keys", status_code=201)
async def post_key(brand: BrandPath, body: KeyIn, _operator: OperatorOnly, hive: StoreHive) -> KeyOut:
    """Make a key of the brand. Two of a kind live at once, so that one can follow the other; a third: 409."""
    made = await hive.stores.keys.make(brand, body.kind, body.origins or (), body.quota_per_day, hive.now_ms)
    key_id, key, kept = made
    return KeyOut(key_id=key_id, key=key, kind=kept.kind, origins=list(kept.origins), quota_per_day=kept.quota_per_day)


@router.get("/{brand}/keys")
async def get_keys(brand: BrandPath, _operator: OperatorOnly, hive: StoreHive) -> KeysOut:
    """The live keys of the brand, and how much each is used."""
    known = await hive.stores.keys.of(brand)
    usage = await hive.stores.usage.of(brand)
    return KeysOut(keys=[_shown(key_id, key, usage.get(key_id, {})) for key_id, key in known.items()])


@router.delete("/{brand}/keys/{key_id}", status_code=204)
async def delete_key(brand: BrandPath, key_id: IdPath, _operator: OperatorOnly, hive: StoreHive) -> Response:
    """Revoke a key: no worker takes it any more when this is answered."""
    await hive.stores.keys.revoke(brand, key_id)
    return Response(status_code=204)


def _shown(key_id: str, key: BrandKey, usage: dict[int, int]) -> KnownKeyOut:
    days = [DayOut(day=rfc3339(day * _DAY_MS)[:10], requests=requests) for day, requests in sorted(usage.items())]
    return KnownKeyOut(
        key_id=key_id,
        kind=key.kind,
        origins=list(key.origins),
        quota_per_day=key.quota_per_day,
        made_at=rfc3339(key.made_ms),
        usage=days,
    )
