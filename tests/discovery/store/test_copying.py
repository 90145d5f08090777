"""Copies of a state in use: nothing acknowledged is lost, and what goes wrong leaves the source serving."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from discovery.store import backup, copying, keys, transfer, world_record
from discovery.store.client import State
from discovery.store.copying import Copy, NotStill, Plan
from discovery.store.embedded import EmbeddedServer
from tests.footings import Footing, footing_of
from tests.naive_bottles import check_sea
from tests.traffic import Traffic, people_in

TO = "redis://there"


@pytest.fixture(params=["redis-7.0", "valkey-waitaof", "cluster"])
def elsewhere(request: pytest.FixtureRequest) -> Footing:
    """Every footing but the embedded one, which is copied."""
    return footing_of(request.param, request.getfixturevalue)


@pytest_asyncio.fixture
async def target(elsewhere: Footing) -> AsyncIterator[State]:
    client = State(elsewhere.url)
    await client.open()
    await client.each_master("FLUSHALL")
    yield client
    await client.close()


@pytest_asyncio.fixture
async def service(state: State, state_server: EmbeddedServer) -> AsyncIterator[State]:
    """The client of those who write."""
    client = State(state_server.url)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quiet of 0.2 s, so that tests are short: their writers end at once."""
    monkeypatch.setattr(copying, "_QUIET_S", 0.2)
    monkeypatch.setattr(copying, "_LOOK_S", 0.02)


class Workers:
    """A service as a copy sees it: writers and a lease, which both end a moment after the world has moved."""

    def __init__(self, traffic: Traffic, obeys: bool = True) -> None:
        self.traffic = traffic
        self.obeys = obeys
        self.moved_to: list[str] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._serve())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self) -> None:
        state = self.traffic.state
        while True:
            async with self.traffic.running(writers=6):
                await self._renew_until(moved=True)
            await state.call("HDEL", keys.leases("s00"), "w1")
            await self._renew_until(moved=False)

    async def _renew_until(self, moved: bool) -> None:
        state = self.traffic.state
        for beat in itertools.count():
            to = await state.call("HGET", keys.world(), world_record.MOVED_TO)
            if self.obeys and (to is not None) == moved:
                self.moved_to += [] if to is None else [to.decode()]
                return
            if moved:
                await state.call("HSET", keys.leases("s00"), "w1", f"0-0|0-0|{beat}|0-0")
            await asyncio.sleep(0.02)


async def check_same_world(traffic: Traffic, target: State) -> None:
    """All that was acknowledged is there, records equal the feed, the sea is whole, and ids go on."""
    found = await people_in(target, traffic.shards, sorted(traffic.sent))
    assert all(traffic.acked.get(user, 0) <= found[user] <= sent for user, sent in traffic.sent.items())
    assert traffic.bottles_acked <= set(await check_sea(target))
    newest = (await traffic.state.call("XREVRANGE", keys.feed("s00"), "+", "-", "COUNT", 1))[0][0]
    with pytest.raises(Exception, match="equal or smaller"):
        await target.call("XADD", keys.feed("s00"), newest, "k", "t", "d", "")


@pytest.mark.usefixtures("quick")
async def test_a_live_copy_holds_all_that_was_acknowledged(
    state: State, service: State, target: State, seed: int, scale: int
) -> None:
    traffic = Traffic(service, seed)
    await traffic.create_world()
    await state.call("SET", keys.fence("s00"), 7)
    for n in range(2000 * scale):
        await traffic.change(f"standing{n}")
    workers = Workers(traffic)
    async with workers.serving():
        await asyncio.sleep(0.3)
        acked = sum(traffic.acked.values())
        done = await Copy(state, target, Plan(), time.monotonic).run(TO)
        assert sum(traffic.acked.values()) > acked, "nobody wrote meanwhile"
    assert traffic.failed == []
    assert workers.moved_to == [TO]
    await check_same_world(traffic, target)
    assert done.checksum == (await backup.checksum_of(target)).after(await transfer.now_ms(target))
    assert done.entries == await target.call("XLEN", keys.feed("s00"))
    assert await world_record.of(target) == {"format": "1", "shards": "1"}
    assert await target.call("GET", keys.fence("s00")) == b"7"
    assert not await target.call("EXISTS", keys.leases("s00"))
    with pytest.raises(world_record.Moved, match=TO):
        await world_record.refuse_elsewhere(state)


