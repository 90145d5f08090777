"""T3: what is learnt by looking for days: at people who stay where they are, log in anew, or walk past.

Only the last report of an epoch is ever published, so one report an epoch says all that a phone could say.
"""

import random
from itertools import pairwise

import numpy as np

from api.audit.scoring import least_median
from api.audit.sites import SITES
from geo import cells
from geo.privacy import ExactPoint
from tests.privacy.longitudinal import (
    Population,
    Walkers,
    between,
    errors,
    mean_center,
    static_points,
    track_guess,
    with_noise,
)
from tests.privacy.report import reported
from tests.world import EPOCH_MS

_PARIS = SITES[0].lat, SITES[0].lon
_USERS = 1000
_EPOCHS_A_DAY = 96
_SESSIONS = 100
_MOVING = 0.85  # of the declared uncertainty: who moves, with one change of cell known
_FOLLOWED = 0.50  # who walks straight on, by an attacker who knows that and the speed
_UNCERTAINTY = 0.399


async def test_who_stays_in_one_place_stays_in_one_cell(seed: int, scale: int) -> None:
    """Static, GPS sigma 8 m: nobody changes cells more than once a day; and A15, who flaps is on a border, learns
    nothing from those who did not flap."""
    draws = random.Random(seed)
    days = 2 if scale == 1 else 7
    people = Population(_USERS)
    rng = np.random.default_rng(seed)
    lats, lons = static_points(_USERS, _PARIS, draws)
    changes = np.zeros((days, _USERS), np.int64)
    with reported("T3 static, and A15", seed, _USERS) as run:
        seen = [set[int]() for _ in range(_USERS)]
        before = None
        for epoch in range(days * _EPOCHS_A_DAY):
            await people.report(*with_noise(lats, lons, rng))
            people.stage.later(EPOCH_MS)
            now = people.published8()
            if before is not None:
                changes[epoch // _EPOCHS_A_DAY] += now != before
            for number in np.flatnonzero(now != before) if before is not None else range(_USERS):
                seen[number].add(int(now[number]))
            before = now
        guesses = [mean_center(sorted(cells_seen)) for cells_seen in seen]
        found = errors(lats, lons, guesses, people.published8())
        restless = int((changes > 1).any(axis=0).sum())
        run.rows.append(
            {
                "days": days,
                "users with more than one change a day": restless,
                "changes a user and day": float(changes.sum()) / (_USERS * days),
                "A15 error / √A": float(np.median(found)),
                "at least": least_median(_USERS),
            }
        )
        assert restless == 0
        assert np.median(found) >= least_median(_USERS)


async def test_without_hysteresis_people_flap(seed: int) -> None:
    """Positive control of the same population: the cell that holds each report."""
    rng = np.random.default_rng(seed)
    lats, lons = static_points(_USERS, _PARIS, random.Random(seed))
    shown = [cells.cells_of(*with_noise(lats, lons, rng), 8) for _ in range(_EPOCHS_A_DAY)]
    changes = sum((a != b).astype(np.int64) for a, b in pairwise(shown))
    assert np.mean(changes > 1) >= 0.04


async def test_a_hundred_sessions_tell_no_more_than_one(seed: int, scale: int) -> None:
    """A8: the person clears, stays away for a while, comes back and reports anew, a hundred times."""
    draws = random.Random(seed)
    count = 60 * scale
    people = Population(count)
    rng = np.random.default_rng(seed)
    lats, lons = static_points(count, _PARIS, draws)
    seen: list[np.ndarray] = []
    with reported("A8, re-login and re-toggle", seed, count) as run:
        for _ in range(_SESSIONS):
            for user, lat, lon in zip(
                people.users, *(axis.tolist() for axis in with_noise(lats, lons, rng)), strict=True
            ):
                await people.stage.hive.positions.report(user, ExactPoint(lat, lon), 7200, None)
                people.stage.show(user, "everyone")
            seen.append(people.published8())
            for user in people.users:
                people.stage.show(user, "nobody")
                people.stage.fold("c", user.encode())
            people.stage.later(draws.choice([60_000, EPOCH_MS, 7 * EPOCH_MS, 100 * EPOCH_MS]))
        first = errors(lats, lons, [cells.center(int(cell)) for cell in seen[0]], seen[0])
        tracks = [[int(session[number]) for session in seen] for number in range(count)]
        last = errors(lats, lons, [mean_center(track) for track in tracks], seen[-1])
        ratio = float(np.median(last) / np.median(first))
        run.rows.append({"sessions": _SESSIONS, "error now / at session 1": ratio, "at least": 0.95})
        assert ratio >= 0.95


async def test_a_walker_is_not_found_when_the_cell_changes(seed: int, scale: int) -> None:
    """A14 at 1.4 m/s: the best linear estimator between the old cell and the new one when it changes; and who knows
    that it is a straight walk, from four cells."""
    draws = random.Random(seed)
    count = 600 * scale
    with reported("A14, walkers", seed, count) as run:
        worst = []
        for resolution, epochs in ((8, 1), (7, 3)):
            one_change, followed = await _walk(count, resolution, epochs, draws, scale)
            run.rows.append(
                {
                    "resolution": resolution,
                    "one change, error / √A": one_change,
                    "at least": _MOVING * _UNCERTAINTY,
                    "four cells, error over declared": followed,
                    "line": _FOLLOWED,
                }
            )
            worst.append((one_change, followed))
        spread = 4 * 0.0141 * (200 / count) ** 0.5 if scale == 1 else 0.0
        assert min(one for one, _ in worst) >= _MOVING * _UNCERTAINTY - spread
        assert min(four for _, four in worst) >= _FOLLOWED - spread / _UNCERTAINTY


async def _walk(count: int, resolution: int, epochs: int, draws: random.Random, scale: int) -> tuple[float, float]:
    """Medians: err / sqrt(A) of the one-change estimator at its best weight; of the tracks over 0.399 sqrt(A)."""
    people, walkers = Population(count), Walkers(count, _PARIS, draws)
    shown = []
    for edge in range(1, 4 * epochs + 1):
        end_s = edge * EPOCH_MS / 1000
        reported_s = end_s - walkers.rng.uniform(0, 60, count)
        await people.report(*walkers.at(reported_s))
        people.stage.later(EPOCH_MS)
        if edge % epochs == 0:
            shown.append(people.published8() if resolution == 8 else people.published7())
    lats, lons = walkers.at(4 * epochs * EPOCH_MS / 1000)
    changed = np.flatnonzero(shown[-1] != shown[-2])
    one_change = min(_one_change(lats, lons, shown, changed, weight) for weight in np.linspace(-0.3, 0.5, 17).tolist())
    few = changed[: 100 * scale]
    guesses = [track_guess([int(edge[i]) for edge in shown], epochs * EPOCH_MS / 1000, walkers.rng) for i in few]
    followed = errors(lats[few], lons[few], guesses, shown[-1][few])
    return one_change, float(np.median(followed)) / _UNCERTAINTY


def _one_change(
    lats: np.ndarray, lons: np.ndarray, shown: list[np.ndarray], changed: np.ndarray, weight: float
) -> float:
    guesses = [
        between(cells.center(int(shown[-1][i])), cells.center(int(shown[-2][i])), weight) for i in changed.tolist()
    ]
    return float(np.median(errors(lats[changed], lons[changed], guesses, shown[-1][changed])))
