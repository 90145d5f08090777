"""The 12 seeded bugs: each puts one known leak into a running world, as a careless change of the product might.

To leak, the product must first keep what it never keeps: each bug that needs them begins by noting exact points.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import structlog

from discovery.errors import Suspended
from discovery.nearby import Neighbour
from discovery.shake import _hash_in
from geo import cells
from geo.sphere import great_circle_m
from tests.world import World

Point = tuple[float, float]
Bug = Callable[[World], None]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


def _noted_points(world: World) -> dict[str, Point]:
    """The last exact point of everybody, from now on."""
    points: dict[str, Point] = {}
    report = world.hive.positions.report

    async def noting(user: str, point: Any, *rest: Any) -> Any:
        points[user] = point.lat, point.lon
        return await report(user, point, *rest)

    cast(Any, world.hive.positions).report = noting
    return points


def _noted_times(world: World) -> dict[str, int]:
    """When everybody reported last, in hive ms."""
    times: dict[str, int] = {}
    report = world.hive.positions.report

    async def noting(user: str, *rest: Any) -> Any:
        times[user] = world.hive.now_ms
        return await report(user, *rest)

    cast(Any, world.hive.positions).report = noting
    return times


def _distances(world: World, points: dict[str, Point], viewer: str) -> Callable[[Neighbour], float]:
    """Exact distances from the centre of the viewer's published cell."""
    slot = world.hive.people.slot(viewer)
    assert slot is not None
    here = cells.center(world.hive.presence.stranger_cell(slot))

    def distance_m(one: Neighbour) -> float:
        return float(great_circle_m(*here, *points[one.user])) if one.user in points else 0.0

    return distance_m


def _change_pages(
    world: World, change: Callable[[list[Neighbour], Callable[[Neighbour], float], int, int], Any]
) -> None:
    """Nearby lists all there are, then ``change(people, distance, radius_m, limit)`` makes a page of them."""
    points, page = _noted_points(world), world.hive.nearby.page

    async def changed(user: str, radius_m: int, limit: int, cursor: str | None) -> Any:
        full = await page(user, radius_m, 100, cursor)
        distance_m = _distances(world, points, user)
        return type(full)(change(full.people, distance_m, radius_m, limit), full.edge_ms, full.next_cursor)

    cast(Any, world.hive.nearby).page = changed


def sort_by_exact(world: World) -> None:
    """Inside a band by exact distance."""
    _change_pages(
        world, lambda people, d, _, limit: sorted(people, key=lambda one: (one.distance_min_m, d(one)))[:limit]
    )


def cut_on_exact(world: World) -> None:
    """The page holds the nearest by exact distance, in keyed order."""

    def cut(people: list[Neighbour], d: Callable[[Neighbour], float], _: int, limit: int) -> list[Neighbour]:
        nearest = {one.user for one in sorted(people, key=d)[:limit]}
        return [one for one in people if one.user in nearest]

    _change_pages(world, cut)


def filter_on_exact(world: World) -> None:
    """The radius is compared with the exact distance."""
    _change_pages(world, lambda people, d, radius_m, limit: [one for one in people if d(one) <= radius_m][:limit])


def count_from_exact(world: World) -> None:
    """A header counts who is within the radius, exactly."""
    points = _noted_points(world)

    def count(scope: dict[str, Any], body: bytes) -> tuple[bytes, bytes] | None:
        if scope["path"] != "/v1/nearby" or b'"people"' not in body:
            return None
        here = cells.center(world.hive.presence.stranger_cell(0))
        radius_m = json.loads(body)["radius_m"]
        inside = sum(float(great_circle_m(*here, *point)) <= radius_m for point in points.values())
        return b"x-total-count", str(inside).encode()

    _add_header(world, count)


def etag_by_update_time(world: World) -> None:
    """Lists carry the time of the last report in their ETag."""
    times = _noted_times(world)

    def etag(scope: dict[str, Any], body: bytes) -> tuple[bytes, bytes] | None:
        if scope["path"] not in ("/v1/nearby", "/v1/radar"):
            return None
        newest_ms = max((ms for user, ms in times.items() if f'"{user}"'.encode() in body), default=0)
        return b"etag", f'"{newest_ms:x}"'.encode()

    _add_header(world, etag)


def _add_header(world: World, header: Callable[[dict[str, Any], bytes], tuple[bytes, bytes] | None]) -> None:
    _change_answers(world, lambda scope, body: (body, [found] if (found := header(scope, body)) else []))


def _change_answers(
    world: World, change: Callable[[dict[str, Any], bytes], tuple[bytes, list[tuple[bytes, bytes]]]]
) -> None:
    """``change(scope, body)`` gives another body and more headers."""
    app: Any = world.app

    async def changed(scope: dict[str, Any], receive: Any, send: _Send) -> None:
        messages: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            messages.append(message)

        await app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        body, headers = change(scope, body)
        lengthless = [pair for pair in messages[0]["headers"] if pair[0] != b"content-length"]
        await send({**messages[0], "headers": [*lengthless, *headers]})
        await send({"type": "http.response.body", "body": body})

    cast(Any, world).app = changed


