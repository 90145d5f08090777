"""What the target of a copy must hold by now: a digest of each record and of each feed entry, and their checksum."""

from collections import deque
from dataclasses import dataclass, field

from discovery.store import transfer
from discovery.store.client import State
from discovery.store.feed import parse_id
from discovery.store.records import Checksum, Entry, StreamEnd


@dataclass(slots=True)
class Stream:
    """The entries of one stream that were copied: ``rows`` of id and digest, ``last`` the newest of them."""

    last: bytes = b"0-0"
    seen: bytes = b"0-0"  # up to here the target was read back
    rows: deque[tuple[bytes, int]] = field(default_factory=deque)


class Held:
    """About 250 bytes of memory a key, and 150 an entry."""

    def __init__(self) -> None:
        self.records: dict[bytes, tuple[int, int]] = {}  # key in the form that is compared -> digest, expiry
        self.streams: dict[bytes, Stream] = {}
        self._checksum = Checksum()

    def put(self, key: bytes, digest: int, expiry_ms: int) -> bool:
        """A record stands so now; False when it did before."""
        if self.records.get(key) == (digest, expiry_ms):
            return False
        self.drop(key)
        self.records[key] = digest, expiry_ms
        self._checksum.add(digest, expiry_ms)
        return True

    def drop(self, key: bytes) -> None:
        """There is no such record now."""
        if key in self.records:
            self._checksum.remove(*self.records.pop(key))

    def append(self, stream: bytes, rows: list[Entry]) -> None:
        """More entries of a stream stand behind those before."""
        kept = self.streams[stream]
        for row in rows:
            digest = row.digest(stream)
            kept.rows.append((row.entry_id, digest))
            self._checksum.add(digest)
        kept.last = rows[-1].entry_id

    def drop_stream(self, stream: bytes) -> None:
        """There is no such stream now."""
        self._trim(self.streams.pop(stream), b"")

    def trim(self, end: StreamEnd) -> None:
        """A stream begins and ends so now."""
        self._trim(self.streams[end.key], end.first)
        self._checksum.add(end.digest(), end.expiry_ms)

    def _trim(self, kept: Stream, first: bytes) -> None:
        while kept.rows and (not first or parse_id(kept.rows[0][0]) < parse_id(first)):
            self._checksum.remove(kept.rows.popleft()[1])

    def checksum(self, now_ms: int) -> str:
        """As :meth:`Checksum.after`."""
        return self._checksum.after(now_ms)

    @property
    def entries(self) -> int:
        """Of all streams."""
        return sum(len(kept.rows) for kept in self.streams.values())

    async def agrees(self, target: State, stream: bytes) -> bool:
        """Whether the target holds the entries of a stream behind those that were read back before; reads them."""
        kept = self.streams[stream]
        found = 0
        async for rows in transfer.entries(target, stream, kept.seen):
            found += sum(row.digest(stream) for row in rows)
        expected = 0
        for entry_id, digest in reversed(kept.rows):
            if parse_id(entry_id) <= parse_id(kept.seen):
                break
            expected += digest
        kept.seen = kept.last
        return found == expected and len(kept.rows) == await target.call("XLEN", stream)
