"""Rows of GeoJSON features: plain ones, those of All The Places and of OSM, and those of Woosmap."""

from collections.abc import Iterator, Mapping
from typing import Any

from discovery.stores import json_values, woosmap_rows
from discovery.stores.osm_rows import is_osm, osm_id, osm_row
from discovery.stores.plain_rows import plain_row
from discovery.stores.rows import Findings, Row, Unfit

_MAX_POSITIONS = 100_000
_NUMBERS = (int, float)  # of a parser: bool is neither


def feature_row(number: int, feature: Any, findings: Findings) -> Row:
    """Row of a Feature; its ``id`` is the store_id. A shape that is no point counts by the middle of its bounds.

    Raises ``Unfit`` for what is not a fit Feature.
    """
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise Unfit(None, "not a Feature")
    properties = json_values.member("properties", feature.get("properties"))
    point = _point(number, feature.get("geometry"), findings)
    given = json_values.text("id", feature.get("id"))
    if "@spider" in properties:  # All The Places: the id is a hash, the chain's own number is better
        given = json_values.text("ref", properties.get("ref")) or given
    if is_osm(properties):
        return osm_row(number, properties, point | _id(osm_id(given)), findings)
    if woosmap_rows.is_properties(properties):
        return woosmap_rows.properties_row(number, properties, point | _id(given), findings)
    return plain_row(number, properties, point | _id(given), findings)


def _id(given: str) -> dict[str, str]:
    return {"store_id": given} if given else {}


def _point(number: int, geometry: Any, findings: Findings) -> dict[str, str]:
    """Texts of lat and lon, which are checked where those of a CSV are."""
    if not isinstance(geometry, dict):
        raise Unfit("geometry", "not a Point")
    position = geometry.get("coordinates")
    if geometry.get("type") != "Point":
        position = _middle(geometry.get("type"), position)
        findings.warn(number, "geometry", "not a Point: the middle of its bounds is used")
    if not isinstance(position, list) or len(position) not in (2, 3):
        raise Unfit("geometry", "coordinates are not [longitude, latitude]")
    return {"lat": json_values.number("lat", position[1]), "lon": json_values.number("lon", position[0])}


def _middle(kind: Any, coordinates: Any) -> list[float]:
    if kind not in ("Polygon", "MultiPolygon", "MultiPoint"):
        raise Unfit("geometry", "not a Point")
    positions = list(_positions(coordinates, 4))
    if not 0 < len(positions) <= _MAX_POSITIONS:
        raise Unfit("geometry", "coordinates are not [longitude, latitude]")
    lons, lats = zip(*positions, strict=True)
    # A building that lies on 180 degrees is named by the border that it lies on, not by the far side of the world.
    return [180.0 if max(lons) - min(lons) > 180 else (min(lons) + max(lons)) / 2, (min(lats) + max(lats)) / 2]


def _positions(value: Any, levels: int) -> Iterator[tuple[float, float]]:
    if not isinstance(value, list) or levels == 0:
        raise Unfit("geometry", "coordinates are not [longitude, latitude]")
    if len(value) > 1 and all(type(one) in _NUMBERS and abs(one) < 1e6 for one in value):
        yield value[0], value[1]
        return
    for inner in value:
        yield from _positions(inner, levels - 1)


def warn_of_remark(head: Mapping[str, Any], findings: Findings) -> None:
    """Overpass says in ``remark`` that it ran out of time or memory: its elements are then not all."""
    if isinstance(head.get("remark"), str):
        findings.warn(0, "remark", f"of Overpass: {head['remark'][:300]}")
