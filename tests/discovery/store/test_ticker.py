"""Hive time follows the leader's monotonic clock through steps of the server's, never runs back, never stands long."""

import random
import struct
from dataclasses import dataclass, field

import pytest

from discovery.store import keys
from discovery.store.client import State
from discovery.store.hive_time import STEP_MS, HiveTime
from discovery.store.ticker import (
    LONGEST_GAP_S,
    SILENCE_S,
    TICK,
    Sample,
    Tick,
    TickPlan,
    pack_tick,
    unpack_tick,
)

EPOCH_MS = 30_000
NOON_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
STEP_S = 0.05  # of the simulation
LOOK_S = 0.5  # the leader looks at least so often


def test_hive_time_is_the_maximum_of_what_ticks_said() -> None:
    hive = HiveTime()
    assert [hive.advance(id_ms, True) for id_ms in (10, 12, 11, 12, 20)] == [10, 12, 12, 12, 20]
    hive.set_offset(-5)
    assert [hive.advance(id_ms, True) for id_ms in (21, 25, 26)] == [20, 20, 21]
    hive.set_offset(100)
    assert hive.now_ms == 21
    assert hive.advance(26, True) == 126
    assert hive.advance(HOUR_MS, True) == HOUR_MS + 100


def test_an_ordinary_entry_moves_hive_time_on_by_a_second_at_most() -> None:
    hive = HiveTime()
    assert hive.advance(NOON_MS, False) == NOON_MS, "the first entry of a stream gives it a time"
    assert hive.advance(NOON_MS + STEP_MS, False) == NOON_MS + STEP_MS
    assert hive.advance(NOON_MS + 2 * STEP_MS + 1, False) == NOON_MS + STEP_MS, "further ahead is left out, not cut"
    assert hive.advance(NOON_MS + HOUR_MS, False) == NOON_MS + STEP_MS
    hive.set_offset(-HOUR_MS)
    assert hive.advance(NOON_MS + HOUR_MS + 1500, True) == NOON_MS + 1500
    assert hive.advance(NOON_MS + HOUR_MS + 1700, False) == NOON_MS + 1700


def test_a_tick_is_two_little_endian_int64() -> None:
    assert pack_tick(Tick(-2, 30_000)) == struct.pack("<qq", -2, 30_000)
    assert unpack_tick(pack_tick(Tick(-(2**62), 2**62))) == Tick(-(2**62), 2**62)
    with pytest.raises(struct.error):
        unpack_tick(b"short")


@dataclass
class World:
    """A stream in arithmetic: a server clock that may be stepped, ids by the server's rule, their fold, a leader."""

    server_ms: int = NOON_MS
    monotonic_s: float = 100.0
    last_id: tuple[int, int] = (0, 0)
    hive: HiveTime = field(default_factory=HiveTime)
    offsets: list[int] = field(default_factory=list)
    plan: TickPlan | None = None
    leads: bool = True
    looked_s: float = 0.0
    entry_s: float = 0.0
    moved_s: float | None = None  # when hive time last moved, as who takes over has seen it

    def __post_init__(self) -> None:
        self.start_s = self.monotonic_s
        self.start_ms = self.server_ms

    def truth_ms(self) -> int:
        return self.start_ms + round((self.monotonic_s - self.start_s) * 1000)

    def add(self, is_tick: bool = False) -> None:
        """XADD *: ids never run back."""
        newest_ms, seq = self.last_id
        self.last_id = (self.server_ms, 0) if self.server_ms > newest_ms else (newest_ms, seq + 1)
        before_ms = self.hive.now_ms
        self.hive.advance(self.last_id[0], is_tick)
        if self.hive.now_ms > before_ms:
            self.moved_s = self.monotonic_s
        self.entry_s = self.monotonic_s

    def tick(self, plan: TickPlan) -> None:
        """``tick.lua``."""
        newest_ms = self.last_id[0]
        id_ms = max(newest_ms, self.server_ms)
        exact_ms = plan.hive_ms(self.monotonic_s) - id_ms
        standing = self.server_ms < newest_ms
        offset_ms = exact_ms if standing or abs(exact_ms - plan.offset_ms) > STEP_MS else plan.offset_ms
        self.hive.set_offset(offset_ms)
        self.add(is_tick=True)
        self.offsets.append(offset_ms)
        plan.appended(offset_ms, standing, self.monotonic_s)
        self.looked_s = self.monotonic_s

    def keep(self) -> None:
        """One step of the keeper."""
        if not self.leads:
            self.plan = None
            return
        if self.plan is None or self.monotonic_s - self.looked_s >= LOOK_S:
            sample = Sample(self.last_id[0], self.server_ms, self.monotonic_s)
            self.looked_s = self.monotonic_s
            if self.plan is None:
                moved_s = self.moved_s
                known = None if moved_s is None else self.hive.now_ms + round((self.monotonic_s - moved_s) * 1000)
                self.plan = TickPlan(known, self.hive.offset_ms, sample)
            else:
                self.plan.look(sample)
        if self.plan.due_in_s(self.monotonic_s, self.monotonic_s - self.entry_s) <= 0:
            self.tick(self.plan)

    def live(self, seconds: float, *, entries_every_s: float = 0.0) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.server_ms += round(1000 * STEP_S)
            self.monotonic_s += STEP_S
            if entries_every_s and self.monotonic_s - self.entry_s >= entries_every_s:
                self.add()
            self.keep()

    def started(self) -> "World":
        self.keep()
        self.live(10)
        return self


