"""``nearhive stores nearest BRAND points.csv``: millions of points, 10,000 in a call, to CSV or Parquet."""

import csv
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from api.failed import Failed
from api.operator_client import OperatorClient

POINTS_A_CALL = 10_000
_SAY_EVERY_S = 2.0


class _Sink(Protocol):
    def write(self, rows: bytes) -> None:
        """A CSV with a header, once more of the same columns."""


def nearest_of_file(client: OperatorClient, path: str, file: Path, out: Path | None, limit: int) -> None:
    """Ask for all points of a CSV and write the answers: to ``out``, which appears when it is whole, or to standard
    output as CSV. Raises Failed; what was read until then is not kept in ``out``."""
    started_s = said_s = time.monotonic()
    points, size = 0, max(1, file.stat().st_size)
    with _sink(out) as sink:
        for content, count, read in _parts(file):
            try:
                sink.write(client.post_csv(path, content, {"limit": str(limit)}))
            except Failed as failure:
                raise Failed(f"of points {points + 1:,} to {points + count:,}: {failure}", failure.problem) from None
            points += count
            if time.monotonic() - said_s > _SAY_EVERY_S:
                said_s = time.monotonic()
                _say(
                    f"{points:,} points, {min(99, 100 * read // size)} %, {points / (said_s - started_s):,.0f} a second"
                )
        if points == 0:
            raise Failed(f"{file}: has no points")
    seconds = time.monotonic() - started_s
    _say(f"{points:,} points in {seconds:,.1f} s" + (f", in {out}" if out else ""))


def _parts(file: Path) -> Iterator[tuple[bytes, int, int]]:
    """(a CSV with the header, its points, bytes of the file read so far)."""
    try:
        with file.open("rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
            header = text.readline()
            delimiter = max(",;\t|", key=header.count)
            names = next(csv.reader([header], delimiter=delimiter), [])
            rows: list[list[str]] = []
            for row in csv.reader(text, delimiter=delimiter, strict=True):
                if row:
                    rows.append(row)
                if len(rows) == POINTS_A_CALL:
                    yield _csv_of(names, rows), len(rows), raw.tell()
                    rows = []
            if rows:
                yield _csv_of(names, rows), len(rows), raw.tell()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failed(f"{file}: cannot be read as CSV in UTF-8: {error}") from None


def _csv_of(names: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([names, *rows])
    return text.getvalue().encode()


def _sink(out: Path | None) -> AbstractContextManager[_Sink]:
    if out is None:
        return _CsvSink(None)
    name = out.name.lower()
    if name.endswith(".parquet"):
        return _ParquetSink(out)
    if name.endswith(".csv"):
        return _CsvSink(out)
    raise Failed(f"{out.name}: must end in .csv or .parquet")


class _Whole:
    """Writes beside ``out`` and puts the file in its place when all went well."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._part = None if out is None else out.with_name(f".{out.name}.{os.getpid()}.part")
        self._close: Callable[[], Any] = lambda: None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()
        if self._out is None or self._part is None:
            return
        if kind is None and self._part.exists():
            self._part.replace(self._out)
        else:
            self._part.unlink(missing_ok=True)


class _CsvSink(_Whole):
    def __enter__(self) -> "_CsvSink":
        try:
            self._file: Any = sys.stdout.buffer if self._part is None else self._part.open("wb")
        except OSError as error:
            raise Failed(f"{self._out}: cannot be written: {error}") from None
        self._close = self._file.flush if self._part is None else self._file.close
        self._first = True
        return self

    def write(self, rows: bytes) -> None:
        """The header once."""
        self._file.write(rows if self._first else rows.partition(b"\r\n")[2])
        self._first = False


class _ParquetSink(_Whole):
    def __enter__(self) -> "_ParquetSink":
        try:
            arrow, self._csv, self._parquet = map(import_module, ("pyarrow", "pyarrow.csv", "pyarrow.parquet"))
        except ImportError:
            raise Failed("Parquet needs pyarrow: pip install pyarrow, or write .csv") from None
        self._arrow: Any = arrow
        self._writer: Any = None
        return self

    def write(self, rows: bytes) -> None:
        """One row group."""
        text, number = self._arrow.string(), self._arrow.float64()
        types = dict.fromkeys(("id", "store_id", "name", "open"), text)
        types |= dict.fromkeys(("lat", "lon", "distance_m", "bearing_deg"), number)
        types |= {"rank": self._arrow.int32(), "closes_in_s": self._arrow.int64(), "next_change": text}
        table = self._csv.read_csv(
            io.BytesIO(rows),
            parse_options=self._csv.ParseOptions(newlines_in_values=True),
            # Only what is empty is none: of itself the reader takes a store named NA, or a point "null", for none.
            convert_options=self._csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
        )
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(str(self._part), table.schema)
            self._close = self._writer.close
        self._writer.write_table(table)


def _say(line: str) -> None:
    print(f"nearhive: {line}", file=sys.stderr, flush=True)
