"""Moves of a few kilometres around points of the globe, by a flat step: wrong by less than 1 in 1000."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo.sphere import EARTH_RADIUS_M

Floats = NDArray[np.float64]

_METRES_PER_DEGREE = math.radians(1.0) * EARTH_RADIUS_M
_LARGEST_LAT = 89.0  # beyond it a metre east is no small move


def moved(lats: ArrayLike, lons: ArrayLike, east_m: ArrayLike, north_m: ArrayLike) -> tuple[Floats, Floats]:
    """Points moved by metres east and north: f64[n], f64[n], longitudes in -180..180."""
    start = np.asarray(lats, np.float64)
    moved_lats = np.clip(start + np.asarray(north_m) / _METRES_PER_DEGREE, -_LARGEST_LAT, _LARGEST_LAT)
    turned = np.asarray(lons) + np.asarray(east_m) / (_METRES_PER_DEGREE * np.cos(np.radians(start)))
    return moved_lats, _wrapped(turned)


def offsets_m(lats: ArrayLike, lons: ArrayLike, to_lats: ArrayLike, to_lons: ArrayLike) -> tuple[Floats, Floats]:
    """Metres east and north from points to points near them: the inverse of ``moved``."""
    start = np.asarray(lats, np.float64)
    turned = _wrapped(np.asarray(to_lons, np.float64) - np.asarray(lons, np.float64))
    north_m = (np.asarray(to_lats, np.float64) - start) * _METRES_PER_DEGREE
    return turned * _METRES_PER_DEGREE * np.cos(np.radians(start)), north_m


def _wrapped(lons: Floats) -> Floats:
    return np.asarray((lons + 180.0) % 360.0 - 180.0)
