"""The nearest stores of many points at once: searched as arrays, written piece by piece as JSON or CSV."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import orjson

from discovery.stores import finder
from discovery.stores.cards import open_json
from discovery.stores.points import Floats, Points
from discovery.stores.question import Question, check_question
from discovery.stores.row_set import Rows
from discovery.stores.store_set import StoreSet
from discovery.stores.zones import ZoneSet
from geo.sphere import bearings_deg

CSV_COLUMNS = (
    *("id", "rank", "store_id", "name", "lat", "lon"),
    *("distance_m", "bearing_deg", "open", "next_change", "closes_in_s"),
)
_POINTS_A_PIECE = 500
_QUOTED = frozenset(',"\r\n')  # what a cell of CSV cannot hold without quotes


class Nearest(NamedTuple):
    """``rows`` i64[n, limit], -1 where there is no more; ``distances_m`` f64 of the same shape, there infinite."""

    rows: Rows
    distances_m: Floats


class _Words(NamedTuple):
    """``befores(stores, rows)``: what is written of each store before its distance and bearing; ``after(stores, row of
    its hours, instant)``: what comes after them."""

    befores: Callable[[StoreSet, Rows], list[bytes]]
    after: Callable[[StoreSet, int, int], bytes]


def nearest_of_all(stores: StoreSet, zones: ZoneSet, points: Points, question: Question) -> Nearest:
    """For each point what ``finder.nearest`` finds; the point of ``question`` is not looked at. Raises ``Invalid``.

    10,000 points and 100,000 stores take about 50 ms; with zones or ``on_arrival``, which differ from point to point,
    about 1 s. Run it in a thread.
    """
    check_question(question)
    if question.in_zone or (question.only_open and question.speed_kmh is not None):
        return _one_by_one(stores, zones, points, question)
    far = np.inf if question.max_distance_m is None else question.max_distance_m
    near, limit = question.min_distance_m, question.limit
    fit = finder.filter_of_anywhere(stores, question)
    if fit is None:
        return _none(len(points.ids), limit)
    places = stores.places if fit.subset is None else fit.subset.places()
    return Nearest(*places.nearest_many(points.lats, points.lons, limit, far, near, fit.mask))


def _none(points: int, limit: int) -> Nearest:
    return Nearest(np.full((points, limit), -1, np.int64), np.full((points, limit), np.inf))


def _one_by_one(stores: StoreSet, zones: ZoneSet, points: Points, question: Question) -> Nearest:
    found = _none(len(points.ids), question.limit)
    for index, (lat, lon) in enumerate(zip(points.lats.tolist(), points.lons.tolist(), strict=True)):
        for rank, hit in enumerate(finder.nearest(stores, question._replace(lat=lat, lon=lon), zones)):
            found.rows[index, rank], found.distances_m[index, rank] = hit.row, hit.distance_m
    return found


def json_pieces(stores: StoreSet, points: Points, found: Nearest, question: Question) -> Iterator[bytes]:
    """``{"results": [{id, stores: [...]}]}``, in the order of the points."""
    written = _written(stores, points, found, question, _Words(_json_befores, _json_after))
    before = b'{"results":['
    for first, ids, counts, hits in written:
        texts = map(b'%b,"distance_m":%b,"bearing_deg":%b%b'.__mod__, hits)
        lists = [b",".join(islice(texts, count)) for count in counts]
        names = [orjson.dumps(one) for one in ids]
        yield (b"," if first else before) + b",".join(
            map(b'{"id":%b,"stores":[%b]}'.__mod__, zip(names, lists, strict=True))
        )
    yield b"]}"


def csv_pieces(stores: StoreSet, points: Points, found: Nearest, question: Question) -> Iterator[bytes]:
    """One line a hit, with a header; a point without any has one line, without a store."""
    written = _written(stores, points, found, question, _Words(_csv_befores, _csv_after))
    yield (",".join(CSV_COLUMNS) + "\r\n").encode()
    nothing = b"," * (len(CSV_COLUMNS) - 1)
    for _, ids, counts, hits in written:
        lines = []
        for name, count in zip(ids, counts, strict=True):
            cell = _csv_cell(str(name))
            if count == 0:
                lines.append(cell + nothing)
            lines += [b"%b,%d,%b,%b,%b,%b" % (cell, rank, *hit) for rank, hit in enumerate(islice(hits, count), 1)]
        yield b"\r\n".join(lines) + b"\r\n"


_Hit = tuple[bytes, bytes, bytes, bytes]


def _written(
    stores: StoreSet, points: Points, found: Nearest, question: Question, words: _Words
) -> Iterator[tuple[int, Sequence[str | int], list[int], Iterator[_Hit]]]:
    """Piece by piece: first point, ids, hits of each point, all hits as (before, distance, bearing, after).

    Each store and each of its hours is put into words once; numbers are written by orjson, an array at a time.
    """
    all_held = found.rows >= 0
    stores_hit, places = np.unique(found.rows[all_held], return_inverse=True)
    befores = words.befores(stores, stores_hit)
    afters = _Afters(stores, question, words)
    done = 0
    for first in range(0, len(points.ids), _POINTS_A_PIECE):
        part = slice(first, first + _POINTS_A_PIECE)
        held = all_held[part]
        counts = held.sum(axis=1)
        rows, distances = found.rows[part][held], found.distances_m[part][held]
        lats, lons = np.repeat(points.lats[part], counts), np.repeat(points.lons[part], counts)
        bearings = bearings_deg(lats, lons, stores.lats[rows], stores.lons[rows])
        known = map(befores.__getitem__, places[done : done + len(rows)].tolist())
        numbers = _numbers(np.round(distances, 3)), _numbers(np.round(bearings, 2) % 360.0)
        yield first, points.ids[part], counts.tolist(), zip(known, *numbers, afters.of(rows, distances), strict=True)
        done += len(rows)


class _Afters:
    """What is written of the hours of stores."""

    def __init__(self, stores: StoreSet, question: Question, words: _Words) -> None:
        self._stores, self._question, self._after = stores, question, words.after
        self._known: dict[int, bytes] = {}

    def of(self, rows: Rows, distances_m: Floats) -> Iterable[bytes]:
        """Of each row, at its distance."""
        stores, known, at_ms = self._stores, self._known, self._question.at_ms
        hours: list[int] = stores.hours_rows[rows].tolist()
        if self._question.speed_kmh is not None:  # each arrival at a time of its own
            times = map(self._question.instant_ms, distances_m.tolist())
            return [self._after(stores, one, at) for one, at in zip(hours, times, strict=True)]
        for one in set(hours) - known.keys():
            known[one] = self._after(stores, one, at_ms)
        return map(known.__getitem__, hours)


def _numbers(values: Floats) -> list[bytes]:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(values) else []


def _points_of(stores: StoreSet, rows: Rows) -> tuple[list[bytes], list[bytes]]:
    return _numbers(stores.lats[rows]), _numbers(stores.lons[rows])


def _json_befores(stores: StoreSet, rows: Rows) -> list[bytes]:
    columns = zip(stores.card_heads(rows), *_points_of(stores, rows), strict=True)
    return list(map(b'%b,"lat":%b,"lon":%b'.__mod__, columns))


def _json_after(stores: StoreSet, hours: int, at_ms: int) -> bytes:
    return b',"open":%b}' % orjson.dumps(open_json(stores.hours.state_at(hours, at_ms)))


def _csv_befores(stores: StoreSet, rows: Rows) -> list[bytes]:
    cards = [orjson.loads(head + b"}") for head in stores.card_heads(rows)]
    names = [_csv_cell(card["name"]) for card in cards]
    ids = [card["store_id"].encode() for card in cards]  # an id holds nothing that CSV quotes
    return list(map(b"%b,%b,%b,%b".__mod__, zip(ids, names, *_points_of(stores, rows), strict=True)))


def _csv_after(stores: StoreSet, hours: int, at_ms: int) -> bytes:
    state = open_json(stores.hours.state_at(hours, at_ms))
    closes = "" if state["closes_in_s"] is None else state["closes_in_s"]
    return f"{state['state']},{state['next_change'] or ''},{closes}".encode()


def _csv_cell(text: str) -> bytes:
    return (text if _QUOTED.isdisjoint(text) else '"' + text.replace('"', '""') + '"').encode()
