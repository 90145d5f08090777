"""Raw histories of one person that look the same to a given audience: other points, other numbers and times of reports.

A plan says what the audience sees: in which cell of its resolution the person is at the end of each epoch, when they
are there at all, and their own acts with their times. ``raw_history`` draws reports that follow the plan by
construction, without asking the product: the last report of an epoch lies in the planned cell, in a resolution-8 cell
that is either the published one or does not touch it, so that hysteresis has no say; everything before it is arbitrary.
"""

import random
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import h3.api.basic_int as h3
import numpy as np

from geo import cells
from geo.privacy import CITY_RESOLUTION, FRIEND_RESOLUTION, PRECISE_RESOLUTION, STRANGER_RESOLUTION
from geo.sparse import SparseAreas
from tests.naive_presence import Person, fold_reports
from tests.world import EPOCH_MS, STRANGER_EPOCH_MS

Point = tuple[float, float]

EPOCHS: Final = 12
LEAD_MS: Final = 60_000  # a scenario begins so long after a stranger edge
STAY_TTL_S: Final = 28_800  # outlives every scenario
SHORT_TTL_S: Final = 3600
AUDIENCE_RESOLUTION: Final = {
    "near": 8,
    "area": 7,
    "city": 5,
    "hidden": None,
    "blocking": None,
    "quiet": 8,  # outside of their quiet zone; inside only the zone
    "precise": 11,  # at each report, while that is shared
    "sparse": 5,  # or 6 or 7, by the table of sparse areas
}
"""What the finest viewer among the attackers sees of a person of each kind; None: nothing at all."""
NEVER_MS: Final = 10**12

_EPOCHS_PER_STRANGER = 3
_AT_EACH_EDGE = (FRIEND_RESOLUTION, PRECISE_RESOLUTION)
_ACCURACIES = (None, 5.0, 20.0, 500.0)
_ERASED_SHARE = 0.2  # of the people
_OUTSIDE = (1.005, 1.05)  # times the way from the centre to the border: less than 40 m outside


class Act(NamedTuple):
    """What a person does by themselves, at a time that others may see: in milliseconds after the scenario's start."""

    at_ms: int
    name: str  # visibility, clear, share, shake, look, erase
    value: str = ""
    other: str = ""


class Report(NamedTuple):
    """One report, or the point of a shake (``shake`` = its key)."""

    at_ms: int
    point: Point
    accuracy_m: float | None
    shake: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed of one person.

    ``targets[k]``: where the audience sees what is published in epoch k (None: nobody sees it); ``appearances``: when
    they report after having been away; ``gone``: [from, to) in ms without reports. ``zone``: their quiet zone, or 0.
    ``live``: when they come to lie in which cell of resolution 11, where that is shown at once. ``erased_ms``: of their
    erasure, after which they do nothing.
    """

    user: str
    kind: str
    ttl_s: int
    targets: tuple[int | None, ...]
    acts: tuple[Act, ...]
    appearances: tuple[int, ...]
    gone: tuple[tuple[int, int], ...]
    site: int
    zone: int = 0
    live: tuple[tuple[int, int], ...] = ()
    erased_ms: int = NEVER_MS

    def is_gone(self, at_ms: int) -> bool:
        """Whether the plan allows no report then."""
        return at_ms >= self.erased_ms or any(start <= at_ms < end for start, end in self.gone)

    def ends_seen(self, epoch: int) -> bool:
        """Whether the cell at the end of an epoch will be shown: at an edge of the audience, or after an absence."""
        resolution = AUDIENCE_RESOLUTION[self.kind]
        edge = resolution in _AT_EACH_EDGE or epoch % _EPOCHS_PER_STRANGER == _EPOCHS_PER_STRANGER - 1
        return resolution is not None and (edge or self.is_gone(epoch_start_ms(epoch + 1)))


def epoch_start_ms(epoch: int) -> int:
    """Milliseconds after the scenario's start at which an epoch begins."""
    return max(0, epoch * EPOCH_MS - LEAD_MS)


def epoch_of(at_ms: int) -> int:
    """The epoch of the scenario that holds a moment."""
    return (at_ms + LEAD_MS) // EPOCH_MS


