"""The follower on a real server: order, both reply forms, waiting, broken connections, restarts, ticks and time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from discovery.errors import StateAway
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from discovery.store.feed import _PACE_S, FeedGap, Follower, _entries, parse_id
from discovery.store.ticker import Tick, pack_tick

KEY = "{t}:feed"
FIELDS = {b"k": b"r", b"d": b"\x00\xff"}


class Folded:
    """A follower and all that it was told."""

    def __init__(self, state: State) -> None:
        self.entries: list[tuple[str, bytes, int]] = []
        self.times: list[tuple[int, int]] = []
        self.order: list[str] = []
        self.follower = Follower(state, KEY, self.fold, self.on_time, time.monotonic)
        self.task: asyncio.Task[None] | None = None

    def fold(self, kind: str, payload: bytes, now_ms: int) -> None:
        if kind == "bad":
            raise ValueError("cannot be folded")
        self.entries.append((kind, payload, now_ms))
        self.order.append("fold")

    def on_time(self, now_ms: int, epoch_ms: int) -> bool:
        self.times.append((now_ms, epoch_ms))
        self.order.append("time")
        return True

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.entries]

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        await self.follower.catch_up()
        task = asyncio.create_task(self.follower.follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def add(state: State, payload: bytes | str | int = b"", kind: str = "r", entry: str = "*") -> tuple[int, int]:
    return parse_id(await state.call("XADD", KEY, entry, "k", kind, "d", payload))


async def tick(state: State, entry_ms: int, offset_ms: int, epoch_ms: int) -> None:
    await add(state, pack_tick(Tick(offset_ms, epoch_ms)), "t", f"{entry_ms}-0")


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(start, start + count)]


# --- reply forms ---


@pytest.mark.parametrize(
    "reply",
    [
        [[KEY.encode(), [[b"5-1", [b"k", b"r", b"d", b"\x00\xff"]]]]],  # the server's own RESP2 form
        [[KEY.encode(), [(b"5-1", FIELDS)]]],  # redis-py's reading of it
        {KEY.encode(): [[(b"5-1", FIELDS)]]},  # redis-py's reading of RESP3
        {KEY.encode(): [[b"5-1", [b"k", b"r", b"d", b"\x00\xff"]]]},
    ],
)
def test_every_form_of_a_reply_is_read(reply: Any) -> None:
    assert _entries(reply) == [(b"5-1", FIELDS)]


@pytest.mark.parametrize("reply", [None, [], {}])
def test_nothing_new_is_no_entries(reply: Any) -> None:
    assert _entries(reply) == []


async def test_both_clients_read_the_same(state: State) -> None:
    for number in range(3):
        await add(state, number)
    command = ("XREAD", "COUNT", 10, "STREAMS", KEY, "0-0")
    blocking: Any = state.blocking()
    assert _entries(await state.call(*command)) == _entries(await blocking.execute_command(*command))
    assert len(_entries(await state.call(*command))) == 3
    await blocking.aclose()


def test_ids_are_compared_as_numbers() -> None:
    assert parse_id(b"9-9") < parse_id(b"10-0") < parse_id(b"10-10")
    assert parse_id(b"0-0") == (0, 0)


# --- order, catching up ---


async def test_everything_comes_in_order_once(state: State) -> None:
    """More than two reads of catching up, then what is written while it follows."""
    fill = "for n = 0, 4999 do redis.call('XADD', KEYS[1], '*', 'k', 'r', 'd', n) end"
    await state.call("EVAL", fill, 1, KEY)
    folded = Folded(state)
    assert not folded.follower.caught_up
    async with folded.following():
        assert folded.payloads == numbers(5000)
        assert folded.follower.caught_up
        assert folded.follower.connected
        last = [await add(state, number) for number in range(5000, 5050)][-1]
        await folded.follower.folded(last, 3.0)
        assert folded.payloads == numbers(5050)
        assert folded.follower.position == last
    assert not folded.follower.connected, "who has stopped following does not know what stands"


async def test_an_empty_stream_is_caught_up_at_once(state: State) -> None:
    folded = Folded(state)
    assert await folded.follower.tail() == (0, 0)
    await folded.follower.catch_up()
    assert (folded.follower.caught_up, folded.follower.position, folded.entries) == (True, (0, 0), [])


async def test_two_followers_fold_the_same(state: State) -> None:
    one, two = Folded(state), Folded(state)
    async with one.following(), two.following():
        await asyncio.gather(*(add(state, number) for number in range(300)))
        for folded in (one, two):
            await folded.follower.fold_to_tail(3.0)
        assert one.entries == two.entries
        assert len(one.entries) == 300


# --- waiting ---


async def test_a_writer_waits_for_its_own_entry(state: State) -> None:
    folded = Folded(state)
    async with folded.following():
        for number in range(20):
            entry = await add(state, number)
            await folded.follower.folded(entry, 3.0)
            assert folded.payloads[-1] == str(number).encode()
        started_s = time.monotonic()
        await folded.follower.folded(entry, 3.0)
        assert time.monotonic() - started_s < 0.1, "what is folded already needs no waiting"


async def test_many_wait_for_different_entries_and_one_gives_up(state: State) -> None:
    folded = Folded(state)
    async with folded.following():

        async def write(number: int) -> bool:
            entry = await add(state, number)
            await folded.follower.folded(entry, 3.0)
            return str(number).encode() in folded.payloads

        gone = asyncio.create_task(folded.follower.folded((2**62, 0), 60))
        await asyncio.sleep(0)
        gone.cancel()
        assert all(await asyncio.gather(*(write(number) for number in range(200))))
        await asyncio.gather(gone, return_exceptions=True)


async def test_the_deadline_says_that_the_outcome_is_unknown(state: State) -> None:
    folded = Folded(state)
    async with folded.following():
        started_s = time.monotonic()
        with pytest.raises(StateAway) as away:
            await folded.follower.folded((2**62, 0), 0.2)
        assert 0.15 < time.monotonic() - started_s < 1.0
        assert away.value.outcome_unknown
        await folded.follower.folded(await add(state), 3.0)


async def test_nobody_follows_nobody_folds(state: State) -> None:
    folded = Folded(state)
    await add(state)
    with pytest.raises(StateAway):
        await folded.follower.fold_to_tail(0.1)
    assert folded.entries == []


# --- broken connections ---


async def test_a_killed_connection_costs_no_entry(state: State) -> None:
    folded = Folded(state)
    async with folded.following():
        written = 0
        for _ in range(3):
            for _ in range(50):
                await add(state, written)
                written += 1
            await state.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with contextlib.suppress(StateAway):  # the kill took this client's other connections too
            await state.call("PING")
        await add(state, written)
        await folded.follower.fold_to_tail(3.0)
        assert folded.payloads == numbers(written + 1)
        assert folded.follower.connected


async def test_a_restart_of_the_server_costs_no_entry(tmp_path: Path) -> None:
    data_dir = DataDir.take(tmp_path / "own", time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic)
    server.start()
    state = State(server.url, deadline_s=1.0)
    await state.open()
    folded = Folded(state)
    try:
        async with folded.following():
            for number in range(100):
                await add(state, number)
            server.stop(grace_s=0)
            await eventually(lambda: not folded.follower.connected)
            server.start()
            await add(state, 100)
            await folded.follower.fold_to_tail(3.0)
            assert folded.payloads == numbers(101)
            assert folded.follower.connected
        again = Folded(state)
        await again.follower.catch_up()
        assert again.entries == folded.entries, "what was folded is what is kept"
    finally:
        await state.close()
        server.stop()
        data_dir.release()


async def eventually(holds: Any) -> None:
    deadline_s = time.monotonic() + 3
    while not holds():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.4])
async def test_cancelling_stops_it_soon(state: State, after_s: float) -> None:
    """Also in the middle of a blocking read of a second."""
    folded = Folded(state)
    await folded.follower.catch_up()
    task = asyncio.create_task(folded.follower.follow())
    await asyncio.sleep(after_s)
    started_s = time.monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.done()
    assert time.monotonic() - started_s < 1.5


async def test_an_entry_that_cannot_be_folded_ends_the_following(state: State) -> None:
    folded = Folded(state)
    await folded.follower.catch_up()
    good = await add(state, "good")
    await add(state, "x", "bad")
    await add(state, "after")
    task = asyncio.create_task(folded.follower.follow())
    with pytest.raises(ValueError, match="cannot be folded"):
        await asyncio.wait_for(task, 3)
    assert not folded.follower.connected
    assert folded.payloads == [b"good"]
    assert folded.follower.position == good


# --- time ---


async def test_time_is_told_before_each_entry_and_ticks_are_folded_by_nobody_else(state: State) -> None:
    await add(state, "a", entry="1000-0")
    await tick(state, 1500, 100, 30_000)
    await add(state, "b", entry="2000-0")
    folded = Folded(state)
    await folded.follower.catch_up()
    assert folded.order == ["time", "fold", "time", "time", "fold"]
    assert folded.times == [(1000, 0), (1600, 30_000), (2100, 30_000)]
    assert folded.entries == [("r", b"a", 1000), ("r", b"b", 2100)]


async def test_hive_time_follows_the_offset_and_never_runs_back(state: State) -> None:
    await tick(state, 1000, 500, 1000)
    await tick(state, 2000, -1500, 1000)  # the server's clock was put forward: time stands until it is caught up
    await add(state, "still", entry="2500-0")
    await add(state, "moves", entry="3500-0")
    await tick(state, 4000, 10_000, 1000)
    folded = Folded(state)
    await folded.follower.catch_up()
    assert [now_ms for now_ms, _ in folded.times] == [1500, 1500, 1500, 2000, 14_000]
    assert [now_ms for _, _, now_ms in folded.entries] == [1500, 2000]
    assert folded.follower.now_ms == 14_000


async def test_another_epoch_length_holds_from_its_tick_on(state: State) -> None:
    for entry_ms, epoch_ms in ((1000, 900_000), (2000, 30_000), (3000, 900_000)):
        await tick(state, entry_ms, 0, epoch_ms)
        await add(state, entry=f"{entry_ms + 1}-0")
    folded = Folded(state)
    await folded.follower.catch_up()
    assert [epoch_ms for _, epoch_ms in folded.times] == [900_000, 900_000, 30_000, 30_000, 900_000, 900_000]
    assert folded.follower.epoch_ms == 900_000


async def test_a_later_follower_has_the_same_times(state: State) -> None:
    early = Folded(state)
    async with early.following():
        for step in range(20):
            await tick(state, 10**12 * (step + 1), (-1) ** step * 50_000, 1000 * (step + 1))
            await add(state, step, entry=f"{10**12 * (step + 1) + 5}-0")
        await early.follower.fold_to_tail(3.0)
    late = Folded(state)
    await late.follower.catch_up()
    assert (early.entries, early.times) == (late.entries, late.times)


async def test_an_entry_without_payload_is_an_empty_payload(state: State) -> None:
    await state.call("XADD", KEY, "*", "k", "c")
    folded = Folded(state)
    await folded.follower.catch_up()
    assert [(kind, payload) for kind, payload, _ in folded.entries] == [("c", b"")]


async def test_a_stream_that_was_emptied_and_goes_on_is_noticed(state: State) -> None:
    """Its entries never cease to come, on a connection that never broke: only the place itself can tell."""
    follower = Follower(state, KEY, lambda *_: None, lambda *_: True, lambda: 4 * time.monotonic())
    await add(state)
    await follower.catch_up()
    following = asyncio.create_task(follower.follow())
    for _ in range(2):  # the first reads of a connection look at the place anyhow
        await asyncio.sleep(0.1)
        await follower.folded(await add(state), 3.0)
    await asyncio.gather(state.call("DEL", KEY), add(state))
    try:
        async with asyncio.timeout(4):
            while not following.done():
                await add(state)
                await asyncio.sleep(0.05)
        with pytest.raises(FeedGap):
            await following
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


# --- load ---


async def reads(state: State) -> int:
    told = (await state.call("INFO", "commandstats")).decode()
    line = next((row for row in told.splitlines() if row.startswith("cmdstat_xread:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_reads_do_not_follow_every_entry_of_a_fast_stream(state: State) -> None:
    folded = Folded(state)
    async with folded.following():
        await add(state, 0)
        before = await reads(state)
        for number in range(1, 151):
            last = await add(state, number)
            await asyncio.sleep(0.002)
        taken = await reads(state) - before
        await folded.follower.folded(last, 3.0)
        assert folded.payloads == numbers(151)
        assert taken < 75, "each entry cost a read"


async def test_a_pause_ends_when_somebody_waits(state: State) -> None:
    folded = Folded(state)
    async with folded.following():
        began_s = time.monotonic()
        for number in range(40):
            await folded.follower.folded(await add(state, number), 3.0)
        assert time.monotonic() - began_s < 40 * _PACE_S * 0.75, "each waited for the end of a pause"


async def test_what_was_gathered_is_settled_before_anybody_is_told(state: State) -> None:
    order: list[str] = []
    follower = Follower(
        state,
        KEY,
        lambda kind, *_: order.append(kind),
        lambda *_: True,
        time.monotonic,
        lambda: order.append("settled"),
    )
    await follower.catch_up()
    task = asyncio.create_task(follower.follow())
    for kind in ("r", "s"):
        await follower.folded(await add(state, kind=kind), 3.0)
        order.append("told")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    at = [order.index(kind) for kind in ("r", "s")]
    for start in at:
        assert order[start : start + 3] == [order[start], "settled", "told"]


async def test_the_clock_goes_on_while_entries_wait_and_a_place_is_that_of_the_last_folded_one(state: State) -> None:
    may_pass = True
    follower = Follower(state, KEY, lambda *_: None, lambda *_: may_pass, time.monotonic)
    await tick(state, 1000, 5, 900)
    await follower.catch_up()
    may_pass = False
    stood = follower.place
    await add(state, entry="1500-0")
    await tick(state, 2000, 70, 800)
    await follower.catch_up()
    assert (follower.place, follower.now_ms) == (stood, 1005)
    assert (follower.hive.now_ms, follower.hive.offset_ms) == (2070, 70)
    may_pass = True
    follower.resume()
    assert (follower.now_ms, follower.place.offset_ms, follower.epoch_ms) == (2070, 70, 800)


# --- slices ---


async def test_a_long_fold_lets_others_have_their_turns(state: State) -> None:
    """On a clock by which folding an entry takes 1 ms: 300 entries are 30 turns, and none is left or folded twice."""
    folded, turns = [], 0
    now_s = 0.0

    def fold(_kind: str, payload: bytes, _now_ms: int) -> None:
        nonlocal now_s
        now_s += 0.001
        folded.append(payload)

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += bool(folded)

    for number in range(300):
        await add(state, number)
    follower = Follower(state, KEY, fold, lambda now_ms, epoch_ms: True, lambda: now_s)
    beside = asyncio.create_task(others())
    await follower.catch_up()
    beside.cancel()
    assert folded == numbers(300)
    assert turns >= 25
    assert follower.position == await follower.tail()


async def test_what_cannot_be_folded_ends_a_later_slice_too(state: State) -> None:
    now_s = 0.0

    def fold(kind: str, _payload: bytes, _now_ms: int) -> None:
        nonlocal now_s
        now_s += 0.001
        if kind == "bad":
            raise ValueError("cannot be folded")

    for number in range(50):
        await add(state, number)
    await add(state, kind="bad")
    with pytest.raises(ValueError, match="cannot be folded"):
        await Follower(state, KEY, fold, lambda now_ms, epoch_ms: True, lambda: now_s).catch_up()
