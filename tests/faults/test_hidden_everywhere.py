"""Class A across workers: whoever goes out of sight on one worker is out of sight on the other before the answer.

Trials run interleaved in several lanes; at each the other worker is asked at once: lists of strangers and friends,
cursors, long polls, repeats, picks and held bottles that were open before (``everywhere``).
"""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.everywhere import Count, Lane
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject, subject
from tests.service import Connection

TRIALS, TRIALS_NIGHTLY = 300, 10_000  # by a block, a visibility off or an erasure; others come in between
KILLS, KILLS_NIGHTLY = 2, 50
TRIALS_KILLED, TRIALS_KILLED_NIGHTLY = 20, 10_000
_MOST_REFUSED = 0.001  # of the looks, while nothing is killed
_BETWEEN_S, _BETWEEN_NIGHTLY_S = (0.3, 1.0), (0.5, 4.0)
_LANES = 6
_CONNECTIONS = 5  # of a lane to each worker: as many as it asks at once, and one long poll
_BACK_S = within(5.0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subject(tmp_path_factory.mktemp("service"), epoch_s="3600") as running:  # no cursor ends by an edge
        yield running


@pytest.mark.timeout(3600)
async def test_who_goes_out_of_sight_is_so_on_the_other_worker(service: Subject, seed: int, scale: int) -> None:
    trials = TRIALS if scale == 1 else TRIALS_NIGHTLY
    with reported("class_a_everywhere", seed, "embedded", trials=trials, lanes=_LANES) as run:
        async with service.by_worker(_LANES * _CONNECTIONS) as groups:
            lanes, count = _lanes(service, groups, seed, lon=10.0)
            await asyncio.gather(*(_run(lane, lambda: count.asked_for() < trials) for lane in lanes))
            revived = await _revived(lanes)
        run.counts = count.counts() | {"revived": len(revived), "ok": sum(len(lane.done) for lane in lanes)}
    count.require_none()
    assert revived == []
    assert count.asked_for() >= trials
    assert count.refused <= _MOST_REFUSED * sum(count.looks.values())
    _check_controls(count)


@pytest.mark.timeout(3600)
async def test_nobody_comes_back_when_the_state_server_is_killed(service: Subject, seed: int, scale: int) -> None:
    kills, trials = (KILLS, TRIALS_KILLED) if scale == 1 else (KILLS_NIGHTLY, TRIALS_KILLED_NIGHTLY)
    draws = random.Random(seed)
    with reported("class_a_kills", seed, "embedded", kills=kills, trials=trials, lanes=_LANES) as run:
        async with service.by_worker(_LANES * _CONNECTIONS) as groups:
            lanes, count = _lanes(service, groups, seed, lon=-170.0)
            ended = asyncio.Event()
            running = asyncio.gather(*(_run(lane, lambda: not ended.is_set()) for lane in lanes))
            back_s, killed = 0.0, 0
            while killed < kills or count.asked_for() < trials:
                await asyncio.sleep(draws.uniform(*(_BETWEEN_S if scale == 1 else _BETWEEN_NIGHTLY_S)))
                assert not running.done(), await running
                back_s = max(back_s, await service.kill_one("server", draws, _BACK_S))
                killed += 1
            await asyncio.sleep(0.5)
            ended.set()
            await running
            revived = await _revived(lanes)
        run.counts = count.counts() | {"revived": len(revived), "ok": sum(len(lane.done) for lane in lanes)}
        run.counts |= {"kills": killed, "back_s": round(back_s, 2)}
    count.require_none()
    assert revived == []
    assert sum(len(lane.done) for lane in lanes) > 4 * killed, "the kills must meet people who leave"


def _lanes(service: Subject, groups: list[list[Connection]], seed: int, *, lon: float) -> tuple[list[Lane], Count]:
    count = Count()
    shares = [[group[number::_LANES] for group in groups] for number in range(_LANES)]
    return [Lane(service, share, seed, number, count, lon=lon) for number, share in enumerate(shares)], count


async def _run(lane: Lane, more: Any) -> None:
    while more():
        await lane.trial()


async def _revived(lanes: list[Lane]) -> list[str]:
    """Of all lanes, at the end."""
    return [one for found in await asyncio.gather(*(lane.revived() for lane in lanes)) for one in found]


def _check_controls(count: Count) -> None:
    """Who stays was met and picked: the trials could have failed."""
    stayed = count.stayed
    assert stayed["met before"] > 4 * stayed["not met"]
    assert stayed["polled"] > 4 * stayed["poll ended"]
    assert stayed["picked by another"] > 4 * stayed["not picked"]