def last_seen_ms(world: World) -> None:
    """Radar tells when each friend reported last."""
    times = _noted_times(world)

    def add(scope: dict[str, Any], body: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        if scope["path"] != "/v1/radar" or b'"friends"' not in body:
            return body, []
        told = json.loads(body)
        for friend in told["friends"]:
            friend["last_seen_ms"] = times.get(friend["user"], 0)
        return json.dumps(told).encode(), []

    _change_answers(world, add)


def area_from_point(world: World) -> None:
    """The resolution-7 cell is that of the point, not the parent of the kept cell."""
    points, presence = _noted_points(world), world.hive.presence
    cell_at = presence.cell_at

    def coarse(slot: int, precision: str) -> int:
        point = points.get(world.hive.people.ids[slot])
        return cell_at(slot, precision) if point is None or precision != "area" else cells.cell_of(*point, 7)

    cast(Any, presence).cell_at = coarse


def fresh_noise(world: World) -> None:
    """Radar's distance is the exact one with new noise in each answer."""
    points, around, noise = _noted_points(world), world.hive.radar.around, random.Random()

    async def noisy(user: str, radius_m: int) -> Any:
        view = await around(user, radius_m)
        for blip in view.friends:
            if user in points and blip.user in points:
                exact_m = float(great_circle_m(*points[user], *points[blip.user]))
                object.__setattr__(blip, "distance_m", abs(exact_m + noise.gauss(0, 300)))
        return view

    cast(Any, world.hive.radar).around = noisy


def pair_cache(world: World) -> None:
    """Distances of a pair are kept as the first of the two was told, who asked from their exact point."""
    points, around = _noted_points(world), world.hive.radar.around
    kept: dict[frozenset[str], float] = {}

    async def cached(user: str, radius_m: int) -> Any:
        view = await around(user, radius_m)
        for blip in view.friends:
            pair = frozenset((user, blip.user))
            if pair not in kept and user in points:
                kept[pair] = float(great_circle_m(*points[user], *cells.center(blip.cell)))
            object.__setattr__(blip, "distance_m", kept.get(pair, blip.distance_m))
        return view

    cast(Any, world.hive.radar).around = cached


def publish_at_once(world: World) -> None:
    """A report is shown when it comes, not at the next edge."""
    presence: Any = world.hive.presence

    def pushing(fold: Callable[..., None]) -> Callable[..., None]:
        def folding(*args: Any) -> None:
            fold(*args)
            presence.published[:] = presence.pending
            presence.stranger[:] = presence.pending
            presence._crowd = None

        return folding

    presence.fold_run, presence.fold_reports = pushing(presence.fold_run), pushing(presence.fold_reports)


def log_line(world: World) -> None:
    """A line at DEBUG says who reported what."""
    report, log = world.hive.positions.report, structlog.get_logger("discovery.positions")

    async def logging(user: str, point: Any, *rest: Any) -> Any:
        log.debug("report", user=user, at=f"{point.lat},{point.lon}")
        return await report(user, point, *rest)

    cast(Any, world.hive.positions).report = logging


def forbidden_for_not_found(world: World) -> None:
    """Somebody else's shake is refused with 403, one that is not there with 404."""
    shakes: Any = world.hive.shakes
    require = shakes._require_readable

    async def telling(user: str, shake_id: str) -> None:
        await asyncio.sleep(0)
        theirs = len(shake_id) == 32 and shakes._fold.shake(_hash_in(shake_id)) is not None
        if theirs and shakes._shake_id_of(user, _hash_in(shake_id)) != shake_id:
            raise Suspended("that shake is not yours")
        await require(user, shake_id)

    shakes._require_readable = telling


T0: Final = "T0"
T6: Final = "T6"
T7: Final = "T7"

BUGS: Final[dict[str, tuple[Bug, str]]] = {
    "sort by exact": (sort_by_exact, T0),
    "count from exact": (count_from_exact, T0),
    "ETag by update time": (etag_by_update_time, T0),
    "r7 from point": (area_from_point, T0),
    "fresh noise on exact": (fresh_noise, T0),
    "K-cut on distance": (cut_on_exact, T0),
    "push immediate": (publish_at_once, T0),
    "log line": (log_line, T7),
    "403 vs 404": (forbidden_for_not_found, T6),
    "last_seen ms": (last_seen_ms, T0),
    "radius filter on exact target": (filter_on_exact, T0),
    "pair cache on observer exact": (pair_cache, T0),
}
"""Each bug, and the cheapest gate that sees it."""
