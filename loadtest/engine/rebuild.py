"""The people index built anew: how long it takes, and how late the event loop runs while a thread does it."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
import uvloop
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from loadtest import report
from loadtest.engine import nearby, worlds
from loadtest.engine.comparison import Comparison
from loadtest.engine.exact import Unequal
from loadtest.engine.field import Field
from loadtest.engine.ours import NAME, OurPeople
from loadtest.engine.scale import Scale
from loadtest.engine.timing import Timed, whole_runs

WORK = "people index rebuilt"
TICKS_WORK = "event loop late during {} rebuilds of the people index in a thread, 99.9 % of ticks of 1 ms"
IDLE = "no rebuild"
_TICK_S = 0.001
_AT_ONCE_S = 1e-6  # the loop rounds times to its own grain, and is early by some us at times
_SHARE = 99.9
_VIEWERS = 41  # stream of chance


def compare(field: Field, scale: Scale, seed: int) -> Comparison:
    """Beside building a cKDTree. A rebuilt index must give right pages at once: nothing is put off to the first."""
    people, vectors = field.people, field.exact.vectors
    who = nearby.viewers(field.questions(scale.sample), worlds.generator(seed, _VIEWERS))
    people.crowd = people.rebuilt()
    nearby.check(field, who, nearby.RADIUS_M)
    if len(people.crowd) != len(people.slots):
        raise Unequal("the rebuilt index does not hold everybody")
    timed = whole_runs({NAME: people.rebuilt, "cKDTree": lambda: cKDTree(vectors)}, scale.runs)
    return Comparison(WORK, field.world, field.size, "ms", timed)


def ticks(people: OurPeople, scale: Scale) -> Comparison:
    """On uvloop, as in a worker process. A sample is one tick: how long after its time it ran."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        busy, took_s = runner.run(_watched(lambda: _repeated(people, scale.rebuilds)))
        idle, _ = runner.run(_watched(lambda: time.sleep(min(took_s, 5.0))))
    timed = Timed({NAME: busy[None], IDLE: idle[None]})
    return Comparison(TICKS_WORK.format(scale.rebuilds), "clustered", len(people.slots), "ms", timed)


def _repeated(people: OurPeople, times: int) -> None:
    for _ in range(times):
        people.rebuilt()


async def _watched(work: Callable[[], None]) -> tuple[NDArray[np.float64], float]:
    """Lateness in seconds of every tick while ``work`` runs in a thread, and how long that took.

    Ticks are due at fixed times: a loop that stands still for 50 ms is late for 50 of them.
    """
    loop = asyncio.get_running_loop()
    working = loop.run_in_executor(None, work)
    late: list[float] = []
    started = time.perf_counter()
    due = started
    while not working.done():
        due += _TICK_S
        wait = due - time.perf_counter()
        await asyncio.sleep(max(0.0, wait))
        late.append(max(time.perf_counter() - due, _AT_ONCE_S))
    await working
    return np.array(late), time.perf_counter() - started


def rows(built: Comparison, ticked: Comparison) -> list[report.Row]:
    """The goals."""
    late_ms, idle_ms = (
        float(np.percentile(ticked.timed.seconds[name], _SHARE)) * 1e3 for name in (NAME, IDLE)
    )  # fmt: skip
    late = report.row(ticked.work, ticked.size, late_ms, idle_ms, IDLE, "ms", "ours <= 5")
    return [built.row("cKDTree", "ours <= 120"), late]
