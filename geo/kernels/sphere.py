"""Distances and directions on a sphere of the Earth's mean radius."""

import math

import numpy as np
from numba import njit, types

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius (2a + b) / 3 of WGS 84, as H3 uses: Moritz, "Geodetic Reference System 1980", J. Geodesy 74 (2000)."""

_RADIANS = math.pi / 180.0

# Accepts writable arrays too.
_FLOATS = types.Array(types.float64, 1, "C", readonly=True)


@njit("f8(f8, f8, f8, f8)", cache=True, nogil=True)
def great_circle_m(lat1, lon1, lat2, lon2):  # type: ignore[no-untyped-def]
    """Great-circle distance in metres of two points in degrees.

    Haversine: R. W. Sinnott, "Virtues of the Haversine", Sky & Telescope 68 (1984). Exact for the nearest points;
    within 0.2 m at antipodes, where the arc sine is steep.
    """
    half_lat = math.sin((lat2 - lat1) * _RADIANS * 0.5)
    half_lon = math.sin((lon2 - lon1) * _RADIANS * 0.5)
    h = half_lat * half_lat + math.cos(lat1 * _RADIANS) * math.cos(lat2 * _RADIANS) * half_lon * half_lon
    return 2.0 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, h)))


@njit(types.float64[::1](_FLOATS, _FLOATS, _FLOATS, _FLOATS), cache=True, nogil=True)
def great_circles_m(lats1, lons1, lats2, lons2):  # type: ignore[no-untyped-def]
    """``great_circle_m`` of n pairs."""
    out = np.empty(lats1.size, np.float64)
    for i in range(lats1.size):
        out[i] = great_circle_m(lats1[i], lons1[i], lats2[i], lons2[i])
    return out


@njit(types.float64[::1](types.float64, types.float64, _FLOATS, _FLOATS), cache=True, nogil=True)
def distances_from_m(lat, lon, lats, lons):  # type: ignore[no-untyped-def]
    """``great_circle_m`` from one point to each of n."""
    out = np.empty(lats.size, np.float64)
    for i in range(lats.size):
        out[i] = great_circle_m(lat, lon, lats[i], lons[i])
    return out


@njit("f8(f8, f8, f8, f8)", cache=True, nogil=True)
def bearing_deg(lat1, lon1, lat2, lon2):  # type: ignore[no-untyped-def]
    """Initial bearing in [0, 360) from the first point to the second; 0 for equal points.

    Source: Ed Williams, Aviation Formulary, "Course between points".
    """
    phi1 = lat1 * _RADIANS
    phi2 = lat2 * _RADIANS
    turn = (lon2 - lon1) * _RADIANS
    east = math.sin(turn) * math.cos(phi2)
    north = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(turn)
    degrees = math.atan2(east, north) / _RADIANS
    if degrees >= 0.0:
        return degrees
    # 360 minus something tiny rounds to 360 itself, which is 0.
    return degrees + 360.0 if degrees + 360.0 < 360.0 else 0.0


@njit(types.float64[:, ::1](_FLOATS, _FLOATS), cache=True, nogil=True)
def unit_vectors(lats, lons):  # type: ignore[no-untyped-def]
    """Points of the unit sphere, f64[n, 3]: x to (0, 0), y to (0, 90 E), z to the north pole."""
    out = np.empty((lats.size, 3), np.float64)
    for i in range(lats.size):
        cos_lat = math.cos(lats[i] * _RADIANS)
        out[i, 0] = cos_lat * math.cos(lons[i] * _RADIANS)
        out[i, 1] = cos_lat * math.sin(lons[i] * _RADIANS)
        out[i, 2] = math.sin(lats[i] * _RADIANS)
    return out
