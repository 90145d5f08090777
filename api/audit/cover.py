"""A4: find somebody of whom nothing is known but the country around a city, with discs that cover it."""

from api.audit.oracle import Guess, Observer, Oracle, Point, Prior
from api.audit.plane import cover
from api.audit.rays import bisect_list

PRIOR_M = 50_000.0
_RADII_M = (20_000, 10_000, 5000, 3000)
_DENSER = (1.0, 0.5)  # lists are seen from cells: a cover may have holes, a denser one has none


async def search_and_flip(oracle: Oracle, prior: Prior, rays: int = 6) -> Guess:
    """A4 (Polakis et al.): cover the disc with lists of 20 km, the one that shows the victim with 10 km and so on, then
    find the border of the last."""
    center, radius_m = prior.point, PRIOR_M
    found: Observer | None = None
    for disc_m in _RADII_M:
        found = await _search(oracle, center, radius_m, disc_m)
        if found is None:
            return Guess(*center)
        center, radius_m = found.point, float(disc_m)
    assert found is not None
    return await bisect_list(oracle, found, _RADII_M[-1], 2.0 * _RADII_M[-1], rays)


async def _search(oracle: Oracle, center: Point, radius_m: float, disc_m: int) -> Observer | None:
    for share in _DENSER:
        observers = await oracle.observers(cover(center, radius_m, share * disc_m))
        for observer in observers:
            if await oracle.nearby(observer, disc_m) is not None:
                return observer
        await oracle.retire(observers)
    return None