def moment(draws: random.Random, epoch: int) -> int:
    """One of a few moments of an epoch, not its edge. (Few, since each costs the test a change of the clock.)"""
    start_ms, end_ms = epoch_start_ms(epoch), (epoch + 1) * EPOCH_MS - LEAD_MS
    moments: list[int] = [start_ms + 2, end_ms - 1, *range(start_ms + 100_000, end_ms - 1, 200_000)]
    return draws.choice(moments)


# --- points ---


def point_towards(cell: int, draws: random.Random, depth: float) -> Point:
    """A point on the way from the centre to some point of the border; a quarter of them towards a vertex."""
    lat, lon = cells.center(cell)
    corners = cells.boundary(cell)
    at = draws.randrange(len(corners))
    a, b = corners[at], corners[(at + 1) % len(corners)]
    share = draws.random() if draws.random() < 0.75 else draws.choice([0.01, 0.99])
    a_lon, b_lon = (lon + (corner[1] - lon + 540.0) % 360.0 - 180.0 for corner in (a, b))
    to_lat, to_lon = a[0] + share * (b[0] - a[0]), a_lon + share * (b_lon - a_lon)
    at_lon = lon + depth * (to_lon - lon)
    return float(lat + depth * (to_lat - lat)), float((at_lon + 540.0) % 360.0 - 180.0)


def point_in(cell: int, draws: random.Random) -> Point:
    """A point of a resolution-8 cell: half of them within 50 m of its border, the others anywhere in it."""
    if draws.random() < 0.5:
        return point_towards(cell, draws, draws.uniform(0.91, 0.995))
    return point_towards(cell, draws, 0.99 * draws.random() ** 0.5)


def _children8(cell: int, draws: random.Random) -> list[int]:
    """The cell itself, or a dozen of its children of resolution 8."""
    found = [int(child) for child in h3.cell_to_children(cell, 8)]
    return draws.sample(found, min(len(found), 12))


# --- raw histories ---


