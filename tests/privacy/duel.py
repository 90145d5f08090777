"""T0 in two seconds: one victim at two points that every known kind of leak tells apart, in one resolution-8 cell.

The points lie on two sides of 3 km from the viewer's centre, one of them outside of the resolution-7 cell that the
parent of their resolution-8 cell is, and somebody else stands at a distance between theirs. One run has other times
and numbers of reports, too, with a trip far away and back inside an epoch.
"""

import random
from pathlib import Path
from typing import NamedTuple

import h3.api.basic_int as h3

from discovery.store.client import State
from geo import cells
from geo.sphere import great_circle_m
from tests.privacy.asgi import Answer, Ask, Asker
from tests.privacy.raw_histories import Point, point_towards
from tests.privacy.scenario import Break
from tests.world import EPOCH_MS, PARIS, World, open_world

VICTIM, VIEWER, OTHER = "victim", "viewer", "other"
FRIENDS = {"fn": "near", "fa": "area"}
_FILL = ("b1", "b2", "b3")
_LINE_M = 3000.0
_TOLERANCE_M = 15.0
_TRIES = 60


class Duel(NamedTuple):
    """The two points of the victim, and where the other stands."""

    near: Point
    far: Point
    between: Point


def find_duel() -> Duel:
    """Such points around Paris."""
    draws = random.Random(1)
    home = cells.cell_of(*PARIS, 8)
    viewer = cells.parent(home, 7)
    close = [int(c) for c in h3.grid_disk(home, 6) if cells.distance_m(viewer, cells.parent(int(c), 7)) < _LINE_M]
    drawn = [(cell, point_towards(cell, draws, draws.uniform(0.3, 0.99))) for cell in close for _ in range(_TRIES)]
    away = [(cell, point, float(great_circle_m(*cells.center(viewer), *point))) for cell, point in drawn]
    between = next(point for _, point, m in away if abs(m - _LINE_M) < _TOLERANCE_M)
    near = [(cell, point) for cell, point, m in away if m < _LINE_M - 4 * _TOLERANCE_M]
    far = [(cell, point) for cell, point, m in away if m > _LINE_M + 4 * _TOLERANCE_M]
    for cell, one in near:
        for _, other in (row for row in far if row[0] == cell):
            if cells.cell_of(*one, 7) != cells.cell_of(*other, 7):
                return Duel(one, other, between)
    raise AssertionError("no such points")


def _reports(duel: Duel) -> tuple[list[tuple[int, Point]], list[tuple[int, Point]]]:
    """Two raw histories that look the same: (seconds after the start, point)."""
    away = PARIS[0] + 0.1, PARIS[1]
    return [(0, duel.near), (200, away), (400, duel.near)], [(0, duel.far), (500, duel.far)]


async def transcripts(state: State, data_dir: Path, bug: Break | None = None) -> tuple[list[Answer], list[Answer]]:
    """What the viewer and two friends are answered in both runs."""
    duel = find_duel()
    found = []
    for reports in _reports(duel):
        await state.call("FLUSHALL")
        async with open_world(state, data_dir) as world:
            if bug is not None:
                bug(world)
            found.append(await _run(world, duel, reports))
    return found[0], found[1]


async def place(ask: Asker, user: str, point: Point, visibility: str = "everyone") -> None:
    """Somebody with a position."""
    await ask.ok(Ask(user, "PUT", "/v1/me/position", {"lat": point[0], "lon": point[1], "ttl_s": 28_800}))
    await ask.ok(Ask(user, "PATCH", "/v1/me/settings", {"visibility": visibility}))


async def _run(world: World, duel: Duel, reports: list[tuple[int, Point]]) -> list[Answer]:
    ask = Asker(world)
    start_ms = world.now_ms
    for user in (VIEWER, *_FILL, *FRIENDS):
        await place(ask, user, PARIS, "friends" if user in FRIENDS else "everyone")
    await place(ask, OTHER, duel.between)
    for friend, precision in FRIENDS.items():
        await ask.ok(Ask(VICTIM, "PUT", f"/v1/me/friends/{friend}", {"precision": precision}))
        await ask.ok(Ask(friend, "PUT", f"/v1/me/friends/{VICTIM}", {"precision": precision}))
    seen: list[Answer] = []
    looks = (0, 300, EPOCH_MS // 1000, 3 * EPOCH_MS // 1000)
    for at_s, what in sorted([*((at_s, point) for at_s, point in reports), *((at_s + 1, None) for at_s in looks)]):
        if at_s:
            await world.at(start_ms + 1000 * at_s)
        if what is None:
            seen += await _look(ask)
        else:
            await place(ask, VICTIM, what)
            await ask(Ask(VICTIM, "GET", "/v1/radar"))
    return seen


async def _look(ask: Asker) -> list[Answer]:
    asks = [Ask(VIEWER, "GET", f"/v1/nearby?radius_m=3000&limit={limit}") for limit in (1, 2, 3, 4, 5, 100)]
    asks += [Ask(VIEWER, "GET", "/v1/nearby?radius_m=20000&limit=100")]
    asks += [Ask(friend, "GET", f"/v1/radar?radius_m={radius}") for friend in FRIENDS for radius in (5000, 100_000)]
    return [await ask(one) for one in asks]
