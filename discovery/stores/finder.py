"""The nearest stores of a set: exact, with the required services, open at an instant when asked."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import numpy as np
import orjson

from discovery.errors import Invalid
from discovery.stores.hours import OpenState
from discovery.stores.store_set import StoreSet
from geo.sphere import bearing_deg, great_circle_m

MAX_LIMIT = 100
_GROWTH = 4  # a search that finds too few open stores looks at so many times more next
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Question(NamedTuple):
    """What is asked. ``max_distance_m`` is inclusive, None = no limit. ``at_ms``: the instant of the states shown;
    ``only_open`` keeps stores whose state is ``open`` then. ``services``: all of them."""

    lat: float
    lon: float
    at_ms: int
    limit: int = 5
    max_distance_m: float | None = None
    only_open: bool = False
    services: tuple[str, ...] = ()


class Hit(NamedTuple):
    """One store of the answer."""

    row: int
    distance_m: float
    bearing_deg: float
    open: OpenState


def nearest(stores: StoreSet, question: Question) -> list[Hit]:
    """The stores that fit, nearest first; equal distances in order of store_id.

    Raises ``Invalid`` for a point out of range, a limit outside 1..100, or a max_distance_m that is not a number >= 0.
    """
    _check(question)
    far = np.inf if question.max_distance_m is None else question.max_distance_m
    return list(islice(_fitting(stores, question, far), question.limit))


def fallback(stores: StoreSet, question: Question) -> list[Hit]:
    """For a question that found nothing: the nearest that fit but for the distance."""
    _check(question)
    return list(islice(_fitting(stores, question, np.inf), question.limit))


def answer(stores: StoreSet, question: Question) -> bytes:
    """GeoJSON FeatureCollection; with ``fallback`` when nothing lies within ``max_distance_m``."""
    hits = nearest(stores, question)
    if hits or question.max_distance_m is None:
        return _collection(stores, hits, b"")
    outside = _collection(stores, fallback(stores, question), b"")
    return _collection(stores, hits, b',"fallback":' + outside)


def _check(question: Question) -> None:
    for name, value, bound in (("lat", question.lat, 90), ("lon", question.lon, 180)):
        if not -bound <= value <= bound:
            raise Invalid(f"must be from -{bound} to {bound}", name)
    if not 1 <= question.limit <= MAX_LIMIT:
        raise Invalid(f"must be from 1 to {MAX_LIMIT}", "limit")
    far = question.max_distance_m
    if far is not None and not 0 <= far < np.inf:
        raise Invalid("must be a number of metres >= 0", "max_distance_m")


def _fitting(stores: StoreSet, question: Question, far: float) -> Iterator[Hit]:
    for row, distance_m in _with_services(stores, question, far):
        state = stores.hours.state_at(int(stores.hours_rows[row]), question.at_ms)
        if state.state == "open" or not question.only_open:
            bearing = bearing_deg(question.lat, question.lon, float(stores.lats[row]), float(stores.lons[row]))
            yield Hit(row, distance_m, bearing, state)


def _with_services(stores: StoreSet, question: Question, far: float) -> Iterator[tuple[int, float]]:
    requirement = stores.services.requirement(question.services)
    if requirement is None:
        return iter(())
    mask, rows = requirement
    if rows is None:
        return _by_index(stores, question, far, mask)
    return _by_scan(stores, question, far, mask, rows)


def _by_index(stores: StoreSet, question: Question, far: float, mask: int) -> Iterator[tuple[int, float]]:
    """Rows by rising distance out of the place index, asked for more and more of them.

    Rows given are remembered by number, not by count: of equally distant ones a larger answer may name others first.
    """
    given: set[int] = set()
    count = question.limit
    while True:
        rows, distances_m = stores.places.nearest(
            question.lat, question.lon, count, max_distance_m=far, required_mask=mask
        )
        for row, distance_m in zip(rows.tolist(), distances_m.tolist(), strict=True):
            if row not in given:
                given.add(row)
                yield row, distance_m
        if len(rows) < count or count >= len(stores):
            return
        count = min(count * _GROWTH, len(stores))


def _by_scan(
    stores: StoreSet, question: Question, far: float, mask: int, rows: np.ndarray
) -> Iterator[tuple[int, float]]:
    """Rows by rising distance out of a listed few: those that offer a service beyond the 64 most common."""
    bits = np.uint64(mask)
    rows = rows[(stores.services.masks[rows] & bits) == bits]
    distances_m = great_circle_m(question.lat, question.lon, stores.lats[rows], stores.lons[rows])
    order = np.lexsort((rows, distances_m))
    for index in order[distances_m[order] <= far].tolist():
        yield int(rows[index]), float(distances_m[index])


def _collection(stores: StoreSet, hits: Sequence[Hit], more: bytes) -> bytes:
    features = b",".join([stores.feature(hit.row, _properties(hit)) for hit in hits])
    return b'{"type":"FeatureCollection","features":[%b]%b}' % (features, more)


def _properties(hit: Hit) -> bytes:
    """What an answer adds to a store's own properties; distances in millimetres, bearings in hundredths of a degree."""
    state = hit.open
    added = {
        "distance_m": round(hit.distance_m, 3),
        "bearing_deg": round(hit.bearing_deg, 2) % 360.0,
        "open": {
            "state": state.state,
            "next_change": None if state.next_change_ms is None else rfc3339(state.next_change_ms),
            "closes_in_s": state.closes_in_s,
        },
    }
    return b"," + orjson.dumps(added)[1:-1]


def rfc3339(instant_ms: int) -> str:
    """UTC, to the second, or to the millisecond where there is a fraction."""
    timespec = "milliseconds" if instant_ms % 1000 else "seconds"
    instant = _EPOCH + timedelta(milliseconds=instant_ms)
    return instant.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
