"""Who is open, for a whole store set at once: the states of its distinct hours over a window of days, as arrays."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discovery.stores.hours import HoursKey, OpenWord, states_between
from discovery.stores.row_set import RowSet, empty_words
from geo.kernels import open_hours as kernels

DAY_MS = 86_400_000
_BACK_DAYS, _AHEAD_DAYS = 1, 9
_RENEW_DAYS = 7  # of a window's time ahead that are left when the next one is made
_KEPT = 8  # sets of open rows of a moment; one of 100,000 stores takes 12.5 KB
_CODES: dict[OpenWord, int] = {"closed": 0, "open": 1, "unknown": 2}
OPEN = _CODES["open"]


@dataclass(frozen=True, slots=True, eq=False)
class _Moment:
    """The open rows of ``from_ms <= t < until_ms``: no state of the set changes in between."""

    from_ms: int
    until_ms: int
    rows: RowSet


class Timelines:
    """The states of n hours for ``start_ms <= t < end_ms``. The arrays are those of ``geo.kernels.open_hours``."""

    def __init__(self, keys: Sequence[HoursKey], start_ms: int, end_ms: int) -> None:
        """Evaluates all hours of the window: about 0.2 ms each for 10 days, so 1 s for 5,000. Run it in a thread."""
        found = [states_between(key, start_ms, end_ms) for key in keys]
        self.start_ms, self.end_ms = start_ms, end_ms
        self._offsets = np.zeros(len(found) + 1, dtype=np.int64)
        np.cumsum([len(states) for states in found], out=self._offsets[1:])
        self._starts = np.array([at_ms for states in found for at_ms, _ in states], dtype=np.int64)
        self._states = np.array([_CODES[state] for states in found for _, state in states], dtype=np.uint8)
        self._moments: tuple[_Moment, ...] = ()

    def __contains__(self, at_ms: int) -> bool:
        return self.start_ms <= at_ms < self.end_ms

    def open_rows(self, hours_rows: NDArray[np.int32], at_ms: int) -> RowSet:
        """The rows that are open at ``at_ms``, an instant of the window. ``hours_rows``: always the same set's.

        The set is kept until a state changes (at most a minute or so in a large set), and made in about 0.3 ms.
        """
        for moment in self._moments:
            if moment.from_ms <= at_ms < moment.until_ms:
                return moment.rows
        states = np.empty(len(self._offsets) - 1, dtype=np.uint8)
        from_ms, until_ms = kernels.states_at(self._offsets, self._starts, self._states, at_ms, self.end_ms, states)
        words = empty_words(len(hours_rows))
        count = kernels.open_rows(states, hours_rows, words)
        made = _Moment(max(from_ms, self.start_ms), until_ms, RowSet(words, count))
        self._moments = (made, *self._moments[: _KEPT - 1])  # one assignment: readers in other threads see either
        return made.rows

    def open_among(
        self, hours_rows: NDArray[np.int32], rows: NDArray[np.int64], times_ms: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of ``rows`` are open, each at an instant of its own, all within the window."""
        states = np.empty(len(rows), dtype=np.uint8)
        kernels.states_of_rows(self._offsets, self._starts, self._states, hours_rows, rows, times_ms, states)
        held: NDArray[np.bool_] = states == OPEN
        return held


class Windows:
    """The timelines of one set as time goes on: one window is in use, and the next is made before it ends."""

    def __init__(self, keys: Sequence[HoursKey]) -> None:
        self._keys = keys
        self._current: Timelines | None = None
        self._making = threading.Lock()

    def __contains__(self, at_ms: int) -> bool:
        return self.at(at_ms) is not None

    @property
    def made_at_ms(self) -> int | None:
        """An instant around which the window in use was made."""
        return None if self._current is None else self._current.start_ms + _BACK_DAYS * DAY_MS

    def at(self, at_ms: int) -> Timelines | None:
        """The timelines that hold ``at_ms``, None when they are not made."""
        current = self._current
        return current if current is not None and at_ms in current else None

    def is_due(self, now_ms: int) -> bool:
        """Whether ``renew`` has something to do."""
        current = self._current
        return current is None or not current.start_ms <= now_ms < current.end_ms - _RENEW_DAYS * DAY_MS

    def renew(self, now_ms: int) -> None:
        """Make the window around ``now_ms``, unless it is there or being made."""
        if not self._making.acquire(blocking=False):
            return
        try:
            if self.is_due(now_ms):
                today = now_ms // DAY_MS
                self._current = Timelines(self._keys, (today - _BACK_DAYS) * DAY_MS, (today + _AHEAD_DAYS) * DAY_MS)
        finally:
            self._making.release()
