"""A file of stores -> a checked, packed store set, and what was found wrong in it. CPU-bound: run it in a thread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from discovery.errors import Invalid
from discovery.stores.csv_rows import csv_rows
from discovery.stores.fields import Store, store_of
from discovery.stores.geojson_rows import geojson_rows
from discovery.stores.packing import SetBuilder
from discovery.stores.rows import Findings, Row, Unfit
from discovery.stores.store_set import StoreSet

Reader = Callable[[BinaryIO, Findings], Iterator[Row]]
_READERS: dict[str, Reader] = {"text/csv": csv_rows, "application/geo+json": geojson_rows}
MEDIA_TYPES = tuple(_READERS)


@dataclass(frozen=True, slots=True)
class ImportedSet:
    """``len(stores) + len(findings.rejected) == rows_read``."""

    stores: StoreSet
    findings: Findings
    rows_read: int


def read_stores(media_type: str, file: BinaryIO, brand_name: str) -> ImportedSet:
    """Read all of ``file`` (binary, from its position). Memory: the packed set plus what was found wrong.

    Raises ``Invalid`` for a file that cannot be read as ``media_type``, has no rows, or a media type we do not read.
    """
    findings = Findings()
    builder = SetBuilder()
    for row in _reader(media_type)(file, findings):
        try:
            _add(builder, store_of(row, brand_name, findings))
        except Unfit as fault:
            findings.reject(row.number, fault.field, fault.message)
    rows_read = len(builder) + len(findings.rejected)
    if rows_read == 0:
        raise Invalid("the file has no stores", "body")
    return ImportedSet(builder.finish(), findings, rows_read)


def _add(builder: SetBuilder, store: Store) -> None:
    if not builder.add(store):
        raise Unfit("store_id", f"{store.store_id!r} is already in this file")


def _reader(media_type: str) -> Reader:
    kind, *parameters = (part.strip().lower() for part in media_type.split(";"))
    reader = _READERS.get(kind)
    if reader is None:
        raise Invalid(f"media type must be one of: {', '.join(MEDIA_TYPES)}", "content-type")
    for parameter in parameters:
        if parameter.startswith("charset=") and parameter[8:].strip('"') not in ("utf-8", "utf8"):
            raise Invalid("the charset must be utf-8", "content-type")
    return reader
