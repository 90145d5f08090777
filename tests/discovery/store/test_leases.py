"""Leases of several workers on a real server: class A waits for the living, and for nobody else."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import EntryId, parse_id
from discovery.store.leases import Leases
from discovery.store.shard_lease import DEAD_S

SHARDS = 2


@dataclass
class Reached:
    """A position that a test moves."""

    position: EntryId = (0, 0)


class Process:
    """A worker with leases. ``skewed_s``: added to its clock, as when it was suspended meanwhile."""

    def __init__(self, state: State, name: str) -> None:
        self.state = state
        self.skewed_s = 0.0
        self.folded = [Reached() for _ in range(SHARDS)]
        self.loaded = [Reached() for _ in range(SHARDS)]
        self.doubted: list[int] = []
        self.leases = Leases(state, name, lambda: time.monotonic() + self.skewed_s, self.doubted.append)
        self.task: asyncio.Task[None] | None = None
        self.follows = True

    async def fold(self) -> None:
        """Follow the feeds, and nudge as the fold of class A does."""
        while True:
            for shard, reached in enumerate(self.folded):
                rows = await self.state.call("XREVRANGE", keys.feed(keys.shard_tag(shard)), "+", "-", "COUNT", 1)
                if self.follows and rows and parse_id(rows[0][0]) > reached.position:
                    reached.position = self.loaded[shard].position = parse_id(rows[0][0])
                    self.leases.nudge(shard)
            await asyncio.sleep(0.002)

    async def start(self) -> None:
        await self.leases.start(self.folded, self.loaded)
        self.resume()

    def resume(self) -> None:
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        await asyncio.gather(self.leases.run(), self.fold())

    async def stop(self) -> None:
        """As SIGSTOP: nothing runs."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def workers(state: State, count: int) -> AsyncIterator[list[Process]]:
    for shard in range(SHARDS):
        await append(state, shard)
    started = [Process(state, f"w{number}") for number in range(count)]
    for process in started:
        await process.start()
    try:
        for process in started:
            await until(process.leases.holds)
        yield started
    finally:
        for process in started:
            await process.stop()


async def until(true: object, within_s: float = 4.0) -> float:
    """Wait until ``true()``; returns the seconds that it took."""
    started_s = time.monotonic()
    while not true():  # type: ignore[operator]
        assert time.monotonic() - started_s < within_s, "never came true"
        await asyncio.sleep(0.002)
    return time.monotonic() - started_s


async def append(state: State, shard: int = 0) -> EntryId:
    return parse_id(await state.call("XADD", keys.feed(keys.shard_tag(shard)), "*", "k", "s", "d", b"x"))


async def rows(state: State, shard: int = 0) -> dict[bytes, bytes]:
    flat = await state.call("HGETALL", keys.leases(keys.shard_tag(shard)))
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_a_lonely_worker_joins_and_waits_for_nobody(state: State) -> None:
    async with workers(state, 1) as (one,):
        assert one.leases.generation == SHARDS
        took_s = []
        for _ in range(20):
            entry = await append(state)
            started_s = time.monotonic()
            await one.leases.everyone_folded(0, entry, 1.0)
            took_s.append(time.monotonic() - started_s)
            assert one.folded[0].position >= entry
        assert sorted(took_s)[10] < 0.05
        assert one.leases.missing() == []


async def test_nothing_is_held_before_the_feed_is_folded(state: State) -> None:
    await append(state, 1)
    process = Process(state, "w")
    process.follows = False
    await process.start()
    await asyncio.sleep(0.4)
    assert not process.leases.holds()
    assert process.leases.missing() == [1], "the other shard's feed is empty"
    assert await rows(state, 1) == {}, "and nobody waits for who has not joined"
    process.follows = True
    await until(process.leases.holds)
    await process.stop()


async def test_while_the_world_moves_nobody_holds_and_nobody_comes_to_hold(state: State) -> None:
    async with workers(state, 2) as (one, other):
        await other.stop()  # it sleeps while the others leave
        await state.call("HSET", keys.world(), "moved_to", "there")
        await until(lambda: not one.leases.holds(), 0.6)
        late = Process(state, "late")
        await late.start()
        other.skewed_s = DEAD_S
        assert not other.leases.holds()
        other.resume()
        ends_s = time.monotonic() + 1.0
        while time.monotonic() < ends_s:
            assert not any(process.leases.holds() for process in (one, other, late))
            await asyncio.sleep(0.001)
        assert await rows(state) == {}, "a copy need not wait for them"
        await state.call("HDEL", keys.world(), "moved_to")
        for process in (one, other, late):
            await until(process.leases.holds, 2.0)
        await late.stop()


async def test_a_class_a_write_waits_until_every_worker_has_folded_it(state: State, seed: int) -> None:
    chance = random.Random(seed)
    async with workers(state, 3) as processes:
        took_s = []
        for _ in range(30):
            one = chance.choice(processes)
            shard = chance.randrange(SHARDS)
            started_s = time.monotonic()
            entry = await append(state, shard)
            await one.leases.everyone_folded(shard, entry, 2.0)
            took_s.append(time.monotonic() - started_s)
            assert all(process.folded[shard].position >= entry for process in processes)
        print("class A over 3 workers, ms:", [round(1000 * s, 1) for s in sorted(took_s)])
        assert sorted(took_s)[15] < 0.15


