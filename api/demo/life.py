"""What simulated people do once the world stands: walk, shake, throw and answer bottles, and stay visible."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import structlog

from api.demo import seeding
from api.demo.bottles import bottle_text, reply_text
from api.demo.population import YOU, YOU_LAT, YOU_LON, distances_to_you_m
from api.demo.seeding import World
from api.demo.walkers import Indices
from discovery.errors import Refused
from discovery.people import EVERYONE
from discovery.positions import LONGEST_TTL_S, AppPosition
from discovery.shake import ShakeRequest
from discovery.store import keys
from discovery.store.client import StateFault
from geo.privacy import ExactPoint

READY_TTL_S = 86_400
SHAKE_PERIOD_S = 2.0

_SLICES = 30  # each second one in thirty people reports
_RENEWED_AT_ONCE = 100  # a second; those whose visibility lapsed during a pause, after a start
_ELSEWHERE_PERIOD_S = 3.0
_SEA_PERIOD_S = 2.0
_KEEP_PERIOD_S = 60.0
_ANSWERED = 0.75  # of the bottles picked; the others are thrown back
_LEAST_FLOATING = 50
# Published cells of two people whose points lie this near are nearly always within 5 km of each other.
_SHAKING_M = 2_500.0
_LEAD_MS = (1_200_000, 21_600_000)  # visibility is renewed between 20 minutes and 6 hours ahead, spread over people
_YOU_LEAD_MS = 600_000

log = structlog.get_logger("nearhive.demo")


class Life:
    """Runs until cancelled. ``clock`` gives seconds and does not run back; ``run`` names this run of the demo."""

    def __init__(
        self, world: World, hidden: Indices, rng: np.random.Generator, clock: Callable[[], float], run: str
    ) -> None:
        self._world = world
        self._hive = world.hive
        self._hidden = hidden
        self._rng = rng
        self._clock = clock
        self._run = run
        self._acts = 0
        self.second = 0
        self._sailors = seeding.sailors(world)
        self.lead_ms = rng.integers(*_LEAD_MS, len(world.people))

    async def run(self) -> None:
        """Everything at once, each in its own rhythm."""
        async with asyncio.TaskGroup() as group:
            for period_s, act in (
                (1.0, self.walk),
                (SHAKE_PERIOD_S, self.shake_near_you),
                (_ELSEWHERE_PERIOD_S, self.shake_elsewhere),
                (_SEA_PERIOD_S, self.sail),
                (_KEEP_PERIOD_S, self.keep),
            ):
                group.create_task(self._every(period_s, act))

    async def _every(self, period_s: float, act: Callable[[], Awaitable[None]]) -> None:
        """A refusal or a state that is away for a moment must not end the demo."""
        due_s = self._clock()
        while True:
            try:
                await act()
            except (Refused, StateFault) as error:
                log.warning("demo_act_failed", act=act.__name__, error=type(error).__name__)
            due_s = max(due_s + period_s, self._clock())
            await asyncio.sleep(due_s - self._clock())

    async def walk(self) -> None:
        """One slice of the people walks and reports; who of them lapses soon, or lapsed in a pause, is shown again."""
        who = np.arange(self.second % _SLICES, len(self._world.people), _SLICES)
        self.second += 1
        lats, lons = self._world.walkers.walk(who, self._clock())
        await seeding.report(self._world, who, lats, lons)
        late, self._hidden = self._hidden[:_RENEWED_AT_ONCE], self._hidden[_RENEWED_AT_ONCE:]
        ids = self._world.people.ids
        await asyncio.gather(*(seeding.show(self._hive, ids[index]) for index in (*self._lapsing(who), *late.tolist())))

    def _lapsing(self, who: Indices) -> list[int]:
        """Who is visible now and will not be for long. Who chose not to be is left alone."""
        people = self._hive.people
        slots = np.array([people.slot(self._world.people.ids[index]) for index in who.tolist()], np.int64)
        until_ms, now_ms = people.visible_until_ms[slots], self._hive.now_ms
        shown = (people.visibility[slots] == EVERYONE) & (until_ms > now_ms)
        return [int(index) for index in who[shown & (until_ms - now_ms < self.lead_ms[who])]]

    async def shake_near_you(self) -> None:
        """Somebody near `you` shakes."""
        near = np.arange(self._world.people.near)
        distances_m = distances_to_you_m(*self._world.walkers.where(near))
        close = near[distances_m <= _SHAKING_M]
        chosen = self._rng.choice(close) if len(close) else np.argmin(distances_m)
        await self._shake(int(chosen), "nearby")

    async def shake_elsewhere(self) -> None:
        """Two neighbours somewhere else shake, every other time to meet anybody anywhere."""
        first, people = self._world.people.near, len(self._world.people)
        if people - first < 2:
            return
        index = int(self._rng.integers(first, people - 1))
        reach = "anywhere" if self._acts % 2 else "nearby"
        await asyncio.gather(self._shake(index, reach), self._shake(index + 1, reach))

    async def _shake(self, index: int, reach: str) -> None:
        (lat,), (lon,) = self._world.walkers.where(np.array([index]))
        request = ShakeRequest(ExactPoint(float(lat), float(lon)), reach, 10)
        await self._hive.shakes.shake(self._world.people.ids[index], self._key(), request, "adult")

    async def sail(self) -> None:
        """Somebody picks a bottle and answers it or throws it back; somebody throws one when few float."""
        floating = int(await self._hive.state.call("HLEN", keys.sea_index()))
        if floating > _LEAST_FLOATING:
            await self._pick(self._sailor())
        if floating < seeding.FLOATING:
            await self._hive.bottles.throw(self._sailor(), self._key(), *bottle_text(self._acts))

    async def _pick(self, user: str) -> None:
        bottle = (await self._hive.bottles.pick(user, self._key())).bottle
        if bottle is None:
            return
        if self._rng.random() < _ANSWERED:
            await self._hive.bottles.reply(user, self._key(), bottle.bottle_id, reply_text(self._acts))
        else:
            await self._hive.bottles.throw_back(user, bottle.bottle_id)

    def _sailor(self) -> str:
        return self._sailors[int(self._rng.integers(len(self._sailors)))]

    async def keep(self) -> None:
        """Workers that start again find this run's world ready; `you` stay in it."""
        await self._hive.state.call("SET", keys.demo_ready(), self._run, "EX", READY_TTL_S)
        slot, now_ms = self._hive.people.slot(YOU), self._hive.now_ms
        if slot is None:
            return
        # By the app's call, so that a clear by `you` stands; a place that `you` chose stands until it lapses.
        if self._hive.presence.live_until_ms[slot] < now_ms + _YOU_LEAD_MS:
            await self._hive.positions.report_many([AppPosition(YOU, ExactPoint(YOU_LAT, YOU_LON), LONGEST_TTL_S)])
        until_ms = int(self._hive.people.visible_until_ms[slot])
        if self._hive.people.visibility_at(slot, now_ms) == EVERYONE and 0 < until_ms < now_ms + _YOU_LEAD_MS:
            await seeding.show(self._hive, YOU)

    def _key(self) -> str:
        """An idempotency key that no act before had."""
        self._acts += 1
        return f"{self._run}-{self._acts}"
