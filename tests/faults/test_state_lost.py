"""Q7: the state server is away at start, is restarted, or loses everything: degraded, then well without a restart."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from discovery.store import keys
from tests.faults.behind import Behind
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import LIMITS_OFF, START_S, Subject
from tests.service import Connection

BACK_S = within(5.0)


async def test_degraded_from_the_start_until_the_state_comes(behind: Behind, tmp_path: Path, seed: int) -> None:
    service = Subject(tmp_path, LIMITS_OFF | {"state_url": behind.proxy.url, "log_level": "warning"})
    with reported("q7_down_at_start", seed, "one server") as run:
        behind.server.stop()
        try:
            service.launch()
            ends_s = time.monotonic() + START_S
            while await asyncio.to_thread(service.status_of, "/healthz") != 200:
                assert service.alive, f"it does not start without the state: {service.log_end()}"
                assert time.monotonic() < ends_s
                await asyncio.sleep(0.05)
            assert service.status_of("/readyz") == 503
            answer = await asyncio.to_thread(service.get, "/v1/me/blocks", service.person("ann"))
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
            behind.server.start()
            run.counts = {"back_s": round(await service.ready(BACK_S), 2)}
        finally:
            if behind.server.pid is None:
                behind.server.start()
            service.end()


@pytest.mark.parametrize("how", ["orderly", "kill -9"])
async def test_a_restarted_server_loses_nothing(behind: Behind, seed: int, how: str) -> None:
    service, me = behind.service, behind.service.person(f"restarts.{seed:x}")
    with reported("q7_restart", seed, "one server", how=how) as run:
        await service.ready(BACK_S)
        async with service.connections(1) as (one,):
            (await one.ask("PUT", f"/v1/me/blocks/eve.{seed:x}", None, me)).ok(204)
        if how == "kill -9":
            behind.server.kill()
        behind.server.stop()
        await asyncio.sleep(0.5)
        assert service.status_of("/healthz") == 200
        behind.server.start()
        started_s = time.monotonic()
        await service.ready(BACK_S)
        async with service.by_worker() as groups:
            for (one,) in groups:
                assert await _blocked(one, me, started_s + BACK_S) == [f"eve.{seed:x}"]
            await _written(groups[0][0], "PUT", f"/v1/me/blocks/mallory.{seed:x}", me, started_s + BACK_S)
        run.counts = {"back_s": round(time.monotonic() - started_s, 2), "lost": 0}


async def test_after_flushall_all_workers_hold_what_the_state_holds(behind: Behind, seed: int) -> None:
    """The operator's own mistake: all is gone, and no worker goes on telling what was. What was forbidden in the last
    10 s is said again, so it stands in the state and in every worker."""
    service, me = behind.service, behind.service.person(f"flushed.{seed:x}")
    with reported("q7_flushall", seed, "one server") as run:
        await service.ready(BACK_S)
        async with service.by_worker() as groups:
            (await groups[0][0].ask("PUT", f"/v1/me/blocks/eve.{seed:x}", None, me)).ok(204)
            (await groups[0][0].ask("PUT", "/v1/me/position", {"lat": 48.85, "lon": 2.35}, me)).ok()
        behind.server.ask("FLUSHALL")
        flushed_s = time.monotonic()
        async with service.by_worker() as groups:
            for (one,) in groups:
                await _forgotten(one, me, flushed_s + BACK_S)
            await service.ready(max(0.1, flushed_s + BACK_S - time.monotonic()))
            run.counts = {"back_s": round(time.monotonic() - flushed_s, 2)}
            await _written(groups[0][0], "PUT", f"/v1/me/blocks/mallory.{seed:x}", me, flushed_s + BACK_S)
            await asyncio.sleep(1.0)
            for (one,) in groups:
                users = await _blocked(one, me, flushed_s + 2 * BACK_S)
                assert users == [f"eve.{seed:x}", f"mallory.{seed:x}"]
            held = behind.server.ask("HVALS", keys.Shards(1).blocks(f"flushed.{seed:x}"))
            assert sorted(held) == users


async def _blocked(one: Connection, me: dict[str, str], ends_s: float) -> list[str]:
    """Whom this worker shows as blocked. It may answer 503 once more after it was ready: each stream finds for itself,
    up to 5 s later, that it was emptied (the look back), and waits for its first tick then."""
    while (answer := await one.ask("GET", "/v1/me/blocks", None, me)).status == 503:
        assert time.monotonic() < ends_s, answer.body
        await asyncio.sleep(0.05)
    rows: list[dict[str, Any]] = answer.ok()["blocks"]
    return [row["user"] for row in rows]


async def _forgotten(one: Connection, me: dict[str, str], ends_s: float) -> None:
    """Until this worker shows no position."""
    while (await one.ask("GET", "/v1/me/position", None, me)).status != 404:
        assert time.monotonic() < ends_s, "a worker still tells what the state no longer holds"
        await asyncio.sleep(0.05)


async def _written(one: Connection, method: str, path: str, me: dict[str, str], ends_s: float) -> None:
    while (answer := await one.ask(method, path, None, me)).status == 503:
        assert time.monotonic() < ends_s, answer.body
        await asyncio.sleep(0.05)
    answer.ok(204)
