"""Distance from a point to a ring of great-circle arcs, in three dimensions: no special case at poles or the
antimeridian."""

import math

import numpy as np
from numba import njit

from geo.kernels.inner import inner

_EARTH_RADIUS_M = 6_371_008.8
_RADIANS = math.pi / 180.0


@inner("UniTuple(f8, 3)(f8, f8)")
def _vector(lat, lon):  # type: ignore[no-untyped-def]
    cos_lat = math.cos(lat * _RADIANS)
    return cos_lat * math.cos(lon * _RADIANS), cos_lat * math.sin(lon * _RADIANS), math.sin(lat * _RADIANS)


@inner("UniTuple(f8, 3)(UniTuple(f8, 3), UniTuple(f8, 3))")
def _cross(a, b):  # type: ignore[no-untyped-def]
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@inner("f8(UniTuple(f8, 3), UniTuple(f8, 3))")
def _dot(a, b):  # type: ignore[no-untyped-def]
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inner("f8(UniTuple(f8, 3), UniTuple(f8, 3))")
def _angle(a, b):  # type: ignore[no-untyped-def]
    """Angle of two vectors; from sine and cosine, so that it is exact for near and for opposite ones."""
    normal = _cross(a, b)
    return math.atan2(math.sqrt(_dot(normal, normal)), _dot(a, b))


@inner("f8(UniTuple(f8, 3), UniTuple(f8, 3), UniTuple(f8, 3))")
def _angle_to_arc(point, start, end):  # type: ignore[no-untyped-def]
    """Angle from a unit vector to the shorter arc of two: to its great circle where the foot lies on the arc, else to
    an end."""
    normal = _cross(start, end)
    length = math.sqrt(_dot(normal, normal))
    foot_on_arc = _dot(_cross(normal, start), point) >= 0.0 and _dot(_cross(end, normal), point) >= 0.0
    if length > 0.0 and foot_on_arc:
        return math.asin(min(1.0, abs(_dot(normal, point)) / length))
    return min(_angle(point, start), _angle(point, end))


@njit("f8(f8, f8, Array(f8, 2, 'C', readonly=True))", cache=True, nogil=True)
def distance_to_ring_m(lat, lon, ring):  # type: ignore[no-untyped-def]
    """Metres from a point to the nearest point of a ring, from inside or outside.

    ``ring`` is f64[m, 2] of lat, lon in degrees, not closed, m >= 1, its sides arcs of less than half a great circle.
    Rounding moves the great circle of a side of s metres by about 4e-3 / s metres, 0.01 mm for a cell of resolution 8.
    """
    point = _vector(lat, lon)
    start = _vector(ring[ring.shape[0] - 1, 0], ring[ring.shape[0] - 1, 1])
    nearest = np.inf
    for i in range(ring.shape[0]):
        end = _vector(ring[i, 0], ring[i, 1])
        nearest = min(nearest, _angle_to_arc(point, start, end))
        start = end
    return nearest * _EARTH_RADIUS_M
