"""When the leader of a stream appends a tick, and with which hive time: arithmetic, without I/O.

``keeper.StreamKeeper`` feeds it from a server; ``lua/tick.lua`` finds the offset that makes an id say that hive time.
"""

from dataclasses import dataclass

from discovery.store.hive_time import STEP_MS, Tick, pack_tick, unpack_tick
from discovery.store.scripts import Script

__all__ = ["TICK", "Sample", "Tick", "TickPlan", "pack_tick", "unpack_tick"]

SILENCE_S = 0.25  # after this long without an entry a tick is due
LONGEST_GAP_S = 5.0  # and at least this often in traffic, so that a checkpoint's tail holds one

TICK = Script("tick", lasting=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a stream: ms of its newest id (0 = none), the server's clock, and our own clock before we asked."""

    newest_ms: int
    server_ms: int
    asked_s: float

    @property
    def id_ms(self) -> int:
        """What an entry added then would get: ids do not run back when the server's clock does."""
        return max(self.newest_ms, self.server_ms)

    @property
    def standing(self) -> bool:
        """Whether ids stand still, because the server's clock is behind them."""
        return self.server_ms < self.newest_ms


class TickPlan:
    """One leadership's ticks: hive time follows the leader's monotonic clock, in steps of what ids say.

    ``hive_ms``: hive time as the leader reckons it at ``first.asked_s``, None if it has not seen it move and cannot
    know how long nobody ticked; then the server's clock counts. ``offset_ms``: of the last tick. While ids move, and
    with that offset are within a second of ``hive_ms``, they are followed: one leader after another adds no error.
    """

    def __init__(self, hive_ms: int | None, offset_ms: int, first: Sample) -> None:
        self.offset_ms = offset_ms
        by_ids_ms = first.id_ms + offset_ms
        by_clock = hive_ms is not None and (first.standing or abs(by_ids_ms - hive_ms) > STEP_MS)
        self._from_ms = hive_ms if by_clock and hive_ms is not None else by_ids_ms
        self._from_s = first.asked_s
        self._tick_s = float("-inf")  # the first tick is due at once
        self.look(first)

    def hive_ms(self, now_s: float) -> int:
        """What hive time is at ``now_s``."""
        return self._from_ms + round((now_s - self._from_s) * 1000)

    def look(self, sample: Sample) -> None:
        """Take a look into account: was the server's clock stepped, do ids stand still?"""
        self._stepped = abs(sample.id_ms + self.offset_ms - self.hive_ms(sample.asked_s)) > STEP_MS
        self._standing = sample.standing

    def due_in_s(self, now_s: float, silent_s: float) -> float:
        """Seconds until a tick is due, <= 0 if now. ``silent_s``: since the last entry came in."""
        since_tick_s = now_s - self._tick_s
        if self._stepped:
            return 0.0
        silent_s = since_tick_s if self._standing else min(silent_s, since_tick_s)
        return min(SILENCE_S - silent_s, LONGEST_GAP_S - since_tick_s)

    def appended(self, offset_ms: int, standing: bool, now_s: float) -> None:
        """A tick with ``offset_ms`` stands in the stream; ids stood still then, or not."""
        self.offset_ms = offset_ms
        self._tick_s = now_s
        self._stepped = False
        self._standing = standing