class _Tracker:
    """The rules in words, for one person: what is published when. ``published`` is what hysteresis compares with."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._person = Person()

    @property
    def published(self) -> int:
        return self._person.published

    @property
    def pending(self) -> int:
        return self._person.pending

    def publishes_at_once(self, at_ms: int) -> bool:
        """Never seen, or away for a whole stranger epoch."""
        absent_ms = _absent_ms(at_ms)
        away = self._person.live_until_ms <= absent_ms and self._person.seen_ms < absent_ms
        return self._person.published == 0 or away

    def report(self, at_ms: int, cell: int, *, shake: bool) -> None:
        now_ms = at_ms + LEAD_MS
        expiry_ms = 0 if shake else -(-(now_ms + 1000 * self._plan.ttl_s) // EPOCH_MS) * EPOCH_MS
        fold_reports([self._person], [(0, cell, expiry_ms)], now_ms, _absent_ms(at_ms))

    def clear(self, at_ms: int) -> None:
        self._person.live_until_ms = min(self._person.live_until_ms, at_ms + LEAD_MS)

    def edge(self) -> None:
        self._person.published = self._person.pending


def _absent_ms(at_ms: int) -> int:
    return (at_ms + LEAD_MS) // STRANGER_EPOCH_MS * STRANGER_EPOCH_MS - STRANGER_EPOCH_MS


def raw_history(plan: Plan, draws: random.Random) -> list[Report]:
    """Reports, in order, that give the visible history of the plan."""
    if AUDIENCE_RESOLUTION[plan.kind] is None:
        return _unseen_history(plan, draws)
    if plan.live:
        return _live_history(plan, draws)
    tracker = _Tracker(plan)
    reports: list[Report] = []
    for epoch in range(EPOCHS):
        tracker.edge()
        reports += _epoch_reports(plan, tracker, epoch, draws)
    return reports


def _unseen_history(plan: Plan, draws: random.Random) -> list[Report]:
    """Anything, at any time."""
    free = [(moment(draws, draws.randrange(EPOCHS)), "") for _ in range(draws.randint(0, 20))]
    site = [int(cell) for cell in h3.grid_disk(plan.site, 8)]
    return [
        Report(at_ms, point_in(draws.choice(site), draws), draws.choice(_ACCURACIES), shake)
        for at_ms, shake in sorted([*free, *_shakes(plan)])
        if at_ms < plan.erased_ms
    ]


def _live_history(plan: Plan, draws: random.Random) -> list[Report]:
    """Other points in the same cells of resolution 11, and any number of reports more from the cell that stands."""
    reports = []
    for (at_ms, cell), (until_ms, _) in zip(plan.live, [*plan.live[1:], (NEVER_MS, 0)], strict=True):
        again = [moment(draws, draws.randrange(EPOCHS)) for _ in range(draws.randint(0, 4))]
        standing = [later_ms for later_ms in again if at_ms < later_ms < until_ms and not plan.is_gone(later_ms)]
        for when_ms in (at_ms, *sorted(standing)):
            point = point_towards(cell, draws, 0.98 * draws.random() ** 0.5)
            reports.append(Report(when_ms, point, draws.choice(_ACCURACIES)))
    return reports


def _shakes(plan: Plan) -> list[tuple[int, str]]:
    return [(act.at_ms, f"{plan.user}-{act.at_ms}") for act in plan.acts if act.name == "shake"]


def _epoch_reports(plan: Plan, tracker: _Tracker, epoch: int, draws: random.Random) -> list[Report]:
    events = _events(plan, tracker, epoch, draws)
    clears = [act.at_ms for act in plan.acts if act.name == "clear" and epoch_of(act.at_ms) == epoch]
    found = []
    for index, (at_ms, shake) in enumerate(events):
        while clears and clears[0] <= at_ms:
            tracker.clear(clears.pop(0))
        at_once, last = tracker.publishes_at_once(at_ms), index == len(events) - 1
        point, cell = _point(plan, tracker.published, epoch, draws, last=last, seen=at_once)
        tracker.report(at_ms, cell, shake=bool(shake))
        found.append(Report(at_ms, point, draws.choice(_ACCURACIES), shake))
    for at_ms in clears:
        tracker.clear(at_ms)
    return found


def _events(plan: Plan, tracker: _Tracker, epoch: int, draws: random.Random) -> list[tuple[int, str]]:
    """Times of an epoch's reports and shakes. Fixed are those at which somebody appears or is about to clear."""
    fixed = [(at_ms, "") for at_ms in plan.appearances]
    fixed += [(act.at_ms - 1, "") for act in plan.acts if act.name == "clear"]
    fixed += _shakes(plan)
    drawn = [moment(draws, epoch) for _ in range(_how_many(plan, tracker, epoch, draws))]
    free = [(at_ms, "") for at_ms in drawn if not plan.is_gone(at_ms)]
    if drawn and not free and not plan.is_gone(epoch_start_ms(epoch) + 1):
        free = [(epoch_start_ms(epoch) + 1, "")]
    return sorted([*free, *(event for event in fixed if epoch_of(event[0]) == epoch)])


def _how_many(plan: Plan, tracker: _Tracker, epoch: int, draws: random.Random) -> int:
    """Any number; none only where the pending cell is right anyway and no expiry hangs on it."""
    target = plan.targets[epoch]
    right = not plan.ends_seen(epoch) or (tracker.pending and _within(tracker.pending, target))
    return draws.randint(0 if right and plan.ttl_s == STAY_TTL_S else 1, 4)


def _within(cell8: int, target: int | None) -> bool:
    return target is not None and cells.parent(cell8, cells.resolution_of(target)) == target


def _point(plan: Plan, kept: int, epoch: int, draws: random.Random, *, last: bool, seen: bool) -> tuple[Point, int]:
    """A point, and the resolution-8 cell that it is kept as. Until the last report of an epoch anything goes, unless it
    is published at once (``seen``)."""
    target = plan.targets[epoch]
    if not seen and not last and kept and draws.random() < 0.5:
        return point_towards(kept, draws, draws.uniform(0.9, 1.3)), kept
    planned = seen or (last and plan.ends_seen(epoch))
    choice = (
        _children8(target, draws) if planned and target is not None else [int(c) for c in h3.grid_disk(plan.site, 8)]
    )
    if planned and target is not None and kept and _within(kept, target):
        choice.append(kept)
    cell = draws.choice(_not_touching(kept, choice))
    if cell == kept and draws.random() < 0.3:
        return point_towards(cell, draws, draws.uniform(*_OUTSIDE)), cell
    return point_in(cell, draws), cell


