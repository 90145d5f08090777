"""Group commit of reports: how long they gather, that they share an entry, and that nobody takes another along."""

import asyncio

import pytest

from discovery.errors import StateAway
from discovery.report_queue import GatherWindow, ReportQueues
from discovery.reports import OWN, Report
from discovery.store import keys
from geo import cells
from tests.world import World

HOME = cells.cell_of(48.8566, 2.3522, 8)
SHORTEST_S, LONGEST_S = 0.001, 0.07


class Clock:
    """Seconds, put by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def carried(window: GatherWindow, clock: Clock, callers_s: float, seconds: float) -> float:
    """An even stream of callers: one opens an entry, those of its window join it. The window at the end."""
    until_s, callers = clock.now_s + seconds, 0.0
    while clock.now_s < until_s:
        passed_s = 1 / callers_s + window.length_s()
        clock.now_s += passed_s
        callers += callers_s * passed_s
        window.carried(int(callers))
        callers -= int(callers)
    return window.length_s()


@pytest.mark.parametrize(
    ("callers_s", "least_s", "most_s"),
    [
        (10, SHORTEST_S, SHORTEST_S),
        (150, SHORTEST_S, SHORTEST_S),
        (1000, 0.05, LONGEST_S),
        (2000, 0.06, LONGEST_S),
        (5000, 0.024, 0.03),
        (50_000, SHORTEST_S, 0.003),
    ],
)
def test_the_more_come_the_longer_they_gather_until_an_entry_carries_enough(
    callers_s: float, least_s: float, most_s: float
) -> None:
    clock = Clock()
    assert least_s <= carried(GatherWindow(clock), clock, callers_s, 5.0) <= most_s


def test_who_reports_after_each_answer_is_not_held_up_however_quick() -> None:
    clock = Clock()
    window = GatherWindow(clock)
    for _ in range(5000):
        assert window.length_s() == SHORTEST_S
        clock.now_s += 0.002
        window.carried(1)


def test_a_rush_is_forgotten() -> None:
    clock = Clock()
    window = GatherWindow(clock)
    assert carried(window, clock, 2000, 5.0) > 0.05
    clock.now_s += 5.0
    assert window.length_s() == SHORTEST_S


def report(number: int) -> Report:
    return Report(f"u{number}", HOME, 2_000_000_000_000, OWN)


async def entries(world: World) -> int:
    length: int = await world.state.call("XLEN", keys.feed("s00"))
    return length


def queues(world: World, within_s: float = 3.0) -> ReportQueues:
    return ReportQueues(world.hive.writer, asyncio.get_running_loop().time, within_s)


async def test_what_comes_together_is_one_entry_folded_for_all(world: World) -> None:
    before, queue = await entries(world), queues(world)
    await asyncio.gather(*(queue.add([report(number)]) for number in range(200)))
    assert await entries(world) == before + 1
    assert all(world.hive.people.slot(f"u{number}") is not None for number in range(200))
    await queue.add([report(number) for number in range(200, 300)])
    assert await entries(world) == before + 2
    assert world.hive.presence.count_live(world.now_ms) == 300


async def test_who_leaves_takes_nobody_along(world: World) -> None:
    queue = queues(world)
    calls = [asyncio.create_task(queue.add([report(number)])) for number in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    assert [type(found) for found in await asyncio.gather(*calls, return_exceptions=True)] == [
        type(None),
        asyncio.CancelledError,
        type(None),
    ]
    assert world.hive.presence.count_live(world.now_ms) == 3, "what was taken is sent"


async def test_a_state_that_is_away_is_told_to_all(world: World) -> None:
    queue = queues(world)
    await world.state.close()
    calls = [asyncio.create_task(queue.add([report(number)])) for number in range(3)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [StateAway] * 3
    await world.state.open()
    await queue.add([report(0)])
