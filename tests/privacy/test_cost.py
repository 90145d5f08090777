"""T9, reported without a line: what it costs to find somebody's cell while all limits are on, from 50 km around a city.

One account, no longer new, searches as A4 does. It moves no faster than the speed cap lets it, is in one cell a
stranger epoch, and asks in four epochs a day: later on that day it would be shown each stranger in few of them, so that
a list without the victim would say nothing. Who makes a new account for each question needs that many, and no time.
"""

import random
from collections.abc import Sequence

import numpy as np

from api.audit import cover
from api.audit.oracle import Counting, Observer, Point, Sighting
from api.audit.sites import SITES, Victim, draw_victim
from discovery.exposure_caps import FULL_EPOCHS, MOST_STRANGERS
from discovery.positions import AppPosition
from geo import cells
from geo.privacy import ExactPoint
from geo.sphere import great_circle_m
from tests.privacy.report import reported
from tests.privacy.stage import VICTIM, Stage, StageOracle
from tests.world import EPOCH_MS, HOUR_MS

_SPY = "spy"
_DAY_MS = 24 * HOUR_MS
_TTL_S = 28_800
_LONG_AGO_MS = 8 * _DAY_MS
_TARGET_HOURS = 24


class LimitedOracle(StageOracle):
    """Each observer is the same account, which goes there, and waits until the limits let it ask."""

    def __init__(self, victim: Victim) -> None:
        super().__init__(Stage(exposure_caps=True, speed_limit=True), victim.point)
        self._point = victim.point
        self._day = -1
        self._asked = 0
        self._places: dict[Observer, Point] = {}

    async def begin(self, start: Point) -> None:
        """The account has been there for more than a week."""
        await self.stage.place([_SPY, VICTIM], [start, self._point])
        for user in (_SPY, VICTIM):
            self.stage.show(user, "everyone")
        self.stage.later(_LONG_AGO_MS)
        self.began_ms = self.stage.now_ms

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        assert precision is None
        found = []
        for point in points:
            observer = Observer(_SPY, *cells.center(cells.parent(cells.cell_of(*point, 8), 7)))
            self._places[observer] = point
            found.append(observer)
        return found

    async def retire(self, observers: Sequence[Observer]) -> None:
        """It is still needed."""

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        await self._go(self._places[observer])
        day = self.stage.now_ms // _DAY_MS
        if day == self._day and self._asked == FULL_EPOCHS:
            self.stage.later((day + 1) * _DAY_MS - self.stage.now_ms)
            await self._go(self._places[observer])
            day = self.stage.now_ms // _DAY_MS
        self._asked = self._asked + 1 if day == self._day else 1
        self._day = day
        await self.stage.place([VICTIM], [self._point])  # who stays
        return await super().nearby(observer, radius_m)

    async def _go(self, point: Point) -> None:
        """Until strangers see the account there."""
        row = AppPosition(_SPY, ExactPoint(*point), _TTL_S)
        while any(await self.stage.hive.positions.report_many([row])):
            self.stage.later(EPOCH_MS)
        self.stage.later(self.stage.hive.presence.epochs.next_stranger_edge(self.stage.now_ms) - self.stage.now_ms + 1)


async def test_what_it_costs_to_find_a_cell_with_limits_on(seed: int, scale: int) -> None:
    draws = random.Random(seed)
    victims = [draw_victim(site, draws) for site in SITES[:: 1 if scale > 1 else 4]]
    hours, questions, away_m = [], [], []
    with reported("T9 cost with limits on", seed, len(victims)) as run:
        for victim in victims:
            limited = LimitedOracle(victim)
            await limited.begin(victim.site.prior.point)
            oracle = Counting(limited)
            guess = await cover.search_and_flip(oracle, victim.site.prior)
            hours.append((limited.stage.now_ms - limited.began_ms) / HOUR_MS)
            questions.append(oracle.queries)
            away_m.append(float(great_circle_m(*guess.point, *cells.center(victim.stranger_cell))))
            await limited.stage.hive.exposure.stop()
        run.rows.append(
            {
                "account-hours to the cell, median": float(np.median(hours)),
                "target": _TARGET_HOURS,
                "questions (new accounts, if each asks once), median": float(np.median(questions)),
                "from the middle of the cell, m, median": float(np.median(away_m)),
                "strangers shown to a new account an hour, at most": MOST_STRANGERS / 24,
            }
        )
    assert np.median(away_m) < 1000.0, "it was found"