def _not_touching(kept: int, choice: list[int]) -> list[int]:
    """Those that are the kept cell or do not touch it, so that hysteresis has no say."""
    around = set(map(int, h3.grid_disk(kept, 1))) if kept else set()
    return [cell for cell in choice if cell == kept or cell not in around]


# --- plans ---


def draw_plan(
    user: str, kind: str, site: int, draws: random.Random, friends: tuple[str, ...], areas: SparseAreas | None = None
) -> Plan:
    """What one person of a kind does, and where they are seen, around the resolution-8 cell ``site``."""
    ttl_s = draws.choice([STAY_TTL_S, STAY_TTL_S, SHORT_TTL_S] if kind != "precise" else [STAY_TTL_S])
    appearances, gone, clears = _presence(draws, ttl_s)
    zone = cells.parent(draws.choice(_around(site)), CITY_RESOLUTION) if kind == "quiet" else 0
    targets = _targets(kind, site, draws, zone, areas)
    acts = sorted([*clears, *_acts(kind, draws, friends)])
    plan = Plan(user, kind, ttl_s, targets, tuple(acts), appearances, gone, site, zone)
    if kind == "precise":
        plan = replace(plan, live=_live(plan, draws))
    return _erased(plan, draws) if draws.random() < _ERASED_SHARE else plan


def _erased(plan: Plan, draws: random.Random) -> Plan:
    """The same until the person erases themselves, in the second half."""
    at_ms = moment(draws, draws.randrange(EPOCHS // 2, EPOCHS))
    acts = [act for act in plan.acts if act.at_ms < at_ms]
    return replace(
        plan,
        acts=(*acts, Act(at_ms, "erase")),
        appearances=tuple(when_ms for when_ms in plan.appearances if when_ms < at_ms),
        live=tuple(row for row in plan.live if row[0] < at_ms),
        erased_ms=at_ms,
    )


def _live(plan: Plan, draws: random.Random) -> tuple[tuple[int, int], ...]:
    """When they come to lie in which cell of resolution 11: on appearing, right after they begin to share (only a
    report says where they are), and now and then."""
    now_and_then = [moment(draws, draws.randrange(EPOCHS)) for _ in range(2 * EPOCHS)]
    starts = [act.at_ms + 1 for act in plan.acts if (act.name, act.value) == ("share", "precise")]
    shown = [act.at_ms + 1 for act in plan.acts if act.name == "visibility"]
    times = {when_ms for when_ms in (*now_and_then, *starts, *shown) if not plan.is_gone(when_ms)}
    found = []
    for when_ms in sorted({*times, *plan.appearances}):
        target = plan.targets[min(epoch_of(when_ms), EPOCHS - 1)]
        assert target is not None
        found.append((when_ms, draws.choice(_well_inside(target))))
    return tuple(found)


def _well_inside(cell8: int) -> list[int]:
    """Some cells of resolution 11 no corner of which lies in another cell of resolution 8."""
    found = [int(cell) for cell in h3.cell_to_children(cell8, PRECISE_RESOLUTION)][::9]
    return [
        cell for cell in found if all(cells.cell_of(lat, lon, 8) == cell8 for lat, lon in cells.boundary(cell).tolist())
    ]


def _around(site: int) -> list[int]:
    return [int(cell) for cell in h3.grid_disk(site, 8)]


def draw_areas(site: int, draws: random.Random) -> SparseAreas:
    """A table of sparse areas: each resolution-5 cell around is shown whole, or by its children of 6, or of 7."""
    cities = sorted({int(cells.parent(int(cell), CITY_RESOLUTION)) for cell in h3.grid_disk(site, 16)})
    shown = {city: draws.choice([5, 6, 7]) for city in cities}
    fine, middle = (
        np.array(sorted(int(child) for city in cities if shown[city] == at for child in h3.cell_to_children(city, at)))
        for at in (7, 6)
    )
    return SparseAreas(fine.astype(np.uint64), middle.astype(np.uint64))


def _presence(draws: random.Random, ttl_s: int) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], list[Act]]:
    """Appears; perhaps goes, by a clear or by silence, for a short or a long while; then comes back."""
    first_ms = moment(draws, draws.choice([0, 0, 1]))
    appearances, gone, clears = [first_ms], [(0, first_ms)], []
    leaves = draws.choice([None, 2, 3])
    if leaves is not None:
        from_ms, to_ms = epoch_start_ms(leaves), moment(draws, leaves + draws.choice([1, 3, 5, 6]))
        if ttl_s == STAY_TTL_S or draws.random() < 0.5:
            from_ms = moment(draws, leaves)
            clears.append(Act(from_ms, "clear"))
        gone.append((from_ms, to_ms))
        appearances.append(to_ms)
    return tuple(appearances), tuple(gone), clears


