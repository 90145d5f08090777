"""Restarts under load: an orderly end answers what it has begun, and a rolling restart loses no request."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from discovery.store.data_dir import process_started
from tests.faults.patience import within
from tests.service import Answer, Connection, Service, serving

CLIENTS = 12
REFUSING_S = within(5.0)  # how long 503 may be answered around a restart
DRAIN_S = within(10.0)
HEALTHZ_P99_S = within(0.05)


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service with as many workers as the test asks for."""
    monkeypatch.setattr("tests.service.WORKERS", getattr(request, "param", 2))
    with serving(tmp_path, epoch_s="1", log_level="warning") as running:
        yield running


def supervisor_pid(service: Service) -> int:
    return int(json.loads((service.data_dir / "run.json").read_text())["pid"])


class Client:
    """Somebody's app, which keeps its connection until an answer says that it closes."""

    def __init__(self, service: Service, user: str) -> None:
        self._service = service
        self._headers = service.person(user)
        self._connection: Connection | None = None

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        if self._connection is None:
            self._connection = await Connection.open(self._service.port)
        answer = await self._connection.ask(method, path, body, self._headers)
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """What clients asked without pause, and how it was answered."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self.refused_s: list[float] = []

    async def run(self, client: Client, pause_s: float) -> None:
        turn = 0
        while True:
            turn += 1
            try:
                if turn % 2:
                    body = {"lat": 48.8566 + turn % 7 * 0.03, "lon": 2.3522}
                    answer = await client.ask("PUT", "/v1/me/position", body)
                else:
                    answer = await client.ask("GET", "/v1/me/settings")
            except OSError as error:
                self.failures.append(repr(error))
                client.close()
                continue
            self.statuses[answer.status] += 1
            if answer.status == 503:
                self.refused_s.append(time.monotonic())
                await asyncio.sleep(0.1)
            await asyncio.sleep(pause_s)

    @property
    def refusing_s(self) -> float:
        """From the first 503 to the last."""
        return self.refused_s[-1] - self.refused_s[0] if self.refused_s else 0.0


@contextlib.asynccontextmanager
async def load_on(service: Service) -> AsyncIterator[Load]:
    """Half of the clients ask as fast as they are answered, half as people do: a pause between any two requests."""
    load = Load()
    clients = [Client(service, f"user-{number}") for number in range(CLIENTS)]
    tasks = [asyncio.create_task(load.run(client, 0.0 if number % 2 else 0.3)) for number, client in enumerate(clients)]
    await asyncio.sleep(1.0)
    try:
        yield load
        await asyncio.sleep(0.5)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for client in clients:
            client.close()
    assert [one for one in ended if not isinstance(one, asyncio.CancelledError)] == []


async def workers_become(service: Service, gone: set[int], count: int, within_s: float) -> float:
    """Seconds until ``count`` workers live and none of ``gone``."""
    started_s = time.monotonic()
    while True:
        living = await asyncio.to_thread(service.worker_pids)
        if len(living) == count and not gone & set(living):
            return time.monotonic() - started_s
        assert time.monotonic() - started_s < within_s, (living, gone, service.log_end())
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("service", [1, 2], indirect=True)
async def test_a_rolling_restart_loses_no_request(service: Service) -> None:
    before = service.worker_pids()
    async with load_on(service) as load:
        os.kill(supervisor_pid(service), signal.SIGUSR1)
        took_s = await workers_become(service, set(before), len(before), len(before) * (DRAIN_S + 5))
    print(f"{len(before)} workers replaced in {took_s:.1f} s; {dict(load.statuses)}; 503 for {load.refusing_s:.2f} s")
    assert load.failures == []
    assert set(load.statuses) <= {200, 503}
    assert load.refusing_s <= REFUSING_S
    assert load.statuses[200] > 100


async def test_a_worker_that_is_told_to_end_loses_no_request(service: Service) -> None:
    before = service.worker_pids()
    async with load_on(service) as load:
        started_s = time.monotonic()
        os.kill(before[0], signal.SIGTERM)
        await workers_become(service, {before[0]}, 2, DRAIN_S + 5)
        print(f"replaced after {time.monotonic() - started_s:.1f} s; {dict(load.statuses)}")
    assert load.failures == []
    assert set(load.statuses) <= {200, 503}
    assert load.refusing_s <= REFUSING_S


@pytest.mark.parametrize("service", [1], indirect=True)
async def test_an_orderly_end_waits_for_idle_connections_and_open_requests(service: Service) -> None:
    me = service.person("ann")
    idle, busy, late = [await Connection.open(service.port) for _ in range(3)]
    for connection in (idle, busy, late):
        assert (await connection.ask("GET", "/v1/me/settings", headers=me)).status == 200
    body = {"lat": 48.8566, "lon": 2.3522}
    shaken = await busy.ask("POST", "/v1/shakes", body, {**me, "Idempotency-Key": "1"})
    looking = asyncio.create_task(busy.ask("GET", f"/v1/shakes/{shaken.ok(201)['shake_id']}?wait_s=3", headers=me))
    await asyncio.sleep(0.3)
    pids = [supervisor_pid(service), *service.pids()]
    started_s = time.monotonic()
    os.kill(pids[0], signal.SIGTERM)
    await asyncio.sleep(1.5)
    answer = await late.ask("GET", "/v1/me/settings", headers=me)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    looked = await looking
    assert looked.ok()["state"] in ("waiting", "nobody")
    assert looked.headers["connection"] == "close"
    while any(process_started(pid) for pid in pids):
        assert time.monotonic() - started_s < DRAIN_S
        await asyncio.sleep(0.05)
    assert time.monotonic() - started_s > 4.5, "the idle connection had its time"
    for connection in (idle, busy, late):
        connection.close()


async def test_ctrl_c_does_not_wait_for_idle_connections(service: Service) -> None:
    async with service.connections(4) as connections:
        for connection in connections:
            assert (await connection.ask("GET", "/healthz")).status == 200
        started_s = time.monotonic()
        assert await asyncio.to_thread(service.interrupt) == 0
        assert time.monotonic() - started_s < 3


async def test_a_successor_that_cannot_start_changes_nothing(service: Service) -> None:
    """It ends before it is ready: the old workers stay and nobody is refused."""
    before = service.worker_pids()
    async with load_on(service) as load:
        os.kill(supervisor_pid(service), signal.SIGUSR1)
        os.kill(await _newcomer(service, set(before)), signal.SIGKILL)
        await asyncio.sleep(1.5)
        assert await asyncio.to_thread(service.worker_pids) == before
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert "replacement_given_up" in service.log.read_text()


async def _newcomer(service: Service, before: set[int]) -> int:
    """Pid of a worker as soon as it is there."""
    while True:
        new = set(await asyncio.to_thread(service.worker_pids)) - before
        if new:
            return new.pop()


async def test_healthz_answers_while_the_state_hangs(service: Service) -> None:
    """The state server is stopped, not gone: commands are sent and no reply comes."""
    server, hanging = service.server_pid, []
    async with service.connections(33) as (probe, *others):
        os.kill(server, signal.SIGSTOP)
        try:
            for number, connection in enumerate(others):
                body = {"lat": 1.0, "lon": 1.0}
                asked = connection.ask("PUT", "/v1/me/position", body, service.person(f"user-{number}"))
                hanging.append(asyncio.create_task(asked))
            took_s = []
            for _ in range(400):
                started_s = time.perf_counter()
                assert (await probe.ask("GET", "/healthz")).json() == {"status": "ok"}
                took_s.append(time.perf_counter() - started_s)
                await asyncio.sleep(0.01)
            answers = await asyncio.gather(*hanging)
        finally:
            os.kill(server, signal.SIGCONT)
    p99_s = sorted(took_s)[int(0.99 * len(took_s))]
    print(f"/healthz p99 {1000 * p99_s:.1f} ms, worst {1000 * max(took_s):.1f} ms")
    assert p99_s <= HEALTHZ_P99_S
    assert {answer.status for answer in answers} == {503}
    assert all("retry-after" in answer.headers for answer in answers)
