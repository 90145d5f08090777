"""Columns of a CSV: which fields of a store they are, and the cells of a line as a ``Row``."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson

from discovery.errors import Invalid
from discovery.stores.addresses import street_address
from discovery.stores.column_names import (
    HOUSE_NUMBER,
    MORE_ADDRESS,
    POINT,
    STREET,
    DayColumn,
    day_columns,
    field_of,
    rank_of,
)
from discovery.stores.column_names import plain as plain_name
from discovery.stores.rows import FIELDS, Findings, Row
from discovery.stores.week import day_hours, week_hours

_DEGREES = r"[+-]?[0-9]+(?:\.[0-9]+)?"
_POINTS = (
    (re.compile(rf"\(?\s*({_DEGREES})\s*[,;\s]\s*({_DEGREES})\s*\)?"), 1, 2),  # lat, lon
    (re.compile(rf"(?i:(?:SRID=4326;)?\s*POINT)\s*\(\s*({_DEGREES})\s+({_DEGREES})\s*\)"), 2, 1),  # WKT
)
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_UNGUESSED = frozenset(field.replace("_", "") for field in FIELDS) | {"tz"}
_hours_of_cell = lru_cache(maxsize=16_384)(day_hours)


class _Day(NamedTuple):
    position: int
    name: str
    column: DayColumn


class Columns:
    """What the header says. ``len`` is the number of columns. Raises ``Invalid`` for one without lat and lon."""

    def __init__(self, header: Sequence[str], findings: Findings, delimiter: str = ",") -> None:
        self._header = [name.strip() for name in header]
        self._findings = findings
        self._comma_is_decimal = delimiter != ","
        days = day_columns(self._header)
        self._days = [_Day(position, self._header[position], column) for position, column in sorted(days.items())]
        known = {position: field_of(name) for position, name in enumerate(self._header) if position not in days}
        chosen = self._chosen(known)
        self._simple = [(position, field) for position, field in chosen.items() if field in FIELDS]
        self._more_address = [position for position, field in chosen.items() if field == MORE_ADDRESS]
        part = {field: position for position, field in chosen.items()}
        self._street, self._number, self._point = (part.get(name) for name in (STREET, HOUSE_NUMBER, POINT))
        self._composed = bool(self._days or self._more_address or self._number is not None or STREET in part)
        self._say(chosen)

    def __len__(self) -> int:
        return len(self._header)

    def row(self, number: int, cells: Sequence[str]) -> Row:
        """The line that starts at ``number`` as a row; oddities of composed fields are warned of."""
        values = {field: cells[position] for position, field in self._simple if cells[position]}
        if self._point is not None:
            values |= _point(cells[self._point])
        if self._comma_is_decimal:
            values |= {name: _with_point(values[name]) for name in ("lat", "lon") if name in values}
        if self._composed:
            self._compose(number, values, cells)
        return Row(number, values, _listed(values.pop("services", "")), _mapped(values.pop("tags", "")))

    def _chosen(self, known: Mapping[int, str | None]) -> dict[int, str]:
        """Position -> field, one for each field; a field of its own wins over what it could be made of."""
        positions: dict[str, list[int]] = {}
        for position, field in known.items():
            if field is not None:
                positions.setdefault(field, []).append(position)
        if "address" in positions:
            positions.pop(STREET, None)
            positions.pop(HOUSE_NUMBER, None)
        if "lat" in positions and "lon" in positions:
            positions.pop(POINT, None)
        missing = [name for name in ("lat", "lon") if name not in positions and POINT not in positions]
        if missing:
            raise Invalid(f"no column {' and no column '.join(missing)} in the header", "body")
        more = dict.fromkeys(positions.pop(MORE_ADDRESS, ()), MORE_ADDRESS)
        return more | {self._plainest(field, found): field for field, found in positions.items()}

    def _plainest(self, field: str, positions: Sequence[int]) -> int:
        best = min(positions, key=lambda position: rank_of(self._header[position]))
        names = [plain_name(self._header[position]) for position in positions]
        if names.count(plain_name(self._header[best])) > 1:
            raise Invalid(f"the header has two columns for {field}", "body")
        return best

    def _say(self, chosen: Mapping[int, str]) -> None:
        """One warning for each column that is ignored, or whose name is a guess."""
        days = {day.position for day in self._days}
        for position, name in enumerate(self._header):
            field = chosen.get(position)
            if field is None and position not in days:
                self._findings.warn(1, name[:100] or f"column {position + 1}", self._why_ignored(name, chosen))
            elif field is not None and plain_name(name) not in _UNGUESSED:
                shown = "lat and lon" if field == POINT else field if field in FIELDS else "a part of address"
                self._findings.warn(1, name[:100], f"read as {shown}")

    def _why_ignored(self, name: str, chosen: Mapping[int, str]) -> str:
        field = field_of(name)
        other = next((self._header[position] for position, used in chosen.items() if used == field), None)
        return f"ignored: {other[:100]} is read as {field}" if other and field else "not a field of a store: ignored"

    def _compose(self, number: int, values: dict[str, str], cells: Sequence[str]) -> None:
        if self._street is not None or self._number is not None:
            street, house = (cells[at].strip() if at is not None else "" for at in (self._street, self._number))
            values["address"] = street_address(street, house, values.get("country", ""))
        parts = [values.get("address", ""), *(cells[position] for position in self._more_address)]
        values["address"] = ", ".join(part.strip() for part in parts if part.strip())
        if self._days and not values.get("opening_hours", "").strip():
            values["opening_hours"] = self._week(number, cells)

    def _week(self, number: int, cells: Sequence[str]) -> str:
        said: dict[int, dict[str, str]] = {}
        for day in self._days:
            if cells[day.position].strip():
                said.setdefault(day.column.day, {})[day.column.part] = cells[day.position]
        week: dict[int, str] = {}
        for day in self._days:
            parts = said.pop(day.column.day, None)
            hours = _hours_of_cell(_text_of_day(parts)) if parts else None
            if hours is not None:
                week[day.column.day] = hours
            elif parts:
                self._findings.warn(number, day.name, "not hours such as 09:00-18:00 or closed: that day is unknown")
        return week_hours(week)


def _text_of_day(parts: Mapping[str, str]) -> str:
    if "whole" in parts:
        return parts["whole"]
    opens, closes = parts.get("opens", "").strip(), parts.get("closes", "").strip()
    return f"{opens}-{closes}" if opens and closes else opens or closes  # 'closed' may stand in one of them


def _listed(cell: str) -> str | list[str]:
    """JSON, as an export writes what has a semicolon in it; else the text as it is."""
    found = _json(cell, "[")
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else cell


def _mapped(cell: str) -> str | dict[str, str]:
    found = _json(cell, "{")
    return found if isinstance(found, dict) and all(isinstance(one, str) for one in found.values()) else cell


def _json(cell: str, begin: str) -> object:
    if not cell.startswith(begin):
        return None
    try:
        return orjson.loads(cell)
    except ValueError:
        return None


def _point(text: str) -> dict[str, str]:
    for form, lat, lon in _POINTS:
        found = form.fullmatch(text.strip())
        if found:
            return {"lat": found[lat], "lon": found[lon]}
    return {"lat": text} if text.strip() else {}


def _with_point(text: str) -> str:
    return text.strip().replace(",", ".") if _DECIMAL_COMMA.fullmatch(text.strip()) else text
