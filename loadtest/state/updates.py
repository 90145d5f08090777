"""People who report their position at a steady rate: commands, latency and processor time an update costs."""

import asyncio
import contextlib
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import redis.asyncio as redis_asyncio

from discovery.errors import StateAway
from discovery.hive import Hive
from discovery.positions import DEFAULT_TTL_S
from geo.privacy import ExactPoint
from loadtest.state.world import CountingState, Process, commands_run, received, server, worker

_WARM_S = 2.0
_EVERY_S = 10.0  # a person reports so often
_STEP_S = 0.002  # updates that are due come in steps of this
_METRES_A_DEGREE = 111_195.0
_WALK_MPS = 1.4

Report = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Load:
    """``walking``: 1.4 m/s, so that hardly any update changes a cell; else each changes it, the worst there is."""

    updates_s: int
    workers: int
    seconds: float
    walking: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all updates of a run, the warm-up aside."""

    sent: float  # commands an update, a call of a script as one
    run: float  # those that scripts ran counted one by one
    updates_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


# --- who reports ---


class Walkers:
    """``count`` people of one worker; each call moves one of them and gives the new place."""

    def __init__(self, count: int, walking: bool, seed: int) -> None:
        draws = random.Random(seed)
        self._draws = draws
        self._walking = walking
        self.places = [(draws.uniform(45.0, 50.0), draws.uniform(0.0, 8.0)) for _ in range(count)]

    def move(self, who: int) -> tuple[float, float]:
        lat, lon = self.places[who]
        if self._walking:
            bearing, degrees = self._draws.uniform(0.0, math.tau), _WALK_MPS * _EVERY_S / _METRES_A_DEGREE
            lat, lon = lat + degrees * math.cos(bearing), lon + degrees * math.sin(bearing)
        else:
            lat += 0.05 if lat < 52.5 else -0.05  # 5.6 km: never the cell of before
        self.places[who] = lat, lon
        return lat, lon


def reporter(hive: Hive, walkers: Walkers, name: str) -> Report:
    def report(who: int) -> Awaitable[object]:
        lat, lon = walkers.move(who)
        return hive.positions.report(f"{name}-{who}", ExactPoint(lat, lon, 10.0), DEFAULT_TTL_S, "adult")

    return report


# --- the load ---


class Drive:
    """Open loop: each update starts when it is due, whether or not those before it were answered."""

    def __init__(self, report: Report, people: int, updates_s: float) -> None:
        self._report = report
        self._people = people
        self._updates_s = updates_s
        self.done = 0
        self.waited_s: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        began_s, started = time.perf_counter(), 0
        tasks: set[asyncio.Task[None]] = set()
        while True:
            due = int((time.perf_counter() - began_s) * self._updates_s)
            for number in range(started, due):
                task = asyncio.create_task(self._one(number % self._people, began_s + number / self._updates_s))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            started = due
            await asyncio.sleep(_STEP_S)

    async def _one(self, who: int, due_s: float) -> None:
        with contextlib.suppress(StateAway):  # on a machine that is too slow: its wait counts, the update does not
            await self._report(who)
            self.done += 1
        self.waited_s.append(time.perf_counter() - due_s)


async def driver(pipe: Connection, url: str, name: str, load: Load) -> None:
    """One worker process under its share of the load."""
    people = max(8, int(load.updates_s / load.workers * _EVERY_S))
    async with worker(url) as hive:
        report = reporter(hive, Walkers(people, load.walking, seed=hash(name) % 1000), name)
        for start in range(0, people, 1000):
            await asyncio.gather(*(report(who) for who in range(start, min(people, start + 1000))))
        counting = hive.state
        assert isinstance(counting, CountingState)
        await _driven(pipe, report, people, load.updates_s / load.workers, lambda: counting.sent)


async def _driven(
    pipe: Connection, report: Report, people: int, updates_s: float, sent: Callable[[], int] | None = None
) -> None:
    """Ready; go; then answer each time what was done so far; None ends it."""
    await received(pipe)
    pipe.send("ready")
    drive = Drive(report, people, updates_s)
    await received(pipe)
    running = asyncio.create_task(drive.run())
    pipe.send("going")
    while await received(pipe) is not None:
        pipe.send((drive.done, sent() if sent else drive.done, time.process_time(), drive.waited_s))
        drive.waited_s = []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    pipe.send("ended")


def measure(load: Load) -> Measured:
    """One run on a fresh server."""
    with server() as url:
        drivers = [Process(driver, url, f"w{number}", load) for number in range(load.workers)]
        return _measured(url, drivers, load.seconds)


def measure_peer(load: Load) -> Measured:
    """The same updates, each a GEOADD in a pipeline of redis-py."""
    with server() as url:
        return _measured(url, [Process(geoadd_driver, url, load)], load.seconds)


def _measured(url: str, drivers: list[Process], seconds: float) -> Measured:
    for one in drivers:
        one.ask()
    for one in drivers:
        one.ask()
    time.sleep(_WARM_S)
    before, run, at_s = [one.ask("so far") for one in drivers], commands_run(url), time.perf_counter()
    time.sleep(seconds)
    after, run = [one.ask("so far") for one in drivers], commands_run(url) - run
    passed_s = time.perf_counter() - at_s
    for one in drivers:
        one.ask(None)
        one.end()
    updates, sent, cpu_s = (
        sum(now[which] - then[which] for now, then in zip(after, before, strict=True)) for which in range(3)
    )
    waited_ms = [1000 * waited_s for now in after for waited_s in now[3]]
    cuts = statistics.quantiles(waited_ms, n=100)
    return Measured(sent / updates, run / updates, updates / passed_s, cuts[49], cuts[98], 1e6 * cpu_s / updates)


# --- the peer, and a lone caller ---


async def geoadd_driver(pipe: Connection, url: str, load: Load) -> None:
    people = max(8, int(load.updates_s * _EVERY_S))
    walkers = Walkers(people, load.walking, seed=1)
    async with redis_asyncio.Redis.from_url(url) as client:
        waiting: list[tuple[int, asyncio.Future[None]]] = []

        async def flush() -> None:
            some, waiting[:] = list(waiting), []
            pipeline = client.pipeline(transaction=False)
            for who, _ in some:
                lat, lon = walkers.move(who)
                pipeline.geoadd("people", (lon, lat, f"p{who}"))
            try:
                await pipeline.execute()
            except redis_asyncio.ConnectionError:  # the run is over, and so is the server
                return
            for _, done in some:
                done.set_result(None)

        async def report(who: int) -> None:
            if not waiting:
                asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(flush()))
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.append((who, done))
            await done

        await _driven(pipe, report, people, load.updates_s)


async def lone_caller(pipe: Connection, url: str, updates: int) -> None:
    """One person who reports anew after each answer: nobody to share an entry with."""
    async with worker(url) as hive:
        report = reporter(hive, Walkers(1, walking=False, seed=3), "lone")
        await received(pipe)
        pipe.send([1000 * waited_s async for waited_s in _timed(report, updates)])


async def lone_geoadd(pipe: Connection, url: str, updates: int) -> None:
    walkers = Walkers(1, walking=False, seed=3)
    async with redis_asyncio.Redis.from_url(url) as client:

        async def report(who: int) -> None:
            lat, lon = walkers.move(who)
            await client.geoadd("people", (lon, lat, f"p{who}"))

        await received(pipe)
        pipe.send([1000 * waited_s async for waited_s in _timed(report, updates)])


async def _timed(report: Report, updates: int):  # type: ignore[no-untyped-def]
    for _ in range(updates):
        began_s = time.perf_counter()
        await report(0)
        yield time.perf_counter() - began_s


def measure_lone(main: Callable[..., object], updates: int = 1000) -> Iterator[float]:
    """p50 and p99 in ms."""
    with server() as url:
        one = Process(main, url, updates)  # type: ignore[arg-type]
        cuts = statistics.quantiles(one.ask(), n=100)
        one.end()
    yield from (cuts[49], cuts[98])
