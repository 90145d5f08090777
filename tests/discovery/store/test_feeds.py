"""Several shards in step: what is published at an edge is the same in every worker, however entries interleave."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import pytest

from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import Place, checksum_of, parse_id
from discovery.store.feeds import Feeds
from discovery.store.ticker import Tick, pack_tick
from geo.privacy import Epochs

EPOCH_MS = 1000
SHARDS = 4


class Told:
    """People as sums: each entry adds to its shard, an edge publishes the sums."""

    def __init__(self) -> None:
        self.sums = [0] * SHARDS
        self.published: dict[int, tuple[int, ...]] = {}
        self.edges = [0] * SHARDS

    def fold(self, shard: int, kind: str, payload: bytes, now_ms: int) -> None:
        assert now_ms >= self.edges[shard], "an entry behind an edge is folded after it"
        assert Epochs(EPOCH_MS).last_edge(now_ms) <= self.edges[shard]
        self.sums[shard] += int(payload)

    def edge_of(self, shard: int) -> int:
        return self.edges[shard]

    def announce(self, shard: int, epoch_ms: int) -> None:
        assert epoch_ms == EPOCH_MS

    def cross_alone(self, shard: int, now_ms: int) -> None:
        self.edges[shard] = Epochs(EPOCH_MS).last_edge(now_ms)

    def cross_together(self, edge_ms: int) -> bool:
        together = min(self.edges) == max(self.edges)
        self.edges = [max(edge, edge_ms) for edge in self.edges]
        if together:
            self.published[edge_ms] = tuple(self.sums)
        return True

    def settle(self) -> None:
        """Nothing is held back here."""


class Worker:
    """Feeds and what they folded into."""

    def __init__(self, state: State) -> None:
        self.people = Told()
        self.places: dict[int, tuple[Place, int]] = {}
        self.restored: list[int] = []
        self.told_ms: list[int] = []  # hive time while a shard was restored
        self.feeds = Feeds(state, keys.Shards(SHARDS), self.people, self._restore, time.monotonic)

    async def _restore(self, shard: int) -> Place | None:
        self.restored.append(shard)
        self.told_ms.append(self.feeds.now_ms)
        place, total = self.places.get(shard, (None, 0))
        self.people.sums[shard] = total
        self.people.edges[shard] = 0 if place is None else Epochs(EPOCH_MS).last_edge(place.now_ms)
        return place

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        self.feeds.open()
        await self.feeds.start()
        task = asyncio.create_task(self.feeds.follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def at(self, edge_ms: int) -> None:
        async with asyncio.timeout(10):
            while min(self.people.edges) < edge_ms:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


def feed(shard: int) -> str:
    return keys.feed(keys.shard_tag(shard))


async def tick(state: State, shard: int, hive_ms: int) -> None:
    """Hive time of a shard moves to ``hive_ms`` and stands there until the next tick."""
    newest = await state.call("XREVRANGE", feed(shard), "+", "-", "COUNT", 1)
    id_ms = parse_id(newest[0][0])[0] + 1 if newest else 1
    for offset_ms in (hive_ms - id_ms, -(10**13)):
        entry = pack_tick(Tick(offset_ms, EPOCH_MS))
        await state.call("XADD", feed(shard), f"{id_ms}-*", "k", "t", "d", entry)


async def add(state: State, shard: int, number: int) -> None:
    newest = await state.call("XREVRANGE", feed(shard), "+", "-", "COUNT", 1)
    await state.call("XADD", feed(shard), f"{parse_id(newest[0][0])[0]}-*", "k", "r", "d", number)


async def test_all_shards_cross_an_edge_at_once(state: State) -> None:
    worker = Worker(state)
    for shard in range(SHARDS):
        await tick(state, shard, 5 * EPOCH_MS)
    async with worker.following():
        assert worker.feeds.restored
        for shard in range(SHARDS):
            await add(state, shard, 10**shard)
        for shard in range(1, SHARDS):
            await tick(state, shard, 6 * EPOCH_MS)
            await add(state, shard, 7 * 10**shard)
        await asyncio.sleep(0.3)
        assert worker.people.edges == [5 * EPOCH_MS] * SHARDS, "shard 0 is not there yet"
        assert worker.people.sums == [1, 10, 100, 1000]
        assert worker.feeds.now_ms == 5 * EPOCH_MS
        await tick(state, 0, 6 * EPOCH_MS + 5)
        await worker.at(6 * EPOCH_MS)
        assert worker.people.published == {6 * EPOCH_MS: (1, 10, 100, 1000)}
        async with asyncio.timeout(5):
            while worker.people.sums != [1, 80, 800, 8000]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_workers_agree_at_every_edge(state: State, seed: int) -> None:
    """Two that followed from the start, and one that joined in the middle, whatever shard was ahead."""
    rng = random.Random(seed)
    first, second, late = Worker(state), Worker(state), Worker(state)
    at_ms = [0] * SHARDS
    for shard in range(SHARDS):
        await tick(state, shard, 1)

    async def write(steps: int) -> None:
        for _ in range(steps):
            shard = rng.randrange(SHARDS)
            if rng.random() < 0.3:
                at_ms[shard] += rng.choice((100, 600, 1500))
                await tick(state, shard, at_ms[shard])
            else:
                await add(state, shard, rng.randrange(1, 1000))

    async with first.following(), second.following():
        await write(150)
        async with late.following():
            await write(150)
            for shard in range(SHARDS):
                await tick(state, shard, 100 * EPOCH_MS)
            for worker in (first, second, late):
                await worker.at(100 * EPOCH_MS)
    assert first.people.published == second.people.published
    assert first.people.sums == second.people.sums == late.people.sums
    assert len(first.people.published) > 3
    for edge_ms, sums in late.people.published.items():
        assert first.people.published.get(edge_ms, sums) == sums
    assert 100 * EPOCH_MS in late.people.published


async def test_a_shard_whose_place_is_lost_is_restored(state: State) -> None:
    """What stood behind the last folded entry is gone: the shard starts anew, the others go on."""
    worker = Worker(state)
    for shard in range(SHARDS):
        await tick(state, shard, 5 * EPOCH_MS)
        await add(state, shard, 5)
    async with worker.following():
        assert worker.people.sums == [5] * SHARDS
        assert sorted(worker.restored) == [0, 1, 2, 3]
        await state.call("DEL", feed(2))
        await tick(state, 2, 5 * EPOCH_MS)
        await add(state, 2, 30)
        worker.feeds.doubt(2)
        async with asyncio.timeout(5):
            while not (worker.people.sums[2] == 30 and worker.feeds.restored):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert worker.people.sums == [5, 5, 30, 5]
        assert worker.restored[4:] == [2]


async def test_hive_time_stands_while_a_shard_is_restored(state: State) -> None:
    """Its checkpoint stands an epoch back: what another shard is told meanwhile must not be judged by that."""
    worker = Worker(state)
    for shard in range(SHARDS):
        await tick(state, shard, 5 * EPOCH_MS)
    async with worker.following():
        checkpoint = worker.feeds.followers[2].place, 0
        for shard in range(SHARDS):
            await tick(state, shard, 6 * EPOCH_MS + 5)
        await worker.at(6 * EPOCH_MS)
        async with asyncio.timeout(5):
            while worker.feeds.now_ms != 6 * EPOCH_MS + 5:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        worker.places[2], worker.told_ms = checkpoint, []
        worker.feeds.doubt(2)
        await add(state, 2, 30)
        async with asyncio.timeout(5):
            while not (worker.people.sums[2] == 30 and worker.feeds.restored):
                worker.told_ms.append(worker.feeds.now_ms)
                await asyncio.sleep(0)
        assert worker.restored[4:] == [2]
        assert set(worker.told_ms) == {6 * EPOCH_MS + 5}


@pytest.mark.parametrize("kept", [True, False], ids=["the place stands", "the place was trimmed"])
async def test_a_restored_place_is_verified(state: State, kept: bool) -> None:
    """A checkpoint whose entry is still there goes on from it; one that was trimmed away is asked for again."""
    for shard in range(SHARDS):
        await tick(state, shard, 5 * EPOCH_MS)
        await add(state, shard, 7)
        await add(state, shard, 8)
    rows = await state.call("XRANGE", feed(1), "-", "+")
    worker = Worker(state)
    position = parse_id(rows[2][0])
    worker.places[1] = (Place(position, checksum_of("r", b"7"), 5 * EPOCH_MS, -(10**13), EPOCH_MS), 1000)
    if not kept:
        await state.call("XTRIM", feed(1), "MINID", rows[3][0])

    async def newer_checkpoint() -> None:
        while worker.restored.count(1) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        newer = Place(parse_id(rows[3][0]), checksum_of("r", b"8"), 5 * EPOCH_MS, -(10**13), EPOCH_MS)
        worker.places[1] = (newer, 2000)

    writer = asyncio.create_task(newer_checkpoint())
    async with worker.following():
        assert worker.people.sums == [15, 1008 if kept else 2000, 15, 15]
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
