"""Rows of OSM objects: elements of Overpass, and features whose properties are OSM tags (also All The Places)."""

import re
from collections.abc import Mapping
from typing import Any

from discovery.stores import json_values
from discovery.stores.addresses import street_address
from discovery.stores.rows import Findings, Row, Unfit

_MAX_TAGS = 200
_READ: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "brand", "operator"),
    "city": ("addr:city", "addr:town", "addr:village", "addr:place"),
    "country": ("addr:country",),
    "postcode": ("addr:postcode",),
    "phone": ("phone", "contact:phone", "contact:mobile"),
    "website": ("website", "contact:website", "url"),
    "opening_hours": ("opening_hours",),
    "timezone": ("timezone",),
}
_ADDRESS = ("addr:full", "addr:street_address")
# Tags that say about the data, not about the store.
_DROPPED = re.compile(
    r"@.*|addr:.*|source.*|note.*|fixme.*|check_date.*|survey:.*|created_by|(?:alt_|old_)?name:.*|nsi_id"
)
_SERVICES = """atm air_conditioning car_wash changing_table compressed_air cash_in delivery drive_in drive_through
    indoor_seating outdoor_seating parking reservation self_checkout self_service takeaway toilets wheelchair
"""
_WIFI = ("yes", "wlan", "wifi")  # not a set: a tag of a file may be anything, and not hashable
_ELEMENTS = {"node": "n", "way": "w", "relation": "r"}
_ID = re.compile(r"(node|way|relation)/(\d+)")


def is_osm(properties: Mapping[str, Any]) -> bool:
    """Whether ``properties`` are OSM tags."""
    return "@spider" in properties or "@id" in properties or any(name.startswith("addr:") for name in properties)


def osm_id(given: str) -> str:
    """``n123`` for ``node/123``, as Overpass Turbo writes it; anything else as it is."""
    found = _ID.fullmatch(given)
    return _ELEMENTS[found[1]] + found[2] if found else given


def is_element(record: Mapping[str, Any]) -> bool:
    """Whether ``record`` is an element of Overpass."""
    kind = record.get("type")
    return isinstance(kind, str) and kind in _ELEMENTS and "id" in record


def element_row(number: int, element: Mapping[str, Any], findings: Findings) -> Row | None:
    """Row of a node, way or relation with tags; None (and one warning for all) without: it is a part of another.

    Raises ``Unfit``.
    """
    tags = json_values.member("tags", element.get("tags"))
    if not tags:
        findings.warn_once(number, "tags", "an element without tags is no store: left out, here and later")
        return None
    store_id = _ELEMENTS[element["type"]] + json_values.text("id", element["id"])
    return osm_row(number, tags, {"store_id": store_id, **_point(element)}, findings)


def osm_row(number: int, tags: Mapping[str, Any], known: Mapping[str, str], findings: Findings) -> Row:
    """Row of an object's tags; ``known`` are its id and point. What is no field is kept as tags. Raises ``Unfit``."""
    values = {field: _first(tags, names) for field, names in _READ.items()}
    values["address"] = _first(tags, _ADDRESS) or street_address(
        _first(tags, ("addr:street",)), _first(tags, ("addr:housenumber",)), values["country"]
    )
    values.update(known)
    used = {name for names in _READ.values() for name in names if tags.get(name) and _first(tags, names) == tags[name]}
    services = [name for name in _SERVICES.split() if tags.get(name) == "yes"]
    if tags.get("internet_access") in _WIFI:
        services.append("wifi")
    kept = {name: value for name, value in tags.items() if name not in used and not _DROPPED.fullmatch(name)}
    own = json_values.loose_texts(kept)
    if len(own) > _MAX_TAGS:
        findings.warn(number, "tags", f"more than {_MAX_TAGS}: the first are kept")
        own = dict(list(own.items())[:_MAX_TAGS])
    return Row(number, values, services, own)


def _first(tags: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((json_values.text(name, tags[name]) for name in names if tags.get(name)), "")


def _point(element: Mapping[str, Any]) -> dict[str, str]:
    """A node's own point; of others the centre, else the middle of the bounds, if the query asked for them."""
    where = element if "lat" in element else element.get("center")
    if isinstance(where, dict):
        return {name: json_values.degrees(name, where.get(name)) for name in ("lat", "lon")}
    bounds = element.get("bounds")
    if not isinstance(bounds, dict):
        raise Unfit("lat", "missing: ask Overpass for `out center`")
    edges = {name: json_values.number(name, bounds.get(name)) for name in ("minlat", "maxlat", "minlon", "maxlon")}
    west, east = float(edges["minlon"]), float(edges["maxlon"])
    middle_lon = (west + east) / 2 if west <= east else (west + east) / 2 + (180 if west + east < 0 else -180)
    return {"lat": repr((float(edges["minlat"]) + float(edges["maxlat"])) / 2), "lon": repr(middle_lon)}
