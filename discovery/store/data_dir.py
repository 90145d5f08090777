"""The data directory: whose it is, who uses it now, and which server wrote it.

The lock is ``flock`` on ``DATA_DIR/lock``, and the state server inherits the locked descriptor: the directory stays
locked while that server lives, even when the process that started it was killed. ``run.json`` says who both are.
"""

import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from discovery.store.disk import is_full

_ORPHAN_GRACE_S = 10.0  # a server that must write out a large file may take seconds to end
_START_GRACE_S = 2.0  # the other start holds the lock, but may not have written its pid yet
_POLL_S = 0.02


class DataDirBusy(Exception):
    """The data directory is used by a living process."""


class DataDirUnsafe(Exception):
    """The data directory cannot be used: wrong owner, not a directory, not writable."""


@dataclass(frozen=True, slots=True)
class Run:
    """Who uses the directory. ``*_started`` is the start time of the process: a pid alone may be reused."""

    pid: int
    started: str
    child_pid: int = 0
    child_started: str = ""


class DataDir:
    """A data directory that this process owns until :meth:`release`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def take(cls, path: Path, monotonic: Callable[[], float]) -> "DataDir":
        """Create the directory (0700) if needed, lock it, and end a server that a killed run left behind.

        Raises DataDirUnsafe, or DataDirBusy naming the process and the directory.
        """
        path = path.absolute()
        _prepare(path)
        lock_fd = _open_lock(path)
        try:
            _lock(path, lock_fd, monotonic)
        except BaseException:
            os.close(lock_fd)
            raise
        taken = cls(path, lock_fd)
        taken.record(None)
        return taken

    def record(self, child_pid: int | None) -> None:
        """Write who uses the directory now, with the state server once it runs.

        On a full disk the standing file is written over, within its block; where there is none, it is left out: then
        only the messages of a second start, and its search for an orphan, know less.
        """
        child_started = process_started(child_pid) if child_pid else None
        run = Run(os.getpid(), process_started(os.getpid()) or "", child_pid or 0, child_started or "")
        if not write_json_if_it_fits(self.path / "run.json", asdict(run)):
            _write_over(self.path / "run.json", asdict(run))

    def release(self) -> None:
        """Unlock. To be called when the state server has ended."""
        if self.lock_fd >= 0:
            (self.path / "run.json").unlink(missing_ok=True)
            os.close(self.lock_fd)
            self.lock_fd = -1

    def close_in_child(self) -> None:
        """Drop the inherited lock in a forked child, which must not keep the directory locked."""
        os.close(self.lock_fd)
        self.lock_fd = -1


def write_json(path: Path, content: dict[str, object]) -> None:
    """Replace a small file, readable by its owner alone, in one step: a reader sees the old or the new one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_json_if_it_fits(path: Path, content: dict[str, object]) -> bool:
    """:func:`write_json`, but False when the disk is full."""
    try:
        write_json(path, content)
    except OSError as error:
        if not is_full(error):
            raise
        return False
    return True


def _write_over(path: Path, content: dict[str, object]) -> None:
    """In place, so that no block is needed. Who reads it half written finds nobody."""
    with contextlib.suppress(OSError), path.open("r+") as file:
        json.dump(content, file)
        file.truncate()


def process_started(pid: int) -> str | None:
    """When a living process started, as an opaque text; None when there is no such process (or only its zombie)."""
    if sys.platform != "linux":
        return _ps(pid, "lstart")
    try:
        # The name, field 2, may hold spaces and parentheses; field 3 is the state and field 22 the start in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _ps(pid: int, column: str) -> str | None:
    done = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _command_line(pid: int) -> str:
    if sys.platform != "linux":
        return _ps(pid, "command") or ""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _prepare(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise DataDirUnsafe(f"data directory {path}: {error.strerror or error}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise DataDirUnsafe(f"data directory {path} is not a directory")
    if status.st_uid != os.geteuid():
        raise DataDirUnsafe(f"data directory {path} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o077:
        path.chmod(0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise DataDirUnsafe(f"data directory {path} is not writable")


def _open_lock(path: Path) -> int:
    try:
        return os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirUnsafe(f"data directory {path}: lock: {error.strerror or error}") from error


def _lock(path: Path, lock_fd: int, monotonic: Callable[[], float]) -> None:
    started_s = monotonic()
    signalled: dict[int, signal.Signals] = {}
    while not _try_lock(lock_fd):
        run = _read_run(path)
        if run is not None and process_started(run.pid) == run.started:
            raise DataDirBusy(f"data directory {path} is used by nearhive with pid {run.pid}; stop that one first")
        waited_s = monotonic() - started_s
        if run is not None and _is_our_server(run, path):
            _end(run.child_pid, waited_s, signalled)
        if waited_s > (_ORPHAN_GRACE_S * 1.5 if signalled else _START_GRACE_S):
            raise DataDirBusy(f"data directory {path} is locked by a process that is not visible from here")
        threading.Event().wait(_POLL_S)


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_run(path: Path) -> Run | None:
    try:
        return Run(**json.loads((path / "run.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _is_our_server(run: Run, path: Path) -> bool:
    """Whether the recorded child still is the state server of this directory, and no other process with its pid."""
    alive = bool(run.child_pid) and process_started(run.child_pid) == run.child_started
    return alive and str(path) in _command_line(run.child_pid)


def _end(pid: int, waited_s: float, signalled: dict[int, signal.Signals]) -> None:
    chosen = signal.SIGTERM if waited_s < _ORPHAN_GRACE_S else signal.SIGKILL
    if signalled.get(pid) != chosen:
        signalled[pid] = chosen
        os.kill(pid, chosen)
