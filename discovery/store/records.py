"""What a key holds, independent of the kind and version of its server, and checksums that know no order.

A checksum is the sum mod 2^128 of a hash of each record (BLAKE2b, 128 bit), so that two servers agree on it whatever
order they list their keys in, and readers may work in parts.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

NO_EXPIRY = -1
_MASK = (1 << 128) - 1
_MINUTE_MS = 60_000
_PAIRS = frozenset({"hash", "zset"})


@dataclass(slots=True, frozen=True)
class Record:
    """A key with all it holds, but for a stream. ``kind``: string, hash, set, zset or list.

    ``elements``: the value; fields and values; members; scores and members; items. ``expiry_ms`` since 1970, or -1.
    """

    key: bytes
    kind: str
    expiry_ms: int
    elements: Sequence[bytes]

    def digest(self) -> int:
        """128 bits of key, kind, expiry and content; order counts in a list alone."""
        elements: Iterable[bytes] = self.elements
        if self.kind in _PAIRS:
            elements = chain.from_iterable(sorted(batched(self.elements)))
        elif self.kind != "list":
            elements = sorted(self.elements)
        return digest_of(self.key, self.kind.encode(), str(self.expiry_ms).encode(), *elements)


@dataclass(slots=True, frozen=True)
class Entry:
    """One entry of a stream: ``fields`` are names and values in turn."""

    entry_id: bytes
    fields: tuple[bytes, ...]

    def digest(self, stream: bytes) -> int:
        """128 bits of the stream's key, the id and the content."""
        return digest_of(stream, self.entry_id, *self.fields)


@dataclass(slots=True, frozen=True)
class StreamEnd:
    """Where a stream begins and ends: ``first`` standing entry (b'' = none) and the last id that it ever gave."""

    key: bytes
    first: bytes
    last: bytes
    expiry_ms: int

    def digest(self) -> int:
        """128 bits of key, last id and expiry."""
        return digest_of(self.key, b"last", self.last, str(self.expiry_ms).encode())


def batched(elements: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Elements two by two."""
    return zip(elements[::2], elements[1::2], strict=True)


def joined(parts: Sequence[bytes]) -> bytes:
    """How many parts, the length of each, and the parts: u32 little endian, then bytes."""
    count = len(parts)
    return struct.pack(f"<{count + 1}I", count, *map(len, parts)) + b"".join(parts)


def parted(data: bytes) -> list[bytes]:
    """The inverse of :func:`joined`."""
    (count,) = struct.unpack_from("<I", data)
    ends = list(accumulate(struct.unpack_from(f"<{count}I", data, 4), initial=4 * (count + 1)))
    return [data[start:end] for start, end in pairwise(ends)]


def digest_of(*parts: bytes) -> int:
    """128 bits of the parts in order."""
    return int.from_bytes(hashlib.blake2b(joined(parts), digest_size=16).digest(), "little")


class Checksum:
    """Sum of digests. What ends by itself is summed by the minute, because servers drop it each by its own clock."""

    def __init__(self) -> None:
        self._lasting = 0
        self._ending: Counter[int] = Counter()
        self.count = 0

    def add(self, digest: int, expiry_ms: int = NO_EXPIRY) -> None:
        """Count one record."""
        self.count += 1
        if expiry_ms == NO_EXPIRY:
            self._lasting = (self._lasting + digest) & _MASK
        else:
            self._ending[expiry_ms // _MINUTE_MS] += digest

    def remove(self, digest: int, expiry_ms: int = NO_EXPIRY) -> None:
        """Undo :meth:`add`."""
        self.add(-digest, expiry_ms)
        self.count -= 2

    def after(self, now_ms: int) -> str:
        """Hex of the sum of what lasts past the minute that follows ``now_ms``."""
        minute = now_ms // _MINUTE_MS + 1
        ending = sum(digest for ends, digest in self._ending.items() if ends > minute)
        return f"{(self._lasting + ending) & _MASK:032x}"