def test_the_first_tick_of_an_empty_stream_is_due_at_once_and_has_no_offset() -> None:
    world = World()
    world.keep()
    assert world.offsets == [0]
    assert world.hive.now_ms == NOON_MS


def test_in_silence_a_tick_comes_every_quarter_second() -> None:
    world = World().started()
    world.live(60)
    assert 260 <= len(world.offsets) <= 70 / SILENCE_S + 1
    assert set(world.offsets) == {0}
    assert -1000 * SILENCE_S - 50 <= world.hive.now_ms - world.truth_ms() <= 0


def test_in_traffic_ticks_are_rare_but_never_absent() -> None:
    world = World().started()
    del world.offsets[:]
    world.live(60, entries_every_s=0.1)
    assert 60 / LONGEST_GAP_S - 1 <= len(world.offsets) <= 60 / LONGEST_GAP_S + 2


@pytest.mark.parametrize("step_ms", [-HOUR_MS, HOUR_MS])
@pytest.mark.parametrize("entries_every_s", [0.0, 0.05, 0.1, 0.9, 3.0])
def test_the_server_clock_steps_by_an_hour(step_ms: int, entries_every_s: float) -> None:
    world = World().started()
    world.live(10, entries_every_s=entries_every_s)
    for step in (step_ms, -step_ms, step_ms):
        world.server_ms += step
        for _ in range(600):
            world.live(0.1, entries_every_s=entries_every_s)
            assert -700 <= world.hive.now_ms - world.truth_ms() <= 0
    ids_ms = max(world.last_id[0], world.server_ms)
    assert abs(world.offsets[-1] + ids_ms - world.truth_ms()) <= 300


def test_an_entry_right_after_a_step_forward_does_not_bring_it_in() -> None:
    world = World().started()
    world.server_ms += HOUR_MS
    world.add()
    assert -300 <= world.hive.now_ms - world.truth_ms() <= 0
    world.live(60, entries_every_s=0.1)
    assert -300 <= world.hive.now_ms - world.truth_ms() <= 0


@pytest.mark.parametrize("step_ms", [0, HOUR_MS, -HOUR_MS])
@pytest.mark.parametrize("entries_every_s", [0.0, 0.1, 1.5])
def test_a_take_over_goes_on_where_hive_time_should_be(step_ms: int, entries_every_s: float) -> None:
    world = World().started()
    world.leads = False
    world.server_ms += step_ms
    world.live(2.5, entries_every_s=entries_every_s)
    assert world.hive.now_ms <= world.truth_ms()
    world.leads = True
    for _ in range(100):
        world.live(0.1, entries_every_s=entries_every_s)
        assert -700 <= world.hive.now_ms - world.truth_ms() <= 0


def test_a_restart_counts_the_time_that_nobody_was_there_by_the_server_clock() -> None:
    world = World().started()
    world.leads = False
    world.moved_s = None
    world.server_ms += HOUR_MS
    world.monotonic_s += HOUR_MS / 1000
    world.keep()
    world.leads = True
    world.live(1)
    assert abs(world.hive.now_ms - world.truth_ms()) <= 300


