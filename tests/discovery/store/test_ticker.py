"""Hive time never runs back, follows one monotonic clock through steps of the server's, and never stands in silence."""

import asyncio
import random
import struct
import time
from dataclasses import dataclass, field

import pytest

from discovery.store.client import State
from discovery.store.hive_time import HiveTime
from discovery.store.scripts import Script
from discovery.store.ticker import (
    LONGEST_GAP_S,
    SILENCE_S,
    STEP_MS,
    Sample,
    Tick,
    Ticker,
    TickPlan,
    pack_tick,
    unpack_tick,
)

EPOCH_MS = 30_000
NOON_MS = 1_795_000_000_000


def test_hive_time_is_the_maximum_of_what_was_folded() -> None:
    hive = HiveTime()
    assert [hive.advance(id_ms) for id_ms in (10, 12, 11, 12, 20)] == [10, 12, 12, 12, 20]
    hive.set_offset(-5)
    assert [hive.advance(id_ms) for id_ms in (21, 25, 26)] == [20, 20, 21]
    hive.set_offset(100)
    assert hive.now_ms == 21
    assert hive.advance(26) == 126


def test_a_tick_is_two_little_endian_int64() -> None:
    assert pack_tick(Tick(-2, 30_000)) == struct.pack("<qq", -2, 30_000)
    assert unpack_tick(pack_tick(Tick(-(2**62), 2**62))) == Tick(-(2**62), 2**62)
    with pytest.raises(struct.error):
        unpack_tick(b"short")


@dataclass
class World:
    """A stream in arithmetic: a server clock that may be stepped, entries with the server's id rule, and their fold."""

    server_ms: int = NOON_MS
    monotonic_s: float = 100.0
    last_id: tuple[int, int] = (0, 0)
    hive: HiveTime = field(default_factory=HiveTime)
    offsets: list[int] = field(default_factory=list)
    plan: TickPlan | None = None

    def add(self) -> bytes:
        """XADD *: ids never run back."""
        newest_ms, seq = self.last_id
        self.last_id = (self.server_ms, 0) if self.server_ms > newest_ms else (newest_ms, seq + 1)
        self.hive.advance(self.last_id[0])
        return b"%d-%d" % self.last_id

    def sample(self) -> Sample:
        newest = b"%d-%d" % self.last_id if self.last_id != (0, 0) else b""
        return Sample(newest, self.server_ms, self.monotonic_s)

    def poll(self, *, step_in_between_ms: int = 0, entry_in_between: bool = False) -> None:
        """One look of the ticker, with what may happen between its look and its script."""
        sample = self.sample()
        if self.plan is None:
            self.plan = TickPlan(EPOCH_MS, self.hive.now_ms, sample)
        tick = self.plan.next_tick(sample)
        self.server_ms += step_in_between_ms
        if entry_in_between:
            self.add()
        if tick is not None and self.last_id[0] <= self.plan.latest_id_ms(sample):
            self.hive.set_offset(tick.offset_ms)
            self.offsets.append(tick.offset_ms)
            self.plan.appended(tick, self.add(), self.monotonic_s)

    def live(self, seconds: float, *, entries_every_s: float = 0.0) -> None:
        """Let time pass in steps of the ticker's poll of 50 ms."""
        since_entry_s = 0.0
        for _ in range(round(seconds / 0.05)):
            self.server_ms += 50
            self.monotonic_s += 0.05
            since_entry_s += 0.05
            if entries_every_s and since_entry_s >= entries_every_s:
                self.add()
                since_entry_s = 0.0
            self.poll()


def test_the_first_tick_of_an_empty_stream_is_due_at_once_and_has_no_offset() -> None:
    world = World()
    world.poll()
    assert world.offsets == [0]
    assert world.hive.now_ms == NOON_MS


def test_in_silence_a_tick_comes_every_quarter_second() -> None:
    world = World()
    world.poll()
    world.live(60)
    assert 200 <= len(world.offsets) <= 60 / SILENCE_S + 1
    assert set(world.offsets) == {0}
    assert NOON_MS + 60_000 - 1000 * SILENCE_S - 50 <= world.hive.now_ms <= NOON_MS + 60_000


def test_in_traffic_ticks_are_rare_but_never_absent() -> None:
    world = World()
    world.poll()
    world.live(60, entries_every_s=0.1)
    assert 60 / LONGEST_GAP_S - 1 <= len(world.offsets) <= 60 / LONGEST_GAP_S + 2


@pytest.mark.parametrize("entries_every_s", [0.0, 0.1])
def test_the_server_clock_steps_back_an_hour(entries_every_s: float) -> None:
    world = World()
    world.poll()
    world.live(10, entries_every_s=entries_every_s)
    before_ms = world.hive.now_ms
    world.server_ms -= 3_600_000
    for second in range(1, 61):
        world.live(1, entries_every_s=entries_every_s)
        assert abs(world.hive.now_ms - before_ms - 1000 * second) <= 400
    world.live(3_600, entries_every_s=10)  # until the server's clock has caught up with its ids
    assert abs(world.hive.now_ms - before_ms - 3_660_000) <= 400
    assert abs(world.offsets[-1] - 3_600_000) <= STEP_MS


