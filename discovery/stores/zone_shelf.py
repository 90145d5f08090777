"""Zones of a brand in the state: put and taken away one by one, read by what changed."""

from discovery.errors import Invalid, NotFound
from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script
from discovery.stores.zones import MAX_ZONES, NO_ZONES, ZoneSet

_PUT = Script("stores_zone")
_READ_AT_ONCE = 500


async def write_zone(state: State, brand: str, store_id: str, geojson: bytes | None) -> None:
    """Put the zone of a store, or with None take it away.

    Raises ``NotFound`` when there is none to take away, ``Invalid`` when the brand has as many as it may.
    """
    both = [keys.brand_zones(brand), keys.brand_zone_order(brand)]
    version = int(await state.run(_PUT, both, [store_id, geojson or b"", MAX_ZONES]))
    if version == 0:
        raise NotFound("this store has no zone")
    if version < 0:
        raise Invalid(f"a brand has at most {MAX_ZONES} zones", "zone")


async def load_zones(state: State, brand: str, known: ZoneSet) -> ZoneSet:
    """The zones as they are now; only what changed since ``known`` is read."""
    order = keys.brand_zone_order(brand)
    newest = await state.call("ZRANGE", order, -1, -1)
    version = int(float(await state.call("ZSCORE", order, newest[0]))) if newest else 0
    if version == known.version:
        return known
    if version < known.version:  # the state was put back to an older one
        known = NO_ZONES
    changed = await state.call("ZRANGEBYSCORE", order, f"({known.version}", version)
    changes: dict[str, bytes | None] = {}
    for start in range(0, len(changed), _READ_AT_ONCE):
        ids = changed[start : start + _READ_AT_ONCE]
        zones = await state.call("HMGET", keys.brand_zones(brand), *ids)
        changes.update((store_id.decode(), zone) for store_id, zone in zip(ids, zones, strict=True))
    return known.with_changes(version, changes)
