"""Zones of stores: the area that a store serves, a Polygon or MultiPolygon with holes in GeoJSON.

Sides are straight lines in longitude and latitude, as RFC 7946 (3.1.1) says; the border belongs to the zone. A side of
more than 180 degrees is taken to cross the antimeridian, and the zone is cut there (3.1.9).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely import affinity
from shapely.geometry import MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import nearest_points

from discovery.errors import Invalid
from geo.sphere import great_circle_m

MAX_POSITIONS = 10_000
MAX_ZONES = 100_000
_MOST_CROSSINGS = 1_000  # a repair takes time by the square of it: 0.1 s for so many, minutes for 100 times more
_SIDES_AT_ONCE = 10
_LONGEST_SIDE_DEG = 120.0

_FIELD = "zone"


@dataclass(frozen=True, slots=True)
class CheckedZone:
    """A zone fit to be kept: its GeoJSON geometry as bytes, and what was repaired, in words."""

    geojson: bytes
    repaired: tuple[str, ...]


def check_zone(value: Any) -> CheckedZone:
    """Check a GeoJSON geometry, or a Feature of one, and repair it where its meaning is clear.

    Raises ``Invalid`` with the reason for everything else: another type, positions that are no coordinates, a ring of
    fewer than four positions, one around a pole, no area.
    """
    polygons = _polygons(value)
    _check_size(polygons)
    repaired: list[str] = []
    parts = [_polygon(rings, repaired) for rings in polygons]
    area = _valid(parts, repaired)
    area = _cut_at_antimeridian(area, repaired)
    if _longest_side(area) > 180.0:  # of sides that were put together: read again, it would be taken to go round behind
        area = shapely.segmentize(area, _LONGEST_SIDE_DEG)
    return CheckedZone(shapely.to_geojson(area).encode(), tuple(dict.fromkeys(repaired)))


def _polygons(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping) and value.get("type") == "Feature":
        value = value.get("geometry")
    if not isinstance(value, Mapping) or value.get("type") not in ("Polygon", "MultiPolygon"):
        raise Invalid("must be a GeoJSON Polygon or MultiPolygon", _FIELD)
    coordinates = value.get("coordinates")
    if not isinstance(coordinates, list) or not coordinates:
        raise Invalid("has no coordinates", _FIELD)
    return [coordinates] if value["type"] == "Polygon" else coordinates


def _check_size(polygons: Sequence[Any]) -> None:
    count = 0
    for rings in polygons:
        if not isinstance(rings, list) or not rings or not all(isinstance(ring, list) for ring in rings):
            raise Invalid("a polygon is not a list of rings", _FIELD)
        count += sum(map(len, rings))
    if count > MAX_POSITIONS:
        raise Invalid(f"has more than {MAX_POSITIONS} positions", _FIELD)


def _polygon(rings: Sequence[Sequence[Any]], repaired: list[str]) -> Polygon:
    outer, *holes = (_ring(ring, repaired) for ring in rings)
    return Polygon(outer, [_turned_into(outer, hole) for hole in holes])


def _turned_into(outer: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """A hole that was unrolled another way round the globe than the ring around it is put where that ring is."""
    west, east = outer[:, 0].min(), outer[:, 0].max()
    for turn in (0.0, -360.0, 360.0):
        moved: NDArray[np.float64] = hole + np.array([turn, 0.0])
        if west <= moved[:, 0].min() and moved[:, 0].max() <= east:
            return moved
    return hole - [360.0 * round((float(hole[:, 0].mean()) - float(outer[:, 0].mean())) / 360.0), 0.0]


def _ring(positions: Sequence[Any], repaired: list[str]) -> NDArray[np.float64]:
    """Longitudes and latitudes, f64[m, 2], closed; longitudes go beyond 180 degrees where the ring does."""
    points = np.array([_position(position) for position in positions], dtype=np.float64).reshape(-1, 2)
    if len(points) >= 3 and (points[0] != points[-1]).any():
        points = np.vstack([points, points[:1]])
        repaired.append("a ring was not closed")
    if len(points) < 4:
        raise Invalid("a ring has fewer than four positions", _FIELD)
    steps = np.diff(points[:, 0])
    # From -180 to 180 along a parallel: the whole way round, not a crossing.
    whole = (np.abs(points[:-1, 0]) == 180.0) & (np.abs(points[1:, 0]) == 180.0)
    turns = np.where(whole, 0.0, np.round(steps / 360.0))
    unrolled = points[:, 0] - 360.0 * np.concatenate([[0.0], np.cumsum(turns)])
    if unrolled[0] != unrolled[-1]:
        raise Invalid("a ring goes around a pole: cut it along the antimeridian", _FIELD)
    if turns.any():
        repaired.append("it crosses the antimeridian: it was cut there")
    return np.column_stack([unrolled, points[:, 1]])


def _position(position: Any) -> tuple[float, float]:
    if not isinstance(position, list) or not 2 <= len(position) <= 4:
        raise Invalid("a position is not [lon, lat]", _FIELD)
    for number, bound in zip(position, (180.0, 90.0), strict=False):
        if isinstance(number, bool) or not isinstance(number, int | float) or not -bound <= number <= bound:
            raise Invalid("a position is not [lon, lat] in degrees", _FIELD)
    return float(position[0]), float(position[1])


def _valid(parts: Sequence[Polygon], repaired: list[str]) -> BaseGeometry:
    """The parts together, each repaired by itself: what two of them share stays in the zone."""
    area: BaseGeometry = parts[0] if len(parts) == 1 else MultiPolygon(list(parts))
    if not area.is_valid:
        # Only the kind of fault: the rest of the text holds coordinates.
        reason = shapely.is_valid_reason(area).partition("[")[0].strip().lower()
        if any(_crosses_often(part) for part in parts):
            raise Invalid(f"is not valid ({reason}), and too entangled to be repaired", _FIELD)
        repaired.append(reason)
        mended = [shapely.make_valid(part, method="structure", keep_collapsed=False) for part in parts]
        area = _areas(shapely.GeometryCollection(mended))
    if area.is_empty or area.area <= 0.0:
        raise Invalid("has no area", _FIELD)
    return area


def _crosses_often(part: Polygon) -> bool:
    """Whether the sides of a polygon cross each other more than ``_MOST_CROSSINGS`` times; seen early when they do."""
    rings = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
    sides = shapely.linestrings(np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings]))
    tree = shapely.STRtree(sides)
    found = 0
    for start in range(0, len(sides), _SIDES_AT_ONCE):
        found += tree.query(sides[start : start + _SIDES_AT_ONCE], predicate="crosses").shape[1]
        if found > 2 * _MOST_CROSSINGS:
            return True
    return False


def _areas(found: BaseGeometry) -> BaseGeometry:
    """The areas of a repaired geometry, without the lines and points that fell off."""
    pieces = shapely.get_parts(shapely.get_parts(found))
    return shapely.union_all(pieces[shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON])


def _cut_at_antimeridian(area: BaseGeometry, repaired: list[str]) -> BaseGeometry:
    west, _, east, _ = area.bounds
    if west >= -180.0 and east <= 180.0:
        return area
    pieces = []
    for turn in range(math.floor((west + 180.0) / 360.0), math.floor((east + 180.0) / 360.0) + 1):
        window = box(360.0 * turn - 180.0, -90.0, 360.0 * turn + 180.0, 90.0)
        pieces.append(affinity.translate(_areas(area.intersection(window)), -360.0 * turn))
    return shapely.union_all(pieces)


def _longest_side(area: BaseGeometry) -> float:
    """In degrees of longitude."""
    rings = (ring for part in shapely.get_parts(area) for ring in (part.exterior, *part.interiors))
    return max(float(np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])).max()) for ring in rings)


class ZoneSet:
    """The zones of one brand as of ``version``, by store_id. Never changed; ``with_changes`` makes another."""

    def __init__(self, version: int, zones: Mapping[str, bytes]) -> None:
        """``zones``: GeoJSON geometries that ``check_zone`` made."""
        self.version = version
        self._zones = zones

    def __len__(self) -> int:
        return len(self._zones)

    def with_changes(self, version: int, changes: Mapping[str, bytes | None]) -> "ZoneSet":
        """These zones put, or taken away where None."""
        changed = {**self._zones, **changes}
        return ZoneSet(version, {store_id: zone for store_id, zone in changed.items() if zone is not None})

    def geojson(self, store_id: str) -> bytes | None:
        """The zone of a store, None when it has none."""
        return self._zones.get(store_id)

    def holding(self, lat: float, lon: float) -> list[str]:
        """The stores whose zone holds the point, border included, ascending."""
        ids, tree = self._tree
        at = [Point(lon, lat)]
        if abs(lon) == 180.0:
            at.append(Point(-lon, lat))  # the same place, written the other way
        found = {ids[int(index)] for point in at for index in tree.query(point, predicate="intersects")}
        return sorted(found)

    def metres_outside(self, store_id: str, lat: float, lon: float) -> float | None:
        """How far the point is from the store's zone: 0 within, None where it has none.

        Exact to a part in a hundred for zones within a few hundred km: the nearest point of the border is looked for
        on a plane that keeps the scale of the point's own latitude.
        """
        zone = self._zones.get(store_id)
        if zone is None:
            return None
        area, point = shapely.from_geojson(zone), Point(lon, lat)
        if area.intersects(point):
            return 0.0
        squeeze = max(math.cos(math.radians(lat)), 1e-6)
        turned = [affinity.translate(area, shift) for shift in (-360.0, 0.0, 360.0)]
        scaled = [affinity.scale(one, squeeze, 1.0, origin=(0, 0)) for one in turned]
        nearest = min(scaled, key=Point(lon * squeeze, lat).distance)
        foot, _ = nearest_points(nearest, Point(lon * squeeze, lat))
        return great_circle_m(lat, lon, float(foot.y), float(foot.x) / squeeze)

    @cached_property
    def _tree(self) -> tuple[list[str], shapely.STRtree]:
        """Made at the first question after a change: about 40 us a zone."""
        ids = sorted(self._zones)
        areas = shapely.from_geojson([self._zones[store_id] for store_id in ids])
        shapely.prepare(areas)
        return ids, shapely.STRtree(areas)


NO_ZONES = ZoneSet(0, {})


def zone_of(raw: bytes) -> Any:
    """The GeoJSON geometry of kept bytes."""
    return orjson.loads(raw)
