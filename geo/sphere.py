"""Distances, bearings and unit vectors on the sphere, for single points and for arrays."""

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo.kernels import sphere as kernels

EARTH_RADIUS_M: float = kernels.EARTH_RADIUS_M

Floats = NDArray[np.float64]


@overload
def great_circle_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...
@overload
def great_circle_m(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Floats: ...
def great_circle_m(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> float | Floats:
    """Great-circle distance in metres (haversine) of points in degrees.

    Four numbers give a ``float``; arrays are broadcast against each other and give f64 of the common shape. Both ways
    agree to the last bit. Source of the formula: ``geo.kernels.sphere.great_circle_m``.
    """
    points = (lat1, lon1, lat2, lon2)
    if all(isinstance(value, float | int) for value in points):
        distance: float = kernels.great_circle_m(*points)
        return distance
    same = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in points))
    flat: Floats = kernels.great_circles_m(*(np.ascontiguousarray(value).ravel() for value in same))
    return flat.reshape(same[0].shape)


def bearing_deg(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Initial bearing in degrees, 0 <= bearing < 360, clockwise from north; 0 for equal points."""
    bearing: float = kernels.bearing_deg(lat1, lon1, lat2, lon2)
    return bearing


def bearings_deg(lats1: Floats, lons1: Floats, lats2: Floats, lons2: Floats) -> Floats:
    """``bearing_deg`` of n pairs of points, f64[n] each; equal to it within 1e-9 degrees."""
    north1, north2, east = np.radians(lats1), np.radians(lats2), np.radians(lons2 - lons1)
    x = np.sin(east) * np.cos(north2)
    y = np.cos(north1) * np.sin(north2) - np.sin(north1) * np.cos(north2) * np.cos(east)
    bearings: Floats = np.where((lats1 == lats2) & (lons1 == lons2), 0.0, np.degrees(np.arctan2(x, y)) % 360.0)
    return np.where(bearings >= 360.0, 0.0, bearings)


def unit_vectors(lats: ArrayLike, lons: ArrayLike) -> Floats:
    """Points of the unit sphere, f64[n, 3], of n latitudes and longitudes in degrees."""
    vectors: Floats = kernels.unit_vectors(*as_points(lats, lons))
    return vectors


def as_points(lats: ArrayLike, lons: ArrayLike) -> tuple[Floats, Floats]:
    """Contiguous f64[n] latitudes and longitudes; ``ValueError`` where they are not finite, in range and of one
    length."""
    lat_array = np.ascontiguousarray(lats, dtype=np.float64)
    lon_array = np.ascontiguousarray(lons, dtype=np.float64)
    if lat_array.ndim != 1 or lat_array.shape != lon_array.shape:
        raise ValueError("lats and lons must be one-dimensional and of one length")
    # The comparison is false for NaN, so that one pass finds everything that is not a point.
    if not (np.abs(lat_array) <= 90.0).all():
        raise ValueError("lats must be finite numbers from -90 to 90")
    if not (np.abs(lon_array) <= 180.0).all():
        raise ValueError("lons must be finite numbers from -180 to 180")
    return lat_array, lon_array
