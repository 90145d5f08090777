"""T0's timing: how long an answer takes tells two raw histories no better than what it says.

Two worlds with a state server each answer the same questions in random order. Blocks of a hundred answers of each have
means that are normal enough for Student's t of their differences; each round makes both worlds anew and swaps which of
them holds which history, so that how one lies in memory is not taken for a leak. What is measured is the time of the
processor: reads never leave the process, and what else runs on the machine does not count. The full size is for the
nightly run alone.
"""

import asyncio
import gc
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import structlog
from numpy.typing import NDArray

from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from tests.privacy.asgi import Ask, Asker
from tests.privacy.duel import FRIENDS, VICTIM, VIEWER, find_duel, place
from tests.privacy.report import reported
from tests.world import PARIS, World, open_world

MOST_T = 4.5
PLANTED_S = 20e-6
_SIZE = 1, 3, 20  # rounds, blocks of each history in a round, answers in a block
_SIZE_NIGHTLY = 10, 50, 100  # 100,000 answers in all
_CROWD = 10

Times = list[float]


@pytest.fixture(autouse=True)
def _no_log_lines() -> Iterator[None]:
    """Writing a line takes longer than most answers."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest_asyncio.fixture
async def second_state(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[State]:
    """A server of its own for the other world."""
    data_dir = DataDir.take(tmp_path_factory.mktemp("second"), time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic)
    server.start()
    state = State(server.url)
    await state.open()
    yield state
    await state.close()
    server.stop()
    data_dir.release()


def paired_t(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Student's t of the differences of blocks of one time: what slows the machine slows both."""
    differences = one - other
    return float(differences.mean() / (differences.std(ddof=1) / math.sqrt(differences.size)))


def residuals(one: Times, other: Times) -> tuple[Times, Times]:
    """Times of one round less the median of their question, of both sides together.

    What took longer than nine in ten counts as that: then a garbage collector or the kernel was at work.
    """
    left = np.array(one), np.array(other)
    for question in range(len(_QUESTIONS)):
        both = np.concatenate([side[question :: len(_QUESTIONS)] for side in left])
        middle, longest = np.quantile(both, [0.5, 0.9])
        for side in left:
            asked = side[question :: len(_QUESTIONS)]
            asked[:] = np.minimum(asked, longest) - middle
    return left[0].tolist(), left[1].tolist()


def t_of(one: Times, other: Times, block: int) -> float:
    """t of two series of times, by the means of ``block`` of each."""
    means = [np.array(side[: len(side) // block * block]).reshape(-1, block).mean(axis=1) for side in (one, other)]
    return paired_t(means[0], means[1])


async def _history(world: World, number: int) -> Asker:
    """The victim at one of two points of a cell; in history 1 there were more reports, one from elsewhere."""
    duel, ask = find_duel(), Asker(world)
    for user in (VIEWER, *FRIENDS, *(f"crowd-{n}" for n in range(_CROWD))):
        await place(ask, user, PARIS)
    for friend, precision in FRIENDS.items():
        await ask.ok(Ask(VICTIM, "PUT", f"/v1/me/friends/{friend}", {"precision": precision}))
        await ask.ok(Ask(friend, "PUT", f"/v1/me/friends/{VICTIM}", {"precision": precision}))
    for point in ([duel.near], [duel.far, (PARIS[0] + 0.1, PARIS[1]), duel.far, duel.far])[number]:
        await place(ask, VICTIM, point)
    return ask


_QUESTIONS = (
    Ask(VIEWER, "GET", "/v1/nearby?radius_m=5000&limit=100"),
    Ask("fn", "GET", "/v1/radar?radius_m=10000"),
    Ask("fn", "GET", "/v1/me/friends"),
)


def _plant(asker: Asker, seconds: float) -> None:
    """Every answer takes so much longer."""
    app = asker.app

    async def slower(*args: object) -> None:
        end_s = time.thread_time() + seconds
        while time.thread_time() < end_s:
            pass
        await app(*args)

    asker.app = slower


async def _one_round(askers: list[Asker], draws: random.Random, answers: int) -> tuple[Times, Times]:
    """So many answers of each, in random order; each side goes round the same questions."""
    order = [0, 1] * answers
    draws.shuffle(order)
    times: tuple[Times, Times] = ([], [])
    for asker in askers * 20:
        for question in _QUESTIONS:
            await asker(question)
    gc.collect()
    gc.disable()
    try:
        for side in order:
            question = _QUESTIONS[len(times[side]) % len(_QUESTIONS)]
            started_s = time.thread_time()
            await askers[side](question)
            times[side].append(time.thread_time() - started_s)
            await asyncio.sleep(0)  # whoever follows the feeds has their turn between two answers
    finally:
        gc.enable()
    return residuals(*times)


async def measured(
    states: tuple[State, State],
    data_dir: Path,
    draws: random.Random,
    size: tuple[int, int, int],
    histories: tuple[int, int] = (0, 1),
    planted_s: float = 0.0,
) -> float:
    """t of the times of two histories, over ``size`` (rounds, blocks, answers); ``planted_s`` slows the second."""
    one: Times = []
    other: Times = []
    for number in range(size[0]):
        for state in states:
            await state.call("FLUSHALL")
        dirs = [data_dir / str(side) for side in range(2)]
        async with open_world(states[0], dirs[0]) as first, open_world(states[1], dirs[1]) as second:
            worlds = [first, second] if number % 2 else [second, first]
            askers = [await _history(world, history) for world, history in zip(worlds, histories, strict=True)]
            if planted_s:
                _plant(askers[1], planted_s)
            times = await _one_round(askers, draws, size[1] * size[2])
        one += times[0]
        other += times[1]
    return t_of(one, other, size[2])


async def test_answers_take_no_longer_for_another_history(
    state: State, second_state: State, tmp_path: Path, seed: int, scale: int
) -> None:
    draws, states = random.Random(seed), (state, second_state)
    if scale == 1:
        assert abs(await measured(states, tmp_path, draws, _SIZE, planted_s=0.003)) > MOST_T
        return
    size = _SIZE_NIGHTLY
    with reported("T0 timing", seed, 2 * math.prod(size)) as run:
        found = {
            "two histories": await measured(states, tmp_path, draws, size),
            "one and the same": await measured(states, tmp_path, draws, size, histories=(0, 0)),
            "20 us planted": await measured(states, tmp_path, draws, size, histories=(0, 0), planted_s=PLANTED_S),
        }
        run.rows += [{"pair": name, "t": t, "line": MOST_T} for name, t in found.items()]
        assert abs(found["one and the same"]) < MOST_T, "this machine is no clock now"
        assert abs(found["20 us planted"]) > MOST_T, "this machine is no clock now"
        assert abs(found["two histories"]) < MOST_T


def test_t_is_that_of_the_textbook() -> None:
    one, other = np.array([3.0, 5.0, 4.0, 8.0]), np.array([1.0, 4.0, 4.0, 3.0])
    assert abs(paired_t(one, other) - 2.0 / (math.sqrt(14.0 / 3) / 2)) < 1e-12
