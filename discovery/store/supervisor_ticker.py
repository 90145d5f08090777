"""Ticks without a leader: what the supervisor runs until workers lead the streams themselves (``keeper``)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from discovery.errors import StateAway
from discovery.store.client import State, StateFault
from discovery.store.hive_time import STEP_MS, Tick, pack_tick, unpack_tick
from discovery.store.scripts import Script

SILENCE_S = 0.25  # after this long without an entry a tick is due
LONGEST_GAP_S = 5.0  # and at least this often in traffic, so that the last tick is found at once at the next start
_POLL_S = 0.05
_SAMPLE_S = 0.5  # a sample that took longer than this says too little about when it was taken
_SCAN_ENTRIES = 1000  # entries a page when looking back for the last tick

_TICK = Script("tick_unfenced")

log = structlog.get_logger("nearhive.ticker")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a stream: id of its newest entry (b'' = none), the server's clock, and our own clock then."""

    newest: bytes
    server_ms: int
    monotonic_s: float

    @property
    def newest_ms(self) -> int:
        return int(self.newest.partition(b"-")[0] or 0)

    @property
    def id_ms(self) -> int:
        """What an entry added now would get: ids do not run back when the server's clock does."""
        return max(self.newest_ms, self.server_ms)


class TickPlan:
    """Decides when a tick is due and with which offset, so that hive time follows one monotonic clock.

    ``previous_hive_ms``: hive time at the newest entry of the stream, 0 for an empty one.
    """

    def __init__(self, epoch_ms: int, previous_hive_ms: int, first: Sample) -> None:
        self._epoch_ms = epoch_ms
        self.offset_ms = max(0, previous_hive_ms - first.id_ms)
        self._follow_from(first.id_ms + self.offset_ms, first.monotonic_s)
        self._newest = first.newest
        self._newest_s = self._tick_s = float("-inf")  # the first tick is due at once

    def next_tick(self, sample: Sample) -> Tick | None:
        """The tick to append now, or None. To be confirmed by :meth:`appended`, else it stays due."""
        if sample.newest != self._newest:
            self._newest, self._newest_s = sample.newest, sample.monotonic_s
        self._accept_a_jump(sample)
        offset_ms = self._wanted_offset_ms(sample)
        silent = sample.monotonic_s - self._newest_s >= SILENCE_S
        overdue = sample.monotonic_s - self._tick_s >= LONGEST_GAP_S
        return Tick(offset_ms, self._epoch_ms) if silent or overdue or offset_ms != self.offset_ms else None

    def latest_id_ms(self, sample: Sample) -> int:
        """The stream may take the tick unless its newest id is past this one: then a jump slipped in (tick.lua)."""
        return self._expected_ms(sample.monotonic_s) - self.offset_ms + STEP_MS

    def appended(self, tick: Tick, entry: bytes, monotonic_s: float) -> None:
        """The stream holds ``tick`` as ``entry``."""
        self.offset_ms = tick.offset_ms
        self._newest = entry
        self._newest_s = self._tick_s = monotonic_s

    def _follow_from(self, hive_ms: int, monotonic_s: float) -> None:
        self._hive_ms, self._monotonic_s = hive_ms, monotonic_s

    def _expected_ms(self, monotonic_s: float) -> int:
        return self._hive_ms + round((monotonic_s - self._monotonic_s) * 1000)

    def _accept_a_jump(self, sample: Sample) -> None:
        """Go on from a step forward that an ordinary entry brought into the stream before any tick could say so.

        Hive time never runs back, so a smaller offset now would only make it stand still for the length of the step.
        """
        reached_ms = sample.newest_ms + self.offset_ms
        if reached_ms - self._expected_ms(sample.monotonic_s) > STEP_MS:
            self._follow_from(reached_ms, sample.monotonic_s)

    def _wanted_offset_ms(self, sample: Sample) -> int:
        exact_ms = self._expected_ms(sample.monotonic_s) - sample.id_ms
        # Behind its newest id the server repeats that ms: every tick must then carry the time that passed.
        standing = sample.server_ms < sample.newest_ms
        return exact_ms if standing or abs(exact_ms - self.offset_ms) > STEP_MS else self.offset_ms


class Ticker:
    """Appends the ticks of one feed. ``monotonic`` counts suspended time too, or hive time would fall behind for good.

    ``epoch_ms``: the epoch length that this run announces in every tick.
    """

    def __init__(self, state: State, feed_key: str, monotonic: Callable[[], float], epoch_ms: int) -> None:
        self._state = state
        self._feed_key = feed_key
        self._monotonic = monotonic
        self._epoch_ms = epoch_ms
        self._plan: TickPlan | None = None

    async def start(self) -> None:
        """Find where hive time stopped and append the first tick. Raises StateAway."""
        previous_hive_ms = await self._previous_hive_ms()
        self._plan = TickPlan(self._epoch_ms, previous_hive_ms, await self._sample())
        while not await self._tick_once(self._plan):
            pass  # a step of the server's clock came in between: it is in the next sample

    async def run(self) -> None:
        """Tick until cancelled; while the state is away, go on trying."""
        while True:
            try:
                if self._plan is None:
                    await self.start()
                else:
                    await self._tick_once(self._plan)
            except (StateAway, StateFault) as error:
                log.warning("tick_failed", feed=self._feed_key, error=str(error))
            await asyncio.sleep(_POLL_S)

    async def _tick_once(self, plan: TickPlan) -> bool:
        """Append the tick that is due, if any; True when one was appended."""
        sample = await self._sample()
        tick = plan.next_tick(sample)
        if tick is None:
            return False
        entry = await self._state.run(_TICK, [self._feed_key], [plan.latest_id_ms(sample), pack_tick(tick)])
        if entry is not None:
            plan.appended(tick, entry, self._monotonic())
        return entry is not None

    async def _sample(self) -> Sample:
        while True:
            monotonic_s = self._monotonic()
            newest = self._state.call("XREVRANGE", self._feed_key, "+", "-", "COUNT", 1)
            rows, (seconds, micros) = await asyncio.gather(newest, self._state.call("TIME"))
            if self._monotonic() - monotonic_s < _SAMPLE_S:
                return Sample(rows[0][0] if rows else b"", int(seconds) * 1000 + int(micros) // 1000, monotonic_s)

    async def _previous_hive_ms(self) -> int:
        """Hive time at the newest entry: its id plus the offset of the last tick, 0 for an empty stream."""
        newest_ms, before = 0, "+"
        while rows := await self._state.call("XREVRANGE", self._feed_key, before, "-", "COUNT", _SCAN_ENTRIES):
            newest_ms = newest_ms or int(rows[0][0].partition(b"-")[0])
            for _, fields in rows:
                content = dict(zip(fields[::2], fields[1::2], strict=True))
                if content[b"k"] == b"t":
                    return newest_ms + unpack_tick(content[b"d"]).offset_ms
            before = f"({rows[-1][0].decode()}"
        return newest_ms
