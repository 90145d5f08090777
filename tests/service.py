"""The real ``nearhive serve`` as a subprocess, with a data directory of its own, and keep-alive clients for it.

``serving`` always ends everything that it started, whatever the test did to it. A client may be held to one worker: the
others are stopped (SIGSTOP) while it connects, because workers share one listening socket.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from api.auth import Age, mint_token
from discovery.store.data_dir import process_started
from discovery.store.embedded import socket_path

NEARHIVE = Path(sys.executable).with_name("nearhive")
WORKERS = 2
READY_S = 60.0
END_S = 20.0
ANSWER_S = 60.0
TOKEN_TTL_S = 7200

_HEARTBEAT_S = 2.0  # the service closes a connection that was silent for 5 s
_START_TRIES = 3  # somebody else may take a free port before the service does

# Ends the service when the tests were killed before they could: their end of the pipe closes with them.
_WATCH = "import os,signal,sys\nos.read(0,1)\nos.killpg(int(sys.argv[1]),signal.SIGTERM)"

Job = TypeVar("Job")
Result = TypeVar("Result")


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def ok(self, status: int = 200) -> Any:
        """The JSON of an answer that must have ``status`` (None for one without a body)."""
        assert self.status == status, (self.status, self.body)
        return self.json() if self.body else None


class Connection:
    """One keep-alive HTTP/1.1 connection: one request at a time. OSError when the service goes away."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    def close(self) -> None:
        self._writer.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        within_s: float = ANSWER_S,
    ) -> Answer:
        """Send one request (``body``: bytes as they are, else JSON) and read the answer."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._lock, asyncio.timeout(within_s):
            self._writer.write(_head(method, path, headers or {}, content if body is not None else None) + content)
            try:
                return await self._read()
            except asyncio.IncompleteReadError:
                raise ConnectionResetError("the connection was closed before the answer") from None

    async def _read(self) -> Answer:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split(" ", 2)[1]), headers, body)


def _head(method: str, path: str, headers: dict[str, str], content: bytes | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in headers.items())]
    if content is not None:
        kind = [] if "Content-Type" in headers else ["Content-Type: application/json"]
        lines += [*kind, f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Service:
    """One data directory and the service on it, which may be ended and started again on the same port."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        """``settings``: NEARHIVE_ variables without the prefix; those of the environment do not count."""
        self.data_dir = folder / "data"
        self.log = folder / "service.log"
        self.port = self.admin_port = 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NEARHIVE_")}
        # Where no fault is tested, a disk that is busy for a moment must not be one.
        chosen = {"quick_deadline_s": "3", "speed_limit": "off", "exposure_caps": "off"} | settings
        self.environment = kept | {f"NEARHIVE_{name.upper()}": value for name, value in chosen.items()}
        self.environment["NEARHIVE_DATA_DIR"] = str(self.data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    # --- life ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_url(self) -> str:
        return f"unix://{socket_path(self.data_dir.absolute())}"

    def start(self) -> float:
        """Start, and wait until all workers are ready; the seconds that it took."""
        started_s = time.monotonic()
        if self.port == 0:
            self.port, self.admin_port = _free_ports(2)
        said = self._said_ready()
        self.environment["NEARHIVE_ADMIN_BIND"] = f"127.0.0.1:{self.admin_port}"
        command = [str(NEARHIVE), "serve", "--port", str(self.port), "--workers", str(WORKERS)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, process_group=0)
        watch = [sys.executable, "-c", _WATCH, str(self._process.pid)]
        self._watch = subprocess.Popen(watch, stdin=subprocess.PIPE, process_group=0)
        while self._said_ready() == said:
            assert self._process.poll() is None, f"the service ended: {self.log_end()}"
            assert time.monotonic() - started_s < READY_S, f"not ready in {READY_S} s: {self.log_end()}"
            time.sleep(0.02)
        assert self.get("/readyz").status == 200
        return time.monotonic() - started_s

    def kill(self) -> None:
        """SIGKILL to every process of the service; the supervisor first, so that it replaces nobody."""
        assert self._process is not None
        self._end_watch()
        pids = [self._process.pid, *self.pids()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_until_gone(pids, END_S)
        self._process = None

    def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the process group; the exit status. Fails when a process is left after ``END_S``."""
        assert self._process is not None
        self._end_watch()
        pids = self.pids()
        os.killpg(self._process.pid, signal.SIGINT)
        status = self._process.wait(END_S)
        self._process = None
        wait_until_gone(pids, 1.0)
        return status

    def end(self) -> None:
        """However it stands, leave no process behind."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self._end_watch()
            self._process = None
            return
        try:
            self.interrupt()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def _end_watch(self) -> None:
        """First of all: it would signal a pid that may be somebody else's by then."""
        if self._watch is not None and self._watch.stdin is not None:
            self._watch.kill()
            self._watch.wait()
            self._watch.stdin.close()
        self._watch = None

    def pids(self) -> list[int]:
        """All processes that the supervisor started, directly or not."""
        assert self._process is not None
        return _descendants(self._process.pid)

    @property
    def server_pid(self) -> int:
        """Of the state server."""
        return int(json.loads((self.data_dir / "run.json").read_text())["child_pid"])

    def worker_pids(self) -> list[int]:
        """In order of start."""
        return sorted(pid for pid in self.pids() if pid != self.server_pid)

    def log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def _said_ready(self) -> int:
        return self.log.read_bytes().count(b"Nearhive is ready at ") if self.log.exists() else 0

    # --- credentials ---

    def secret(self, name: str) -> str:
        """jwt_secret, admin_key or privacy_secret, as the service made it."""
        return (self.data_dir / "secrets" / name).read_text().strip()

    @property
    def operator(self) -> dict[str, str]:
        """Headers of the operator."""
        return {"X-API-Key": self.secret("admin_key")}

    def person(self, user: str, age: Age | None = "adult") -> dict[str, str]:
        """Headers of somebody's app."""
        token = mint_token(self.secret("jwt_secret"), user, age, TOKEN_TTL_S, time.time())
        return {"Authorization": f"Bearer {token}"}

    # --- clients ---

    def get(self, path: str, headers: dict[str, str] | None = None, *, admin: bool = False) -> Answer:
        """One request on a connection of its own, without an event loop."""
        port = self.admin_port if admin else self.port
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as opened, opened.makefile("rb") as file:
            opened.sendall(_head("GET", path, {"Connection": "close", **(headers or {})}, None))
            raw_head, _, body = file.read().partition(b"\r\n\r\n")
        first, *lines = raw_head.decode("latin-1").split("\r\n")
        return Answer(int(first.split(" ", 2)[1]), dict(line.lower().split(": ", 1) for line in lines), body)

    def status(self) -> Any:
        """The report that ``nearhive doctor`` shows."""
        return self.get("/v1/app/status", self.operator).ok()

    @contextlib.asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[list[Connection]]:
        """``count`` connections, each to whichever worker took it."""
        opened = [await Connection.open(self.port) for _ in range(count)]
        try:
            yield opened
        finally:
            for connection in opened:
                connection.close()

    @contextlib.asynccontextmanager
    async def by_worker(self, count: int = 1) -> AsyncIterator[list[list[Connection]]]:
        """For each worker ``count`` connections that only it answers; they are kept alive."""
        opened: list[list[Connection]] = []
        for pid in self.worker_pids():
            with _stopped([other for other in self.worker_pids() if other != pid]):
                opened.append([await Connection.open(self.port) for _ in range(count)])
                await asyncio.gather(*(connection.ask("GET", "/healthz") for connection in opened[-1]))
        beats = [asyncio.create_task(_beat(connection)) for group in opened for connection in group]
        try:
            yield opened
        finally:
            for beat in beats:
                beat.cancel()
            await asyncio.gather(*beats, return_exceptions=True)
            for connection in (connection for group in opened for connection in group):
                connection.close()


