"""Rows of a CSV file of stores, one at a time: its delimiter and columns are found out from the header."""

import csv
import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from discovery.errors import Invalid
from discovery.stores.column_names import field_of
from discovery.stores.csv_columns import Columns
from discovery.stores.rows import Findings, Row
from discovery.stores.text_files import text_of

if TYPE_CHECKING:
    import _csv

_DELIMITERS = ",;\t|"
_STATED = re.compile(r"sep=(.)\r?\n?")  # what Excel writes, and reads, before the header
_MAX_HEADER_CHARS = 1 << 17


def csv_rows(file: BinaryIO, findings: Findings, charset: str = "") -> Iterator[Row]:
    """Rows of ``file``: a header, double quotes, commas, semicolons, tabs or bars; empty lines are passed over.

    A row whose number of fields is not that of the header is rejected (it would be read askew), and so are the lines
    that no quote ends. Raises ``Invalid`` for a file that is not such a CSV.
    """
    with text_of(file, findings, charset, may_guess=True) as text:
        header = text.readline(_MAX_HEADER_CHARS)
        stated = _STATED.fullmatch(header)
        if stated:
            header = text.readline(_MAX_HEADER_CHARS)
        delimiter = stated[1] if stated else _delimiter(header)
        reader = csv.reader(chain([header], text), delimiter=delimiter, strict=True)
        yield from _rows(reader, Columns(_header(reader), findings, delimiter), findings, 2 if stated else 1)


def _rows(reader: "_csv.Reader", columns: Columns, findings: Findings, first_line: int) -> Iterator[Row]:
    while True:
        start = reader.line_num + first_line
        try:
            cells = next(reader, None)
        except csv.Error as error:
            findings.reject(start, None, f"not CSV ({error}){_more_lines(start, reader.line_num + first_line - 1)}")
            continue
        if cells is None:
            return
        if len(cells) == len(columns):
            if any(cells):
                yield columns.row(start, cells)
        elif cells:
            findings.reject(start, None, f"{len(cells)} fields, but the header has {len(columns)}")


def _more_lines(first: int, last: int) -> str:
    return f": lines {first} to {last} are left out" if last > first else ""


def _header(reader: "_csv.Reader") -> list[str]:
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise Invalid(f"line {reader.line_num}: the header is not CSV ({error})", "body") from None
    if not header or header == [""]:
        raise Invalid("the file is empty: it needs a header line with at least lat and lon", "body")
    return header


def _delimiter(header: str) -> str:
    """The one by which most columns have a name that we know, and then by which there are most columns."""

    def known(delimiter: str) -> tuple[int, int]:
        names = [name.strip(' "\r\n') for name in header.split(delimiter)]
        return len({field_of(name) for name in names} - {None}), len(names)

    return max(_DELIMITERS, key=known)
