"""One worker of a million people: it starts from checkpoint and tail, and then folds what all others report."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from discovery.hive import Hive
from discovery.people import EVERYONE
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, Report, pack
from discovery.store import keys
from discovery.store.checkpoints import LEAST_TAIL_BYTES, Checkpoints
from discovery.store.client import State
from geo import cells
from geo.privacy import FRIEND_RESOLUTION
from loadtest.state.world import Process, new_hive, plain_client, received, worker

REPORTS_AN_ENTRY = 100
_TTL_MS = 7_200_000
_FLAGS = CLAIM_TOLD | CLAIM_KNOWN | CLAIM_ADULT | OWN
_LOADING_ENTRY = 2000
_FEED = keys.feed(keys.shard_tag(0))


class Crowd:
    """People by number, and entries in which some of them report a random cell of a few towns."""

    def __init__(self, people: int, seed: int, now_ms: int) -> None:
        self._draws = np.random.default_rng(seed)
        self._people = people
        self._expiry_ms = now_ms + _TTL_MS
        lats, lons = self._draws.uniform(45.0, 50.0, 50_000), self._draws.uniform(0.0, 8.0, 50_000)
        self._cells = cells.cells_of(lats, lons, FRIEND_RESOLUTION)

    def entry(self, count: int) -> bytes:
        """``count`` of them, drawn at random."""
        return self.entry_of(self._draws.integers(0, self._people, count).tolist())

    def entry_of(self, numbers: list[int]) -> bytes:
        some = self._draws.choice(self._cells, len(numbers)).tolist()
        rows = zip(numbers, some, strict=True)
        return pack([Report(f"person-{who:07d}", cell, self._expiry_ms, _FLAGS) for who, cell in rows])


def append(url: str, payloads: list[bytes]) -> int:
    """All at once, in one pipeline; how many bytes they have."""
    with plain_client(url) as client:
        pipeline = client.pipeline(transaction=False)
        for payload in payloads:
            pipeline.xadd(_FEED, {"k": "r", "d": payload})
        pipeline.execute()
    return sum(map(len, payloads))


# --- a world of a million ---


def build(url: str, people: int, tail: int, seed: int) -> None:
    """``people`` placed and visible to everyone, in a checkpoint that a worker wrote, and ``tail`` more reports."""
    one = Process(checkpointer, url)
    crowd = Crowd(people, seed, one.ask())
    written = 0
    for step in range(0, people, _LOADING_ENTRY):
        written += append(url, [crowd.entry_of(list(range(step, min(people, step + _LOADING_ENTRY))))])
    while written <= 1.1 * LEAST_TAIL_BYTES:  # less is no reason for a checkpoint
        written += append(url, [crowd.entry(_LOADING_ENTRY)])
    one.ask(people)
    one.end()
    append(url, [crowd.entry(REPORTS_AN_ENTRY) for _ in range(tail // REPORTS_AN_ENTRY)])


async def checkpointer(pipe: Connection, url: str) -> None:
    """Folds the people told of, and leaves once it has written its checkpoint."""
    async with worker(url) as hive:
        await received(pipe)
        pipe.send(hive.now_ms)
        people = await received(pipe)
        while hive.presence.count_live(hive.now_ms) < people:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        hive.people.visibility[:people] = EVERYONE  # by entries it would take a minute
        checkpoints = Checkpoints(hive.state, keys.shard_tag(0))
        while await checkpoints.current() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        pipe.send("written")


# --- restore ---


async def starter(pipe: Connection, url: str, people: int) -> None:
    """Seconds in which a new worker stands where the feed ends."""
    await received(pipe)
    state = State(url)
    await state.open()
    hive = new_hive(state)
    began_s = time.perf_counter()
    await hive.start()
    took_s = time.perf_counter() - began_s
    assert hive.presence.count_live(hive.now_ms) == people, "not everybody was restored"
    pipe.send(took_s)
    await hive.stop()
    await state.close()


def measure_restore(url: str, people: int, runs: int) -> float:
    """The best of ``runs`` starts, each in a new process."""
    found: list[float] = []
    for _ in range(runs):
        one = Process(starter, url, people)
        found.append(one.ask())
        one.end()
    return min(found)


def measure_peer_restore(url: str, people: int, sample: int = 100_000) -> float:
    """Seconds to read a hash a person, as one command an update leaves them, scaled from a sample: pipelines of
    redis-py, 1,000 HGETALL each."""
    names = [f"person:{number}" for number in range(sample)]
    with plain_client(url) as client:
        for start in range(0, sample, 1000):
            pipeline = client.pipeline(transaction=False)
            for name in names[start : start + 1000]:
                pipeline.hset(name, mapping={"cell": 1 << 60, "until": 1 << 40, "visibility": 2})
            pipeline.execute()
        found: list[Any] = []
        began_s = time.perf_counter()
        for start in range(0, sample, 1000):
            pipeline = client.pipeline(transaction=False)
            for name in names[start : start + 1000]:
                pipeline.hgetall(name)
            found += pipeline.execute()
        took_s = time.perf_counter() - began_s
        client.delete(*names)
    assert len(found) == sample
    return took_s * people / sample


# --- fold ---


@dataclass(frozen=True, slots=True)
class Folded:
    """Of one stretch: reports folded a second, and the share of a core that everything in the worker took."""

    reports_s: float
    core: float

    @property
    def cpu_us(self) -> float:
        return 1e6 * self.core / self.reports_s


async def folder(pipe: Connection, url: str, seconds: float) -> None:
    """A worker that follows, its people index in use; each time it is asked, it watches itself for ``seconds``."""
    async with _quiet(url) as hive:
        hive.presence.crowd(hive.now_ms)
        follower = hive.feeds.followers[0]
        await received(pipe)
        pipe.send(hive.now_ms)
        while await received(pipe) is not None:
            entries, cpu_s, at_s = follower.entries_folded, time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            passed_s = time.perf_counter() - at_s
            reports = REPORTS_AN_ENTRY * (follower.entries_folded - entries)
            pipe.send(Folded(reports / passed_s, (time.process_time() - cpu_s) / passed_s))
        pipe.send("ended")


@asynccontextmanager
async def _quiet(url: str) -> AsyncIterator[Hive]:
    async with worker(url) as hive:
        gc.collect()
        yield hive


async def writer(pipe: Connection, url: str, people: int, reports_s: int, now_ms: int) -> None:
    """All other workers together: entries of 100 reports, evenly, until told to stop."""
    crowd = Crowd(people, 11, now_ms)
    payloads = [crowd.entry(REPORTS_AN_ENTRY) for _ in range(1000)]
    await received(pipe)
    stop = asyncio.create_task(received(pipe))
    pipe.send("going")
    entries_s, began_s, written = reports_s / REPORTS_AN_ENTRY, time.perf_counter(), 0
    while not stop.done():
        due = int((time.perf_counter() - began_s) * entries_s)
        if due > written:
            append(url, [payloads[number % len(payloads)] for number in range(written, due)])
            written = due
        await asyncio.sleep(0.01)
    pipe.send("ended")


def measure_fold(url: str, people: int, reports_s: int, stretches: int, seconds: float = 3.0) -> Folded:
    """The stretch that took the least of a core, of those in which the rate was kept."""
    one = Process(folder, url, seconds)
    other = Process(writer, url, people, reports_s, one.ask())
    other.ask()
    time.sleep(1.0)
    found: list[Folded] = [one.ask("watch") for _ in range(stretches)]
    for process in (other, one):
        process.ask(None)
        process.end()
    return min(found, key=lambda folded: (folded.reports_s < 0.98 * reports_s, folded.core))