async def test_many_waiters_share_their_looks(state: State) -> None:
    async with workers(state, 2) as (one, other):
        other.follows = False
        before = (await state.call("INFO", "commandstats")).decode()
        entries = [await append(state) for _ in range(50)]
        waiting = [asyncio.create_task(one.leases.everyone_folded(0, entry, 2.0)) for entry in entries]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in waiting)
        other.follows = True
        await asyncio.gather(*waiting)
        after = (await state.call("INFO", "commandstats")).decode()
        assert evals(after) - evals(before) < 80


def evals(stats: str) -> int:
    line = next(line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:"))
    return int(line.split("calls=")[1].split(",")[0])


async def test_who_does_not_fold_is_waited_for_until_the_deadline(state: State) -> None:
    async with workers(state, 2) as (one, other):
        other.follows = False
        entry = await append(state)
        with pytest.raises(StateAway) as caught:
            await one.leases.everyone_folded(0, entry, 0.3)
        assert caught.value.outcome_unknown
        await until(lambda: not other.leases.holds(), 4.0)  # it cannot keep up: then it leaves by itself
        await one.leases.everyone_folded(0, await append(state), 1.0)
        other.follows = True
        await until(other.leases.holds)


async def test_a_stopped_worker_stops_holding_before_the_others_go_on_without_it(state: State) -> None:
    async with workers(state, 2) as (one, other):
        before = other.leases.generation
        await other.stop()
        entry = await append(state)
        waiting = asyncio.create_task(one.leases.everyone_folded(0, entry, 3.0))
        stopped_holding_s = await until(lambda: not other.leases.holds())
        assert not waiting.done()
        assert stopped_holding_s <= 1.6
        started_s = time.monotonic()
        await waiting
        assert 0.3 <= time.monotonic() - started_s <= 1.2  # dead after 2 s, seen every 25 ms
        other.resume()
        await until(other.leases.holds)
        assert other.folded[0].position >= entry
        assert other.leases.generation > before, "it had to join anew"


async def test_who_leaves_is_not_waited_for(state: State) -> None:
    async with workers(state, 2) as (one, other):
        await other.leases.leave()
        assert not other.leases.holds()
        await other.stop()
        started_s = time.monotonic()
        await one.leases.everyone_folded(0, await append(state), 1.0)
        assert time.monotonic() - started_s < 0.2
        assert list(await rows(state)) == [b"w0"]


async def test_a_suspended_worker_holds_nothing_when_it_wakes(state: State) -> None:
    async with workers(state, 1) as (one,):
        await asyncio.sleep(0.01)
        one.skewed_s += 1.6
        assert not one.leases.holds()
        await until(one.leases.holds, 0.5)


async def test_a_position_that_runs_back_ends_the_lease_until_all_is_folded_again(state: State) -> None:
    async with workers(state, 2) as (one, other):
        other.follows = False
        other.folded[0].position = (1, 0)
        assert not other.leases.holds()
        await asyncio.sleep(0.3)
        assert list(await rows(state)) == [b"w0"]
        other.follows = True
        await until(other.leases.holds)
        assert one.leases.holds()


async def test_an_emptied_state_is_noticed_and_nothing_is_answered_for_two_seconds(state: State) -> None:
    async with workers(state, 2) as (one, other):
        await other.stop()  # its lease holds for 1.5 s more, and its row is gone
        one.follows = False
        await state.call("FLUSHALL")
        started_s = time.monotonic()
        one.folded[0].position = one.loaded[0].position = (0, 0)
        await until(lambda: one.doubted, 1.0)
        one.follows = True
        entry = await append(state)
        await one.leases.everyone_folded(0, entry, 3.0)
        assert time.monotonic() - started_s >= 1.5
        assert not other.leases.holds()


async def test_loaded_is_waited_for_by_itself(state: State) -> None:
    async with workers(state, 2) as (one, other):
        other.follows = False
        entry = await append(state)
        await until(lambda: one.folded[0].position >= entry)
        other.folded[0].position = entry
        other.leases.nudge(0)
        await one.leases.everyone_folded(0, entry, 1.0)
        with pytest.raises(StateAway):
            await one.leases.everyone_loaded(0, entry, 0.3)
        other.loaded[0].position = entry
        other.leases.nudge(0)
        await one.leases.everyone_loaded(0, entry, 1.0)


async def test_renewals_go_on_after_the_state_was_away(state: State) -> None:
    async with workers(state, 1) as (one,):
        await one.stop()
        one.task = asyncio.create_task(one.leases.run())
        await state.close()
        await until(lambda: not one.leases.holds())
        await state.open()
        await until(one.leases.holds)


@pytest.mark.parametrize(("valid_s", "dead_s"), [(2.0, 2.0), (3.0, 2.0)])
def test_a_lease_must_end_before_it_counts_as_dead(state_server: object, valid_s: float, dead_s: float) -> None:
    with pytest.raises(ValueError, match="must end before"):
        Leases(None, "w", time.monotonic, valid_s=valid_s, dead_s=dead_s)  # type: ignore[arg-type]


async def test_a_start_that_is_repeated_renews_its_row(state: State) -> None:
    """A worker starts again when the state fails on the way. Were its beats to begin anew, the script would leave the
    row of the first try as it is, and others would drop it while this worker thinks that it holds."""
    await append(state, 0)
    await append(state, 1)
    process = Process(state, "w")
    process.follows = True
    folding = asyncio.create_task(process.fold())
    try:
        seen = []
        for _ in range(2):
            await process.leases.start(process.folded, process.loaded)
            await until(lambda: all(one.position > (0, 0) for one in process.folded))
            await process.leases.renew()
            assert process.leases.holds()
            seen.append((await rows(state))[b"w"])
        assert seen[0] != seen[1]
    finally:
        folding.cancel()
        await asyncio.gather(folding, return_exceptions=True)
