"""The service under fault tests: ``nearhive serve`` whose processes may be killed and stopped one by one."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.service import NEARHIVE, WORKERS, Service, _free_ports, _start_on_a_free_port

_WATCH = "import os,signal,sys\nos.read(0,1)\nos.killpg(int(sys.argv[1]),signal.SIGTERM)"
START_S = 30.0  # of all processes, on a machine that is busy with other tests
LIMITS_OFF = {"rate_limits": "off", "speed_limit": "off", "exposure_caps": "off"}
MANY_BOTTLES = {"bottle_throws_per_day": "100000", "bottle_picks_per_day": "100000"}


class Subject(Service):
    """One service; with ``state_url`` among its settings the state server is not its child."""

    @property
    def embedded(self) -> bool:
        """Whether it runs its own state server."""
        return "NEARHIVE_STATE_URL" not in self.environment

    @property
    def server_pid(self) -> int:
        """Of the state server; 0 when it is not ours."""
        return super().server_pid if self.embedded else 0

    @property
    def supervisor_pid(self) -> int:
        """Of ``nearhive serve`` itself."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether ``nearhive serve`` has not ended."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start without waiting for anything."""
        if self.port == 0:
            self.port, self.admin_port = _free_ports(2)
        self.environment["NEARHIVE_ADMIN_BIND"] = f"127.0.0.1:{self.admin_port}"
        command = [str(NEARHIVE), "serve", "--port", str(self.port), "--workers", str(WORKERS)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, process_group=0)
        watch = [sys.executable, "-c", _WATCH, str(self._process.pid)]
        self._watch = subprocess.Popen(watch, stdin=subprocess.PIPE, process_group=0)

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor alone: the others must end by themselves, or be ended by the next start."""
        assert self._process is not None
        self._end_watch()
        self._process.kill()
        self._process.wait()
        self._process = None

    async def kill_one(self, who: str, draws: random.Random, back_s: float) -> float:
        """kill -9 of ``who`` (worker, server, supervisor, all), and wait until all is well: for how many seconds.

        ``back_s`` is allowed where the supervisor is left to start it again.
        """
        if who in {"worker", "server"}:
            os.kill(self.server_pid if who == "server" else draws.choice(self.worker_pids()), signal.SIGKILL)
            return await self.ready(back_s)
        await asyncio.to_thread(self.kill_supervisor if who == "supervisor" else self.kill)
        await asyncio.sleep(draws.uniform(0, 0.2))
        await asyncio.to_thread(self.launch)
        return await self.ready(START_S)

    def status_of(self, path: str) -> int:
        """Status of one GET; 0 when nobody answers."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return self.get(path).status
        return 0

    async def ready(self, within_s: float) -> float:
        """Seconds until every worker is there and ready; fails after ``within_s``."""
        started_s = time.monotonic()
        while not await asyncio.to_thread(self._is_ready):
            passed_s = time.monotonic() - started_s
            assert passed_s < within_s, f"not ready again in {within_s} s: {self.log_end()}"
            await asyncio.sleep(0.02)
        return time.monotonic() - started_s

    def _is_ready(self) -> bool:
        """A few looks in a row: each may meet another worker."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return len(self.worker_pids()) == WORKERS and all(self.status_of("/readyz") == 200 for _ in range(4))
        return False


@contextlib.contextmanager
def subject(folder: Path, **settings: str) -> Iterator[Subject]:
    """A started service of two workers without limits of rates; ends whatever happens to the test."""
    service = Subject(folder, LIMITS_OFF | MANY_BOTTLES | {"log_level": "warning"} | settings)
    try:
        _start_on_a_free_port(service)
        yield service
    finally:
        service.end()


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end whatever happens."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
