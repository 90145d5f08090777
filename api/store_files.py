"""Files of stores on the operator's machine, on their way into an import or out of an export."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from api.failed import Failed

_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".txt": "text/csv",
    ".geojson": "application/geo+json",
    ".geojsonl": "application/geo+json-seq",
    ".geojsons": "application/geo+json-seq",
    ".ndgeojson": "application/geo+json-seq",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
}
_EXPORTS = {".csv": "csv", ".geojson": "geojson", ".json": "geojson"}
_GZIP = ".gz"
_CHUNK_BYTES = 1 << 18


def media_type_of(file: Path) -> str | None:
    """What the file's name says that it is; None for a name that says nothing known."""
    return _MEDIA_TYPES.get(_suffix(file))


def export_format_of(file: Path) -> str | None:
    """The format of an export that the file's name asks for; None for a name that says nothing known."""
    return _EXPORTS.get(_suffix(file))


def pieces_of(file: Path) -> Iterator[tuple[bytes, int]]:
    """The content, unpacked where the name ends in ``.gz``, a piece at a time, each with the bytes of the file read.

    Raises Failed when it cannot be read.
    """
    packed = _is_packed(file)
    try:
        with file.open("rb") as raw:
            content = cast(BinaryIO, gzip.GzipFile(fileobj=raw) if packed else raw)
            while piece := content.read(_CHUNK_BYTES):
                yield piece, raw.tell()
    except (OSError, EOFError, zlib.error) as error:
        raise Failed(f"{file}: cannot be read{' as gzip' if packed else ''}: {error}; nothing was changed") from None


def write_whole(file: Path, pieces: Iterable[bytes]) -> int:
    """Write the pieces, packed where the name ends in ``.gz``; the file is there only when all came. Bytes that came.

    Raises Failed when it cannot be written.
    """
    part = file.with_name(f".{file.name}.part")
    total = 0
    try:
        with part.open("wb") as raw:
            content = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="wb") if _is_packed(file) else raw)
            with content:
                for piece in pieces:
                    total += len(piece)
                    content.write(piece)
        os.replace(part, file)
    except OSError as error:
        raise Failed(f"{file}: cannot be written: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return total


def _suffix(file: Path) -> str:
    return Path(file.name.lower().removesuffix(_GZIP)).suffix


def _is_packed(file: Path) -> bool:
    return file.name.lower().endswith(_GZIP)
