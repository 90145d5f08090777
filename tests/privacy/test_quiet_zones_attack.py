"""A13: fourteen days of looking at people who have a quiet zone around their home.

Everybody goes to work and back, on a walk around home in the evening, and every other day somewhere else. The attacker
sees each stranger cell that is published, and when nothing is; it knows the zone. A zone finer than resolution 5 would
draw the home by its own outline: the positive control.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence

import h3.api.basic_int as h3
import numpy as np
import orjson

from api.audit.oracle import Point
from api.audit.plane import destination
from api.audit.sites import SITES
from geo import cells
from geo.sphere import great_circle_m
from tests.privacy.longitudinal import Cells, Population, between, mean_center
from tests.privacy.raw_histories import point_in
from tests.privacy.report import reported
from tests.world import STRANGER_EPOCH_MS

_DAYS = 14
_MOST_FOUND = 0.20
_ZONE = cells.cell_of(SITES[0].lat, SITES[0].lon, 5)
_HOMES = [int(cell) for cell in h3.cell_to_children(_ZONE, 7)]
_HOME_CENTERS = np.array([cells.center(cell) for cell in _HOMES])

Seen = list[int]  # cell after cell, 0 = not shown
Guess = Callable[[Seen], int]


def one_day(home: Point, work: Point, draws: random.Random) -> list[Point]:
    """Where somebody is at the stranger edges of a day; the night counts as one."""
    day = [home, between(home, work, draws.random()), work, work, work, work, between(work, home, draws.random()), home]
    day += [destination(home, draws.uniform(0, 360), draws.uniform(500, 4000)) for _ in range(2)]
    if draws.random() < 0.5:
        other = destination(home, draws.uniform(0, 360), draws.uniform(8000, 25_000))
        return [*day, between(home, other, draws.random()), other, between(other, home, draws.random()), home]
    return [*day, *(home,) * 4]


def _work(home: Point, draws: random.Random) -> Point:
    while True:
        work = destination(home, draws.uniform(0, 360), draws.uniform(8000, 25_000))
        if cells.cell_of(*work, 5) != _ZONE:
            return work


# --- guesses: the home's cell of resolution 7, one of the zone's 49 ---


def _nearest_home(point: Point) -> int:
    away = great_circle_m(_HOME_CENTERS[:, 0], _HOME_CENTERS[:, 1], point[0], point[1])
    return _HOMES[int(np.argmin(away))]


def _shown(seen: Seen) -> list[int]:
    return [cell for cell in seen if cell] or [_HOMES[0]]


def _at_the_border(seen: Seen) -> list[int]:
    """Cells seen just before or after nothing was."""
    found = [seen[i] for i in range(1, len(seen) - 1) if seen[i] and (seen[i - 1] == 0 or seen[i + 1] == 0)]
    return found or _shown(seen)


GUESSES: dict[str, Guess] = {
    "middle of the zone": lambda seen: _nearest_home(cells.center(_ZONE)),
    "nearest to the cell seen most": lambda seen: _nearest_home(
        cells.center(Counter(_shown(seen)).most_common(1)[0][0])
    ),
    "nearest to the middle of all": lambda seen: _nearest_home(mean_center(_shown(seen))),
    "nearest to where they vanish most": lambda seen: _nearest_home(
        cells.center(Counter(_at_the_border(seen)).most_common(1)[0][0])
    ),
    "nearest to the middle of where they vanish": lambda seen: _nearest_home(mean_center(_at_the_border(seen))),
}


def _on_straight_ways(seen: Seen) -> int:
    """The home from which straight ways to all places where somebody stays pass what was seen between.

    A track over weeks, which nothing here claims to hide: reported only.
    """
    stays = [cell for cell, count in Counter(_shown(seen)).items() if count >= 2 * _DAYS]
    if not stays:
        return _nearest_home(mean_center(_at_the_border(seen)))
    work = cells.center(max(stays, key=Counter(seen).__getitem__))
    ways = [cells.center(seen[i]) for i in range(1, len(seen) - 1) if seen[i] and _beside(seen, i, stays)]
    if not ways:
        return _nearest_home(work)
    points = np.array(ways)
    past = great_circle_m(work[0], work[1], points[:, 0], points[:, 1])[:, None] + great_circle_m(
        points[:, 0][:, None], points[:, 1][:, None], _HOME_CENTERS[:, 0], _HOME_CENTERS[:, 1]
    )
    detour = past - great_circle_m(work[0], work[1], _HOME_CENTERS[:, 0], _HOME_CENTERS[:, 1])
    return _HOMES[int(np.argmin(np.median(detour, axis=0)))]


def _beside(seen: Seen, i: int, stays: Sequence[int]) -> bool:
    return seen[i] not in stays and bool({seen[i - 1], seen[i + 1]} & {*stays}) and 0 in (seen[i - 1], seen[i + 1])


def _in_the_hole(seen: Seen) -> int:
    """The cell around which nothing is ever seen, and beside that the most."""
    counts = Counter(_shown(seen))

    def around(cell: int) -> int:
        if any(counts[int(near)] for near in h3.grid_disk(cell, 1)):
            return -1
        return sum(min(counts[int(near)], 2) for near in h3.grid_ring(cell, 2))

    candidates = {int(near) for cell in counts for near in h3.grid_disk(cell, 2)}
    return max(sorted(candidates), key=around)


# --- the tests ---


async def _two_weeks(count: int, draws: random.Random, *, zones: bool) -> tuple[list[Seen], list[Point]]:
    """What strangers see of each, edge by edge; and the homes."""
    people = Population(count)
    children = [int(cell) for cell in h3.cell_to_children(_ZONE, 8)]
    homes = [point_in(draws.choice(children), draws) for _ in range(count)]
    works = [_work(home, draws) for home in homes]
    await people.report(*np.array(homes).T)
    for user in people.users:
        people.stage.show(user, "everyone")
        if zones:
            people.stage.fold("s", orjson.dumps({"u": user, "quiet_zones": [_ZONE]}))
    seen: list[Seen] = [[] for _ in range(count)]
    for _ in range(_DAYS):
        days = [one_day(home, work, draws) for home, work in zip(homes, works, strict=True)]
        for points in zip(*days, strict=True):
            await people.report(*np.array(points).T)
            people.stage.later(STRANGER_EPOCH_MS)
            for track, cell in zip(seen, _seen_by_strangers(people).tolist(), strict=True):
                track.append(cell)
    return seen, homes


def _seen_by_strangers(people: Population) -> Cells:
    """uint64[n], 0 for who is not listed: what nearby lists is what the crowd says is shown."""
    presence, now_ms = people.stage.hive.presence, people.stage.now_ms
    presence.crowd(now_ms)
    return np.where(presence.shown_until_ms[people.slots] > now_ms, people.published7(), 0).astype(np.uint64)


def _found(guess: Guess, seen: list[Seen], homes: list[Point]) -> float:
    """The share of homes whose cell of resolution 7 was named."""
    truth = [cells.parent(cells.cell_of(*home, 8), 7) for home in homes]
    return float(np.mean([guess(track) == home for track, home in zip(seen, truth, strict=True)]))


async def test_a_quiet_zone_does_not_draw_the_home(seed: int, scale: int) -> None:
    count = 250 if scale == 1 else 1200
    with reported("A13, quiet zones", seed, count) as run:
        seen, homes = await _two_weeks(count, random.Random(seed), zones=True)
        assert any(cell for track in seen for cell in track)
        assert not any(cells.parent(cell, 5) == _ZONE for track in seen for cell in track if cell)
        shares = {name: _found(guess, seen, homes) for name, guess in GUESSES.items()}
        for name, share in shares.items():
            run.rows.append({"guess": name, "homes found": share, "at most": _MOST_FOUND})
        tracked = _found(_on_straight_ways, seen, homes)
        run.rows.append({"guess": "on straight ways (a track, not claimed)", "homes found": tracked, "at most": 1.0})
        assert max(shares.values()) <= _MOST_FOUND


async def test_a_finer_zone_would_draw_it(seed: int) -> None:
    """Positive control: hidden in the home's cell and those beside it only."""
    seen, homes = await _two_weeks(60, random.Random(seed), zones=False)
    for track, home in zip(seen, homes, strict=True):
        hole = set(map(int, h3.grid_disk(cells.parent(cells.cell_of(*home, 8), 7), 1)))
        track[:] = [0 if cell in hole else cell for cell in track]
    assert _found(_in_the_hole, seen, homes) >= 0.3
