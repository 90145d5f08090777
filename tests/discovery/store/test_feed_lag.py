"""How far a worker is behind: by what it has folded, not by when it last read."""

import asyncio

from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import Follower
from discovery.store.writer import append

FEED = keys.feed(keys.shard_tag(0))


async def test_lag_counts_from_when_everything_was_folded(state: State) -> None:
    loop = asyncio.get_running_loop()
    may_fold = True
    follower = Follower(state, FEED, lambda kind, payload, now_ms: None, lambda now_ms, epoch_ms: may_fold, loop.time)
    assert follower.lag_s() == float("inf"), "nothing was ever folded"
    first = await append(state, FEED, "r", b"", 3.0)
    await follower.catch_up()
    assert follower.position == first
    following = asyncio.create_task(follower.follow())
    try:
        may_fold = False  # as before an edge that another shard has not reached
        second = await append(state, FEED, "r", b"", 3.0)
        await _until_lag(follower, at_least_s=1.2)
        assert follower.unread_s() < 0.8, "it reads all the time"
        may_fold = True
        follower.resume()
        assert follower.position == second
        assert follower.lag_s() < 0.8
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _until_lag(follower: Follower, at_least_s: float) -> None:
    async with asyncio.timeout(10):
        while follower.lag_s() < at_least_s:  # noqa: ASYNC110 (a number that time alone moves)
            await asyncio.sleep(0.02)
