"""The speed cap: what nobody can have moved is refused, one jump a day aside, by every worker alike."""

import random

import numpy as np
import pytest

from discovery.presence import DAY_MS
from discovery.reports import JUMP, OWN, Report
from discovery.speed_cap import SpeedCap
from geo import cells
from geo.speed import MAX_SPEED_M_PER_S, implausible
from tests.discovery.histories import EPOCH_MS, START_MS, Entry, Folded

PARIS = cells.cell_of(48.8566, 2.3522, 8)
LYON = cells.cell_of(45.764, 4.8357, 8)  # 391 km away
LYON_TAKES_MS = round((cells.distance_m(PARIS, LYON) - 2 * 531.414) / 80 * 1000)
TOMORROW_MS = (START_MS // DAY_MS + 1) * DAY_MS


def test_the_limit_is_80_m_a_second_beyond_two_edges(seed: int) -> None:
    draws = random.Random(seed)
    for _ in range(300):
        a, b = (cells.cell_of(draws.uniform(-85, 85), draws.uniform(-180, 180), 8) for _ in range(2))
        least_ms = (cells.distance_m(a, b) - 2 * 531.414) / MAX_SPEED_M_PER_S * 1000
        assert implausible(a, b, max(0, int(least_ms * 0.9999) - 1))
        assert not implausible(a, b, int(least_ms * 1.0001) + 1)
        assert not implausible(a, a, 0)
    for neighbour in cells.disk(PARIS, 1000.0)[0].tolist():
        assert not implausible(PARIS, neighbour, 0), "two edges are no movement"


class Judge:
    """One worker's fold of one person, and its cap."""

    def __init__(self) -> None:
        self.folded = Folded(1)
        self.cap = SpeedCap(self.folded.presence, on=True)

    def fold(self, now_ms: int, cell: int, flags: int = OWN) -> None:
        self.folded.replay(0, [Entry(now_ms, "r", [Report("ann", cell, now_ms + 30_000_000, flags)])])

    def says(self, cell: int, now_ms: int) -> int | None:
        return self.cap.flag(self.folded.people.slot("ann"), cell, now_ms)


def test_one_jump_a_day_is_free() -> None:
    judge = Judge()
    assert judge.says(LYON, START_MS) == 0, "nobody knows where the person was"
    judge.fold(START_MS, PARIS)
    assert judge.says(LYON, START_MS + LYON_TAKES_MS + 2) == 0
    assert judge.says(LYON, START_MS + LYON_TAKES_MS - 2) == JUMP
    judge.fold(START_MS + 1000, LYON, OWN | JUMP)
    assert judge.says(PARIS, START_MS + 2000) is None
    assert judge.says(LYON, START_MS + 2000) == 0
    assert judge.says(PARIS, START_MS + 1000 + LYON_TAKES_MS + 2) == 0, "from where the jump led"
    judge.fold(TOMORROW_MS - 1000, LYON)
    assert judge.says(PARIS, TOMORROW_MS - 1) is None
    assert judge.says(PARIS, TOMORROW_MS) == JUMP


def test_a_report_without_a_new_cell_counts_as_being_there() -> None:
    judge = Judge()
    judge.fold(START_MS, PARIS)
    judge.fold(START_MS + LYON_TAKES_MS, PARIS, OWN)
    assert judge.says(LYON, START_MS + LYON_TAKES_MS + 2) == JUMP


def test_time_that_runs_behind_counts_as_none() -> None:
    """A worker asks at the time of its slowest shard, which may lie before that of the report."""
    judge = Judge()
    judge.fold(START_MS, PARIS)
    assert judge.says(LYON, START_MS - 5000) == JUMP
    assert judge.says(PARIS, START_MS - 5000) == 0


def test_off_refuses_nothing_and_uses_no_jump() -> None:
    judge = Judge()
    judge.fold(START_MS, PARIS, OWN | JUMP)
    off = SpeedCap(judge.folded.presence, on=False)
    assert off.flag(judge.folded.people.slot("ann"), LYON, START_MS) == 0


@pytest.mark.parametrize("cut", [1, 3])
def test_a_worker_that_started_from_a_checkpoint_judges_alike(seed: int, cut: int) -> None:
    draws = random.Random(seed)
    lived, started = Judge(), Judge()
    now_ms = START_MS
    for step in range(6):
        now_ms += draws.choice([1000, EPOCH_MS, LYON_TAKES_MS // 2])
        lived.fold(now_ms, draws.choice([PARIS, LYON]), draws.choice([OWN, OWN | JUMP]))
        if step == cut:
            started.folded.load(lived.folded.packed(0))
        elif step > cut:
            entry = lived.folded.presence
            started.fold(now_ms, int(entry.pending[0]), OWN | JUMP if int(entry.jump_day[0]) else OWN)
    later_ms = np.array([0, 1000, LYON_TAKES_MS // 2, LYON_TAKES_MS + 2, DAY_MS]) + now_ms
    for at_ms in later_ms.tolist():
        for cell in (PARIS, LYON):
            assert started.says(cell, at_ms) == lived.says(cell, at_ms)
