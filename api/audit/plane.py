"""Geometry of attacks on the sphere: places by bearing and distance, a local plane, covers, and where circles meet."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from api.audit.oracle import Point
from geo.sphere import EARTH_RADIUS_M, bearing_deg, great_circle_m

Floats = NDArray[np.float64]

_STEPS = 50
_ENOUGH_M = 0.01


def destination(origin: Point, bearing: float, distance_m: float) -> Point:
    """The place ``distance_m`` from ``origin`` along a great circle that starts at ``bearing`` degrees."""
    lat, lon = math.radians(origin[0]), math.radians(origin[1])
    angle, course = distance_m / EARTH_RADIUS_M, math.radians(bearing)
    sin_lat = math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(course)
    y = math.sin(course) * math.sin(angle) * math.cos(lat)
    x = math.cos(angle) - math.sin(lat) * sin_lat
    end_lon = math.degrees(lon + math.atan2(y, x))
    return math.degrees(math.asin(max(-1.0, min(1.0, sin_lat)))), (end_lon + 180.0) % 360.0 - 180.0


def offset_m(origin: Point, point: Point) -> tuple[float, float]:
    """East and north of ``origin`` in metres: azimuthal equidistant, so exact in distance and bearing from it."""
    distance, bearing = great_circle_m(*origin, *point), math.radians(bearing_deg(*origin, *point))
    return distance * math.sin(bearing), distance * math.cos(bearing)


def moved(origin: Point, east_m: float, north_m: float) -> Point:
    """The inverse of ``offset_m``."""
    return destination(origin, math.degrees(math.atan2(east_m, north_m)), math.hypot(east_m, north_m))


def moved_each(origin: Point, east_m: Floats, north_m: Floats) -> tuple[Floats, Floats]:
    """``moved`` of n offsets: latitudes and longitudes, f64[n]."""
    lat, lon = math.radians(origin[0]), math.radians(origin[1])
    angle, course = np.hypot(east_m, north_m) / EARTH_RADIUS_M, np.arctan2(east_m, north_m)
    sin_lat = math.sin(lat) * np.cos(angle) + math.cos(lat) * np.sin(angle) * np.cos(course)
    y, x = np.sin(course) * np.sin(angle) * math.cos(lat), np.cos(angle) - math.sin(lat) * sin_lat
    lons = np.degrees(lon + np.arctan2(y, x))
    return np.degrees(np.arcsin(np.clip(sin_lat, -1.0, 1.0))), (lons + 180.0) % 360.0 - 180.0


def cover(center: Point, radius_m: float, disc_m: float) -> list[Point]:
    """Centres of discs of radius ``disc_m`` that cover a disc, nearest first: the honeycomb, whose hexagons have the
    circumradius ``disc_m`` (a little less, against the bend of the sphere)."""
    side = 0.98 * disc_m
    if radius_m <= side:
        return [center]
    found = []
    rows = math.ceil((radius_m + side) / (1.5 * side))
    columns = math.ceil((radius_m + side) / (math.sqrt(3) * side)) + 1
    for row in range(-rows, rows + 1):
        for column in range(-columns, columns + 1):
            east, north = math.sqrt(3) * side * (column + row % 2 / 2), 1.5 * side * row
            if math.hypot(east, north) <= radius_m + side:
                found.append((math.hypot(east, north), east, north))
    return [moved(center, east, north) for _, east, north in sorted(found)]


def meeting_point(centers: Sequence[Point], distances_m: Sequence[float], start: Point) -> Point:
    """The place whose distances to ``centers`` come closest to ``distances_m``: least squares, by Gauss-Newton with
    damping (Levenberg-Marquardt) on great circles, from ``start``."""
    wanted = np.asarray(distances_m, dtype=np.float64)
    place, damping = start, 1e-3
    residuals, slopes = _residuals(place, centers, wanted)
    for _ in range(_STEPS):
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(2), -slopes.T @ residuals)
        tried = moved(place, float(step[0]), float(step[1]))
        tried_residuals, tried_slopes = _residuals(tried, centers, wanted)
        small = math.hypot(step[0], step[1]) < _ENOUGH_M
        if tried_residuals @ tried_residuals <= residuals @ residuals:
            place, residuals, slopes, damping = tried, tried_residuals, tried_slopes, damping / 10
        else:
            damping = max(10 * damping, 1e-3)
        if small:
            break
    return place


def _residuals(place: Point, centers: Sequence[Point], wanted: Floats) -> tuple[Floats, Floats]:
    """Distances too long, f64[n], and how they change by a metre east and north, f64[n, 2]."""
    offsets = np.array([offset_m(place, center) for center in centers])
    distances = np.hypot(offsets[:, 0], offsets[:, 1])
    return distances - wanted, -offsets / np.maximum(distances, 1e-9)[:, None]


def distances_from(point: Point, lats: Floats, lons: Floats) -> Floats:
    """Great-circle distances in metres from one point to each of n: f64[n]."""
    return great_circle_m(point[0], point[1], lats, lons)
