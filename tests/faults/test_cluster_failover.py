"""Q4: masters of a Cluster of 3 + 3 are killed, stopped and replaced under load."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.cluster_servers import ClusterServers
from tests.faults.availability import LASTING, READ, REPORT, Availability
from tests.faults.on_cluster import agreed, service_on
from tests.faults.patience import within
from tests.faults.report import Run, reported
from tests.faults.subject import Subject
from tests.faults.writers import Writers
from tests.servers import Server

KILLS, KILLS_NIGHTLY = 2, 100
CHANGES, CHANGES_NIGHTLY = 1, 20  # of each kind
WRITERS = 24
_BACK_S = within(5.0)  # the promise: node timeout + 3 s
_DOWN_S = 6.0
_STOPPED_S = 7.0
_NOTICED_S = 1.0  # later than a node that refuses connections: a node that hangs shows only by its silence
_SLACK_S = within(0.5)  # of one look


class Load:
    """People who write and lookers-on, while a test hurts the Cluster."""

    def __init__(self, run: Run, cluster: ClusterServers, service: Subject, back_s: float = _BACK_S) -> None:
        self.run = run
        self.cluster = cluster
        self.service = service
        self.draws = random.Random(run.seed)
        self.writers = Writers(service, run.ledger, run.seed, WRITERS)
        self.looks = Availability(service, f"{run.seed:x}")
        self.back_s = back_s
        self.back: dict[str, float] = {READ: 0.0, REPORT: 0.0, LASTING: 0.0}

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """While the body runs; then everything is read back and judged."""
        await self.writers.prepare()
        running = asyncio.create_task(self.writers.run())
        try:
            async with self.looks.looking():
                yield
        finally:
            self.writers.stop()
            await running
            self.writers.close()
        await self.service.ready(_BACK_S)
        await self.writers.verify()
        shown = {kind: round(seconds, 2) for kind, seconds in self.back.items()}
        self.run.counts |= self.run.ledger.counts() | {"back_s": shown, "edges": await agreed(self.service)}
        self.run.ledger.require_clean()
        assert max(self.back.values()) <= self.back_s + _SLACK_S, self.back

    async def any_master(self) -> Server:
        """One of those that own slots now, after a moment."""
        await asyncio.sleep(self.draws.uniform(0.2, 1.0))
        return self.draws.choice(await asyncio.to_thread(self.cluster.masters))

    async def whole(self) -> None:
        """Everybody is served again and every master has its replica."""
        await self.looks.well(2 * _BACK_S)
        await asyncio.to_thread(self.cluster.wait_ok)

    def note(self, since_s: float, *kinds: str) -> None:
        """How long each kind has failed since then."""
        for kind in kinds:
            self.back[kind] = max(self.back[kind], self.looks.back_s(kind, since_s))


async def test_a_killed_master_costs_seconds_and_no_acknowledged_write(
    tmp_path: Path, cluster_servers: ClusterServers, seed: int, scale: int
) -> None:
    """People are read and report again without the dead node; what must last waits until its shards have a replica."""
    kills = KILLS if scale == 1 else KILLS_NIGHTLY
    with reported("q4_master_kills", seed, "cluster", kills=kills, writers=WRITERS) as run:
        async with service_on(cluster_servers, tmp_path, quick_deadline_s="0.3") as service:
            load = Load(run, cluster_servers, service)
            async with load.going_on():
                for _ in range(kills):
                    await _kill(load)
            run.counts |= {"kills": kills}
        assert run.ledger.counts()["ok"] > 30 * kills, "the kills must meet people who write"


async def _kill(load: Load) -> None:
    master = await load.any_master()
    killed_s = time.monotonic()
    master.kill()
    await asyncio.sleep(_DOWN_S)
    assert load.looks.back_s(READ, killed_s) > 0, "the kill was not felt"
    load.note(killed_s, READ, REPORT)
    returned_s = time.monotonic()
    master.spawn()
    await load.whole()
    load.note(returned_s, LASTING)


async def test_masters_that_stand_still_or_hand_over_lose_nothing(
    tmp_path: Path, cluster_servers: ClusterServers, seed: int, scale: int
) -> None:
    """SIGSTOP for 7 s: who wakes up as a master that is none any more must not be believed. And manual failovers."""
    changes = CHANGES if scale == 1 else CHANGES_NIGHTLY
    with reported("q4_stops_and_handovers", seed, "cluster", each=changes, writers=WRITERS) as run:
        async with service_on(cluster_servers, tmp_path, quick_deadline_s="0.3") as service:
            load = Load(run, cluster_servers, service, _BACK_S + _NOTICED_S)
            async with load.going_on():
                for _ in range(changes):
                    await _stop_for_a_while(load)
                    await _hand_over(load)
            run.counts |= {"stops": changes, "handovers": changes}
        assert run.ledger.counts()["ok"] > 100 * changes, "the changes must meet people who write"


async def _stop_for_a_while(load: Load) -> None:
    master = await load.any_master()
    assert master.pid is not None
    stopped_s = time.monotonic()
    os.kill(master.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(_STOPPED_S)
        load.note(stopped_s, READ, REPORT)
    finally:
        os.kill(master.pid, signal.SIGCONT)
    woken_s = time.monotonic()
    await load.whole()
    load.note(woken_s, LASTING)


async def _hand_over(load: Load) -> None:
    master = await load.any_master()
    started_s = time.monotonic()
    replica = (await asyncio.to_thread(load.cluster.replicas_of, master))[0]
    await asyncio.to_thread(replica.ask, "CLUSTER", "FAILOVER")
    await asyncio.sleep(1.0)
    await load.whole()
    load.note(started_s, READ, REPORT, LASTING)