def test_the_server_clock_steps_forward_an_hour_in_silence() -> None:
    world = World()
    world.poll()
    world.live(10)
    before_ms = world.hive.now_ms
    world.server_ms += 3_600_000
    for second in range(1, 61):
        world.live(1)
        assert abs(world.hive.now_ms - before_ms - 1000 * second) <= 400
    assert abs(world.offsets[-1] + 3_600_000) <= STEP_MS


@pytest.mark.parametrize("story", ["before the look", "with the step after the look", "after the look"])
def test_a_step_forward_that_an_entry_brought_in_is_gone_on_from(story: str) -> None:
    """Hive time has jumped with the entry and cannot run back; it must then go on at once, not stand for an hour."""
    world = World()
    world.poll()
    world.live(10)
    if story == "before the look":
        world.server_ms += 3_600_000
        world.add()
    elif story == "after the look":
        world.server_ms += 3_600_000
        world.poll(entry_in_between=True)
    else:
        world.poll(step_in_between_ms=3_600_000, entry_in_between=True)
    before_ms = world.hive.now_ms
    assert before_ms > NOON_MS + 3_600_000
    for second in range(1, 31):
        world.live(1)
        assert abs(world.hive.now_ms - before_ms - 1000 * second) <= 400


def test_a_restart_goes_on_where_hive_time_stopped_although_the_clock_is_behind() -> None:
    world = World()
    world.poll()
    world.live(10)
    before_ms = world.hive.now_ms
    world.server_ms -= 3_600_000
    world.plan = None
    world.poll()
    assert abs(world.offsets[-1]) <= 400, "its ids go on from the newest one, so no offset is needed"
    world.live(10)
    assert abs(world.hive.now_ms - before_ms - 10_000) <= 400


def test_any_story_keeps_hive_time_running(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    world.poll()
    for _ in range(60):
        act = chance.choice(["live", "busy", "step", "step", "restart", "slip"])
        before_ms = world.hive.now_ms
        if act == "step":
            world.server_ms += chance.randrange(-7_200_000, 7_200_000)
        elif act == "restart":
            world.plan = None
        elif act == "slip":
            world.poll(step_in_between_ms=chance.randrange(-7_200_000, 7_200_000), entry_in_between=True)
        world.live(1)
        settled_ms = world.hive.now_ms
        assert settled_ms >= before_ms
        world.live(5, entries_every_s=0.1 if act == "busy" else 0.0)
        assert abs(world.hive.now_ms - settled_ms - 5000) <= STEP_MS + 400


FEED = "{s00}:feed"


async def ticks_of(state: State) -> list[Tick]:
    rows = await state.call("XRANGE", FEED, "-", "+")
    return [unpack_tick(fields[3]) for _, fields in rows if fields[:3] == [b"k", b"t", b"d"]]


async def hive_of(state: State) -> int:
    hive = HiveTime()
    for raw_id, fields in await state.call("XRANGE", FEED, "-", "+"):
        if fields[1] == b"t":
            hive.set_offset(unpack_tick(fields[3]).offset_ms)
        hive.advance(int(raw_id.split(b"-")[0]))
    return hive.now_ms


async def test_against_the_real_server(state: State) -> None:
    ticker = Ticker(state, FEED, time.monotonic, EPOCH_MS)
    await ticker.start()
    assert await ticks_of(state) == [Tick(0, EPOCH_MS)]
    running = asyncio.create_task(ticker.run())
    await asyncio.sleep(1.6)
    running.cancel()
    ticks = await ticks_of(state)
    assert 3 <= len(ticks) <= 8
    assert set(ticks) == {Tick(0, EPOCH_MS)}
    seconds, _ = await state.call("TIME")
    assert abs(await hive_of(state) - int(seconds) * 1000) <= 2000


async def test_a_start_continues_a_hive_ahead_of_the_server_clock(state: State) -> None:
    """As after a server's clock went back an hour in the run before; many entries came since the last tick."""
    hour_ms = 3_600_000
    await state.call("XADD", FEED, "*", "k", "t", "d", pack_tick(Tick(hour_ms, EPOCH_MS)))
    await asyncio.gather(*(state.call("XADD", FEED, "*", "k", "p", "d", b"x") for _ in range(2_500)))
    before_ms = await hive_of(state)
    await Ticker(state, FEED, time.monotonic, EPOCH_MS).start()
    last = (await ticks_of(state))[-1]
    assert abs(last.offset_ms - hour_ms) <= 3_000
    assert before_ms <= await hive_of(state) <= before_ms + 3_000


async def test_a_ticker_goes_on_after_the_state_was_away(state: State) -> None:
    ticker = Ticker(state, FEED, time.monotonic, EPOCH_MS)
    running = asyncio.create_task(ticker.run())
    await asyncio.sleep(0.2)
    await state.close()
    await asyncio.sleep(0.3)
    await state.open()
    before = len(await ticks_of(state))
    await asyncio.sleep(0.7)
    assert len(await ticks_of(state)) > before
    running.cancel()


async def test_the_tick_script_refuses_after_a_jump(state: State) -> None:
    await state.call("XADD", FEED, "1000-0", "k", "p", "d", b"x")
    tick = Script("tick")
    assert await state.run(tick, [FEED], [999, b"payload"]) is None
    assert await state.call("XLEN", FEED) == 1
    assert await state.run(tick, [FEED], [1000, b"payload"]) is not None
    assert await state.call("XLEN", FEED) == 2
