"""One shard's folded people as bytes: the format of a checkpoint.

Layout, little endian: magic, format version u8, length of the head u32, head (JSON), sections, CRC-32 of all before.
The head says where in its feed the shard stood, and name and length of each section. A section is compressed by zlib
and holds either a column of the people written (who has no fact is left out) or a table as lines of JSON: each line a
list of rows. Tables name people by index: first those with columns, then those whom only the tables mention.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.store.feed import Place

FORMAT = 4
_OLDEST_FORMAT = 1
"""Has none of the sections that came with 2: they are read as empty. 2 names people in `shown` by id, 3 has tombstones
that do not know of which human the account was."""
MAX_CHUNK_BYTES = 1 << 20

COLUMNS = {
    "visibility": "|u1",
    "fallback": "|u1",
    "visible_until_ms": "<i8",
    "bottles": "|u1",
    "age_app": "|u1",
    "age_claim": "|u1",
    "cleared": "|u1",
    "published": "<u8",
    "stranger": "<u8",
    "pending": "<u8",
    "live_until_ms": "<i8",
    "seen_ms": "<i8",
    "extended_edge_ms": "<i8",
    "reported_ms": "<i8",
    "jump_day": "<i4",
    "came": "|u1",
    "first_ms": "<i8",
    "looked_ms": "<i8",
    "looks": "|u1",
    "cells_day": "<i4",
    "cells": "|u1",
    "cell_mark": "<u4",
}
"""Every folded column of a person and its type here."""

_UNTOLD = {"first_ms": 1}
"""What a column of an older format without it is full of, where not of 0: who was there before is no new account."""

HALF_COLUMNS = {
    "owner": "<u4",
    "other": "<u4",
    "precision": "|u1",  # index into friends.STORED_PRECISIONS
    "until_ms": "<i8",
    "since_ms": "<i8",
    "asked_ms": "<i8",
    "guardian": "|u1",
}
"""Every field of a half and its type here; columns, because people have many."""

SHOWN_COLUMNS = {"who": "<u4", "day": "<i4", "count": "<u4", "marks": "<u4"}
"""Whom new accounts were shown: a row for each of them in the first three, ``count`` marks for each row in the last."""

_MAGIC = b"NHcp"
_PREFIX = struct.Struct("<4sBI")
_TRAILER = struct.Struct("<I")
_COMPRESSION = 1  # cells and times shrink to a quarter at 100 MB/s; more effort gains little
_UNPACKERS = 4  # threads: zlib lets go of the interpreter
_LINE_ROWS = 20_000  # rows a JSON line: a thread that packs holds the interpreter for one line at a time
_TABLES = (
    *("ids", "mentioned", "blocks", "suspensions", "persons"),
    *("quiet_zones", "mutes", "precise", "tombstones"),
)


class UnknownVersion(ValueError):
    """A checkpoint that a later Nearhive wrote: this one cannot know what it misses."""


@dataclass(slots=True, frozen=True)
class Head:
    """Whose state, and where in its feed. ``secret`` tells whether ``hashes`` are those of the present secret;
    ``digest`` is that of the people written, ``block_count`` that of ``Blocks.count``."""

    shard: int
    shards: int
    place: Place
    edge_ms: int
    stranger_edge_ms: int
    secret: str
    digest: int
    block_count: int


@dataclass(slots=True, frozen=True)
class ShardState:
    """Everything folded of one shard's people.

    ``ids`` str[n], ``hashes`` uint64[n] and ``columns`` [n] are of people with any fact, ``mentioned`` ids of others.
    The rest names people by index into ids + mentioned: ``halves``, columns [m] sorted by owner; and rows: ``blocks``
    [blocker, name, blocked, at_ms, number], ``suspensions`` [who, {feature: until_ms}], ``persons`` [who, person],
    ``quiet_zones`` [who, [cell, ...]], ``mutes`` [who, [id, ...]],
    ``precise`` [who, cell, [[id, until_ms, friend_since_ms], ...]],
    ``tombstones`` [name, at_ms, life, hive_ms, perhaps {feature: until_ms}, perhaps human] name nobody. ``shown`` has
    the columns of ``SHOWN_COLUMNS``, ``who`` by index as well; in ``shown_ids`` are rows [who, day, [id, ...]] of an
    older format.
    """

    head: Head
    ids: list[str]
    hashes: NDArray[np.uint64]
    columns: dict[str, NDArray[Any]]
    mentioned: list[str]
    halves: dict[str, NDArray[Any]]
    blocks: list[Any]
    suspensions: list[Any]
    persons: list[Any]
    quiet_zones: list[Any]
    mutes: list[Any]
    tombstones: list[Any]
    precise: list[Any]
    shown: dict[str, NDArray[Any]]
    shown_ids: list[Any] = field(default_factory=list)


def pack(state: ShardState) -> list[bytes]:
    """Chunks of at most ``MAX_CHUNK_BYTES``, to be given to :func:`unpack` in order. A second for a million
    people: for a thread."""
    sections = [(name, zlib.compress(raw, _COMPRESSION)) for name, raw in _raw_sections(state)]
    head = orjson.dumps({"head": state.head, "sections": [(name, len(section)) for name, section in sections]})
    parts = [_PREFIX.pack(_MAGIC, FORMAT, len(head)), head, *(section for _, section in sections)]
    data = b"".join([*parts, _TRAILER.pack(_crc(parts))])
    return [data[start : start + MAX_CHUNK_BYTES] for start in range(0, len(data), MAX_CHUNK_BYTES)]


def _raw_sections(state: ShardState) -> Iterator[tuple[str, bytes]]:
    yield "hashes", state.hashes.astype("<u8").tobytes()
    for columns, kinds in ((state.columns, COLUMNS), (state.halves, HALF_COLUMNS)):
        for name, kind in kinds.items():
            yield name, columns[name].astype(kind).tobytes()
    for name, kind in SHOWN_COLUMNS.items():
        yield f"shown_{name}", state.shown[name].astype(kind).tobytes()
    for name in _TABLES:
        yield name, _json_lines(getattr(state, name))


def _json_lines(rows: list[Any]) -> bytes:
    return b"\n".join(orjson.dumps(rows[start : start + _LINE_ROWS]) for start in range(0, len(rows), _LINE_ROWS))


def _crc(parts: Iterable[bytes]) -> int:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def unpack(chunks: Iterable[bytes]) -> ShardState:
    """What :func:`pack` was given. UnknownVersion for a later format, ValueError for anything damaged. For a thread."""
    data = b"".join(chunks)
    head, start = _read_head(data)
    packed: dict[str, memoryview] = {}
    for name, length in head["sections"]:
        packed[name] = memoryview(data)[start : start + length]
        start += length
    with ThreadPoolExecutor(_UNPACKERS) as pool:
        sections = dict(zip(packed, pool.map(zlib.decompress, packed.values()), strict=True))
    count = len(sections["hashes"]) // 8
    columns = {name: _column(name, sections.get(name), kind, count) for name, kind in COLUMNS.items()}
    halves = {name: np.frombuffer(sections[name], kind) for name, kind in HALF_COLUMNS.items()}
    hashes = np.frombuffer(sections["hashes"], "<u8")
    tables = {name: _rows(sections.get(name, b"")) for name in _TABLES}
    shown = {name: np.frombuffer(sections.get(f"shown_{name}", b""), kind) for name, kind in SHOWN_COLUMNS.items()}
    tables["shown_ids"] = _rows(sections.get("shown", b""))
    return ShardState(_head(head["head"]), hashes=hashes, columns=columns, halves=halves, shown=shown, **tables)


def _read_head(data: bytes) -> tuple[dict[str, Any], int]:
    """The head, and where the sections start."""
    if len(data) < _PREFIX.size + _TRAILER.size:
        raise ValueError(f"a checkpoint of {len(data)} bytes")
    magic, version, length = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("this is no checkpoint")
    if not _OLDEST_FORMAT <= version <= FORMAT:
        raise UnknownVersion(f"the checkpoint has format {version}, this version reads up to {FORMAT}")
    end = len(data) - _TRAILER.size
    if zlib.crc32(memoryview(data)[:end]) != _TRAILER.unpack_from(data, end)[0]:
        raise ValueError("the checkpoint is damaged: its checksum does not fit")
    start = _PREFIX.size + length
    return orjson.loads(memoryview(data)[_PREFIX.size : start]), start


def _head(fields: dict[str, Any]) -> Head:
    place = fields.pop("place")
    place["position"] = tuple(place["position"])
    return Head(place=Place(**place), **fields)


def _column(name: str, section: bytes | None, kind: str, count: int) -> NDArray[Any]:
    if section is not None:
        return np.frombuffer(section, kind)
    return np.full(count, _UNTOLD.get(name, 0), kind)


def _rows(section: bytes) -> list[Any]:
    return [row for line in section.splitlines() for row in orjson.loads(line)]
