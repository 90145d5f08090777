"""Streams kept by several workers on a real server: one ticks, another takes over, and no step of a clock shows."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from discovery.store import keys
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer, find_binary
from discovery.store.feed import Follower
from discovery.store.keeper import StreamKeeper
from discovery.store.leases import Leases
from discovery.store.ticker import Tick, pack_tick
from tests.faults import ldfault
from tests.faults.ldfault import FaultyServer

TAG = "s00"
FEED = keys.feed(TAG)
EPOCH_MS = 30_000
HOUR_S = 3600.0


class Worker:
    """A follower and a keeper of one stream."""

    def __init__(self, state: State, name: str) -> None:
        self.state = state
        self.follower = Follower(state, FEED, lambda *_: None, lambda *_: True, time.monotonic)
        self.keeper = StreamKeeper(state, TAG, name, self.follower, lambda: EPOCH_MS, time.monotonic)
        self.following: asyncio.Task[None] | None = None
        self.keeping: asyncio.Task[None] | None = None

    async def start(self) -> "Worker":
        await self.follower.catch_up()
        self.following = asyncio.create_task(self.follower.follow())
        self.keep()
        return self

    def keep(self) -> None:
        self.keeping = asyncio.create_task(self.keeper.run())

    async def pause(self) -> None:
        """As SIGSTOP does to its leadership."""
        await end(self.keeping)

    async def stop(self) -> None:
        await end(self.keeping)
        await end(self.following)


async def end(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def kept_by(state: State, count: int) -> AsyncIterator[list[Worker]]:
    workers = [await Worker(state, f"w{number}").start() for number in range(count)]
    try:
        await until(lambda: any(worker.keeper.token for worker in workers))
        yield workers
    finally:
        for worker in workers:
            await worker.stop()


async def until(true: object, within_s: float = 4.0) -> float:
    started_s = time.monotonic()
    while not true():  # type: ignore[operator]
        assert time.monotonic() - started_s < within_s, "never came true"
        await asyncio.sleep(0.002)
    return time.monotonic() - started_s


class Watch:
    """Hive time as one worker sees it, beside the truth: the monotonic clock, set when the watch began."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.begun_s = time.monotonic()
        self.begun_ms = follower.now_ms
        self.errors_ms: list[int] = []
        self.task = asyncio.create_task(self._look())

    def error_ms(self) -> int:
        return round(self.follower.now_ms - self.begun_ms - 1000 * (time.monotonic() - self.begun_s))

    async def _look(self) -> None:
        while True:
            self.errors_ms.append(self.error_ms())
            await asyncio.sleep(0.01)

    async def end(self) -> tuple[int, int]:
        """The furthest that hive time was behind and ahead."""
        await end(self.task)
        return min(self.errors_ms), max(self.errors_ms)


async def ticks(state: State) -> int:
    return sum(fields[1] == b"t" for _, fields in await state.call("XRANGE", FEED, "-", "+"))


async def calls(state: State) -> int:
    stats = (await state.call("INFO", "commandstats")).decode()
    return sum(
        int(line.split("calls=")[1].split(",")[0])
        for line in stats.splitlines()
        if line.startswith(("cmdstat_evalsha:", "cmdstat_xread"))
    )


async def test_one_of_several_ticks_and_a_stream_costs_few_commands(state: State) -> None:
    async with kept_by(state, 1) as (one,):
        await asyncio.sleep(0.5)
        before, ticked = await calls(state), await ticks(state)
        await asyncio.sleep(3)
        assert 9 <= await ticks(state) - ticked <= 13
        scripts = await calls(state) - before - (await ticks(state) - ticked)  # each tick is read by an XREAD too
        assert scripts <= 3 * 4.7, "in silence the ticks are all that leading costs"
        assert one.follower.epoch_ms == EPOCH_MS
        seconds, _ = await state.call("TIME")
        assert abs(one.follower.now_ms - 1000 * int(seconds)) < 2000


async def test_in_traffic_there_are_few_ticks(state: State) -> None:
    async with kept_by(state, 2) as (one, _):
        before = await ticks(state)
        until_s = time.monotonic() + 3
        while time.monotonic() < until_s:
            await state.call("XADD", FEED, "*", "k", "s", "d", b"x")
            await asyncio.sleep(0.02)
        assert await ticks(state) - before <= 4
        assert one.keeper.token is not None


@pytest.mark.parametrize("busy", [False, True])
async def test_a_paused_leader_is_replaced_and_hive_time_neither_jumps_nor_stands(state: State, busy: bool) -> None:
    async with kept_by(state, 2) as workers:
        leader = next(worker for worker in workers if worker.keeper.token)
        other = next(worker for worker in workers if worker is not leader)
        await asyncio.sleep(0.6)
        watch = Watch(other.follower)
        await leader.pause()
        stale = leader.keeper.token
        writing = asyncio.create_task(write(state, 0.05)) if busy else None
        took_s = await until(lambda: other.keeper.token)
        advanced_s = took_s + await until(lambda: watch.error_ms() > -500)
        print(f"taken over after {took_s:.2f} s, hive time goes on after {advanced_s:.2f} s")
        assert advanced_s <= 3.0
        assert stale != other.keeper.token
        await asyncio.sleep(0.5)
        leader.keep()  # it wakes, and finds another leading
        await asyncio.sleep(1)
        assert leader.keeper.token is None
        assert other.keeper.token is not None
        await end(writing)
        behind_ms, ahead_ms = await watch.end()
        print(f"hive time was {-behind_ms} ms behind and {ahead_ms} ms ahead at most")
        assert behind_ms >= -3000
        assert ahead_ms <= 300
        assert watch.errors_ms[-1] >= -500


