"""Q5: partitions between the nodes of a Cluster and the service, in network namespaces, under load."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.cluster_servers import NODE_TIMEOUT_MS
from tests.faults import netns
from tests.faults.availability import LASTING, READ, REPORT, Availability
from tests.faults.netns import Network
from tests.faults.netns_cluster import APP, NODES, HostCluster, clustered, hosted
from tests.faults.on_cluster import agreed
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.writers import Writers

WRITERS = 16
LONG_S, LONG_NIGHTLY_S = 6.0, 30.0
ROUNDS_NIGHTLY = 5
_BACK_S = within(15.0)  # after the heal, all of it: replicas in sync, workers ready
_REFUSES_S = NODE_TIMEOUT_MS / 1000 + within(0.5)
_FLAP_S = 1.5


class Split:
    """The parts of a test, and each kind of partition."""

    def __init__(self, net: Network, cluster: HostCluster, looks: Availability, draws: random.Random) -> None:
        self.net = net
        self.cluster = cluster
        self.looks = looks
        self.draws = draws
        self.refused_s = 0.0

    def nodes_but(self, *hosts: int) -> list[int]:
        return [host for host in range(1, NODES + 1) if host not in hosts]

    async def master_alone(self, host: int, seconds: float) -> None:
        """A master that nobody reaches."""
        await asyncio.to_thread(self.net.alone, [host])
        await asyncio.sleep(seconds)

    async def master_with_the_service(self, host: int, seconds: float) -> None:
        """A master without the other nodes, which the service goes on reaching as it does them."""
        await asyncio.to_thread(self.net.split, [host], self.nodes_but(host))
        await asyncio.sleep(seconds)

    async def minority_with_the_service(self, host: int, seconds: float) -> None:
        """The service and one master: it must refuse, for on the other side somebody may forbid what it shows."""
        await asyncio.to_thread(self.net.alone, [host, APP])
        cut_s = time.monotonic()
        await asyncio.sleep(seconds)
        for kind in (READ, REPORT, LASTING):
            self.refused_s = max(self.refused_s, self.looks.served_until_s(kind) - cut_s)

    async def one_way(self, host: int, seconds: float) -> None:
        """A master that is heard and hears nobody."""
        others = [other for other in self.net.hosts if other != host]
        await asyncio.to_thread(self.net.cut, others, [host])
        await asyncio.sleep(seconds)

    async def flapping(self, host: int, seconds: float) -> None:
        """A master that comes and goes."""
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            await asyncio.to_thread(self.net.alone, [host])
            await asyncio.sleep(_FLAP_S * self.draws.uniform(0.5, 2.5))
            await asyncio.to_thread(self.net.heal)
            await asyncio.sleep(_FLAP_S * self.draws.uniform(0.2, 1.0))

    async def heal(self) -> None:
        """All reach each other, and are well again."""
        await asyncio.to_thread(self.net.heal)
        await asyncio.to_thread(self.cluster.wait_ok)
        await self.looks.well(_BACK_S)


Partition = Callable[[int, float], Awaitable[None]]


@pytest.mark.skipif(not netns.available(), reason="needs root, ip, nft and permission to make network namespaces")
async def test_partitions_revive_no_block_and_give_no_bottle_twice(
    tmp_path: Path, seed: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, kinds, long_s = (1, 2, LONG_S) if scale == 1 else (ROUNDS_NIGHTLY, 5, LONG_NIGHTLY_S)
    with reported("q5_partitions", seed, "cluster", rounds=rounds, seconds=long_s, writers=WRITERS) as run:
        with clustered(tmp_path / "nodes") as (net, cluster):
            async with hosted(net, cluster, tmp_path, monkeypatch, quick_deadline_s="0.3") as service:
                writers = Writers(service, run.ledger, seed, WRITERS)
                looks = Availability(service, f"{seed:x}")
                split = Split(net, cluster, looks, random.Random(seed))
                await writers.prepare()
                running = asyncio.create_task(writers.run())
                try:
                    async with looks.looking():
                        partitions = sum([await _partitions(split, long_s, kinds) for _ in range(rounds)])
                finally:
                    await asyncio.to_thread(net.heal)
                    writers.stop()
                    await running
                    writers.close()
                await service.ready(_BACK_S)
                await writers.verify()
                run.counts |= run.ledger.counts()
                edges = await agreed(service)
                run.counts |= {"edges": edges, "partitions": partitions, "refused_s": round(split.refused_s, 2)}
        assert run.ledger.counts()["ok"] > 20 * partitions, "the partitions must meet people who write"
        run.ledger.require_clean()
        assert 0 < split.refused_s <= _REFUSES_S


async def _partitions(split: Split, seconds: float, kinds_a_round: int) -> int:
    """The service with a minority, and so many of the others, in an order that the seed gives; how many there were."""
    others: list[Partition] = [
        split.master_alone,
        split.master_with_the_service,
        split.one_way,
        split.flapping,
    ]
    kinds = [split.minority_with_the_service, *split.draws.sample(others, kinds_a_round - 1)]
    for partition in kinds:
        masters = await asyncio.to_thread(split.cluster.masters)
        await partition(split.cluster.host_of(split.draws.choice(masters)), seconds)
        await split.heal()
    return len(kinds)
