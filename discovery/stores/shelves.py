"""Brands and store sets in the state. A set is written under a new version, then made current by one script."""

import asyncio
from collections.abc import Mapping, Sequence

from discovery.errors import Conflict
from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script
from discovery.stores.brand_keys import key_of
from discovery.stores.catalogue import Brand
from discovery.stores.packing import empty_set, unpack
from discovery.stores.store_set import StoreSet
from discovery.stores.zone_shelf import load_zones
from discovery.stores.zones import NO_ZONES

SPARE_CHUNKS_TTL_S = 3600

_FLIP = Script("stores_flip")


async def brand_names(state: State) -> list[str]:
    """All brands, sorted."""
    return sorted(name.decode() for name in await state.call("SMEMBERS", keys.brands()))


async def write_brand(state: State, brand: str, name: str, website: str | None) -> None:
    """Create the brand or change its name and website."""
    await state.call("SADD", keys.brands(), brand)  # first: a name without a brand is skipped, a brand without is lost
    await state.call("HSET", keys.brand_meta(brand), "name", name, "website", website or "")


async def current(state: State, brand: str) -> tuple[int, int]:
    """Version of the set in use and its number of chunks; (0, 0) before the first import."""
    version, chunks = await state.call("HMGET", keys.brand_current(brand), "version", "chunks")
    return int(version or 0), int(chunks or 0)


async def load(state: State, brand: str, version: int, chunks: int) -> StoreSet:
    """The set of one version. Raises ``Conflict`` when it is gone (replaced over an hour ago)."""
    if version == 0:
        return empty_set()
    parts = [await state.call("GET", keys.brand_chunk(brand, version, index)) for index in range(chunks)]
    if any(part is None for part in parts):
        raise Conflict("this version of the stores is gone")
    return await asyncio.to_thread(unpack, parts)


async def load_brand(state: State, brand: str, known: Brand | None = None) -> Brand | None:
    """All of a brand, None when there is no such brand. The set of ``known`` is kept when it is the current one."""
    meta = _texts(await state.call("HGETALL", keys.brand_meta(brand)))
    if not meta:
        return None
    api_keys = _texts(await state.call("HGETALL", keys.brand_keys(brand)))
    version, chunks = await current(state, brand)
    stores = known.stores if known and known.version == version else await load(state, brand, version, chunks)
    if known is not None and stores is not known.stores:
        await asyncio.to_thread(stores.make_as, known.stores)
    zones = await load_zones(state, brand, known.zones if known else NO_ZONES)
    return Brand(
        brand=brand,
        name=meta["name"],
        website=meta.get("website") or None,
        keys={key_id: key_of(row) for key_id, row in api_keys.items()},
        version=version,
        chunks=chunks,
        stores=stores,
        zones=zones,
    )


async def write_set(state: State, brand: str, chunks: Sequence[bytes]) -> int:
    """Write ``chunks`` under a new version, which is returned; they go by themselves unless it is made current."""
    version = int(await state.call("INCR", keys.brand_versions(brand)))
    for index, chunk in enumerate(chunks):
        await state.call("SET", keys.brand_chunk(brand, version, index), chunk, "EX", SPARE_CHUNKS_TTL_S)
    return version


async def make_current(state: State, brand: str, expected: tuple[int, int], new: tuple[int, int]) -> None:
    """Make the set ``new`` (version, chunks) current if ``expected`` still is.

    Raises ``Conflict`` when another import was faster; then nothing is changed.
    """
    (old_version, old_count), (version, count) = expected, new
    chunks = [keys.brand_chunk(brand, version, index) for index in range(count)]
    chunks += [keys.brand_chunk(brand, old_version, index) for index in range(old_count)]
    args = [old_version, version, count, SPARE_CHUNKS_TTL_S]
    outcome = await state.run(_FLIP, [keys.brand_current(brand), *chunks], args)
    if outcome != b"ok":
        raise Conflict(
            "another import of this brand was faster; import again" if outcome == b"conflict" else "import lapsed"
        )


def _texts(flat: Sequence[bytes]) -> Mapping[str, str]:
    return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
