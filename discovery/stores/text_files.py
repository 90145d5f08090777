"""A binary file as UTF-8 text, in pieces, with a clear error where it is anything else."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from discovery.errors import Invalid

_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _Counted(io.BufferedIOBase):
    """Counts the bytes read, so that a decoding error can be placed; leaves the file open when closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0
        self.start = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        if self.consumed == 0:
            self.start = data[:2]
        self.consumed += len(data)
        return data

    read1 = read


@contextmanager
def utf8_text(file: BinaryIO) -> Iterator[io.TextIOBase]:
    """Text of ``file``; a UTF-8 byte order mark is dropped, line ends stay. ``Invalid`` names the first bad byte."""
    counted = _Counted(file)
    text = io.TextIOWrapper(counted, encoding="utf-8-sig", newline="")  # type: ignore[type-var]
    try:
        yield text
    except UnicodeDecodeError as error:
        # What the decoder was given is always the end of what has been read.
        offset = counted.consumed - len(error.object) + error.start
        hint = " (it seems to be UTF-16)" if counted.start in _WIDE_MARKS else ""
        bad = error.object[error.start]
        raise Invalid(f"the file is not UTF-8: byte 0x{bad:02x} at offset {offset}{hint}", "body") from None
