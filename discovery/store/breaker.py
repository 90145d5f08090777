"""The circuit breaker of one server: when it has been silent for half a second, callers are told at once."""

from collections.abc import Callable
from typing import Protocol

OPENS_AFTER_S = 0.5  # of failures with no reply in between
PROBE_EVERY_S = 0.25


class Timer(Protocol):
    """What ``loop.call_later`` returns."""

    def cancel(self) -> None: ...


class Breaker:
    """Closed: every call goes out. Open: one call each 250 ms does, as a probe; the first reply closes it."""

    __slots__ = ("_later", "_probe_due", "_ripe", "_timer", "failing", "is_open")

    def __init__(self, later: Callable[[float, Callable[[], None]], Timer]) -> None:
        """``later(delay_s, act)``: that of the event loop."""
        self._later = later
        self._timer: Timer | None = None
        self._ripe = False
        self._probe_due = False
        self.failing = False  # a call failed and none was answered since
        self.is_open = False

    def admits(self) -> bool:
        """Whether a call may go out now; while open, a yes uses up the probe."""
        if not self.is_open:
            return True
        if not self._probe_due:
            return False
        self._wait_for_probe()
        return True

    def failed(self) -> bool:
        """A call went unanswered. Returns True when this opens the breaker."""
        if not self.failing:
            self.failing = True
            self._timer = self._later(OPENS_AFTER_S, self._ripen)
        if self.is_open or not self._ripe:
            return False
        self.is_open = True
        self._wait_for_probe()
        return True

    def replied(self) -> bool:
        """A call was answered in time. Returns True when this closes the breaker."""
        was_open = self.is_open
        if self._timer is not None:
            self._timer.cancel()
        self.failing = self.is_open = self._ripe = self._probe_due = False
        return was_open

    def _ripen(self) -> None:
        self._ripe = True

    def _wait_for_probe(self) -> None:
        self._probe_due = False
        self._timer = self._later(PROBE_EVERY_S, self._allow_probe)

    def _allow_probe(self) -> None:
        self._probe_due = True
