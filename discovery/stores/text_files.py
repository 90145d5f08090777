"""A binary file as text, in pieces, with a clear error where it is anything else."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from charset_normalizer import from_bytes

from discovery.errors import Invalid
from discovery.stores.rows import Findings

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT = (
    (b"PK\x03\x04", "a zip archive, or a workbook of Excel or LibreOffice: save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of Excel: save it as CSV"),
    (b"\x1f\x8b", "packed by gzip: unpack it (`nearhive stores import` does)"),
    (b"PAR1", "Parquet: save it as CSV"),
    (b"%PDF", "a PDF"),
)
_GUESSED = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "euc_jp", "gb18030", "big5", "euc_kr")
_USUAL = "cp1252"
_SAMPLE_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20


@contextmanager
def text_of(file: BinaryIO, findings: Findings, charset: str = "", *, may_guess: bool) -> Iterator[io.TextIOBase]:
    """Text of the seekable ``file`` from its position on; line ends stay, a byte order mark is dropped.

    ``charset``: what the sender says that it is ('': nothing). Else it is UTF-8, or UTF-16 or UTF-32 where a mark says
    so; with ``may_guess`` also what the bytes look like, with a warning. ``Invalid`` names the first bad byte.
    """
    start = file.tell()
    encoding = _encoding(file, findings, charset, may_guess)
    file.seek(start)
    counted = _Counted(file)
    text = io.TextIOWrapper(counted, encoding=encoding, newline="")  # type: ignore[type-var]
    try:
        yield text
    except UnicodeDecodeError as error:
        # What the decoder was given is always the end of what has been read.
        raise _bad_byte(error, counted.consumed - len(error.object)) from None
    except UnicodeError:  # UTF-16 and UTF-32 name no byte when the mark is missing
        raise Invalid(f"the file is not {encoding.upper()}", "body") from None


class _Counted(io.BufferedIOBase):
    """Counts the bytes read, so that a decoding error can be placed; leaves the file open when closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self.consumed += len(data)
        return data

    read1 = read


def _encoding(file: BinaryIO, findings: Findings, charset: str, may_guess: bool) -> str:
    first = file.read(_SAMPLE_BYTES)
    _refuse_no_text(first)
    marked = next((name for mark, name in _MARKS if first.startswith(mark)), "")
    if marked:
        return marked
    if charset:
        return _named(charset)
    if b"\0" in first:
        return _wide(first)
    if not may_guess:
        return "utf-8"
    sample = _not_utf8(file, first)
    if sample is None:
        return "utf-8"
    guess = _guess(sample)
    findings.warn(0, None, f"the file is not UTF-8: read as {guess}; charset=… in the Content-Type names another")
    return guess


def _refuse_no_text(first: bytes) -> None:
    for magic, what in _NO_TEXT:
        if first.startswith(magic):
            raise Invalid(f"the file is {what}", "body")


def _named(charset: str) -> str:
    try:
        if "a".encode(charset) and codecs.lookup(charset)._is_text_encoding:
            return codecs.lookup(charset).name
    except (LookupError, UnicodeError, ValueError):
        pass
    raise Invalid("no such charset: utf-8 or windows-1252, for instance", "content-type")


def _wide(first: bytes) -> str:
    """UTF-16 without a mark has a zero byte in the pairs of its commas and digits, always on the same side."""
    even, odd = first[::2].count(0), first[1::2].count(0)
    if max(even, odd) < len(first) / 32 or min(even, odd) > max(even, odd) / 8:
        raise Invalid("the file is not a text: it has zero bytes", "body")
    return "utf-16-le" if odd > even else "utf-16-be"


def _not_utf8(file: BinaryIO, piece: bytes) -> bytes | None:
    """The bytes around the first that is not UTF-8, None when all is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while piece:
        try:
            decoder.decode(piece)
        except UnicodeDecodeError as error:
            near = max(0, error.start - _SAMPLE_BYTES // 2)
            return error.object[near : near + _SAMPLE_BYTES]
        piece = file.read(_PIECE_BYTES)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return error.object
    return None


def _guess(sample: bytes) -> str:
    """What most of the lines with other than ASCII letters look like; Windows-1252 in doubt."""
    lines = b"\n".join(line for line in sample.splitlines() if not line.isascii())
    best = from_bytes(lines, cp_isolation=list(_GUESSED)).best() if len(lines) > 32 else None
    if best is None or lines.decode(best.encoding, "replace") == lines.decode(_USUAL, "replace"):
        return _USUAL
    return best.encoding


def _bad_byte(error: UnicodeDecodeError, before: int) -> Invalid:
    place = f"byte 0x{error.object[error.start]:02x} at offset {before + error.start}"
    return Invalid(f"the file is not {error.encoding.upper()}: {place}", "body")
