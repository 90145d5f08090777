"""The nearest stores of a set: exact, with the required services, open at an instant when asked."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.errors import Invalid
from discovery.stores.hours import OpenState
from discovery.stores.store_set import StoreSet
from geo.sphere import bearing_deg, great_circle_m

MAX_LIMIT = 100
_GROWTH = 4  # a search that finds too few open stores looks at so many times more next
# The index keeps its k best in order by insertion: 0.9 ms for k = 1,280 but 0.26 s for 20,480 and 20 s for 191,806; a
# scan of all takes 90 ms at most and leaves out at once what is not open.
_MOST_BY_INDEX = 2_500
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
    """Rows that offer the services, and their distances, rising; those not open may be missing when asked so."""
    requirement = stores.services.requirement(question.services)
    if requirement is None:
        return
    mask, rare_rows = requirement
    if rare_rows is not None:
        yield from _by_scan(stores, question, far, mask, rare_rows)
        return
    # Rows given are remembered by number: of equally distant ones a larger answer may name others first.
    given: set[int] = set()
    for found in _batches(stores, question, far, mask):
        for row, distance_m in found:
            if row not in given:
                given.add(row)
                yield row, distance_m


def _batches(stores: StoreSet, question: Question, far: float, mask: int) -> Iterator[Iterable[tuple[int, float]]]:
    """Ever larger answers of the place index; in the end, if they are still not enough, all rows by a scan."""
    count = question.limit
    while count <= _MOST_BY_INDEX:
        rows, distances_m = stores.places.nearest(
            question.lat, question.lon, count, max_distance_m=far, required_mask=mask
        )
        yield zip(rows.tolist(), distances_m.tolist(), strict=True)
        if len(rows) < count:
            return
        count *= _GROWTH
    yield _by_scan(stores, question, far, mask, np.arange(len(stores)))


def _by_scan(
    stores: StoreSet, question: Question, far: float, mask: int, rows: NDArray[np.int64]
) -> Iterator[tuple[int, float]]:
    """Those of ``rows`` that offer the services of ``mask`` (and are open, when asked so), by rising distance."""
    bits = np.uint64(mask)
    rows = rows[(stores.services.masks[rows] & bits) == bits]
    if question.only_open:
        rows = rows[stores.hours.open_at(question.at_ms)[stores.hours_rows[rows]]]
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
