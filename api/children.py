"""Forked child processes that never outlive their parent, and slots that start them again."""

import ctypes
import gc
import mmap
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import structlog

_PR_SET_PDEATHSIG = 1
_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_SETTLED_S = 10.0  # a child that lived this long did start well
_PARENTS_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}

Ready = Callable[[], None]
Main = Callable[[Ready, bool], None]
"""The life of a child: ``main(ready, successor)``; a successor starts while the one that it replaces still serves."""

log = structlog.get_logger("nearhive.supervisor")


class Lifeline:
    """A pipe that only the parent can write to: its end tells every child that the parent is gone."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()

    def hold(self) -> None:
        """In a child: end this process when the parent is gone, however it went."""
        os.close(self._write_fd)
        parent_pid = os.getppid()
        if sys.platform == "linux":
            # SIGKILL: a worker that first drains its requests would still be there at the next start. What it had
            # acknowledged is on disk.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            os._exit(1)
        threading.Thread(target=self._end_with_parent, name="lifeline", daemon=True).start()

    def _end_with_parent(self) -> None:
        os.read(self.read_fd, 1)
        os._exit(1)

    def close(self) -> None:
        """In the parent, when all children are gone."""
        os.close(self.read_fd)
        os.close(self._write_fd)


class SharedFlag:
    """A yes or no that one process says to all its children, whenever they were forked."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 1)  # anonymous and shared: a fork sees the same byte

    def set(self, value: bool = True) -> None:
        self._page[0] = value

    def __call__(self) -> bool:
        return bool(self._page[0])


class Child:
    """A forked process that says once when it is ready."""

    def __init__(self, pid: int, ready_fd: int, started_s: float) -> None:
        self.pid = pid
        self.started_s = started_s
        self.ready = False
        self._ready_fd = ready_fd

    @classmethod
    def fork(cls, main: Callable[[Ready], None], lifeline: Lifeline, now_s: float) -> "Child":
        """Run ``main(ready)`` in a fork of this process. The caller has no event loop running and no threads."""
        ready_fd, tell_fd = os.pipe()
        os.set_blocking(ready_fd, False)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # what is here is for ever: collections in the child need not walk, and so copy, these pages
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
        pid = os.fork()
        if pid == 0:
            _run_child(main, lifeline, tell_fd, masked)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        os.close(tell_fd)
        return cls(pid, ready_fd, now_s)

    def look(self) -> int | None:
        """Notice readiness; the exit status once the child is gone (negative = signal), else None."""
        if not self.ready:
            self.ready = self._told_ready()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        os.close(self._ready_fd)
        return os.waitstatus_to_exitcode(status)

    def _told_ready(self) -> bool:
        try:
            return os.read(self._ready_fd, 1) != b""
        except BlockingIOError:
            return False


def _run_child(
    main: Callable[[Ready], None], lifeline: Lifeline, tell_fd: int, masked: set[int | signal.Signals]
) -> None:
    """The whole life of a child. Never returns: the parent's frames above must not run on in the child."""
    code = 1
    try:
        os.setpgid(0, 0)  # a terminal's Ctrl-C is for the parent alone, which ends its children in order
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        lifeline.hold()
        main(lambda: _tell(tell_fd))
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(tell_fd: int) -> None:
    os.write(tell_fd, b"1")


class Slot:
    """A place for one child, which is started again with growing pauses when it ends by itself.

    With ``may_finish`` a child that ends with status 0 has done its work. ``on_end`` is told the pid of who ended.
    """

    def __init__(
        self, name: str, main: Main, *, may_finish: bool = False, on_end: Callable[[int], None] = lambda _: None
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.was_ready = False
        self.failures = 0
        self._main = main
        self._due_s = 0.0
        self._may_finish = may_finish
        self._on_end = on_end
        self._finished = False
        self._successor: Child | None = None  # started, takes the place once it is ready
        self._leaving: Child | None = None  # has lost its place, answers what it has begun
        self._leaves_by_s = 0.0

    @property
    def empty(self) -> bool:
        """Whether no process of this place is left."""
        return not self._children()

    @property
    def changing(self) -> bool:
        """Whether a replacement is under way."""
        return self._successor is not None or self._leaving is not None

    def due(self, now_s: float) -> bool:
        """Whether a child is to be started now."""
        return self.child is None and not self._finished and now_s >= self._due_s

    def start(self, lifeline: Lifeline, now_s: float) -> None:
        self.child = Child.fork(lambda ready: self._main(ready, False), lifeline, now_s)

    def replace(self, lifeline: Lifeline, now_s: float) -> None:
        """Start the successor of a ready child; of a place without one nothing is replaced."""
        if self.child is not None and self.child.ready:
            self._successor = Child.fork(lambda ready: self._main(ready, True), lifeline, now_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of this place."""
        for child in self._children():
            os.kill(child.pid, number)  # not reaped yet, so the pid is still its own

    def look(self, now_s: float, *, stopping: bool = False, drain_s: float = 10.0) -> bool:
        """Notice what became of the children; False when a successor ended before it was ready."""
        self._look_at_leaving(now_s)
        good = self._look_at_successor(now_s, drain_s)
        self._look_at_child(now_s, stopping)
        return good

    def _children(self) -> list[Child]:
        return [child for child in (self.child, self._successor, self._leaving) if child is not None]

    def _look_at_child(self, now_s: float, stopping: bool) -> None:
        if self.child is None:
            return
        status = self.child.look()
        self.was_ready = self.was_ready or self.child.ready
        if status is None:
            return
        self._on_end(self.child.pid)
        settled = self.child.ready and now_s - self.child.started_s >= _SETTLED_S
        self.child, self._successor = self._successor, None
        if stopping:
            return
        self.failures = 1 if settled else self.failures + 1
        self._due_s = now_s + min(_LONGEST_BACKOFF_S, _BACKOFF_S * 2 ** (self.failures - 1))
        self._finished = self._may_finish and status == 0
        log.warning("child_ended", child=self.name, status=status)

    def _look_at_successor(self, now_s: float, drain_s: float) -> bool:
        if self._successor is None:
            return True
        status = self._successor.look()
        if status is not None:
            self._on_end(self._successor.pid)
            self._successor = None
            log.error("successor_ended", child=self.name, status=status)
            return False
        if self._successor.ready and self.child is not None:
            self._leaving, self.child, self._successor = self.child, self._successor, None
            self._leaves_by_s = now_s + drain_s
            os.kill(self._leaving.pid, signal.SIGTERM)
        return True

    def _look_at_leaving(self, now_s: float) -> None:
        if self._leaving is None:
            return
        if self._leaving.look() is not None:
            self._on_end(self._leaving.pid)
            self._leaving = None
        elif now_s > self._leaves_by_s:
            os.kill(self._leaving.pid, signal.SIGKILL)
