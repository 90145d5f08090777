"""Backups: a file that holds a whole state as of one moment, taken while the service goes on writing.

All keys are read once, while the servers tell which of them change meanwhile; those are read again, and again, until
few are left. Then every write is held back for a fraction of a second, in which the last of them and the ends of the
streams are read. So a backup is the state as it stood in that pause: it holds every write acknowledged before it began
and nothing half-known, whatever scripts changed several keys.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from discovery.store import transfer, world_record
from discovery.store.backup_file import BackupWriter, Frame, frames, late_from, verify
from discovery.store.client import State
from discovery.store.records import Checksum, Entry, Record, StreamEnd
from discovery.store.watch import TooSlow, Watch, writes_paused
from discovery.store.world import check_format

_PAUSE_S = 0.8  # leases bear 1.5 s without a renewal
_FEW_CHANGES = 500  # read in about 20 ms
_ROUNDS = 20
_PAUSES = 10
_BATCH_RECORDS = 3000  # a server that syncs each second confirms a batch in 0.1 s, whatever its size


class TooBusy(Exception):
    """More changes all the time than can be read in a pause that callers bear."""


@dataclass(slots=True, frozen=True)
class Done:
    """What was written: keys and entries, and the checksum of a restored state as it stands."""

    keys: int
    entries: int
    checksum: str = ""


# --- backup ---


async def back_up(state: State, path: Path, made_at: str, monotonic: Callable[[], float]) -> Done:
    """Write the backup ``path``; ``made_at`` is what its head says of when.

    Raises NoWorld, BackupExists, WatchLost, TooBusy, OSError, StateAway. Then no file is left.
    """
    world = await world_record.of(state)
    draft = BackupWriter(path)
    try:
        draft.head({"made_at": made_at})
        done = await _Backup(state, draft, monotonic).run()
        draft.commit({"world": world, "keys": done.keys, "entries": done.entries})
        return done
    finally:
        draft.abandon()


class _Backup:
    def __init__(self, state: State, draft: BackupWriter, monotonic: Callable[[], float]) -> None:
        self._state = state
        self._draft = draft
        self._monotonic = monotonic
        self._read_to: dict[bytes, bytes] = {}  # stream -> last entry written
        self._keys = self._entries = 0

    async def run(self) -> Done:
        async with Watch(self._state) as watch:
            async for page in transfer.scan(self._state):
                await self._write(page)
            self._draft.changes()
            for _ in range(_PAUSES):
                if await self._last_look(watch):
                    return Done(self._keys, self._entries)
        raise TooBusy("too much changes all the time; try again when there is less load")

    async def _last_look(self, watch: Watch) -> bool:
        """Read what changed until little does, then the rest in a pause; whether that was short enough."""
        for _ in range(_ROUNDS):
            await watch.settle()
            changed = self._wanted(watch)
            await self._write(await transfer.read(self._state, changed))
            await self._catch_up()
            if len(changed) < _FEW_CHANGES:
                break
        try:
            async with writes_paused(self._state, _PAUSE_S, self._monotonic):
                await watch.settle()
                rest = await transfer.read(self._state, self._wanted(watch))
                ends = [await transfer.stream_end(self._state, stream) for stream in sorted(self._read_to)]
        except TooSlow:
            return False
        await self._write(rest)
        await self._catch_up({end.key: end for end in ends})
        return True

    def _wanted(self, watch: Watch) -> list[bytes]:
        return [name for name in watch.take() if transfer.is_transferred(name) and name not in self._read_to]

    async def _write(self, page: transfer.Page) -> None:
        self._draft.records(page.records)
        self._draft.gone(page.gone)
        self._keys += len(page.records)
        for stream in page.streams:
            await self._write_entries(stream)

    async def _catch_up(self, ends: dict[bytes, StreamEnd] | None = None) -> None:
        """Entries since; with ``ends`` up to those and no further."""
        for stream in sorted(self._read_to):
            await self._write_entries(stream, None if ends is None else ends[stream])
            if ends is not None:
                self._draft.stream_end(ends[stream])

    async def _write_entries(self, stream: bytes, end: StreamEnd | None = None) -> None:
        after = self._read_to.setdefault(stream, b"0-0")
        async for page in transfer.entries(self._state, stream, after):
            rows = page if end is None else [row for row in page if _id(row.entry_id) <= _id(end.last)]
            if not rows:
                return
            self._draft.entries(stream, rows)
            self._entries += len(rows)
            self._read_to[stream] = rows[-1].entry_id


def _id(raw: bytes) -> tuple[int, int]:
    ms, _, seq = raw.partition(b"-")
    return int(ms), int(seq)


# --- restore ---


async def restore(state: State, path: Path) -> Done:
    """Fill an empty state from the backup ``path``, which is verified before the first write.

    Raises BackupDamaged, WorldTooNew, NotEmpty, NotAsWritten, OSError, StateAway. A state that was not filled to the
    end is marked as unfinished: no service starts on it, and a restore may begin anew.
    """
    _, end = await asyncio.to_thread(verify, path)
    check_format(int(end["world"]["format"]), str(path))
    late = await asyncio.to_thread(_late, path)
    await world_record.begin(state, "restore")
    filler = _Filler(state, await transfer.now_ms(state))
    await _fill(filler, path, late)
    await state.settle()
    found = await checksum_of(state)
    now_ms = await transfer.now_ms(state)
    world_record.compare(filler.checksum.after(now_ms), found.after(now_ms))
    await world_record.finish(state, end["world"])
    return Done(filler.keys, filler.entries, found.after(now_ms))


@dataclass(slots=True, frozen=True)
class _Late:
    """What a file says last: ``records`` of keys that changed while it was written (None = gone), then of streams."""

    records: dict[bytes, Record | None]
    streams: list[Frame]


def _late(path: Path) -> _Late:
    start, gone = late_from(path)
    late = _Late(dict.fromkeys(gone), [])
    for frame in frames(path, start):
        if isinstance(frame, Record):
            late.records[frame.key] = frame
        elif isinstance(frame, bytes):
            late.records[frame] = None
        else:
            late.streams.append(frame)
    return late


async def _fill(filler: "_Filler", path: Path, late: _Late) -> None:
    for frame in frames(path):
        if frame is None:
            break
        if not isinstance(frame, Record) or frame.key not in late.records:
            await filler.take(frame)
    for frame in (*late.records.values(), *late.streams):
        await filler.take(frame)
    await filler.flush()


class _Filler:
    """Writes frames and counts what a state must hold then."""

    def __init__(self, state: State, now_ms: int) -> None:
        self._state = state
        self._now_ms = now_ms
        self._batch: list[Record] = []
        self._seen: set[int] = set()  # a scan may have met a key twice
        self._digests: dict[bytes, list[tuple[bytes, int]]] = {}
        self.checksum = Checksum()
        self.keys = self.entries = 0

    async def take(self, frame: Frame) -> None:
        """A record, entries of a stream, or its end; anything else is nothing to write."""
        if isinstance(frame, Record):
            await self._take_record(frame)
        elif isinstance(frame, StreamEnd):
            await self._end(frame)
        elif isinstance(frame, tuple):
            await self._append(*frame)

    async def _take_record(self, record: Record) -> None:
        digest = record.digest()
        if digest in self._seen or 0 <= record.expiry_ms <= self._now_ms:
            return
        self._seen.add(digest)
        self.checksum.add(digest, record.expiry_ms)
        self.keys += 1
        self._batch.append(record)
        if len(self._batch) >= _BATCH_RECORDS:
            await self.flush()

    async def flush(self) -> None:
        """Write what was gathered."""
        batch, self._batch = self._batch, []
        await transfer.write(self._state, batch)

    async def _append(self, stream: bytes, rows: list[Entry]) -> None:
        await transfer.append(self._state, stream, rows)
        self._digests.setdefault(stream, []).extend((row.entry_id, row.digest(stream)) for row in rows)

    async def _end(self, end: StreamEnd) -> None:
        await transfer.end_stream(self._state, end)
        standing = [
            digest for row, digest in self._digests.pop(end.key, []) if end.first and _id(row) >= _id(end.first)
        ]
        for digest in (*standing, end.digest()):
            self.checksum.add(digest)
        self.entries += len(standing)
        self.keys += 1


async def checksum_of(state: State) -> Checksum:
    """Of all that a backup or a copy transfers. Nobody may write meanwhile."""
    found, seen = Checksum(), set[int]()
    async for page in transfer.scan(state):
        for record in page.records:
            digest = record.digest()
            if digest not in seen:
                seen.add(digest)
                found.add(digest, record.expiry_ms)
        for stream in page.streams:
            end = (await transfer.stream_end(state, stream)).digest()
            if end not in seen:
                seen.add(end)
                found.add(end)
                async for rows in transfer.entries(state, stream):
                    for row in rows:
                        found.add(row.digest(stream))
    return found
