"""A5 and A6: who comes first in a list tells who is nearer, if the order knows distances; even with distances hidden.

A colluder at a known place stands before or behind the victim in an observer's list: halve the colluder's distance.
"""

from collections.abc import Awaitable, Callable

from api.audit.oracle import Guess, Observer, Oracle, Prior
from api.audit.plane import destination, meeting_point
from api.audit.ranging import WIDEST_NEARBY_M
from api.audit.rays import TOLERANCE_M
from geo.sphere import great_circle_m

_OBSERVERS = 4
_PAGES = 12
_SLOTS = 4

Behind = Callable[[Observer, Observer], Awaitable[bool]]
"""Whether the victim stands behind the colluder in the observer's list."""


async def compare_in_list(oracle: Oracle, prior: Prior) -> Guess:
    """A5 (Grindr, WeChat, Hornet): two colluding accounts and one list."""

    async def behind(observer: Observer, colluder: Observer) -> bool:
        return _is_behind(oracle, await oracle.listing(observer, WIDEST_NEARBY_M, 100, 1), colluder)

    return await _by_order(oracle, prior, behind, fill=0)


async def compare_by_cursor(oracle: Oracle, prior: Prior) -> Guess:
    """A5 over cursors: the list one by one."""

    async def behind(observer: Observer, colluder: Observer) -> bool:
        return _is_behind(oracle, await oracle.listing(observer, WIDEST_NEARBY_M, 1, _PAGES), colluder)

    return await _by_order(oracle, prior, behind, fill=0)


async def compare_by_cut(oracle: Oracle, prior: Prior) -> Guess:
    """A6: a list of K with K - 1 Sybils beside the observer: who is in the last place, the colluder or the victim?"""

    async def behind(observer: Observer, _colluder: Observer) -> bool:
        return oracle.victim not in await oracle.listing(observer, WIDEST_NEARBY_M, _SLOTS, 1)

    return await _by_order(oracle, prior, behind, fill=_SLOTS - 1)


def _is_behind(oracle: Oracle, names: list[str], colluder: Observer) -> bool:
    """Who is not in the list stands behind everybody who is."""
    if oracle.victim not in names:
        return True
    return colluder.user in names and names.index(colluder.user) < names.index(oracle.victim)


async def _by_order(oracle: Oracle, prior: Prior, behind: Behind, fill: int) -> Guess:
    """The victim's distance from each of a few observers, one after the other, then where the circles meet."""
    centers, distances_m = [], []
    for number in range(_OBSERVERS):
        spot = destination(prior.point, 360.0 * number / _OBSERVERS, prior.radius_m / 2)
        observer, *fillers = await oracle.observers([spot] * (1 + fill))
        centers.append(observer.point)
        distances_m.append(await _distance(oracle, observer, behind, 2 * prior.radius_m))
        await oracle.retire([observer, *fillers])
    return Guess(*meeting_point(centers, distances_m, prior.point))


async def _distance(oracle: Oracle, observer: Observer, behind: Behind, reach_m: float) -> float:
    """Halve until the colluder's cell does not change any more, or to a metre."""
    low_m, high_m, seen = 0.0, reach_m, {observer.point}
    while high_m - low_m > TOLERANCE_M:
        middle_m = (low_m + high_m) / 2
        [colluder] = await oracle.observers([destination(observer.point, 45.0, middle_m)])
        if colluder.point in seen:
            await oracle.retire([colluder])
            break
        seen.add(colluder.point)
        distance_m = great_circle_m(*observer.point, *colluder.point)
        if await behind(observer, colluder):
            low_m = max(low_m, distance_m)
        else:
            high_m = min(high_m, distance_m)
        await oracle.retire([colluder])
    return (low_m + high_m) / 2
