"""Q21: few file descriptors, little memory, one processor: load is shed, nothing breaks or is lost, and it ends."""

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.patience import within
from tests.faults.report import Run, reported
from tests.faults.subject import Subject, subject
from tests.faults.writers import Writers
from tests.service import Connection

PEOPLE = 16
BACK_S = within(5.0)
DESCRIPTORS = 256
_CONNECTIONS = 400  # more than two workers may hold
_HEADROOM_BYTES = 64 << 20  # what a worker may still take
_HEAVY = 24  # requests of nearly 4 MB at once
_ROWS = 10_000
_BUSY_S, _BUSY_NIGHTLY_S = 3.0, 60.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit and affinities of other processes: Linux")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """Started with few descriptors; all its processes inherit that."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        context = subject(tmp_path_factory.mktemp("limits"))
        running = context.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    try:
        yield running
    finally:
        context.__exit__(None, None, None)


async def test_more_connections_than_descriptors(service: Subject, seed: int) -> None:
    """Who is connected is served; who is not waits or is refused; when the crowd leaves everybody is served."""
    workers = service.worker_pids()
    with reported("q21_descriptors", seed, "embedded", descriptors=DESCRIPTORS, connections=_CONNECTIONS) as run:
        async with _writing(service, run, seed):
            opened = [await _open(service.port) for _ in range(_CONNECTIONS)]
            await asyncio.sleep(1.0)
            fds = [len(os.listdir(f"/proc/{pid}/fd")) for pid in workers]
            for connection in opened:
                connection.close()
            left_s = time.monotonic()
            await service.ready(BACK_S)
        run.counts |= {"descriptors": max(fds), "back_s": round(time.monotonic() - left_s, 2)}
        assert max(fds) <= DESCRIPTORS
        assert max(fds) > DESCRIPTORS - 30, "the limit was never met"
        assert service.worker_pids() == workers, "a worker ended for want of descriptors"


async def test_less_memory_than_asked_for(service: Subject, seed: int) -> None:
    """Large bodies for workers that may not grow: refused, or the worker ends and another takes its place."""
    workers = service.worker_pids()
    with reported("q21_memory", seed, "embedded", headroom_mb=_HEADROOM_BYTES >> 20, bodies=_HEAVY) as run:
        async with _writing(service, run, seed):
            for pid in workers:
                _limit_memory(pid, _HEADROOM_BYTES)
            statuses = Counter(await asyncio.gather(*(_heavy(service, seed, turn) for turn in range(_HEAVY))))
            for pid in workers:
                _limit_memory(pid, None)
            freed_s = time.monotonic()
            await service.ready(2 * BACK_S)
        run.counts |= {"heavy": dict(statuses), "back_s": round(time.monotonic() - freed_s, 2)}
        run.counts |= {"workers_replaced": len(set(workers) - set(service.worker_pids()))}
        assert set(statuses) <= {0, 200, 413, 429, 503}
        assert statuses[200] < _HEAVY, "there was memory enough for all: nothing was tested"


async def test_one_processor(service: Subject, seed: int, scale: int) -> None:
    """Slower, and nothing else."""
    seconds = _BUSY_S if scale == 1 else _BUSY_NIGHTLY_S
    everywhere = os.sched_getaffinity(0)
    with reported("q21_one_processor", seed, "embedded", seconds=seconds) as run:
        try:
            _pin(service, {min(everywhere)})
            async with _writing(service, run, seed) as writers:
                await asyncio.sleep(seconds)
            assert set(writers.statuses) <= {200, 201, 204}
        finally:
            _pin(service, everywhere)


@contextlib.asynccontextmanager
async def _writing(service: Subject, run: Run, seed: int) -> AsyncIterator[Writers]:
    """People who write meanwhile; afterwards all that was acknowledged must be there."""
    await service.ready(BACK_S)
    writers = Writers(service, run.ledger, seed, PEOPLE)
    await writers.prepare()
    running = asyncio.create_task(writers.run())
    try:
        await asyncio.sleep(0.5)
        yield writers
    finally:
        writers.stop()
        await running
        writers.close()
    await service.ready(BACK_S)
    await writers.verify()
    run.counts |= run.ledger.counts() | {"statuses": dict(writers.statuses)}
    run.ledger.require_clean()


async def _open(port: int) -> Connection:
    return await asyncio.wait_for(Connection.open(port), 5.0)


async def _heavy(service: Subject, seed: int, turn: int) -> int:
    """Status of one request that needs much memory; 0 when the worker went away."""
    rows = [
        {"user": f"{'heavy' * 20}.{seed:x}.{turn}.{row}", "lat": row / 200, "lon": row / 100, "ttl_s": 3600}
        for row in range(_ROWS)
    ]
    body = json.dumps({"positions": rows}).encode()
    try:
        connection = await _open(service.port)
        try:
            return (await connection.ask("POST", "/v1/app/positions", body, service.operator)).status
        finally:
            connection.close()
    except OSError:
        return 0


def _limit_memory(pid: int, headroom_bytes: int | None) -> None:
    """The address space may grow by so much, or without limit."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + headroom_bytes if headroom_bytes else resource.RLIM_INFINITY
        hard = resource.prlimit(pid, resource.RLIMIT_AS)[1]
        resource.prlimit(pid, resource.RLIMIT_AS, (size if headroom_bytes else hard, hard))


def _pin(service: Subject, processors: set[int]) -> None:
    """Every thread of every process."""
    for pid in [service.supervisor_pid, *service.pids()]:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), processors)
