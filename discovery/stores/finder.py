"""The stores that fit a question, nearest first: exact, with what they must have, open when asked so, page by page."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.errors import Invalid
from discovery.stores import explaining
from discovery.stores.candidates import Floats, Ring, rising
from discovery.stores.cards import Hit, collection, feature_of, listed_feature
from discovery.stores.filters import Filter, filter_of, rows_of
from discovery.stores.question import Listing, Position, Question, check_listing, check_question
from discovery.stores.row_set import Rows, RowSet, empty_words
from discovery.stores.store_set import StoreSet
from discovery.stores.zones import NO_ZONES, ZoneSet
from geo.kernels.open_hours import rows_in_box
from geo.sphere import bearing_deg

Seal = Callable[[Position], str]


class Found(NamedTuple):
    """The stores of one page, and where the next begins (None: there is no more)."""

    hits: list[Hit]
    after: Position | None


def nearest(stores: StoreSet, question: Question, zones: ZoneSet = NO_ZONES) -> list[Hit]:
    """The stores that fit, nearest first; equal distances in order of store_id.

    Raises ``Invalid`` for what is out of bounds. Open states come from the set's window of timelines where that holds
    the instants asked for, else from the hours of each store; for a journey the window must be there.
    """
    return page(stores, question, zones).hits


def page(stores: StoreSet, question: Question, zones: ZoneSet = NO_ZONES) -> Found:
    """One page of ``nearest``."""
    check_question(question)
    if question.after is not None:
        question = question._replace(at_ms=question.after.at_ms)
    near, seen = question.min_distance_m, 0
    if question.after is not None:
        near, seen = max(near, question.after.distance_m), question.after.seen
    fitting = _fitting(stores, question, zones, near, _far(question), seen + question.limit + 1)[seen:]
    hits = [_hit(stores, question, *one) for one in fitting[: question.limit]]
    if len(fitting) <= question.limit:
        return Found(hits, None)
    last_m = hits[-1].distance_m
    at_last = sum(hit.distance_m == last_m for hit in hits)
    if question.after is not None and question.after.distance_m == last_m:
        at_last += seen
    return Found(hits, Position(question.at_ms, last_m, at_last))


def fallback(stores: StoreSet, question: Question, zones: ZoneSet = NO_ZONES) -> list[Hit]:
    """For a question that found nothing: the nearest that fit but for the distance."""
    check_question(question)
    return [_hit(stores, question, *one) for one in _fitting(stores, question, zones, 0.0, np.inf, question.limit)]


def answer(stores: StoreSet, question: Question, zones: ZoneSet = NO_ZONES, seal: Seal | None = None) -> bytes:
    """GeoJSON FeatureCollection; with ``fallback`` when nothing lies within the distances asked for, ``explain`` when
    asked for, and ``next_cursor`` when ``seal`` makes one of a position."""
    found = page(stores, question, zones)
    more: dict[str, bytes] = {}
    if not found.hits and _has_bounds(question) and question.after is None:
        more["fallback"] = _collection(stores, fallback(stores, question, zones), question, {})
    if question.explain:
        more["explain"] = explaining.explained(stores, zones, question, found.hits)
    if seal is not None:
        more["next_cursor"] = b"null" if found.after is None else b'"%b"' % seal(found.after).encode()
    return _collection(stores, found.hits, question, more)


def serving(stores: StoreSet, question: Question, zones: ZoneSet, seal: Seal | None = None) -> bytes:
    """The stores whose zone holds the point, nearest first."""
    return answer(stores, question._replace(in_zone=True), zones, seal)


def listed(stores: StoreSet, listing: Listing) -> tuple[list[int], str | None]:
    """Rows of one page in order of store_id, and the last id when there are more. Raises ``Invalid``."""
    check_listing(listing)
    fit = filter_of(stores, listing.wanted, _open_rows(stores, listing.at_ms) if listing.only_open else None)
    if fit is None:
        return [], None
    if listing.box is not None:
        fit = fit.and_rows(stores, _in_box(stores, listing.box))
    rows = rows_of(stores, fit)
    rows = rows[rows >= stores.first_row_after(listing.after)]
    shown = rows[: listing.limit].tolist()
    return shown, stores.ids[shown[-1]].decode() if len(rows) > listing.limit else None


def listing_answer(stores: StoreSet, listing: Listing, seal: Callable[[str], str]) -> bytes:
    """GeoJSON FeatureCollection of one page, without states: it stays the same until the stores change."""
    rows, after = listed(stores, listing)
    cursor = b"null" if after is None else b'"%b"' % seal(after).encode()
    return collection([listed_feature(stores, row, listing.fields) for row in rows], {"next_cursor": cursor})


def _has_bounds(question: Question) -> bool:
    return question.max_distance_m is not None or question.min_distance_m > 0.0


def _collection(stores: StoreSet, hits: list[Hit], question: Question, more: dict[str, bytes]) -> bytes:
    return collection([feature_of(stores, hit, question) for hit in hits], more)


def _far(question: Question) -> float:
    return np.inf if question.max_distance_m is None else question.max_distance_m


def _fitting(
    stores: StoreSet, question: Question, zones: ZoneSet, near: float, far: float, count: int
) -> list[tuple[int, float]]:
    """The first ``count`` that fit, as (row, metres)."""
    fit = _filter(stores, question, zones)
    found: list[tuple[int, float]] = []
    if fit is None:
        return found
    checks = question.only_open and (question.speed_kmh is not None or question.at_ms not in stores.windows)
    for rows, distances_m in rising(stores, Ring(question.lat, question.lon, near, far), fit, count):
        if checks:
            rows, distances_m = _open_ones(stores, question, rows, distances_m)
        found += zip(rows.tolist(), distances_m.tolist(), strict=True)
        if len(found) >= count:
            break
    return found[:count]


def _filter(stores: StoreSet, question: Question, zones: ZoneSet) -> Filter | None:
    known = question.only_open and question.speed_kmh is None and question.at_ms in stores.windows
    fit = filter_of(stores, question.all_wanted(), _open_rows(stores, question.at_ms) if known else None)
    if fit is not None and question.in_zone:
        rows = [stores.row_of(store_id) for store_id in zones.holding(question.lat, question.lon)]
        held = np.array([row for row in rows if row is not None], dtype=np.int64)
        fit = fit.and_rows(stores, RowSet.of(held, len(stores)))
    return fit


def filter_of_anywhere(stores: StoreSet, question: Question) -> Filter | None:
    """The filter of a question, where it is the same for every point: without zones and journeys."""
    opened = _open_rows(stores, question.at_ms) if question.only_open else None
    return filter_of(stores, question.all_wanted(), opened)


def _hit(stores: StoreSet, question: Question, row: int, distance_m: float) -> Hit:
    at_ms = question.at_ms if question.speed_kmh is None else question.instant_ms(distance_m)
    state = stores.hours.state_at(stores.hours_rows.item(row), at_ms)
    bearing = bearing_deg(question.lat, question.lon, stores.lats.item(row), stores.lons.item(row))
    return Hit(row, distance_m, bearing, state, at_ms)


def _open_ones(stores: StoreSet, question: Question, rows: Rows, distances_m: Floats) -> tuple[Rows, Floats]:
    held = _open_on_the_way(stores, question, rows, distances_m)
    return rows[held], distances_m[held]


def _open_on_the_way(stores: StoreSet, question: Question, rows: Rows, distances_m: Floats) -> NDArray[np.bool_]:
    if question.speed_kmh is None:
        if len(rows) > len(stores.hours.keys):
            return stores.hours.open_at(question.at_ms)[stores.hours_rows[rows]]
        of_rows = stores.hours_rows[rows].tolist()
        return np.array([stores.hours.state_at(one, question.at_ms).state == "open" for one in of_rows], dtype=np.bool_)
    timelines = stores.windows.at(question.at_ms)
    if timelines is None:
        raise Invalid("cannot be told for journeys that begin at this time", "open")
    times_ms = question.at_ms + np.rint(distances_m * (3600.0 / question.speed_kmh)).astype(np.int64)
    # Who arrives after the window's end, nine days from now, is told of nothing: what is unknown is not open.
    reached = times_ms < timelines.end_ms
    return reached & timelines.open_among(stores.hours_rows, rows, np.minimum(times_ms, timelines.end_ms - 1))


def _open_rows(stores: StoreSet, at_ms: int) -> RowSet:
    timelines = stores.windows.at(at_ms)
    if timelines is not None:
        return timelines.open_rows(stores.hours_rows, at_ms)
    return RowSet.of(np.flatnonzero(stores.hours.open_at(at_ms)[stores.hours_rows]), len(stores))


def _in_box(stores: StoreSet, box: tuple[float, float, float, float]) -> RowSet:
    words = empty_words(len(stores))
    return RowSet(words, rows_in_box(stores.lats, stores.lons, *box, words))