def test_any_story_keeps_hive_time_within_a_second_of_the_truth(seed: int, scale: int) -> None:
    chance = random.Random(seed)
    for _ in range(20 * scale):
        world = World().started()
        for _ in range(60):
            if chance.random() < 0.3:
                world.server_ms += chance.choice([-1, 1]) * chance.randrange(2_000, 2 * HOUR_MS)
            before_ms = world.hive.now_ms
            if chance.random() < 0.2:
                world.leads = False
                world.live(chance.uniform(0, 3), entries_every_s=chance.choice([0.0, 0.1, 2.0]))
                world.leads = True
            world.live(chance.uniform(0.1, 3), entries_every_s=chance.choice([0.0, 0.0, 0.05, 0.3, 1.2]))
            assert world.hive.now_ms >= before_ms
            world.live(0.7, entries_every_s=chance.choice([0.0, 0.05]))
            assert -1000 <= world.hive.now_ms - world.truth_ms() <= 0


# --- the script ---


FEED, LEADER = keys.feed("s00"), keys.leader("s00")


async def tick(state: State, hive_ms: int, offset_ms: int, token: str = "w|1") -> list[bytes] | None:
    args: list[bytes | str | int] = [token, 9, hive_ms, offset_ms, EPOCH_MS, STEP_MS]
    reply: list[bytes] | None = await state.run(TICK, [FEED, LEADER], args)
    return reply


async def server_ms(state: State) -> int:
    seconds, micros = await state.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def newest_tick(state: State) -> tuple[int, Tick]:
    ((raw_id, fields),) = await state.call("XREVRANGE", FEED, "+", "-", "COUNT", 1)
    assert fields[:3] == [b"k", b"t", b"d"]
    return int(raw_id.partition(b"-")[0]), unpack_tick(fields[3])


@pytest.mark.parametrize("held", [None, "w|2|5", "w|10|5", "ww|1|5", "v|1|5"])
async def test_a_tick_of_who_does_not_lead_is_refused(state: State, held: str | None) -> None:
    if held is not None:
        await state.call("SET", LEADER, held)
    assert await tick(state, 0, 0) is None
    assert await state.call("DBSIZE") == (held is not None)


async def test_a_tick_renews_the_leader_and_keeps_an_offset_that_is_right(state: State) -> None:
    await state.call("SET", LEADER, "w|1|5")
    now_ms = await server_ms(state)
    reply = await tick(state, now_ms + 5_500, 5_000)
    assert reply is not None
    assert (await newest_tick(state))[1] == Tick(5_000, EPOCH_MS)
    assert reply[1:3] == [b"5000", b"0-0"]
    assert await state.call("GET", LEADER) == b"w|1|9"


@pytest.mark.parametrize("ahead_ms", [-HOUR_MS, HOUR_MS, -1200, 1200])
async def test_a_tick_says_the_hive_time_asked_for_when_the_clock_was_stepped(state: State, ahead_ms: int) -> None:
    await state.call("SET", LEADER, "w|1|5")
    hive_ms = await server_ms(state) + ahead_ms
    await tick(state, hive_ms, 0)
    id_ms, told = await newest_tick(state)
    assert id_ms + told.offset_ms == hive_ms


async def test_behind_its_ids_the_server_repeats_a_millisecond_and_each_tick_moves_on(state: State) -> None:
    await state.call("SET", LEADER, "w|1|5")
    ahead_ms = await server_ms(state) + HOUR_MS
    await state.call("XADD", FEED, f"{ahead_ms}-7", "k", "s")
    for seq, later_ms in ((8, 0), (9, 250), (10, 500)):
        reply = await tick(state, NOON_MS + later_ms, -HOUR_MS)
        assert reply is not None
        assert reply[0] == b"%d-%d" % (ahead_ms, seq)
        id_ms, told = await newest_tick(state)
        assert id_ms + told.offset_ms == NOON_MS + later_ms


async def test_ids_go_on_behind_an_entry_that_was_deleted(state: State) -> None:
    await state.call("SET", LEADER, "w|1|5")
    ahead_ms = await server_ms(state) + HOUR_MS
    await state.call("XADD", FEED, f"{ahead_ms}-7", "k", "s")
    await state.call("XDEL", FEED, f"{ahead_ms}-7")
    reply = await tick(state, NOON_MS, 0)
    assert reply is not None
    assert reply[0] == b"%d-8" % ahead_ms
