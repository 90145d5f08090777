"""A shard that is restored: nothing of it is answered, led or written until all of it stands again."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from discovery.errors import StateAway
from discovery.hive import Hive
from discovery.housekeeping import Checkpointer
from discovery.shard_packing import pack
from discovery.shard_state import state_of
from discovery.store import keys
from discovery.store.checkpoints import Checkpoints, Written
from tests.world import EPOCH_MS, PARIS, World

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
    meta = {"edge_ms": taken.head.edge_ms}
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
