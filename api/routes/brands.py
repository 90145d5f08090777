"""Brands and their keys, made by the operator."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access import StoreHive
from api.auth import OperatorOnly
from api.dependencies import BrandPath, Model
from api.strict_json import StrictRoute

router = APIRouter(prefix="/v1/brands", tags=["stores"], route_class=StrictRoute)


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
    """Which kind of key."""

    kind: Literal["secret", "publishable"]
    origins: Annotated[list[str], Field(max_length=20)] | None = None


class KeyOut(BaseModel):
    """The key, shown this once: only its hash is kept."""

    key_id: str
    key: str
    kind: str
    origins: list[str]


@router.put("/{brand}")
async def put_brand(brand: BrandPath, body: BrandIn, _operator: OperatorOnly, hive: StoreHive) -> BrandOut:
    """Create a brand or change its name."""
    await hive.stores.put_brand(brand, body.name, body.website)
    return BrandOut(brand=brand, name=body.name, website=body.website)


@router.post("/{brand}/keys", status_code=201)
async def post_key(brand: BrandPath, body: KeyIn, _operator: OperatorOnly, hive: StoreHive) -> KeyOut:
    """Make a secret key of the brand. (Publishable keys: 422 `not_available` in this version.)"""
    key_id, key = await hive.stores.new_key(brand, body.kind)
    return KeyOut(key_id=key_id, key=key, kind=body.kind, origins=[])
