"""Slow, obvious twins of the store finder: every store is looked at, whatever the question."""

import itertools
import math
import operator
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from discovery.stores.hours import HoursKey, state_at
from discovery.stores.question import Question

EARTH_RADIUS_M = 6_371_008.8


class NaiveStore(NamedTuple):
    """What the finder may look at. ``is_open``: at the instant of the question; ``key``: its hours."""

    store_id: str
    lat: float
    lon: float
    services: frozenset[str]
    is_open: bool
    tags: tuple[tuple[str, str], ...] = ()
    text: str = ""
    key: HoursKey | None = None


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


def fits(store: NaiveStore, question: Question, distance_m: float) -> bool:
    """Whether a store answers a question, each condition looked at by itself; zones are left out."""
    wanted, tags = question.all_wanted(), dict(store.tags)
    words = words_of(store.text)
    return (
        question.min_distance_m <= distance_m <= (question.max_distance_m or math.inf)
        and set(wanted.services) <= store.services
        and not set(wanted.without_services) & store.services
        and all(key in tags and value in (None, tags[key]) for key, value in wanted.tags)
        and not any(key in tags and value in (None, tags[key]) for key, value in wanted.without_tags)
        and all(any(word.startswith(start) for word in words) for start in wanted.words)
        and (not question.only_open or state_at(store.key, question.instant_ms(distance_m)).state == "open")
    )


def words_of(text: str) -> list[str]:
    """The words that a question's words are compared with."""
    return re.findall(r"[^\W_]+", "".join(f" {c} " if is_word_itself(c) else c for c in plain(text)))


def is_word_itself(char: str) -> bool:
    """A character of a script that is written without spaces."""
    return unicodedata.name(char, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))


def plain(text: str) -> str:
    """Small letters without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


def naive_states_at(
    offsets: Sequence[int], starts: Sequence[int], states: Sequence[int], at_ms: int, end_ms: int
) -> tuple[list[int], tuple[int, int]]:
    """State of each timeline at an instant, and the span around it in which none changes."""
    found, since, until = [], -math.inf, float(end_ms)
    for first, last in itertools.pairwise(offsets):
        begun = [i for i in range(first, last) if starts[i] <= at_ms]
        found.append(int(states[begun[-1]]))
        since = max(since, starts[begun[-1]])
        until = min([until, *(starts[i] for i in range(first, last) if starts[i] > at_ms)])
    return found, (int(since), int(until))


def rows_in_box(lats: Sequence[float], lons: Sequence[float], box: tuple[float, float, float, float]) -> list[int]:
    """Rows inside (west, south, east, north), edges included; the longitudes 180 and -180 are one."""
    west, south, east, north = box
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    found = []
    for row, (lat, lon) in enumerate(zip(lats, lons, strict=True)):
        names = {lon, -lon} if abs(lon) == 180.0 else {lon}
        if south <= lat <= north and any(low <= name <= high for low, high in spans for name in names):
            found.append(row)
    return found


def nearest_over_a_net(
    corners: Sequence[Sequence[float]], points: Sequence[Sequence[float]], k: int, meshes: int = 100
) -> set[int]:
    """All points among the k nearest of some point of a fine net in a triangle; unit vectors."""
    found: set[int] = set()
    for a in range(meshes + 1):
        for b in range(meshes + 1 - a):
            parts = (a, b, meshes - a - b)
            at = [sum(part * corner[axis] for part, corner in zip(parts, corners, strict=True)) for axis in range(3)]
            closeness = [sum(map(operator.mul, at, point)) for point in points]
            found.update(sorted(range(len(points)), key=lambda number: -closeness[number])[:k])
    return found
