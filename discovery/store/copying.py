"""Copying a whole state to an empty one while the service goes on writing, with a short stop at the end.

All keys are copied once. Then the source is marked as moved: its workers stop serving people and writing, and end their
leases. When nothing has moved for three seconds, what differs by then is copied, both sides are read whole, and their
checksums compared. The source stays marked, so that no service serves from it again; when anything fails before the
end the mark is taken away and the service goes on where it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from discovery.store import keys, transfer, world_record
from discovery.store.client import State
from discovery.store.records import Checksum, Record, StreamEnd
from discovery.store.watch import Watch

_STILL_S = 3.0  # the longest deadline of a write: what was on its way then has ended one way or the other
_STILL_WITHIN_S = 30.0
_LOOK_S = 0.25
_BATCH_RECORDS = 3000  # a server that syncs each second confirms a batch in 0.1 s, whatever its size


class NotStill(Exception):
    """The service on the source went on after it was told to stop."""


@dataclass(slots=True, frozen=True)
class Copied:
    """What stands in the target, and for how long the service had stopped."""

    keys: int
    entries: int
    checksum: str
    stopped_s: float


class Plan:
    """How the keys of a source become those of the target; this one leaves them as they are."""

    def record(self, record: Record) -> Iterable[Record]:
        """What is written for a record of the source."""
        return (record,)

    def compared(self, record: Record, *, in_target: bool) -> Record | None:
        """The form in which both sides are compared; None: it is left to :meth:`finish`."""
        return record

    def copies(self, stream: bytes) -> bool:
        """Whether a stream is copied entry by entry; else it is left to :meth:`finish`."""
        return True

    def world(self, world: dict[str, str]) -> dict[str, str]:
        """The world's record in the target."""
        return world

    async def finish(self, source: State, target: State) -> None:
        """Write and check what is left. Nobody writes to either side. Raises NotAsWritten."""


