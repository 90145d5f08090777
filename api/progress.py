"""How far a file is on its way, on standard error: from the third second on, so that quick work says nothing."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

_PATIENCE_S = 2.0
_TERMINAL_S = 0.5  # between two looks
_LINES_S = 5.0


class Progress:
    """Around the sending of ``total_bytes`` and the wait for the answer. On a terminal one line is rewritten."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._sent = 0
        self.sent_all = False  # whether the service may have the whole file
        self._terminal = sys.stderr.isatty()
        self._over = threading.Event()
        self._shown = False
        self._thread = threading.Thread(target=self._show_till_over, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        if self._shown and self._terminal:
            print(file=sys.stderr)

    def count(self, pieces: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
        """The pieces as they are sent; each comes with how many bytes of the file have been read."""
        for piece, read in pieces:
            yield piece
            self._sent = read
        self._sent = self._total
        self.sent_all = True

    def _show_till_over(self) -> None:
        started_s = time.monotonic()
        wait_s = _PATIENCE_S
        while not self._over.wait(wait_s):
            wait_s = _TERMINAL_S if self._terminal else _LINES_S
            self._say(time.monotonic() - started_s)

    def _say(self, seconds: float) -> None:
        self._shown = True
        total_mb = self._total / 1e6
        if self._sent < self._total:
            text = f"{100 * self._sent // self._total:3d} % of {total_mb:,.0f} MB sent, {seconds:.0f} s"
        else:
            text = f"all {total_mb:,.0f} MB sent; the service reads, checks and swaps: {seconds:.0f} s"
        print(
            f"\r{text:<70}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr, flush=True
        )
