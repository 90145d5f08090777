"""A2 and A3: walk rays until a signal flips; where it does, the distance is known exactly, if anything exact is behind.

The signal is a shown number that changes (A2: Bumble 2021), or whether the victim is in a list, on a radar or matched
(A3: Badoo, Hinge, Grindr). All rays are halved at the same time.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from api.audit.oracle import Guess, Observer, Oracle, Point, Prior
from api.audit.plane import cover, destination, meeting_point, moved, offset_m

TOLERANCE_M = 1.0
_NUMBER_M = 20_000  # a list that holds everybody of the prior, seen from its centre
_SHAKE_M = 5000
_SHAKERS = 19

Probe = Callable[[Sequence[Point]], Awaitable[list[tuple[Observer, bool]]]]
"""Fresh accounts at the places: each with whether the signal is on there."""


@dataclass
class _Ray:
    """The signal is on at ``low_m``, seen from ``low``, and off at ``high_m``; it flips somewhere between."""

    bearing: float
    low_m: float
    high_m: float
    low: Point
    high: Point | None = None
    done: bool = field(default=False)

    def narrow(self, middle_m: float, observer: Observer, on: bool) -> None:
        """Halve; over once the service tells no difference any more: it measures from the same place as before."""
        if observer.point in (self.low, self.high):
            self.done = True
        elif on:
            self.low_m, self.low = middle_m, observer.point
        else:
            self.high_m, self.high = middle_m, observer.point
        self.done |= self.high_m - self.low_m <= TOLERANCE_M


async def crossings(probe: Probe, center: Observer, reach_m: float, rays: int = 6) -> list[Point]:
    """Where the signal, on at ``center``, flips on its way out to ``reach_m``: one place a ray on which it did."""
    running = [_Ray(360.0 * i / rays, 0.0, reach_m, center.point) for i in range(rays)]
    every = list(running)
    while running:
        middles = [(ray.low_m + ray.high_m) / 2 for ray in running]
        spots = [destination(center.point, ray.bearing, m) for ray, m in zip(running, middles, strict=True)]
        for ray, middle_m, (observer, on) in zip(running, middles, await probe(spots), strict=True):
            ray.narrow(middle_m, observer, on)
        running = [ray for ray in running if not ray.done]
    return [_between(ray.low, ray.high) for ray in every if ray.high is not None]


def _between(a: Point, b: Point) -> Point:
    east, north = offset_m(a, b)
    return moved(a, east / 2, north / 2)


async def flip_number(oracle: Oracle, prior: Prior, rays: int = 6) -> Guess:
    """A2: the next number up from the one shown at the prior's centre begins exactly at the end of its range."""
    [center] = await oracle.observers([prior.point])
    first = await oracle.nearby(center, _NUMBER_M)
    if first is None:
        return Guess(*prior.point)
    edge_m = first.far_m

    async def below_edge(spots: Sequence[Point]) -> list[tuple[Observer, bool]]:
        observers = await oracle.observers(spots)
        seen = [await oracle.nearby(one, _NUMBER_M) for one in observers]
        return [(one, s is not None and s.near_m < edge_m) for one, s in zip(observers, seen, strict=True)]

    return _meet(await crossings(below_edge, center, edge_m + prior.radius_m, rays), edge_m, prior.point)


async def flip_list(oracle: Oracle, prior: Prior, radius_m: int = 20_000, rays: int = 6) -> Guess:
    """A3 on people nearby: in the list of this radius or not; with 50 km it is whether one is listed at all."""
    [center] = await oracle.observers([prior.point])
    return await bisect_list(oracle, center, radius_m, radius_m + prior.radius_m, rays)


async def bisect_list(oracle: Oracle, center: Observer, radius_m: int, reach_m: float, rays: int) -> Guess:
    """From an account that may have the victim in its list of ``radius_m``, out to where it cannot have."""

    async def listed(spots: Sequence[Point]) -> list[tuple[Observer, bool]]:
        observers = await oracle.observers(spots)
        return [(one, await oracle.nearby(one, radius_m) is not None) for one in observers]

    if await oracle.nearby(center, radius_m) is None:
        return Guess(*center.point)
    return _meet(await crossings(listed, center, reach_m, rays), radius_m, center.point)


async def flip_radar(
    oracle: Oracle, prior: Prior, precision: str = "area", radius_m: int = 25_000, rays: int = 6
) -> Guess:
    """A3 on radar: inside the radius of a friend or not; what else radar tells is not looked at."""

    async def inside(spots: Sequence[Point]) -> list[tuple[Observer, bool]]:
        observers = await oracle.observers(spots, precision)
        return [(one, await oracle.radar(one, radius_m) is not None) for one in observers]

    [(center, on)] = await inside([prior.point])
    if not on:
        return Guess(*prior.point)
    return _meet(await crossings(inside, center, radius_m + prior.radius_m, rays), radius_m, prior.point)


async def flip_shake(oracle: Oracle, prior: Prior, rays: int = 6) -> Guess:
    """A3 on shake: first find a place that matches, then the border of the 5 km around."""

    async def matched(spots: Sequence[Point]) -> list[tuple[Observer, bool]]:
        return [(one, seen is not None) for one, seen in await oracle.shake(spots)]

    places = cover(prior.point, prior.radius_m, 0.7 * _SHAKE_M)
    for start in range(0, len(places), _SHAKERS):
        hits = [one for one, on in await matched(places[start : start + _SHAKERS]) if on]
        if hits:
            found = await crossings(matched, hits[0], 2 * _SHAKE_M, rays)
            return _meet(found, _SHAKE_M, hits[0].point)
    return Guess(*prior.point)


def _meet(places: Sequence[Point], radius_m: float, start: Point) -> Guess:
    """Each place lies ``radius_m`` from the victim."""
    return Guess(*meeting_point(places, [radius_m] * len(places), start)) if places else Guess(*start)
