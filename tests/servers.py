"""A server process for tests: where its binary is, free ports, start, kill, and one command at a time.

It listens on loopback and dies with the test process. A missing binary fails the set-up; nothing is skipped.
"""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

REDIS_PACKAGE = "redis-server"  # the Debian package of the one-server footing
# Below those that the kernel gives to clients. Test processes that run side by side each have their own: between the
# look and the start of a server another would take the same.
_SIDE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = range(20_000 + _SIDE % 8, 32_000, 8)
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here: loading takes locks, so not after a fork


class FootingMissing(Exception):
    """What a footing needs is not installed."""


def redis_binary() -> Path:
    """Debian's redis-server. Raises FootingMissing, which names the package."""
    found = shutil.which("redis-server", path=f"/usr/bin:{os.environ.get('PATH', '')}")
    if found is None:
        raise FootingMissing(f"tests need redis-server: sudo apt-get install {REDIS_PACKAGE}")
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(_PORTS)
        with socket.socket() as trial:
            if port not in ports and trial.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports


def wait_until(what: str, holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Look again and again. Raises AssertionError with ``what`` after ``within_s``."""
    ends_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_s, f"not within {within_s:g} s: {what}"
        time.sleep(_POLL_S)


def _die_with_this_process() -> None:
    # SIGKILL, for a server that a test has stopped would keep any other signal for later.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Server:
    """One server process on a TCP port of loopback, with an append-only file in ``folder`` that outlives it."""

    def __init__(self, binary: Path, folder: Path, *options: str, appendfsync: str = "always") -> None:
        """``options``: more command-line options of the server."""
        self.folder = folder
        self.port, self.bus_port = free_ports(2)
        self._binary = binary
        self._options = ("--appendonly", "yes", "--appendfsync", appendfsync, *options)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.name}"

    @property
    def pid(self) -> int | None:
        """Of the running server."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start on the same port and data, and wait until it answers."""
        self.spawn()
        wait_until(f"{self._binary} answers; its log: {self.folder}/server.log", self.answers)

    def spawn(self) -> None:
        """Start and do not wait. From the main thread only: the server would end with the thread that forked it."""
        assert threading.current_thread() is threading.main_thread(), "servers are started from the main thread"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binary), *self._arguments()],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_this_process,
            )

    def _arguments(self) -> list[str]:
        bus = ("--cluster-port", str(self.bus_port)) if "--cluster-enabled" in self._options else ()
        return [
            *bus,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--daemonize", "no", "--save", "", "--databases", "1", "--maxmemory-policy", "noeviction"),
            *self._options,
        ]

    def answers(self) -> bool:
        """Whether it takes commands; fails at once when the process has ended."""
        assert self.pid is not None, f"the server ended; its log: {self.folder}/server.log"
        try:
            return bool(self.ask("PING"))
        except (RedisError, OSError):
            return False

    def ask(self, *command: str | int, timeout_s: float = 2.0) -> Any:
        """One command, with the reply as text where it is one."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis(
            port=self.port, protocol=2, retry=once, socket_timeout=timeout_s, decode_responses=True, driver_info=None
        ) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def info(self, section: str) -> dict[str, str]:
        """INFO of one section."""
        lines = str(self.ask("INFO", section)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """End it in order; whatever state it is in."""
        if self.pid is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            assert self._process is not None
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid is not None, "the server does not run"
        os.kill(self.pid, number)
