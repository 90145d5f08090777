"""The speed cap: a report further away than anybody moves is refused, but one a day (UTC, hive time).

It makes spoofing dear; it proves nothing, and no bound rests on it. What it goes by is folded, so that every worker
judges alike: the cell that the feed last said somebody is in, when it said so, and the day of the last free jump. All
of that comes from the person's own reports, and only their own reports are answered by it.
"""

from discovery.presence import DAY_MS, Presence
from discovery.reports import JUMP
from geo.speed import implausible


class SpeedCap:
    """Judges reports of one person; where the cap is off none is refused and none counts as a jump."""

    def __init__(self, presence: Presence, *, on: bool) -> None:
        self._presence = presence
        self._on = on

    def flag(self, slot: int | None, cell: int, now_ms: int) -> int | None:
        """Report flags of a move to ``cell``: none, or ``JUMP`` if it takes the free jump of the day; None: refused."""
        if not self._on or slot is None or slot >= len(self._presence.pending):
            return 0
        kept = int(self._presence.pending[slot])
        since_ms = max(0, now_ms - int(self._presence.reported_ms[slot]))
        if kept == 0 or not implausible(kept, cell, since_ms):
            return 0
        return JUMP if int(self._presence.jump_day[slot]) < now_ms // DAY_MS else None
