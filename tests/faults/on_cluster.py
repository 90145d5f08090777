"""What fault tests on a Cluster share: an open client, a service on it, and the workers' agreement at later edges."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from api.doctor import common_edges
from discovery.store.client import State
from tests.cluster_servers import ClusterServers
from tests.faults.subject import Subject, subject
from tests.footings import empty
from tests.service import WORKERS

EDGES = 3
_AGREE_S = 15.0


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[State]:
    """A client of the Cluster."""
    state = State(url)
    await state.open()
    try:
        yield state
    finally:
        await state.close()


@contextlib.asynccontextmanager
async def service_on(cluster: ClusterServers, folder: Path, **settings: str) -> AsyncIterator[Subject]:
    """A service of two workers on the emptied Cluster, with an edge a second."""
    async with opened(cluster.url) as state:
        await empty(state)
    with subject(folder, state_url=cluster.url, **({"epoch_s": "1"} | settings)) as service:
        yield service


async def agreed(service: Subject) -> int:
    """All workers hold the same at the next edges; returns how many edges of this test were compared."""
    first_ms = await _newest_edge_ms(service) + 1
    seen: dict[int, set[str]] = {}
    ends_s = time.monotonic() + _AGREE_S
    while sum(edge >= first_ms for edge in seen) < EDGES:
        assert time.monotonic() < ends_s, f"no common edges: {await asyncio.to_thread(service.status)}"
        await asyncio.sleep(0.2)
        status = await asyncio.to_thread(service.status)
        if len(status["workers"]) == WORKERS:
            seen |= {edge: set(found.values()) for edge, found in common_edges(status)}
    unequal = {edge: digests for edge, digests in seen.items() if edge >= first_ms and len(digests) != 1}
    assert not unequal, f"workers hold different worlds: {unequal}"
    return len(seen)


async def _newest_edge_ms(service: Subject) -> int:
    status = await asyncio.to_thread(service.status)
    return max((int(edge) for row in status["workers"] for edge in row["digests"]), default=0)
