"""The nearest stores of many points at once: searched as arrays, written piece by piece as JSON or CSV."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.stores import finder
from discovery.stores.cards import open_json
from discovery.stores.points import Points
from discovery.stores.question import Question, check_question
from discovery.stores.store_set import StoreSet
from discovery.stores.zones import ZoneSet
from geo.sphere import bearings_deg

CSV_COLUMNS = (
    *("id", "rank", "store_id", "name", "lat", "lon"),
    *("distance_m", "bearing_deg", "open", "next_change", "closes_in_s"),
)
_POINTS_A_PIECE = 500


class Nearest(NamedTuple):
    """``rows`` i64[n, limit], -1 where there is no more; ``distances_m`` f64 of the same shape, there infinite."""

    rows: NDArray[np.int64]
    distances_m: NDArray[np.float64]


class _Text(NamedTuple):
    """What is written of one store before and after its distance and bearing."""

    before: bytes
    after: bytes


class _Words(NamedTuple):
    """``befores(stores, rows)``; ``after(stores, row of its hours, instant)``."""

    befores: Callable[[StoreSet, list[int]], list[bytes]]
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
    writer = _Writer(stores, question, _Words(_json_befores, _json_after))
    before = b'{"results":['
    for first, ids, counts, hits in writer.pieces(points, found):
        names = [orjson.dumps(one) for one in ids]
        texts = [b'%b,"distance_m":%b,"bearing_deg":%b%b' % hit for hit in hits]
        rows, at = [], 0
        for name, count in zip(names, counts, strict=True):
            rows.append(b'{"id":%b,"stores":[%b]}' % (name, b",".join(texts[at : at + count])))
            at += count
        yield (b"," if first else before) + b",".join(rows)
    yield b"]}"


def csv_pieces(stores: StoreSet, points: Points, found: Nearest, question: Question) -> Iterator[bytes]:
    """One line a hit, with a header; a point without any has one line, without a store."""
    writer = _Writer(stores, question, _Words(_csv_befores, _csv_after))
    yield (",".join(CSV_COLUMNS) + "\r\n").encode()
    nothing = b"," * (len(CSV_COLUMNS) - 1)
    for _, ids, counts, hits in writer.pieces(points, found):
        lines, at = [], 0
        for name, count in zip(ids, counts, strict=True):
            cell = _csv_line([str(name)])
            if count == 0:
                lines.append(cell + nothing)
            for rank, hit in enumerate(hits[at : at + count], 1):
                lines.append(b"%b,%d,%b,%b,%b,%b" % (cell, rank, *hit))
            at += count
        yield b"\r\n".join(lines) + b"\r\n"


class _Writer:
    """Each store is put into words once; numbers are written by orjson, an array at a time."""

    def __init__(self, stores: StoreSet, question: Question, words: "_Words") -> None:
        self._stores = stores
        self._question = question
        self._words = words
        self._hours: list[int] = stores.hours_rows.tolist()
        self._befores: dict[int, bytes] = {}
        self._afters: dict[int, bytes] = {}

    def pieces(
        self, points: Points, found: Nearest
    ) -> Iterator[tuple[int, list[str | int], list[int], list[tuple[bytes, bytes, bytes, bytes]]]]:
        """(first point, ids, hits of each point, all hits as before, distance, bearing, after)."""
        for first in range(0, len(points.ids), _POINTS_A_PIECE):
            part = slice(first, first + _POINTS_A_PIECE)
            rows = found.rows[part]
            held = rows >= 0
            counts = held.sum(axis=1)
            hit_rows, distances = rows[held], found.distances_m[part][held]
            lats, lons = np.repeat(points.lats[part], counts), np.repeat(points.lons[part], counts)
            bearings = bearings_deg(lats, lons, self._stores.lats[hit_rows], self._stores.lons[hit_rows])
            texts = self._texts_of(hit_rows.tolist(), distances.tolist())
            numbers = zip(_numbers(np.round(distances, 3)), _numbers(np.round(bearings, 2) % 360.0), strict=True)
            hits = [
                (text.before, distance, bearing, text.after)
                for text, (distance, bearing) in zip(texts, numbers, strict=True)
            ]
            yield first, list(points.ids[part]), counts.tolist(), hits

    def _texts_of(self, rows: list[int], distances: list[float]) -> list[_Text]:
        new = sorted(set(rows) - self._befores.keys())
        self._befores.update(zip(new, self._words.befores(self._stores, new), strict=True))
        if self._question.speed_kmh is not None:  # each arrival at a time of its own
            times = [self._question.instant_ms(distance) for distance in distances]
            states = [
                self._words.after(self._stores, self._hours[row], at) for row, at in zip(rows, times, strict=True)
            ]
            return [_Text(self._befores[row], after) for row, after in zip(rows, states, strict=True)]
        at_ms, afters = self._question.at_ms, self._afters
        for hours in {self._hours[row] for row in new} - afters.keys():
            afters[hours] = self._words.after(self._stores, hours, at_ms)
        return [_Text(self._befores[row], afters[self._hours[row]]) for row in rows]


def _numbers(values: NDArray[np.float64]) -> list[bytes]:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(values) else []


def _json_befores(stores: StoreSet, rows: list[int]) -> list[bytes]:
    names = [orjson.dumps(orjson.loads(stores.cards[row])["name"]) for row in rows]
    ids = [stores.ids[row] for row in rows]  # an id holds nothing that JSON or CSV escapes
    columns = zip(ids, names, _numbers(stores.lats[rows]), _numbers(stores.lons[rows]), strict=True)
    return [b'{"store_id":"%b","name":%b,"lat":%b,"lon":%b' % one for one in columns]


def _json_after(stores: StoreSet, hours: int, at_ms: int) -> bytes:
    return b',"open":%b}' % orjson.dumps(open_json(stores.hours.state_at(hours, at_ms)))


def _csv_befores(stores: StoreSet, rows: list[int]) -> list[bytes]:
    names = [_csv_line([orjson.loads(stores.cards[row])["name"]]) for row in rows]
    ids = [stores.ids[row] for row in rows]
    columns = zip(ids, names, _numbers(stores.lats[rows]), _numbers(stores.lons[rows]), strict=True)
    return [b"%b,%b,%b,%b" % one for one in columns]


def _csv_after(stores: StoreSet, hours: int, at_ms: int) -> bytes:
    state = open_json(stores.hours.state_at(hours, at_ms))
    closes = "" if state["closes_in_s"] is None else state["closes_in_s"]
    return _csv_line([state["state"], state["next_change"] or "", closes])


def _csv_line(values: Sequence[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode()
