"""Rows of a CSV file of stores, one at a time."""

import csv
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from discovery.errors import Invalid
from discovery.stores.rows import FIELDS, Findings, Row
from discovery.stores.text_files import utf8_text

if TYPE_CHECKING:
    import _csv

_ALIASES = {"tz": "timezone"}
_LISTS = ("services", "tags")
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_rows(file: BinaryIO, findings: Findings) -> Iterator[Row]:
    """Rows of ``file``: comma separated, double quotes, a header; empty lines are passed over.

    A row whose number of fields is not that of the header is rejected (it would be read askew).
    Raises ``Invalid`` for a file that is not such a CSV.
    """
    with utf8_text(file) as text:
        reader = csv.reader(text, strict=True)
        try:
            columns = _columns(next(reader, None), findings)
            yield from _rows(reader, columns, findings)
        except csv.Error as error:
            raise Invalid(f"line {reader.line_num}: not CSV ({error})", "body") from None


def _rows(reader: "_csv.Reader", columns: list[str | None], findings: Findings) -> Iterator[Row]:
    while True:
        start = reader.line_num + 1
        cells = next(reader, None)
        if cells is None:
            return
        if len(cells) == len(columns):
            yield _row(start, columns, cells)
        elif cells:
            findings.reject(start, None, f"{len(cells)} fields, but the header has {len(columns)}")


def _row(number: int, columns: list[str | None], cells: list[str]) -> Row:
    values = {name: cell for name, cell in zip(columns, cells, strict=True) if name is not None and cell}
    return Row(number, values, values.pop("services", ""), values.pop("tags", ""))


def _columns(header: list[str] | None, findings: Findings) -> list[str | None]:
    """Field of each column, None where it is ignored (with one warning a column)."""
    if not header or header == [""]:
        raise Invalid("the file is empty: it needs a header line with at least lat and lon", "body")
    names = [cell.strip().lower() for cell in header]
    columns = [_ALIASES.get(name, name) for name in names]
    known = [name if name in FIELDS else None for name in columns]
    _check_header(header, known)
    for position, (name, field) in enumerate(zip(names, known, strict=True), start=1):
        if field is None:
            findings.warn(1, name or f"column {position}", "not a field of a store: ignored")
    return known


def _check_header(header: list[str], known: list[str | None]) -> None:
    missing = [name for name in ("lat", "lon") if name not in known]
    if missing:
        raise Invalid(f"no column {' and no column '.join(missing)} in the header{_hint(header)}", "body")
    twice = [name for name, group in itertools.groupby(sorted(filter(None, known))) if len(list(group)) > 1]
    if twice:
        raise Invalid(f"the header has two columns for {', '.join(twice)}", "body")


def _hint(header: list[str]) -> str:
    if len(header) > 1:
        return ""
    found = [word for mark, word in _OTHER_SEPARATORS.items() if mark in header[0]]
    return f": the columns are separated by {found[0]}, but must be by commas" if found else ""
