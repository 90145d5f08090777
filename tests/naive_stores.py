"""Slow, obvious twins of the store finder: every store is looked at, whatever the question."""

import math
from collections.abc import Sequence
from typing import NamedTuple

EARTH_RADIUS_M = 6_371_008.8


class NaiveStore(NamedTuple):
    """What the finder may look at. ``is_open``: at the instant of the question."""

    store_id: str
    lat: float
    lon: float
    services: frozenset[str]
    is_open: bool


def haversine_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in metres."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_chord = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half_chord)))


def nearest_stores(
    stores: Sequence[NaiveStore],
    lat: float,
    lon: float,
    limit: int,
    max_distance_m: float | None,
    services: frozenset[str],
    only_open: bool,
) -> list[tuple[str, float]]:
    """(store_id, distance in metres) of the stores that fit, nearest first."""
    fit = [store for store in stores if services <= store.services and (store.is_open or not only_open)]
    found = [(haversine_m(lat, lon, store.lat, store.lon), store.store_id) for store in fit]
    inside = [pair for pair in found if max_distance_m is None or pair[0] <= max_distance_m]
    return [(store_id, distance_m) for distance_m, store_id in sorted(inside)[:limit]]