class Copy:
    """One copy from ``source`` to ``target``. ``say`` is told how far it is, in words."""

    def __init__(
        self,
        source: State,
        target: State,
        plan: Plan,
        monotonic: Callable[[], float],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._target = target
        self._plan = plan
        self._monotonic = monotonic
        self._say = say
        self._written: dict[int, int] = {}  # hash of a key -> digest of its record as it was copied last
        self._batch: list[Record] = []
        self._copied_to: dict[bytes, bytes] = {}  # stream -> last entry copied

    async def run(self, to: str) -> Copied:
        """Copy; ``to`` is what the source says from now on of where its world is (no password in it).

        Raises NoWorld, WorldTooNew, Moved, Unfinished, NotEmpty, NotStill, NotAsWritten, WatchLost, StateAway. Then the
        source serves on, and the target is marked as unfinished: no service starts on it, a copy may begin anew.
        """
        world = await world_record.of(self._source)
        await world_record.begin(self._target, "copy")
        await self._first_pass()
        self._say("first pass done; the service is told to stop")
        await world_record.move(self._source, to)
        stopped_s = self._monotonic()
        try:
            done = await self._last_pass(world)
        except BaseException:
            await asyncio.shield(world_record.stay(self._source))
            raise
        return Copied(*done, self._monotonic() - stopped_s)

    # --- while the service goes on ---

    async def _first_pass(self) -> None:
        async for page in transfer.scan(self._source):
            await self._copy(page.records)
            for stream in page.streams:
                await self._copy_entries(stream)
        await self._flush()
        for stream in list(self._copied_to):
            await self._copy_entries(stream)

    async def _copy(self, records: Iterable[Record], side: "_Side | None" = None) -> None:
        """Write what differs from what was written before; ``side`` is told of all."""
        fresh: list[Record] = []
        for record in records:
            compared = self._plan.compared(record, in_target=False)
            digest = 0 if compared is None else compared.digest()
            if side is not None and compared is not None:
                side.add(digest, record.expiry_ms)
            if self._written.get(hash(record.key)) != digest:  # two keys of one hash would be written twice
                self._written[hash(record.key)] = digest
                fresh += self._plan.record(record)
        self._batch += fresh
        if len(self._batch) >= _BATCH_RECORDS:
            await self._flush()

    async def _flush(self) -> None:
        batch, self._batch = self._batch, []
        await transfer.write(self._target, batch)

    async def _copy_entries(self, stream: bytes) -> None:
        if not self._plan.copies(stream):
            return
        after = self._copied_to.setdefault(stream, b"0-0")
        async for rows in transfer.entries(self._source, stream, after):
            await transfer.append(self._target, stream, rows)
            self._copied_to[stream] = rows[-1].entry_id

    # --- while it stands still ---

    async def _last_pass(self, world: dict[str, str]) -> tuple[int, int, str]:
        shards = keys.Shards(int(world["shards"]))
        await wait_until_still(self._source, shards, self._monotonic)
        self._say("nothing moves any more; copying what differs")
        async with Watch(self._source) as watch:
            expected = await self._copy_rest()
            await self._plan.finish(self._source, self._target)
            found = await self._compare(expected)
            await watch.settle()
            await self._refuse_writers(watch.take())
        await world_record.finish(self._target, self._plan.world(world))
        return found

    async def _copy_rest(self) -> "_Side":
        """Bring the target up to date, and note what it must hold then."""
        side = _Side()
        async for page in transfer.scan(self._source):
            await self._copy(page.records, side)
            for stream in page.streams:
                if self._plan.copies(stream) and stream not in side.streams:
                    await self._copy_entries(stream)
                    end = await side.add_stream(self._source, stream)
                    await transfer.end_stream(self._target, end)
        await self._flush()
        return side

    async def _compare(self, expected: "_Side") -> tuple[int, int, str]:
        """Delete what the source has no more, and compare the rest. Raises NotAsWritten."""
        side = _Side()
        async for page in transfer.scan(self._target):
            extra = []
            for record in page.records:
                compared = self._plan.compared(record, in_target=True)
                digest = 0 if compared is None else compared.digest()
                if compared is not None and digest in expected.digests:
                    side.add(digest, record.expiry_ms)
                elif compared is not None:
                    extra.append(record.key)
            for stream in filter(self._plan.copies, page.streams):
                if stream not in expected.streams:
                    extra.append(stream)
                elif stream not in side.streams:
                    await side.add_stream(self._target, stream)
            await transfer.delete(self._target, extra)
        now_ms = max([await transfer.now_ms(state) for state in (self._source, self._target)])
        checksum = side.checksum.after(now_ms)
        world_record.compare(expected.checksum.after(now_ms), checksum)
        return len(side.digests) + len(side.streams), side.entries, checksum

    async def _refuse_writers(self, changed: Iterable[bytes]) -> None:
        """What ended by its own expiry meanwhile is no write."""
        names = [name for name in changed if transfer.is_transferred(name)]
        page = await transfer.read(self._source, names)
        if page.records or page.streams:
            raise NotStill("somebody wrote to the source during the last pass")


class _Side:
    """What one side holds."""

    def __init__(self) -> None:
        self.digests: set[int] = set()  # of records; a scan may meet a key twice
        self.streams: set[bytes] = set()
        self.entries = 0
        self.checksum = Checksum()

    def add(self, digest: int, expiry_ms: int) -> None:
        """Count a record by the digest of the form that is compared."""
        if digest not in self.digests:
            self.digests.add(digest)
            self.checksum.add(digest, expiry_ms)

    async def add_stream(self, state: State, stream: bytes) -> StreamEnd:
        """Count all entries of a stream."""
        self.streams.add(stream)
        end = await transfer.stream_end(state, stream)
        self.checksum.add(end.digest(), end.expiry_ms)
        async for rows in transfer.entries(state, stream):
            self.entries += len(rows)
            for row in rows:
                self.checksum.add(row.digest(stream), end.expiry_ms)
        return end


async def wait_until_still(state: State, shards: keys.Shards, monotonic: Callable[[], float]) -> None:
    """Return when for 3 s no lease, no leader and no feed has moved. Raises NotStill after 30 s, StateAway."""
    tags = [*(keys.shard_tag(shard) for shard in shards.all()), keys.SHAKE_TAG]
    began_s = since_s = monotonic()
    seen = await _pulse(state, tags)
    while monotonic() - since_s < _STILL_S:
        if monotonic() - began_s > _STILL_WITHIN_S:
            raise NotStill(f"the service on the source did not stop within {_STILL_WITHIN_S:g} s")
        await asyncio.sleep(_LOOK_S)
        pulse = await _pulse(state, tags)
        if pulse != seen:
            seen, since_s = pulse, monotonic()


async def _pulse(state: State, tags: Iterable[str]) -> list[object]:
    """What moves while a service runs."""
    calls: list[Awaitable[object]] = []
    for tag in tags:
        calls += [state.call("HGETALL", keys.leases(tag)), state.call("GET", keys.leader(tag))]
        calls.append(state.call("XREVRANGE", keys.feed(tag), "+", "-", "COUNT", 1))
    return await asyncio.gather(*calls)
