"""A file of stores -> a checked, packed store set, and what was found wrong in it. CPU-bound: run it in a thread."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from discovery.errors import Invalid
from discovery.stores.csv_rows import csv_rows
from discovery.stores.fields import Store, store_of
from discovery.stores.json_rows import geojson_rows, json_rows
from discovery.stores.packing import SetBuilder
from discovery.stores.rows import Findings, Row, Unfit
from discovery.stores.store_set import StoreSet

Reader = Callable[[BinaryIO, Findings, str], Iterator[Row]]
_READERS: dict[str, Reader] = {
    "text/csv": csv_rows,
    "application/geo+json": geojson_rows,
    "application/json": json_rows,
    "application/ld+json": json_rows,
    "application/geo+json-seq": json_rows,
    "application/x-ndjson": json_rows,
}
MEDIA_TYPES = tuple(_READERS)


@dataclass(frozen=True, slots=True)
class ImportedSet:
    """``len(stores) + len(findings.rejected) == rows_read``."""

    stores: StoreSet
    findings: Findings
    rows_read: int


def read_stores(media_type: str, file: BinaryIO, brand_name: str) -> ImportedSet:
    """Read all of ``file`` (binary, seekable, from its position). Memory: the packed set plus what was found wrong.

    Raises ``Invalid`` for a file that cannot be read as ``media_type``, has no rows, or a media type we do not read.
    """
    findings = Findings()
    reader, charset = _reader(media_type)
    rows = reader(file, findings, charset)
    with closing(SetBuilder()) as builder:
        _take_all(rows, builder, brand_name, findings)
        rows_read = len(builder) + findings.rejected_rows
        if rows_read == 0:
            raise Invalid("the file has no stores", "body")
        return ImportedSet(builder.finish(), findings, rows_read)


def _take_all(rows: Iterator[Row], builder: SetBuilder, brand_name: str, findings: Findings) -> None:
    points = _Points()
    for row in rows:
        try:
            store = store_of(row, brand_name, findings)
            _add(builder, store)
        except Unfit as fault:
            findings.reject(row.number, fault.field, fault.message)
        else:
            points.add(row.number, store.lat, store.lon)
    points.warn_of_shared(findings)


class _Points:
    """Where the stores of the file are, 20 bytes each, to say in the end which share a point."""

    def __init__(self) -> None:
        self._numbers = array("i")
        self._lats = array("d")
        self._lons = array("d")

    def add(self, number: int, lat: float, lon: float) -> None:
        self._numbers.append(number)
        self._lats.append(lat)
        self._lons.append(lon)

    def warn_of_shared(self, findings: Findings) -> None:
        """A warning for each row but the first at a point, in order of rows. 0, 0 has a warning of its own."""
        if not self._numbers:
            return
        lats, lons = np.array(self._lats), np.array(self._lons)
        order = np.lexsort((lons, lats))  # a stable sort: rows of one point stay in their order
        starts = np.ones(len(order), dtype=np.bool_)
        starts[1:] = (np.diff(lats[order]) != 0) | (np.diff(lons[order]) != 0)
        firsts = np.empty(len(order), dtype=np.int64)
        firsts[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
        shared = (firsts != np.arange(len(order))) & ~((lats == 0) & (lons == 0))
        for row in np.flatnonzero(shared).tolist():
            findings.warn(self._numbers[row], "lat", f"the same point as row {self._numbers[firsts[row]]}")


def _add(builder: SetBuilder, store: Store) -> None:
    if not builder.add(store):
        raise Unfit("store_id", f"{store.store_id!r} is already in this file")


def _reader(media_type: str) -> tuple[Reader, str]:
    """The reader, and the charset that the sender names ('': none)."""
    kind, *parameters = (part.strip() for part in media_type.split(";"))
    reader = _READERS.get(kind.lower())
    if reader is None:
        raise Invalid(f"media type must be one of: {', '.join(MEDIA_TYPES)}", "content-type")
    named = [value for name, _, value in (p.partition("=") for p in parameters) if name.strip().lower() == "charset"]
    return reader, named[0].strip().strip('"') if named else ""
