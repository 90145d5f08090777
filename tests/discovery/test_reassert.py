"""What people forbade is said again when the state has lost it, also when restoring needs a second try."""

import asyncio
import time

import pytest

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.checkpoints import Checkpoints, Loaded
from tests.world import PARIS, World


@pytest.mark.parametrize("failures", [0, 1, 3])
async def test_a_block_that_a_failover_lost_stands_again(
    world: World, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.place("ann", *PARIS)
    await world.place("bob", *PARIS)
    feed = world.hive.feeds.followers[0]
    before = await feed.tail()
    async with world.client("ann") as ann:
        assert (await ann.put("/v1/me/blocks/bob")).status_code == 204
        await lose(world, before)
        read, tries = Checkpoints.read, []

        async def failing_read(self: Checkpoints) -> Loaded | None:
            tries.append(1)
            if len(tries) <= failures:
                raise StateAway
            return await read(self)

        monkeypatch.setattr(Checkpoints, "read", failing_read)
        world.hive.feeds.doubt(0)

        until_s = time.monotonic() + 5
        while await world.state.call("HVALS", world.hive.shards.blocks("ann")) != [b"bob"]:
            assert time.monotonic() < until_s, "the block was not said again"
            await asyncio.sleep(0.01)
        assert len(tries) == failures + 1
        await world.hive.feeds.followers[0].fold_to_tail(3.0)
        while (answer := await ann.get("/v1/nearby")).status_code == 503:  # until it holds its lease again
            assert time.monotonic() < until_s, answer.text
            await asyncio.sleep(0.01)
        assert answer.json()["people"] == []


async def lose(world: World, last: tuple[int, int]) -> None:
    """The record and the entries after ``last``, as a replica that did not get them would not have them."""
    await world.state.call("DEL", world.hive.shards.blocks("ann"))
    for entry, _ in await world.state.call("XRANGE", keys.feed("s00"), "({}-{}".format(*last), "+"):
        await world.state.call("XDEL", keys.feed("s00"), entry)
