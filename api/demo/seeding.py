"""Build the demo's world, or find it standing and write only what is missing."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.demo.bottles import bottle_text
from api.demo.population import YOU, YOU_LAT, YOU_LON, Population
from api.demo.walkers import Floats, Indices, Walkers
from discovery.app_backend import Pair
from discovery.hive import Hive
from discovery.people import AGE_ADULT
from discovery.positions import LONGEST_TTL_S, AppPosition
from discovery.settings import LONGEST_VISIBLE_MS
from discovery.store import keys
from geo import cells
from geo.privacy import ExactPoint

FLOATING = 60  # bottles that the sea is filled up to
FRIENDS = (("sim-00001", "near"), ("sim-00002", "area"))

_GATHERED = 500  # acts at once: one pipeline to the state
_POSITIONS = 10_000  # rows of one report, the limit of the app's own call
_STANDS_MS = 600_000  # who lapses within 10 minutes is renewed at start
_INSIDE_M = 320.0  # the nearest border found among cells of resolution 8 is 327 m from its centre
_VISIBLE_MS = LONGEST_VISIBLE_MS - 60_000
_CONSENT_VERSION = "simulated"


@dataclass(slots=True)
class World:
    """The hive of the demo process, who lives in it, and where progress is told."""

    hive: Hive
    people: Population
    walkers: Walkers
    say: Callable[[str], None]

    def slots(self) -> NDArray[np.int64]:
        """int64[n]: slot of each person, -1 for who is not known yet."""
        found = (self.hive.people.slot(user) for user in self.people.ids)
        return np.fromiter((-1 if slot is None else slot for slot in found), np.int64, len(self.people))


async def seed(world: World) -> Indices:
    """Write what is missing; returns who of the known has yet to be made visible again, which can wait.

    Everybody is there when this returns, and on an empty state visible as well. After a long pause all visibilities
    have lapsed: then only those around `you` are renewed here, so that a start stays short.
    """
    slots = world.slots()
    known = np.flatnonzero(slots >= 0)
    if len(known):
        _resume(world, slots, known)
    hidden = _hidden(world, slots)
    may_wait = hidden & (slots >= 0) & (np.arange(len(slots)) >= world.people.near)
    await register(world, np.flatnonzero(hidden & ~may_wait))
    await place(world, np.flatnonzero(_absent(world, slots)))
    await _all(show(world.hive, user) for user in sailors(world) if not world.hive.settings.view(user).bottles)
    await seed_you(world)
    world.say(f"people: {len(slots):,} simulated people are there")
    await fill_sea(world)
    return np.flatnonzero(may_wait)


def _resume(world: World, slots: NDArray[np.int64], known: Indices) -> None:
    """People walk on from somewhere in the cell where they were seen last, so that a restart moves nobody."""
    anchors = world.hive.presence.published[slots[known]]
    placed = anchors != 0
    world.walkers.resume(known[placed], *cells.centers(anchors[placed]), _INSIDE_M)


def _hidden(world: World, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n]: who is not a visible adult for some time to come."""
    stands_ms = world.hive.now_ms + _STANDS_MS
    shown = world.hive.people.strangers_until_ms(slots.astype(np.int32), world.hive.now_ms) > stands_ms
    return np.asarray(~(shown & (world.hive.people.age_app[slots] == AGE_ADULT)) | (slots < 0))


