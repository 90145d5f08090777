"""Files of stores on the operator's machine, on their way into an import: what they are, and their bytes in pieces."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from api.failed import Failed

_MEDIA_TYPES = {".csv": "text/csv", ".geojson": "application/geo+json", ".json": "application/geo+json"}
_GZIP = ".gz"
_CHUNK_BYTES = 1 << 18


def media_type_of(file: Path) -> str | None:
    """What the file's name says that it is; None for a name that says nothing known."""
    name = file.name.lower().removesuffix(_GZIP)
    return next((kind for suffix, kind in _MEDIA_TYPES.items() if name.endswith(suffix)), None)


def chunks_of(file: Path) -> Iterator[bytes]:
    """The content, unpacked where the name ends in ``.gz``, a piece at a time. Raises Failed when it cannot be read."""
    packed = file.name.lower().endswith(_GZIP)
    try:
        with gzip.open(file) if packed else file.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise Failed(f"{file}: cannot be read{' as gzip' if packed else ''}: {error}; nothing was changed") from None