@pytest.mark.usefixtures("quick")
async def test_what_was_deleted_trimmed_or_replaced_since_the_first_pass(
    state: State, target: State, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic(state, seed)
    await traffic.create_world()
    for n in range(100):
        await traffic.change(f"u{n}")
    await state.call("HSET", "{a}:gone", "k", "v")
    await state.call("HSET", "{a}:smaller", *(part for n in range(1000) for part in (n, n)))
    await state.call("XADD", keys.feed("shake"), "1-1", "k", "t")
    await state.call("XADD", "{a}:stream gone", "1-1", "k", "t")
    await state.call("SET", "{a}:lasting", "1", "PX", 60_000_000)
    first_pass = Copy._first_pass

    async def then_changes(self: Copy) -> None:
        await first_pass(self)
        assert await target.call("HLEN", "{a}:smaller") == 1000
        await state.call("DEL", "{a}:gone", "{a}:stream gone")
        await state.call("HDEL", "{a}:smaller", *range(999))
        await state.call("PERSIST", "{a}:lasting")
        middle = (await state.call("XRANGE", keys.feed("s00"), "-", "+"))[50][0]
        await state.call("XTRIM", keys.feed("s00"), "MINID", "=", middle)
        await state.call("XTRIM", keys.feed("shake"), "MAXLEN", "=", 0)
        await state.call("SET", "{a}:new", "n", "PX", 60_000)

    monkeypatch.setattr(Copy, "_first_pass", then_changes)
    done = await Copy(state, target, Plan(), time.monotonic).run(TO)
    assert done.entries == 50
    assert not await target.call("EXISTS", "{a}:gone")
    assert not await target.call("EXISTS", "{a}:stream gone")
    assert await target.call("HGETALL", "{a}:smaller") == [b"999", b"999"]
    assert await target.call("PTTL", "{a}:lasting") == -1
    assert 0 < await target.call("PTTL", "{a}:new") <= 60_000
    assert (await backup.checksum_of(target)).after(0) == (await backup.checksum_of(state)).after(0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("elsewhere", ["redis-7.0"], indirect=True)
async def test_a_copy_that_fails_lets_the_service_go_on_and_may_begin_anew(
    state: State, service: State, target: State, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic(service, seed)
    await traffic.create_world()

    async def cut(*_: Any) -> None:
        raise OSError("the target went away")

    workers = Workers(traffic)
    async with workers.serving():
        await asyncio.sleep(0.2)
        with monkeypatch.context() as patch:
            patch.setattr(Copy, "_compare_written", cut)
            with pytest.raises(OSError, match="went away"):
                await Copy(state, target, Plan(), time.monotonic).run(TO)
        await world_record.refuse_elsewhere(state)
        with pytest.raises(world_record.Unfinished):
            await world_record.refuse_elsewhere(target)
        acked = sum(traffic.acked.values())
        await asyncio.sleep(0.3)
        assert sum(traffic.acked.values()) > acked, "the service did not go on"
        await Copy(state, target, Plan(), time.monotonic).run(TO)
    await check_same_world(traffic, target)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("elsewhere", ["redis-7.0"], indirect=True)
async def test_a_service_that_does_not_stop_is_left_where_it_is(
    state: State, service: State, target: State, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_QUIET_WITHIN_S", 1.0)
    traffic = Traffic(service, seed)
    await traffic.create_world()
    async with Workers(traffic, obeys=False).serving():
        await asyncio.sleep(0.1)
        with pytest.raises(NotStill, match="did not stop"):
            await Copy(state, target, Plan(), time.monotonic).run(TO)
    await world_record.refuse_elsewhere(state)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("elsewhere", ["redis-7.0"], indirect=True)
async def test_a_writer_that_slept_through_the_stop_is_noticed(
    state: State, target: State, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes after its key was compared: no checksum of that pass can tell."""
    traffic = Traffic(state, seed)
    await traffic.create_world()
    await traffic.change("ann")
    compare = Copy._compare_written

    async def late(self: Copy, written: Any) -> None:
        await compare(self, written)
        await state.call("SET", "{sea}:late", "1")

    monkeypatch.setattr(Copy, "_compare_written", late)
    with pytest.raises(NotStill, match="wrote"):
        await Copy(state, target, Plan(), time.monotonic).run(TO)
    await world_record.refuse_elsewhere(state)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("elsewhere", ["redis-7.0"], indirect=True)
@pytest.mark.parametrize("after", ["_first_pass", "_read_back", "_until_quiet"])
@pytest.mark.parametrize(
    "wrong",
    [
        ("HSET", keys.Shards().person("u7"), "claim", "9"),
        ("DEL", keys.Shards().person("u7")),
        ("SET", "{sea}:never written", "1"),
        ("XADD", "{sea}:never written", "*", "k", "t"),
        ("XTRIM", keys.feed("s00"), "MAXLEN", "=", "299"),
    ],
    ids=str,
)
async def test_a_target_that_does_not_hold_what_was_written_is_no_copy(
    state: State, target: State, seed: int, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...], after: str
) -> None:
    traffic = Traffic(state, seed)
    await traffic.create_world()
    for n in range(300):
        await traffic.change(f"u{n}")
    step = getattr(Copy, after)

    async def broken(self: Copy, *args: Any) -> None:
        await step(self, *args)
        await target.call(*wrong)

    monkeypatch.setattr(Copy, after, broken)
    with pytest.raises(world_record.NotAsWritten):
        await Copy(state, target, Plan(), time.monotonic).run(TO)
    await world_record.refuse_elsewhere(state)
    with pytest.raises(world_record.Unfinished):
        await world_record.refuse_elsewhere(target)


@pytest.mark.parametrize("elsewhere", ["redis-7.0"], indirect=True)
async def test_what_is_not_copied(state: State, target: State) -> None:
    with pytest.raises(world_record.NoWorld):
        await Copy(state, target, Plan(), time.monotonic).run(TO)
    await state.call("HSET", keys.world(), "format", "1", "shards", "1")
    await target.call("SET", "{x}:somebody", "else's")
    with pytest.raises(transfer.NotEmpty):
        await Copy(state, target, Plan(), time.monotonic).run(TO)
    await world_record.refuse_elsewhere(state)
    assert await transfer.count_keys(target) == 1
