"""A shard that is restored: nothing of it is answered, led or written until all of it stands again."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from discovery.errors import StateAway
from discovery.hive import Hive, Rules
from discovery.housekeeping import Checkpointer
from discovery.shard_packing import pack
from discovery.shard_state import state_of
from discovery.store import keys
from discovery.store.checkpoints import Checkpoints, Written
from discovery.store.client import State
from discovery.store.ticker import Tick, pack_tick
from discovery.store.world import WorldReplaced
from geo.privacy import ExactPoint
from tests.world import EPOCH_MS, PARIS, SECRET, START_MS, World

TAG = keys.shard_tag(0)
LEADER = "other|1"


@pytest_asyncio.fixture
async def shown(world: World) -> AsyncIterator[World]:
    """Somebody whom a viewer sees."""
    for user in ("viewer", "somebody"):
        await world.place(user, *PARIS)
    assert await sees(world.hive)
    yield world


async def sees(hive: Hive) -> bool:
    return any(one.user == "somebody" for one in (await hive.nearby.page("viewer", 5000, 30, None)).people)


async def write_checkpoint(hive: Hive, version: str) -> Written:
    """Of shard 0 as it stands, by another worker that leads."""
    people, follower = hive._sharded, hive.feeds.followers[0]
    taken = people.snapshot(0, follower.place, people.room(0))
    await hive.state.call("SET", keys.leader(TAG), f"{LEADER}|1")
    meta = {"edge_ms": taken.head.edge_ms, "hive_ms": taken.head.place.now_ms}
    return await Checkpoints(hive.state, TAG).write(
        LEADER, version, pack(state_of(taken)), taken.head.place.position, meta
    )


async def restore(hive: Hive) -> None:
    follower = hive.feeds.followers[0]
    before = follower.restarts
    hive.feeds.doubt(0)
    async with asyncio.timeout(5):
        while follower.restarts == before or not hive.ready()[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_who_was_admitted_before_is_not_answered_from_a_shard_half_restored(shown: World) -> None:
    """The checkpoint is older than a block, and puts people back before blocks."""
    hive = shown.hive
    assert (await write_checkpoint(hive, "v1")).outcome == "ok"
    await hive.safety.block("somebody", "viewer")
    admitted = hive.lease_generation()
    assert admitted is not None
    hive.feeds.doubt(0)
    looks = refused = 0
    while looks < 20 or refused == 0 or not hive.ready()[0]:
        await asyncio.sleep(0)
        if hive.lease_generation() is None:
            refused += 1
            continue
        looks += 1
        live = hive.presence.is_live(hive.people.slots_or_new(["viewer"])[0], hive.now_ms)
        assert live, "the viewer's own position is gone for a moment"
        assert not await sees(hive)


class Leading:
    """A keeper that leads for ever."""

    token = LEADER


async def test_after_a_restore_checkpoints_are_due_as_before(shown: World) -> None:
    """What was folded before the restore no longer counts, else as much again would have to come first."""
    hive, clock_s = shown.hive, [0.0]
    await hive.state.call("SET", keys.leader(TAG), f"{LEADER}|1")
    parts = (hive._sharded, hive.presence, "w", lambda: clock_s[0])
    checkpointer = Checkpointer(hive.state, 0, Leading(), hive.feeds.followers[0], *parts)  # type: ignore[arg-type]
    written = []
    for turn in range(3):
        await checkpointer.step()
        await hive.settings.change("somebody", bottles=turn != 1, claim="adult")
        await shown.later(2 * EPOCH_MS)
        clock_s[0] += 20
        await checkpointer.step()
        current = await Checkpoints(hive.state, TAG).current()
        assert current is not None
        written.append(current.version)
        if turn == 1:
            await restore(hive)
    assert len(set(written)) == 3


async def test_leaders_that_follow_each_other_soon_do_not_put_off_the_next_checkpoint(shown: World) -> None:
    """By the clock of each new leader no time has passed, by hive time two epochs have since the current one."""
    hive = shown.hive
    await hive.state.call("SET", keys.leader(TAG), f"{LEADER}|1")
    versions = set()
    for turn in range(3):
        parts = (hive._sharded, hive.presence, f"w{turn}", lambda: 0.0)
        checkpointer = Checkpointer(hive.state, 0, Leading(), hive.feeds.followers[0], *parts)  # type: ignore[arg-type]
        await hive.settings.change("somebody", bottles=turn != 1, claim="adult")
        await shown.later(2 * EPOCH_MS)
        if turn == 0:
            assert (await write_checkpoint(hive, "first")).outcome == "ok"
            await shown.later(2 * EPOCH_MS)
            await hive.settings.change("somebody", bottles=False, claim="adult")
        await checkpointer.step()
        await checkpointer.step()
        current = await Checkpoints(hive.state, TAG).current()
        assert current is not None
        versions.add(current.version)
    assert versions == {"w0-1", "w1-1", "w2-1"}


async def test_shakes_are_folded_anew_though_their_state_is_lost_again_meanwhile(
    shown: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read so far is of a state that is gone: to go on from there is to wait for ever."""
    feed = shown.hive.shake_feed
    catch_up, calls = feed.catch_up, []

    async def broken_off() -> None:
        calls.append(feed.position)
        if len(calls) == 1:
            feed.position = feed.position[0] + 10**12, 0
            raise StateAway("the server fails over")
        await catch_up()

    monkeypatch.setattr(feed, "catch_up", broken_off)
    feed.doubt()
    async with asyncio.timeout(5):
        while not calls or not shown.hive.ready()[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert calls == [(0, 0), (0, 0)]


async def until_ready(hive: Hive) -> None:
    async with asyncio.timeout(10):
        while not hive.ready()[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def worker(state: State) -> Hive:
    draws = random.Random()
    return Hive(state, SECRET, Rules(), lambda: draws.getrandbits(32), draws.randbytes, time.monotonic)


async def test_an_emptied_state_is_a_world_of_as_many_shards_again(state: State) -> None:
    """Else a worker that starts later takes it for one of a single shard, and the two of them write past each other."""
    hive, later = worker(state), worker(state)
    await hive.start(2)
    hive.keep_house(EPOCH_MS)
    try:
        await until_ready(hive)
        restarts = hive.feeds.followers[0].restarts
        await state.call("FLUSHALL")
        async with asyncio.timeout(10):
            while hive.feeds.followers[0].restarts == restarts:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await until_ready(hive)
        await later.start(2)
        assert later.shards.count == 2
    finally:
        await hive.stop()
        await later.stop()


async def test_a_state_that_holds_another_world_ends_the_worker(state: State) -> None:
    """Its people are spread over other shards than this worker follows."""
    hive = worker(state)
    await hive.start(2)
    hive.keep_house(EPOCH_MS)
    try:
        await until_ready(hive)
        await state.call("FLUSHALL")
        await state.call("HSET", keys.world(), "format", 2, "shards", 3)
        with pytest.raises(WorldReplaced):
            await asyncio.wait_for(hive.followed(), 5)
    finally:
        await hive.stop()


async def test_what_was_hidden_is_said_again_though_the_state_is_away_at_first(
    shown: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover loses the newest entries, and answers nothing for a moment after it answered something."""
    hive, feed = shown.hive, keys.feed(TAG)
    await shown.later(1000)
    await hive.settings.change("somebody", visibility="nobody", claim="adult")
    call = hive.state.call
    failed: list[Any] = []

    async def away_once(*command: Any, **options: Any) -> Any:
        if command[1] == keys.checkpoint(TAG) and not failed:
            failed.append(command)
            raise StateAway("the server fails over")
        return await call(*command, **options)

    monkeypatch.setattr(hive.state, "call", away_once)
    newest = await call("XREVRANGE", feed, "+", "-", "COUNT", 1)
    await call("XDEL", feed, newest[0][0])
    await call("HSET", hive.shards.person("somebody"), "visibility", "everyone")
    async with asyncio.timeout(5):
        while await call("HGET", hive.shards.person("somebody"), "visibility") != b"nobody":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert failed


async def test_shards_whose_servers_have_other_clocks_do_not_wait_for_each_other(state: State) -> None:
    """Nobody remembers the time at the start of a service; a shard an hour ahead would stand still for an hour."""
    ahead_ms, epoch_ms = 3_600_000, 2000
    await state.call("HSET", keys.world(), "format", 2, "shards", 3)
    for shard, offset_ms in enumerate((0, ahead_ms, -ahead_ms)):
        entry = pack_tick(Tick(offset_ms, epoch_ms))
        await state.call("XADD", keys.feed(keys.shard_tag(shard)), "*", "k", "t", "d", entry)
    hive = worker(state)
    await hive.start(3)
    hive.keep_house(epoch_ms)
    try:
        await until_ready(hive)
        times_ms = [follower.hive.now_ms for follower in hive.feeds.followers]
        assert max(times_ms) - min(times_ms) < 1500
        for _ in range(100):
            await asyncio.sleep(0.05)
            assert hive.ready() == (True, "")
    finally:
        await hive.stop()


@pytest.mark.parametrize("other_epoch", [False, True])
async def test_a_checkpoint_of_a_shard_that_waits_at_an_edge(state: State, other_epoch: bool) -> None:
    """Its next entry, a tick with another offset and perhaps another epoch, was looked at already and is not folded."""
    hive, later = worker(state), worker(state)
    edge_ms = START_MS - 60_000 + EPOCH_MS
    start_ms = edge_ms - 2000

    async def tick(shard: int, hive_ms: int, epoch_ms: int = EPOCH_MS) -> None:
        seconds, micros = await state.call("TIME")
        offset_ms = hive_ms - int(seconds) * 1000 - int(micros) // 1000
        await state.call("XADD", keys.feed(f"s{shard:02d}"), "*", "k", "t", "d", pack_tick(Tick(offset_ms, epoch_ms)))

    await hive.start(2)
    try:
        for shard in range(2):
            await tick(shard, start_ms)
        for user in ("ann", "bob", "cyd", "dan"):
            await hive.positions.report(user, ExactPoint(*PARIS), 7200, "adult")
        epoch_ms = EPOCH_MS // 2 if other_epoch else EPOCH_MS
        await tick(0, start_ms + 10_000, epoch_ms)
        await asyncio.sleep(0.1)
        assert hive.feeds.followers[0].now_ms < edge_ms, "it waits"
        assert (await write_checkpoint(hive, "v1")).outcome == "ok"
        await tick(1, start_ms + 10_000, epoch_ms)
        for follower in hive.feeds.followers:
            await follower.fold_to_tail(3.0)
        await later.start(2)
        assert hive.presence.edge_ms == later.presence.edge_ms == edge_ms
        assert hive.presence.in_step
        assert later.presence.in_step
        for one, other in zip(hive.feeds.followers, later.feeds.followers, strict=True):
            assert one.place == other.place
            assert one.hive.now_ms == other.hive.now_ms
        assert _columns(hive) == _columns(later)
    finally:
        await hive.stop()
        await later.stop()


def _columns(hive: Hive) -> dict[str, tuple[int, ...]]:
    names = ("published", "stranger", "pending", "live_until_ms")
    return {
        user: tuple(int(getattr(hive.presence, name)[slot]) for name in names)
        for slot, user in enumerate(hive.people.ids)
    }


async def test_services_with_other_epochs_on_one_state_cross_the_same_edges(state: State) -> None:
    """A rolling restart that changes the setting: who leads the first shard says it for all."""
    old, new = worker(state), worker(state)
    await old.start(4)
    old.keep_house(600_000)
    await until_ready(old)
    await new.start(4)
    new.keep_house(1000)
    try:
        async with asyncio.timeout(20):
            while not {"s01", "s02", "s03"} & set(new.led()):
                for shard in (1, 2, 3):
                    await state.call("DEL", keys.leader(keys.shard_tag(shard)))
                await asyncio.sleep(0.3)
        assert "s00" in old.led()
        await asyncio.sleep(1.0)  # ticks of both leaders
        assert {follower.epoch_ms for follower in new.feeds.followers} == {600_000}
        assert old.ready()[0]
        await old.leave()
        async with asyncio.timeout(15):
            while {follower.epoch_ms for follower in new.feeds.followers} != {1000}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until_ready(new)
    finally:
        await old.stop()
        await new.stop()
