"""The file of a backup: frames in the order they were read, and a checksum over all of it at the end.

Layout: magic, format u16, then frames (type u8, length u32, body), the last one END, then BLAKE2b-256 of all before.
Little endian. A key that changed while the backup ran comes again behind CHANGES, where its last frame counts.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

from discovery.store.disk import sync_directory
from discovery.store.records import Entry, Record, StreamEnd, batched, joined, parted

FORMAT = 1
HEAD, RECORD, ENTRIES, STREAM_END, GONE, CHANGES, END = b"H", b"R", b"E", b"S", b"G", b"C", b"Z"

_MAGIC = b"NHBK"
_PREFIX = struct.Struct("<4sH")
_FRAME = struct.Struct("<cI")
_DIGEST_BYTES = 32
_READ_BYTES = 1 << 20

Frame = Record | StreamEnd | tuple[bytes, list[Entry]] | bytes | None
"""As :func:`frames` gives it: record, end of a stream, entries of one, key that is gone; None: changes follow."""


class BackupDamaged(Exception):
    """The file is no backup, or not whole, or of a later version."""


class BackupExists(Exception):
    """There is such a file."""


class BackupWriter:
    """Writes under another name, readable by its owner alone; ``commit`` gives it its name in one step."""

    def __init__(self, path: Path) -> None:
        """Raises BackupExists, OSError."""
        if path.exists():
            raise BackupExists(f"{path} exists already")
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file: IO[bytes] = os.fdopen(os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._write(_PREFIX.pack(_MAGIC, FORMAT))

    def head(self, fields: dict[str, Any]) -> None:
        """The first frame: what this is a backup of."""
        self._frame(HEAD, orjson.dumps(fields))

    def records(self, records: Iterable[Record]) -> None:
        """Keys with all they hold."""
        for record in records:
            head = (record.key, record.kind.encode(), str(record.expiry_ms).encode())
            self._frame(RECORD, joined([*head, *record.elements]))

    def gone(self, names: Iterable[bytes]) -> None:
        """Keys that are no more."""
        for name in names:
            self._frame(GONE, name)

    def entries(self, stream: bytes, rows: Sequence[Entry]) -> None:
        """More entries of a stream."""
        parts = [part for row in rows for part in (row.entry_id, joined(row.fields))]
        self._frame(ENTRIES, joined([stream, *parts]))

    def stream_end(self, end: StreamEnd) -> None:
        """After all entries of a stream."""
        self._frame(STREAM_END, joined([end.key, end.first, end.last, str(end.expiry_ms).encode()]))

    def changes(self) -> None:
        """What follows stands for what came before."""
        self._frame(CHANGES, b"")

    def commit(self, fields: dict[str, Any]) -> None:
        """End the file with what is known only now, and give it its name. Durable on return."""
        self._frame(END, orjson.dumps(fields))
        self._file.write(self._hash.digest())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.link(self._draft, self._path)  # unlike a rename it never replaces a file
        self._draft.unlink()
        sync_directory(self._path.parent)

    def abandon(self) -> None:
        """Leave nothing behind. After ``commit`` nothing happens."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._draft.unlink()

    def _frame(self, kind: bytes, body: bytes) -> None:
        self._write(_FRAME.pack(kind, len(body)))
        self._write(body)

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


def verify(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and end of a whole file. Raises BackupDamaged for any other, and OSError."""
    with path.open("rb") as file:
        _check_prefix(path, file.read(_PREFIX.size))
        size = path.stat().st_size
        file.seek(0)
        digest, left = hashlib.blake2b(digest_size=_DIGEST_BYTES), size - _DIGEST_BYTES
        while left > 0 and (data := file.read(min(left, _READ_BYTES))):
            digest.update(data)
            left -= len(data)
        if left != 0 or file.read() != digest.digest():
            raise BackupDamaged(f"{path} is damaged or not whole: its checksum does not fit")
    head, *_, end = [body for kind, body, _ in _raw_frames(path) if kind in (HEAD, END)]
    return orjson.loads(head), orjson.loads(end)


def _check_prefix(path: Path, data: bytes) -> None:
    if len(data) < _PREFIX.size or not data.startswith(_MAGIC):
        raise BackupDamaged(f"{path} is no backup of Nearhive")
    _, version = _PREFIX.unpack(data)
    if version != FORMAT:
        raise BackupDamaged(f"{path} has format {version}; this version reads {FORMAT}: use the version that wrote it")


def frames(path: Path, start: int = 0) -> Iterator[Frame]:
    """What a verified file holds, in its order, from byte ``start`` on (0: all)."""
    for kind, body, _ in _raw_frames(path, start):
        if kind == RECORD:
            key, type_name, expiry_ms, *elements = parted(body)
            yield Record(key, type_name.decode(), int(expiry_ms), elements)
        elif kind == ENTRIES:
            stream, *rows = parted(body)
            yield stream, [Entry(row, tuple(parted(fields))) for row, fields in batched(rows)]
        elif kind == STREAM_END:
            key, first, last, expiry_ms = parted(body)
            yield StreamEnd(key, first, last, int(expiry_ms))
        elif kind == GONE:
            yield body
        elif kind == CHANGES:
            yield None


def late_from(path: Path) -> tuple[int, list[bytes]]:
    """Where in a verified file the changes begin, and the keys that were gone before."""
    gone: list[bytes] = []
    for kind, body, start in _raw_frames(path):
        if kind == CHANGES:
            return start, gone
        if kind == GONE:
            gone.append(body)
    raise BackupDamaged(f"{path} has no part for changes")


def _raw_frames(path: Path, start: int = 0) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, body and first byte of each frame."""
    at = start or _PREFIX.size
    with path.open("rb") as file:
        file.seek(at)
        kind = b""
        while kind != END:
            kind, length = _FRAME.unpack(file.read(_FRAME.size))
            yield kind, file.read(length), at
            at += _FRAME.size + length