def _targets(
    kind: str, site: int, draws: random.Random, zone: int, areas: SparseAreas | None
) -> tuple[int | None, ...]:
    """What is shown in each epoch, out of a few cells that do not touch each other at resolution 8."""
    if AUDIENCE_RESOLUTION[kind] is None:
        return (None,) * EPOCHS
    choice: list[int] = []
    for cell in draws.sample(_around(site), 40):
        around = [_shown(kind, int(near), zone, areas) for near in h3.grid_disk(cell, 1)]
        shown = _shown(kind, cell, zone, areas)
        alone = set(around).isdisjoint(choice) and zone not in around
        if cells.resolution_of(shown) != FRIEND_RESOLUTION or alone:
            choice.append(shown)
    targets = [draws.choice(choice)]
    while len(targets) < EPOCHS:
        targets.append(draws.choice(choice) if draws.random() < 0.5 else targets[-1])
    return tuple(targets)


def _shown(kind: str, cell8: int, zone: int, areas: SparseAreas | None) -> int:
    """The finest cell that an audience is shown of who is kept in a cell of resolution 8."""
    if kind == "quiet":
        return zone if cells.parent(cell8, CITY_RESOLUTION) == zone else cell8
    if kind == "sparse":
        assert areas is not None
        return areas.published(cells.parent(cell8, STRANGER_RESOLUTION))
    resolution = AUDIENCE_RESOLUTION[kind]
    assert resolution is not None
    return int(cells.parent(cell8, min(resolution, FRIEND_RESOLUTION)))


_VISIBILITIES = {
    "near": ("everyone", "friends", "nobody"),
    "area": ("everyone", "friends", "nobody"),
    "city": ("friends", "nobody"),
    "hidden": ("nobody",),
    "blocking": ("everyone", "friends", "nobody"),
    "quiet": ("everyone", "friends", "nobody"),
    "precise": ("everyone", "friends", "friends", "nobody"),
    "sparse": ("everyone", "friends", "nobody"),
}
_PRECISIONS = {
    "near": ("hidden", "city", "area", "near"),
    "area": ("hidden", "city", "area"),
    "city": ("hidden", "city"),
    "hidden": ("hidden", "city", "area", "near"),
    "blocking": ("hidden", "city", "area", "near"),
    "quiet": ("hidden", "city", "area", "near"),
    "precise": ("hidden", "city", "area", "near", "precise"),
    "sparse": ("hidden", "city", "area"),
}
SHAKERS: Final = ("near", "area", "blocking", "sparse")
"""Kinds whose people shake: a shake shows the resolution-7 cell, even of whom nobody sees otherwise."""


def _acts(kind: str, draws: random.Random, friends: tuple[str, ...]) -> list[Act]:
    acts = [Act(moment(draws, epoch), "look") for epoch in range(0, EPOCHS, 3)]
    for _ in range(draws.randint(0, 3)):
        acts.append(Act(_some_moment(draws), "visibility", draws.choice(_VISIBILITIES[kind])))
        acts.append(Act(_some_moment(draws), "share", draws.choice(_PRECISIONS[kind]), draws.choice(friends)))
    if kind == "precise":
        acts += [Act(_some_moment(draws), "share", "precise", friends[0]) for _ in range(2)]
    if kind in SHAKERS:
        epochs = draws.sample(range(EPOCHS), 2)
        acts += [Act(moment(draws, epoch), "shake", draws.choice(["nearby", "anywhere"])) for epoch in epochs]
    return acts


def _some_moment(draws: random.Random) -> int:
    return moment(draws, draws.randrange(EPOCHS))
