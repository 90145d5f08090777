"""A1 and A7: read distances from a few spoofed places, average what repeats, and see where the circles meet."""

from collections.abc import Awaitable, Callable

from api.audit.oracle import Guess, Observer, Oracle, Prior, Sighting
from api.audit.plane import destination, meeting_point

WIDEST_NEARBY_M = 50_000
WIDEST_RADAR_M = 100_000

Ask = Callable[[Oracle, Observer], Awaitable[Sighting | None]]


async def by_nearby(oracle: Oracle, observer: Observer) -> Sighting | None:
    """The distance that people nearby shows."""
    return await oracle.nearby(observer, WIDEST_NEARBY_M)


async def by_radar(oracle: Oracle, observer: Observer) -> Sighting | None:
    """The distance that radar shows a friend."""
    return await oracle.radar(observer, WIDEST_RADAR_M)


async def trilaterate(
    oracle: Oracle, prior: Prior, ask: Ask = by_nearby, places: int = 3, repeats: int = 1, precision: str | None = None
) -> Guess:
    """From ``places`` fresh accounts around the prior, each asking ``repeats`` times.

    A1 (Tinder 2013, Telegram, Momo) with one question each; with many it averages noise away (A7: Whisper, Hornet).
    """
    spots = [destination(prior.point, 360.0 * i / places, prior.radius_m) for i in range(places)]
    observers = await oracle.observers(spots, precision)
    centers, distances_m = [], []
    for observer in observers:
        seen = [one for one in [await ask(oracle, observer) for _ in range(repeats)] if one is not None]
        if seen:
            centers.append(observer.point)
            distances_m.append(sum(one.middle_m for one in seen) / len(seen))
    await oracle.retire(observers)
    return Guess(*meeting_point(centers, distances_m, prior.point)) if centers else Guess(*prior.point)
