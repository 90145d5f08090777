"""Copying a whole state to an empty one while the service goes on writing, with a short stop at the end.

While the service goes on, all keys are copied, those that change meanwhile again and again (the servers tell which),
and the target is read back whole. Then the source is marked as moved. From that mark on no worker begins or renews a
lease (``lua/lease.lua``), so none acknowledges anything once it has given up the one that it had: at the latest when
2 s have passed, for a lease is good for 1.5 s. What was changed until then is copied, and read back, and the ends of
the streams are compared. The source stays marked, so that no service serves from it again; when anything fails before
the end the mark is taken away and the service goes on where it is.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from discovery.store import keys, transfer, world_record
from discovery.store.client import State
from discovery.store.held import Held, Stream
from discovery.store.records import NO_EXPIRY, Checksum, Record
from discovery.store.shard_lease import DEAD_S
from discovery.store.watch import Watch

_QUIET_S = 0.6  # a worker that has not noticed the mark ticks, or notices it, within 0.5 s
_QUIET_WITHIN_S = 30.0
_LOOK_S = 0.05
_FEW_CHANGES = 500  # read and written in about 50 ms
_ROUNDS = 20
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
        """What is written for a record of the source. Its keys depend on the key of the record alone."""
        return (record,)

    def compared(self, record: Record, *, in_target: bool) -> Record | None:
        """The form in which both sides are compared; None: it is left to :meth:`finish`. For keys as in `record`."""
        return record

    def copies(self, stream: bytes) -> bool:
        """Whether a stream is copied entry by entry; else it is left to :meth:`finish`."""
        return True

    def world(self, world: dict[str, str]) -> dict[str, str]:
        """The world's record in the target."""
        return world

    async def prepare(self, source: State) -> None:
        """Do what can be done while the service goes on."""

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
        self._held = Held()
        self._batch: list[Record] = []

    async def run(self, to: str) -> Copied:
        """Copy; ``to`` is what the source says from now on of where its world is (no password in it).

        Raises NoWorld, WorldTooNew, Moved, Unfinished, NotEmpty, NotStill, NotAsWritten, WatchLost, StateAway. Then the
        source serves on, and the target is marked as unfinished: no service starts on it, a copy may begin anew.
        """
        world = await world_record.of(self._source)
        await world_record.begin(self._target, "copy")
        async with Watch(self._source) as changes:
            await self._first_pass()
            await self._until_few(changes)
            async with Watch(self._target) as written:
                await self._read_back()
                await self._plan.prepare(self._source)
                await self._until_few(changes)
                return await self._stop(to, changes, written, world)

    # --- while the service goes on ---

    async def _first_pass(self) -> None:
        async for page in transfer.scan(self._source):
            await self._take(page)
        await self._flush()

    async def _until_few(self, changes: Watch) -> None:
        for _ in range(_ROUNDS):
            if await self._catch_up(changes) < _FEW_CHANGES:
                return

    async def _catch_up(self, changes: Watch) -> int:
        """Copy what changed since the last time; how many keys. What ended, by its own expiry too, is not counted."""
        await changes.settle()
        page = await transfer.read(self._source, filter(transfer.is_transferred, changes.take()))
        await self._take(page)
        await self._flush()
        return len(page.records) + len(page.streams)

    async def _take(self, page: transfer.Page) -> None:
        """Copy what differs from what was copied before."""
        for record in page.records:
            compared = self._plan.compared(record, in_target=False)
            if compared is not None and self._held.put(compared.key, compared.digest(), record.expiry_ms):
                self._batch += self._plan.record(record)
        for stream in filter(self._plan.copies, page.streams):
            await self._copy_entries(stream)
        if page.gone:
            await self._flush()
            await transfer.delete(self._target, [name for gone in page.gone for name in self._forget(gone)])
        if len(self._batch) >= _BATCH_RECORDS:
            await self._flush()

    def _forget(self, gone: bytes) -> Iterable[bytes]:
        """A key of the source is gone; which ones of the target are to go, too."""
        if gone in self._held.streams:
            self._held.drop_stream(gone)
        compared = self._plan.compared(_nothing(gone), in_target=False)
        if compared is not None:
            self._held.drop(compared.key)
        return [record.key for record in self._plan.record(_nothing(gone))]

    async def _flush(self) -> None:
        batch, self._batch = self._batch, []
        await transfer.write(self._target, batch)

    async def _copy_entries(self, stream: bytes) -> None:
        kept = self._held.streams.setdefault(stream, Stream())
        async for rows in transfer.entries(self._source, stream, kept.last):
            await transfer.append(self._target, stream, rows)
            self._held.append(stream, rows)

    async def _read_back(self) -> None:
        """Read the target whole, once all of it is as durable as it will be. Raises NotAsWritten."""
        await self._target.settle()
        found, seen = Checksum(), set[bytes]()  # a scan may meet a key twice
        async for page in transfer.scan(self._target):
            self._refuse_unknown(page.streams)
            for record in page.records:
                compared = self._plan.compared(record, in_target=True)
                if compared is not None and compared.key not in seen:
                    seen.add(compared.key)
                    found.add(compared.digest(), record.expiry_ms)
        for stream, kept in self._held.streams.items():
            if not await self._held.agrees(self._target, stream):
                raise world_record.NotAsWritten(f"the target does not hold the entries of {stream.decode()}")
            for _, digest in kept.rows:
                found.add(digest)
        now_ms = await self._now_ms()
        world_record.compare(self._held.checksum(now_ms), found.after(now_ms))

    # --- while it stands still ---

    async def _stop(self, to: str, changes: Watch, written: Watch, world: dict[str, str]) -> Copied:
        stopped_s = self._monotonic()
        try:
            await world_record.move(self._source, to)
            self._say("all is copied once; the service is told to stop")
            await wait_until_stopped(self._source, self._monotonic)
            self._say("no worker serves any more; copying what differs")
            await self._until_quiet(changes)
            await self._plan.finish(self._source, self._target)
            await self._target.settle()
            await self._compare_streams()
            await self._compare_written(written)
            if await self._catch_up(changes):
                raise NotStill("somebody wrote to the source during the last pass")
            await world_record.finish(self._target, self._plan.world(world))
        except BaseException:
            await asyncio.shield(world_record.stay(self._source))
            raise
        standing, entries = len(self._held.records) + len(self._held.streams), self._held.entries
        checksum = self._held.checksum(await self._now_ms())
        return Copied(standing, entries, checksum, self._monotonic() - stopped_s)

    async def _until_quiet(self, changes: Watch) -> None:
        """Copy changes until there are none. Raises NotStill."""
        began_s = quiet_s = self._monotonic()
        while self._monotonic() - quiet_s < _QUIET_S:
            if self._monotonic() - began_s > _QUIET_WITHIN_S:
                raise NotStill(f"the service on the source did not stop within {_QUIET_WITHIN_S:g} s")
            if await self._catch_up(changes):
                quiet_s = self._monotonic()
            await asyncio.sleep(_LOOK_S)

    async def _compare_streams(self) -> None:
        """Trim the streams of the target as those of the source, and compare. Raises NotAsWritten."""
        for stream in self._held.streams:
            end = await transfer.stream_end(self._source, stream)
            await transfer.end_stream(self._target, end)
            self._held.trim(end)
            agrees = await self._held.agrees(self._target, stream)
            if not agrees or await transfer.stream_end(self._target, stream) != end:
                raise world_record.NotAsWritten(f"the target does not hold the entries of {stream.decode()}")

    async def _compare_written(self, written: Watch) -> None:
        """Read again what was written to the target since it was read whole, by whomever. Raises NotAsWritten."""
        await written.settle()
        page = await transfer.read(self._target, filter(transfer.is_transferred, written.take()))
        self._refuse_unknown(page.streams)
        gone = map(_nothing, page.gone)
        now_ms = await self._now_ms()
        for record in (*page.records, *gone):
            compared = self._plan.compared(record, in_target=True)
            if compared is not None and not self._is_as_held(compared, now_ms):
                raise world_record.NotAsWritten(f"the target does not hold {record.key.decode()} as it was read")

    def _refuse_unknown(self, streams: Iterable[bytes]) -> None:
        for stream in filter(self._plan.copies, streams):
            if stream not in self._held.streams:
                raise world_record.NotAsWritten(f"the target holds {stream.decode()}, which was never written")

    def _is_as_held(self, found: Record, now_ms: int) -> bool:
        """A record of the target, of kind ``none`` where there is nothing."""
        digest, expiry_ms = self._held.records.get(found.key, (None, NO_EXPIRY))
        if found.kind == "none":
            return digest is None or 0 <= expiry_ms <= now_ms
        return found.digest() == digest

    async def _now_ms(self) -> int:
        return max([await transfer.now_ms(state) for state in (self._source, self._target)])


def _nothing(key: bytes) -> Record:
    """In place of a record that is not there."""
    return Record(key, "none", NO_EXPIRY, ())


async def wait_until_stopped(state: State, monotonic: Callable[[], float]) -> None:
    """Return when no worker holds a lease, nor can come to hold one: the world was marked as moved before this call.

    Every answer about people, and every change of a store set, needs a lease on the shard of the world's record, which
    is not renewed any more. So the workers take their rows away; a row that stays is of one that hangs, whose lease
    lapses by itself, by its own clock. Raises StateAway.
    """
    began_s = monotonic()
    while monotonic() - began_s < DEAD_S:
        if not await state.call("HLEN", keys.leases(keys.shard_tag(0))):
            return
        await asyncio.sleep(_LOOK_S)