async def write(state: State, every_s: float) -> None:
    while True:
        await state.call("XADD", FEED, "*", "k", "s", "d", b"x")
        await asyncio.sleep(every_s)


async def test_who_resigns_is_followed_at_once(state: State) -> None:
    async with kept_by(state, 2) as workers:
        leader = next(worker for worker in workers if worker.keeper.token)
        other = next(worker for worker in workers if worker is not leader)
        await leader.pause()
        await leader.keeper.resign()
        assert await until(lambda: other.keeper.token) < 0.7


async def test_a_leader_that_reads_nothing_lets_another_lead(state: State) -> None:
    async with kept_by(state, 2) as workers:
        leader = next(worker for worker in workers if worker.keeper.token)
        other = next(worker for worker in workers if worker is not leader)
        await end(leader.following)
        assert await until(lambda: other.keeper.token) < 3.2
        assert leader.keeper.token is None


async def test_who_has_not_caught_up_does_not_lead(state: State) -> None:
    await state.call("XADD", keys.feed(TAG), "*", "k", "t", "d", pack_tick(Tick(0, EPOCH_MS)))
    worker = Worker(state, "w")
    worker.keep()
    await asyncio.sleep(0.7)
    assert worker.keeper.token is None
    await worker.start()
    await until(lambda: worker.keeper.token, 1.0)
    await worker.stop()


async def test_keeping_goes_on_after_the_state_was_away(state: State) -> None:
    async with kept_by(state, 1) as (one,):
        await state.close()
        await asyncio.sleep(0.5)
        await state.open()
        before = await ticks(state)
        await until(lambda: one.keeper.token)
        await asyncio.sleep(1)
        assert await ticks(state) > before


# --- a server whose wall clock steps ---


@pytest.fixture
def stepped_server(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, FaultyServer]]:
    data, folder = tmp_path / "data", tmp_path / "faulty"
    data.mkdir()
    folder.mkdir()
    faulty = FaultyServer(folder, find_binary(), data)
    data_dir = DataDir.take(data, time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic, binary=str(faulty.binary))
    server.start()
    yield server, faulty
    server.stop()
    data_dir.release()


@pytest.mark.skipif(not ldfault.available(), reason="needs Linux and gcc")
@pytest.mark.parametrize("busy", [False, True])
async def test_steps_of_an_hour_move_no_hive_time_no_lease_and_no_leader(
    stepped_server: tuple[EmbeddedServer, FaultyServer], busy: bool
) -> None:
    server, faulty = stepped_server
    state = State(server.url)
    await state.open()
    leases = [Leases(state, f"w{number}", time.monotonic) for number in range(2)]
    async with kept_by(state, 2) as workers:
        for lease, worker in zip(leases, workers, strict=True):
            await lease.start([worker.follower], [worker.follower])
        renewing = [asyncio.create_task(lease.run()) for lease in leases]
        await until(lambda: all(lease.holds() for lease in leases))
        await asyncio.sleep(0.6)
        tokens = [worker.keeper.token for worker in workers]
        watches = [Watch(worker.follower) for worker in workers]
        writing = asyncio.create_task(write(state, 0.01)) if busy else None
        for ahead_s in (HOUR_S, 0.0, -HOUR_S, HOUR_S, 0.0):
            faulty.clock_ahead(ahead_s)
            for _ in range(15):
                await asyncio.sleep(0.1)
                assert all(lease.holds() for lease in leases)
                assert [worker.keeper.token for worker in workers] == tokens
        await end(writing)
        for watch in watches:
            behind_ms, ahead_ms = await watch.end()
            print(f"hive time was {-behind_ms} ms behind and {ahead_ms} ms ahead at most")
            assert behind_ms > -1000
            assert ahead_ms < 1000
        assert [lease.generation for lease in leases] == [1, 1]
        for task in renewing:
            await end(task)
    await state.close()


async def test_entries_that_are_read_late_do_not_set_hive_time_back(state: State) -> None:
    worker = await Worker(state, "a").start()
    try:
        await asyncio.sleep(1.0)
        assert worker.keeper.token is not None
        await end(worker.following)
        await asyncio.sleep(0.4)  # a tick or two come in that nobody reads yet
        await worker.pause()
        await asyncio.sleep(3.0)
        worker.following = asyncio.create_task(worker.follower.follow())
        worker.keep()
        await asyncio.sleep(1.0)
        assert worker.keeper.token is not None
        assert abs(worker.follower.hive.offset_ms) < 500, "the server's clock was never stepped"
    finally:
        await worker.stop()


@pytest.mark.skipif(not ldfault.available(), reason="needs Linux and gcc")
async def test_a_step_while_the_stream_is_folded_anew_moves_no_hive_time(
    stepped_server: tuple[EmbeddedServer, FaultyServer],
) -> None:
    """As after a failover to a server whose clock is an hour ahead: whoever lost its place has not lost the time."""
    server, faulty = stepped_server
    state = State(server.url)
    await state.open()
    async with kept_by(state, 1) as (one,):
        await asyncio.sleep(0.6)
        begun_s, begun_ms = time.monotonic(), one.follower.now_ms
        await end(one.following)
        one.follower.restart(None)
        await asyncio.sleep(0.6)
        faulty.clock_ahead(HOUR_S)
        await one.follower.catch_up()
        one.following = asyncio.create_task(one.follower.follow())
        await asyncio.sleep(1.5)
        assert one.keeper.token
        assert abs(one.follower.now_ms - begun_ms - 1000 * (time.monotonic() - begun_s)) < 1500
    await state.close()