def _absent(world: World, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n]: who has no live position for some time and did not clear it themselves."""
    lapsing = world.hive.presence.live_until_ms[slots] <= world.hive.now_ms + _STANDS_MS
    return np.asarray((lapsing & ~world.hive.people.cleared[slots]) | (slots < 0))


async def register(world: World, who: Indices) -> None:
    """The app says that these are adults who agreed to be seen by everyone, which lapses after 8 hours."""
    for start in range(0, len(who), _GATHERED):
        users = [world.people.ids[index] for index in who[start : start + _GATHERED]]
        await _all(_consent(world, user) for user in users)
        done = start + len(users)
        if done % 5_000 == 0 or done == len(who):
            world.say(f"people: {done:,} of {len(who):,} registered")


async def _consent(world: World, user: str) -> None:
    consent = {"version": _CONSENT_VERSION, "at": world.hive.now_ms}
    await world.hive.settings.change_by_app(user, visibility="everyone", consent=consent, age="adult", suspended=None)


def sailors(world: World) -> list[str]:
    """Who throws and picks bottles: all around `you`, and about as many elsewhere. (A start folds every act again, so
    nobody else switches bottles on before their visibility is renewed.)"""
    near, people = world.people.near, len(world.people)
    step = max(1, (people - near) // near)
    return world.people.ids[:near] + world.people.ids[near::step]


async def show(hive: Hive, user: str) -> None:
    """The person's own act: visible to everyone for nearly a day, bottles on."""
    until_ms = hive.now_ms + _VISIBLE_MS
    await hive.settings.change(user, visibility="everyone", visible_until_ms=until_ms, bottles=True, claim="adult")


async def place(world: World, who: Indices) -> None:
    """The app reports where these people are."""
    for start in range(0, len(who), _POSITIONS):
        some = who[start : start + _POSITIONS]
        await report(world, some, *world.walkers.where(some))


async def report(world: World, who: Indices, lats: Floats, lons: Floats) -> None:
    """One report of many positions by the app's backend."""
    rows = zip(who.tolist(), lats.tolist(), lons.tolist(), strict=True)
    ids = world.people.ids
    positions = [AppPosition(ids[index], ExactPoint(lat, lon), LONGEST_TTL_S) for index, lat, lon in rows]
    await world.hive.positions.report_many(positions)


async def seed_you(world: World) -> None:
    """`you`: an adult, visible, with bottles on, in Paris, with two friends. What stands is left alone."""
    hive = world.hive
    slots = np.array([-1 if (slot := hive.people.slot(YOU)) is None else slot])
    if _hidden(world, slots)[0] or not hive.settings.view(YOU).bottles:
        await _consent(world, YOU)
        await show(hive, YOU)
    if slots[0] < 0 or not hive.presence.live_until_ms[slots[0]] > hive.now_ms + _STANDS_MS:
        await hive.positions.report(YOU, ExactPoint(YOU_LAT, YOU_LON), LONGEST_TTL_S, "adult")
    await _befriend(hive)


async def _befriend(hive: Hive) -> None:
    """The app adds both friendships; then one pair shows each other `near`. A person's own unfriending stands."""
    accepted = {row.user: row for row in hive.friends.listed(YOU) if row.state == "accepted"}
    missing = [friend for friend, _ in FRIENDS if friend not in accepted]
    if missing:
        pairs = [Pair(index, YOU, friend, "add", False) for index, friend in enumerate(missing)]
        await hive.app.pair(pairs)
        accepted = {row.user: row for row in hive.friends.listed(YOU) if row.state == "accepted"}
    for friend, precision in FRIENDS:
        row = accepted.get(friend)
        if precision == "near" and row is not None and (row.i_show, row.shows_me) == ("area", "area"):
            await hive.friends.show(friend, YOU, precision, None, "adult")
            await hive.friends.show(YOU, friend, precision, None, "adult")


async def fill_sea(world: World) -> None:
    """Throw bottles until ``FLOATING`` float."""
    floating = int(await world.hive.state.call("HLEN", keys.sea_index()))
    missing = max(0, FLOATING - floating)
    if not missing:
        return
    run = f"{world.hive.now_ms}"
    throwers = itertools.islice(itertools.cycle(reversed(sailors(world))), missing)
    await _all(
        world.hive.bottles.throw(user, f"seed-{run}-{number}", *bottle_text(number))
        for number, user in enumerate(throwers)
    )
    world.say(f"bottles: {floating + missing} float")


async def _all(acts: Iterable[Awaitable[object]]) -> None:
    await asyncio.gather(*acts)
