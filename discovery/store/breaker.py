"""The circuit breaker of one server: when it has been silent for half a second, callers are told at once."""

OPENS_AFTER_S = 0.5  # of failures with no reply in between
PROBE_EVERY_S = 0.25


class Breaker:
    """Closed: every call goes out. Open: one call each 250 ms does, as a probe; the first reply closes it."""

    __slots__ = ("_failing_since_s", "_probe_due_s", "failing")

    def __init__(self) -> None:
        self.failing = False  # a call failed and none was answered since
        self._failing_since_s = 0.0
        self._probe_due_s: float | None = None

    @property
    def is_open(self) -> bool:
        return self._probe_due_s is not None

    def admits(self, now_s: float) -> bool:
        """Whether a call may go out now; while open, a yes uses up the probe."""
        if self._probe_due_s is None:
            return True
        if now_s < self._probe_due_s:
            return False
        self._probe_due_s = now_s + PROBE_EVERY_S
        return True

    def failed(self, now_s: float) -> bool:
        """A call went unanswered. Returns True when this opens the breaker."""
        if not self.failing:
            self.failing = True
            self._failing_since_s = now_s
        if self._probe_due_s is None and now_s - self._failing_since_s >= OPENS_AFTER_S:
            self._probe_due_s = now_s + PROBE_EVERY_S
            return True
        return False

    def replied(self) -> bool:
        """A call was answered in time. Returns True when this closes the breaker."""
        was_open = self.is_open
        self.failing = False
        self._probe_due_s = None
        return was_open
