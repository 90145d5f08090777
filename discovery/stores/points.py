"""Many points of one question, from JSON rows or CSV: all of them are points, or the first fault is named."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.errors import Invalid

MAX_POINTS = 10_000
MAX_ID_CHARS = 128

_NAMES = frozenset({"id", "lat", "lon"})
_COLUMNS = {
    "lat": ("lat", "latitude", "y"),
    "lon": ("lon", "lng", "long", "longitude", "x"),
    "id": ("id", "point_id", "point", "store_id", "name"),
}

Floats = NDArray[np.float64]


class Points(NamedTuple):
    """``ids``: as they came, else the index from 0; ``lats, lons`` f64[n] degrees."""

    ids: Sequence[str | int]
    lats: Floats
    lons: Floats


def points_of(rows: Sequence[Any]) -> Points:
    """The points of JSON objects {id?, lat, lon}. Raises ``Invalid`` that names row and field.

    The checks run over whole columns; only a fault is looked for row by row.
    """
    _check_count(len(rows))
    try:
        plain = {frozenset(row) for row in rows}
        lats, lons = [row["lat"] for row in rows], [row["lon"] for row in rows]
        ids = [row.get("id", index) for index, row in enumerate(rows)]
        numbers = {type(value) for values in (lats, lons) for value in values} <= {int, float}
        texts = all(_is_id(value) for value in ids)
        found = Points(ids, np.array(lats, dtype=np.float64), np.array(lons, dtype=np.float64)) if numbers else None
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
        found, plain, texts = None, set(), False
    good = found is not None and texts and all(names <= _NAMES for names in plain)
    if found is None or not good or not _in_range(found):
        raise _fault(rows)
    return found


def points_of_csv(content: bytes) -> Points:
    """The points of a CSV with a header: columns lat and lon, perhaps id; others are left alone.

    Raises ``Invalid`` that names line and column.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid("must be UTF-8", "body") from None
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t|", key=header.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error:
        raise Invalid("is no CSV: a quote is not closed, or a field is too long", "body") from None
    if not rows:
        raise Invalid("has no header with lat and lon", "body")
    columns = _columns(rows[0])
    _check_count(len(rows) - 1)
    return _of_columns(rows[1:], columns)


def _columns(header: Sequence[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    found = {}
    for column, spellings in _COLUMNS.items():
        places = [names.index(spelling) for spelling in spellings if spelling in names]
        if places:
            found[column] = places[0]
    for column in ("lat", "lon"):
        if column not in found:
            raise Invalid(f"has no column {column}", "header")
    return found


def _of_columns(rows: Sequence[Sequence[str]], columns: dict[str, int]) -> Points:
    lats, lons = np.empty(len(rows)), np.empty(len(rows))
    ids: list[str | int] = []
    for index, row in enumerate(rows):
        for values, column in ((lats, "lat"), (lons, "lon")):
            values[index] = _degrees(row, columns[column], index, column)
        place = columns.get("id", len(row))
        ids.append(row[place][:MAX_ID_CHARS] if place < len(row) and row[place] else index)
    return Points(ids, lats, lons)


def _degrees(row: Sequence[str], place: int, index: int, column: str) -> float:
    bound = 90.0 if column == "lat" else 180.0
    try:
        value = float(row[place])
    except (IndexError, ValueError):
        value = np.nan
    if not -bound <= value <= bound:
        raise Invalid(f"must be a number from -{bound:.0f} to {bound:.0f}", f"row {index + 2}: {column}")
    return value


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_POINTS:
        raise Invalid(f"must be 1 to {MAX_POINTS} points", "points")


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _in_range(points: Points) -> bool:
    return bool((np.abs(points.lats) <= 90.0).all() and (np.abs(points.lons) <= 180.0).all())


def _fault(rows: Sequence[Any]) -> Invalid:
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            return Invalid("must be an object with lat and lon", f"points.{index}")
        for name, bound in (("lat", 90), ("lon", 180)):
            value: Any = row.get(name)
            if type(value) not in (int, float) or not -bound <= value <= bound:
                return Invalid(f"must be a number from -{bound} to {bound}", f"points.{index}.{name}")
        if not _is_id(row.get("id", 0)):
            return Invalid(f"must be a text of at most {MAX_ID_CHARS} characters, or an integer", f"points.{index}.id")
        if not row.keys() <= _NAMES:
            return Invalid("has a field other than id, lat, lon", f"points.{index}")
    return Invalid("must be points", "points")
