"""Position reports on their way through the feed: one packed batch per entry (group commit), columns first.

Layout, little endian: version u8, count u32, then columns cell u64[n], expiry_ms i64[n], flags u8[n], id_length u8[n],
and the UTF-8 ids end to end. Columns, so that a worker folds a batch without a Python step per field.
"""

import struct
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray

VERSION = 1
_HEAD = struct.Struct("<BI")

CLAIM_KNOWN = 1  # the token carried an age
CLAIM_ADULT = 2
CLAIM_TOLD = 8  # a token came with the report: what it says of the age counts, nothing included
JUMP = 16  # further than anybody moves: the free one of that day
LIFE_SHIFT, LIVES = 5, 8  # the upper bits: which life of the id it is of, modulo 8
OWN = 4  # sent by the person, not by the app's backend: ends "cleared by person"


class UnknownVersion(ValueError):
    """A batch that a later Nearhive wrote: this one cannot know what it misses."""


@dataclass(slots=True, frozen=True)
class Report:
    """One candidate cell of one person; ``expiry_ms`` 0 means a shake, which makes no presence."""

    user: str
    cell: int
    expiry_ms: int
    flags: int


@dataclass(slots=True, frozen=True)
class ReportBatch:
    """Columns of one unpacked entry: ids str[n], cells uint64[n], expiries_ms int64[n], flags uint8[n]."""

    users: list[str]
    cells: NDArray[np.uint64]
    expiries_ms: NDArray[np.int64]
    flags: NDArray[np.uint8]


def pack(reports: list[Report]) -> bytes:
    """Bytes of one feed entry."""
    ids = [report.user.encode() for report in reports]
    return b"".join(
        (
            _HEAD.pack(VERSION, len(reports)),
            np.array([report.cell for report in reports], dtype="<u8").tobytes(),
            np.array([report.expiry_ms for report in reports], dtype="<i8").tobytes(),
            bytes(report.flags for report in reports),
            bytes(len(text) for text in ids),
            *ids,
        )
    )


def unpack(payload: bytes) -> ReportBatch:
    """Columns of one feed entry; ValueError on another version or a wrong length."""
    if len(payload) < _HEAD.size:
        raise ValueError(f"report batch has {len(payload)} bytes, its head alone {_HEAD.size}")
    version, count = _HEAD.unpack_from(payload)
    if version != VERSION:
        raise UnknownVersion(f"report batch has version {version}, expected {VERSION}")
    start = _HEAD.size
    cells = np.frombuffer(payload, "<u8", count, start)
    expiries = np.frombuffer(payload, "<i8", count, start + 8 * count)
    flags = np.frombuffer(payload, np.uint8, count, start + 16 * count)
    lengths = payload[start + 17 * count : start + 18 * count]
    first = start + 18 * count
    ends = list(accumulate(lengths, initial=first))
    if ends[-1] != len(payload):
        raise ValueError(f"report batch has {len(payload)} bytes, expected {ends[-1]}")
    text = payload[first:].decode()
    if len(text) == len(payload) - first:  # ASCII: a character a byte
        users = [text[a - first : b - first] for a, b in pairwise(ends)]
    else:
        users = [payload[a:b].decode() for a, b in pairwise(ends)]
    return ReportBatch(users, cells.astype(np.uint64), expiries.astype(np.int64), flags)


def chosen(batch: ReportBatch, rows: NDArray[np.bool_]) -> ReportBatch:
    """Some rows of a batch."""
    users = [user for user, row in zip(batch.users, rows.tolist(), strict=True) if row]
    return ReportBatch(users, batch.cells[rows], batch.expiries_ms[rows], batch.flags[rows])


def joined(batches: list[ReportBatch]) -> ReportBatch:
    """Batches end to end."""
    if len(batches) == 1:
        return batches[0]
    return ReportBatch(
        users=list(chain.from_iterable(batch.users for batch in batches)),
        cells=np.concatenate([batch.cells for batch in batches]),
        expiries_ms=np.concatenate([batch.expiries_ms for batch in batches]),
        flags=np.concatenate([batch.flags for batch in batches]),
    )
