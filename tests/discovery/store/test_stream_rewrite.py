"""A stream written anew in steps: nobody sees a difference but in what is replaced, whatever happens meanwhile."""

import asyncio
import time

from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import Follower
from discovery.store.hive_time import Tick, pack_tick
from discovery.store.stream_rewrite import Entry, Page, StreamRewrite

TAG = keys.SHAKE_TAG
FEED = keys.feed(TAG)
COUNT = 1200  # three steps
TICK = pack_tick(Tick(0, 1000))


def nameless(entry: Entry) -> bytes | None:
    """Every third content."""
    number = int(entry[1][3]) if entry[1][1] == b"s" else 1
    return b"0" if number % 3 == 0 and number > 0 else None


async def fill(state: State, first: int, count: int) -> None:
    for number in range(first, first + count):
        await state.call("XADD", FEED, f"{number}-0", "k", "s", "d", number, lasting=False)


async def rows(state: State) -> list[tuple[bytes, bytes]]:
    return [(entry, fields[3]) for entry, fields in await state.call("XRANGE", FEED, "-", "+")]


def expected(first: int, end: int, replaced_to: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"%d-0" % number, b"0" if number % 3 == 0 and number < replaced_to else b"%d" % number)
        for number in range(first, end)
    ]


async def test_what_is_replaced_is_gone_and_all_else_stands(state: State) -> None:
    await fill(state, 1, COUNT + 1)
    await state.call("XDEL", FEED, f"{COUNT + 1}-0")
    for _ in range(2):
        assert await StreamRewrite(state, TAG, "one").run(nameless)
        assert await rows(state) == expected(1, COUNT + 1, COUNT + 1)
        about = await state.call("XINFO", "STREAM", FEED)
        assert about[about.index(b"last-generated-id") + 1] == b"%d-0" % (COUNT + 1)
    assert await state.call("EXISTS", keys.feed_copy(TAG), keys.feed_lock(TAG)) == 0
    assert await state.call("TTL", FEED) == -1


async def test_nothing_to_replace_writes_nothing(state: State) -> None:
    await fill(state, 1, 10)
    assert await StreamRewrite(state, TAG, "one").run(lambda entry: None)
    await state.call("DEL", FEED)
    assert await StreamRewrite(state, TAG, "one").run(nameless)
    assert await state.call("EXISTS", FEED, keys.feed_copy(TAG), keys.feed_lock(TAG)) == 0


async def test_a_stream_grows_and_is_trimmed_between_two_steps(state: State) -> None:
    await fill(state, 1, COUNT)
    rewrite = StreamRewrite(state, TAG, "one")
    pages = await rewrite._read(nameless)
    assert [page.end for page in pages] == [b"500-0", b"1000-0", b"1200-0"]
    assert await rewrite.step(b"", pages[0])
    await fill(state, COUNT + 1, 30)
    await state.call("XTRIM", FEED, "MINID", "700-0")
    assert await rewrite.step(pages[0].end, pages[1])
    assert await rewrite.step(pages[1].end, Page(b"+", pages[2].content))
    found = await rows(state)
    assert found == expected(1, 501, 501) + expected(700, COUNT + 31, COUNT + 1), "trimmed again at the next trim"


async def test_one_worker_at_a_time(state: State) -> None:
    """Who is late finds that somebody else has begun, and changes nothing."""
    await fill(state, 1, COUNT)
    one, other = StreamRewrite(state, TAG, "one"), StreamRewrite(state, TAG, "other")
    pages = await one._read(nameless)
    assert await one.step(b"", pages[0])
    assert not await other.run(nameless)
    await state.call("DEL", keys.feed_lock(TAG))  # as after LEASE_MS
    assert await other.step(b"", pages[0])
    assert not await one.step(pages[0].end, pages[1])
    assert await rows(state) == expected(1, COUNT + 1, 0)
    assert await other.run(nameless), "its own copy begins anew"
    assert await rows(state) == expected(1, COUNT + 1, COUNT + 1)
    assert not await one.step(pages[0].end, Page(b"+", []))
    assert await rows(state) == expected(1, COUNT + 1, COUNT + 1)


async def test_a_copy_that_was_broken_off_goes_by_itself(state: State) -> None:
    await fill(state, 1, COUNT)
    rewrite = StreamRewrite(state, TAG, "one")
    pages = await rewrite._read(nameless)
    assert await rewrite.step(b"", pages[0])
    for key in (keys.feed_copy(TAG), keys.feed_lock(TAG)):
        assert 0 < await state.call("PTTL", key) <= 10_000
    await state.call("DEL", keys.feed_copy(TAG))
    assert not await rewrite.step(pages[0].end, pages[1])
    assert await rewrite.run(nameless)
    assert await rows(state) == expected(1, COUNT + 1, COUNT + 1)


async def test_who_waits_for_the_stream_goes_on_reading(state: State) -> None:
    """A follower asks for the entry it read last, and for one of the last 10 s: names go from older ones only."""
    folded: list[bytes] = []
    follower = Follower(
        state, FEED, lambda kind, payload, now_ms: folded.append(payload), lambda now_ms, epoch_ms: True, time.monotonic
    )
    now_ms = 1_700_000_000_000
    await state.call("XADD", FEED, f"{now_ms}-0", "k", "t", "d", TICK)
    await state.call("XADD", FEED, f"{now_ms}-1", "k", "s", "d", 3)
    await state.call("XADD", FEED, f"{now_ms}-2", "k", "t", "d", TICK)
    await follower.catch_up()
    restarts = follower.restarts
    task = asyncio.create_task(follower.follow())
    try:
        await asyncio.sleep(0.05)
        assert await StreamRewrite(state, TAG, "one").run(nameless)
        await state.call("XADD", FEED, f"{now_ms + 1}-0", "k", "s", "d", 6)
        async with asyncio.timeout(5):
            while len(folded) < 2 and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert folded == [b"3", b"6"]
        assert follower.restarts == restarts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