@contextlib.contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Service]:
    """A started service of two workers; ``settings``: NEARHIVE_ variables without the prefix, in small letters."""
    service = Service(folder, settings)
    try:
        _start_on_a_free_port(service)
        yield service
    finally:
        service.end()


def _start_on_a_free_port(service: Service) -> None:
    for tries_left in reversed(range(_START_TRIES)):
        try:
            service.start()
            return
        except AssertionError:
            if "the port is taken" not in service.log_end() or tries_left == 0:
                raise
            service.port = 0


async def for_all(
    connections: Iterable[Connection], jobs: Iterable[Job], act: Callable[[Connection, Job], Awaitable[Result]]
) -> list[Result]:
    """``act(connection, job)`` for every job, each connection with one at a time; results in the order of jobs."""
    waiting = enumerate(jobs)
    results: dict[int, Result] = {}

    async def work(connection: Connection) -> None:
        for index, job in waiting:
            results[index] = await act(connection, job)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
    return [results[index] for index in sorted(results)]


def wait_until_gone(pids: Iterable[int], within_s: float) -> None:
    """Return once none of the processes lives; fail when that takes too long."""
    pids, ends_s = list(pids), time.monotonic() + within_s
    while left := [pid for pid in pids if process_started(pid)]:
        assert time.monotonic() < ends_s, f"still alive: {left}"
        time.sleep(0.01)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in held]


def _descendants(ancestor: int) -> list[int]:
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    found = [ancestor]
    for parent in found:
        found += [pid for pid, ppid in rows if ppid == parent]
    return found[1:]


@contextlib.contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def _beat(connection: Connection) -> None:
    while True:
        await asyncio.sleep(_HEARTBEAT_S)
        with contextlib.suppress(OSError):
            await connection.ask("GET", "/healthz")
