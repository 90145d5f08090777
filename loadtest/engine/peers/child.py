"""A server that lives as long as the benchmark: a child process in a temporary directory."""

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.02


class NotStarted(Exception):
    """A peer's server could not be installed or did not answer; the text says why."""


class Child:
    """``command`` as a child that the kernel stops, should this process die."""

    def __init__(
        self, command: Sequence[str | Path], ends_by: signal.Signals, log: Path, user: str | None = None
    ) -> None:
        self._ends_by = ends_by
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, user=user, preexec_fn=self._die_with_parent
            )

    def _die_with_parent(self) -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, self._ends_by)

    def wait_until(self, answers: Callable[[], bool], within_s: float) -> None:
        """Raises NotStarted, with what it logged, if it ends or does not answer."""
        ends_s = time.monotonic() + within_s
        while not answers():
            if self._process.poll() is not None or time.monotonic() > ends_s:
                raise NotStarted(self._log.read_text(errors="replace")[-500:])
            time.sleep(_POLL_S)

    def end(self) -> None:
        """End it and wait."""
        self._process.send_signal(self._ends_by)
        self._process.wait()
