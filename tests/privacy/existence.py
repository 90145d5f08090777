"""What somebody can ask about a person who is not to be seen, in worlds that differ only in why.

``STATES`` make one and the same id unseen in every way there is; ``ask_all`` asks everything that names or could list
them. All worlds must give the same bytes, at every instant.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from tests.privacy.asgi import Answer, Ask, Asker
from tests.world import EPOCH_MS, HOUR_MS, PARIS, World

TARGET = "target"
ME = "me"
_FAR = (52.52, 13.405)
_THROWN = "throw"
_SHAKEN = "shake"

Setup = Callable[[World, Asker], Awaitable[None]]


async def _never(_world: World, _ask: Asker) -> None:
    """Nobody ever had this id."""


async def _place(ask: Asker, visibility: str = "everyone", point: tuple[float, float] = PARIS) -> None:
    body = {"lat": point[0], "lon": point[1], "ttl_s": 3600}
    await ask.ok(Ask(TARGET, "PUT", "/v1/me/position", body))
    await ask.ok(Ask(TARGET, "PATCH", "/v1/me/settings", {"visibility": visibility, "bottles": "on"}))
    await ask.ok(Ask(TARGET, "POST", "/v1/bottles", {"text": "hello"}, key=_THROWN))


async def _hidden(_world: World, ask: Asker) -> None:
    await _place(ask, "nobody")


async def _hid(_world: World, ask: Asker) -> None:
    """Was seen, and is not any more."""
    await _place(ask)
    await ask.ok(Ask(ME, "GET", "/v1/nearby"))
    await ask.ok(Ask(TARGET, "PATCH", "/v1/me/settings", {"visibility": "nobody"}))


async def _blocked(_world: World, ask: Asker) -> None:
    await _place(ask)
    await ask.ok(Ask(TARGET, "PUT", f"/v1/me/blocks/{ME}"))


async def _out_of_range(_world: World, ask: Asker) -> None:
    await _place(ask, point=_FAR)


async def _expired(world: World, ask: Asker) -> None:
    await _place(ask)
    await world.later(2 * HOUR_MS)


async def _cleared(_world: World, ask: Asker) -> None:
    await _place(ask)
    await ask.ok(Ask(TARGET, "DELETE", "/v1/me/position"))


async def _unfriended(_world: World, ask: Asker) -> None:
    """Was a friend, is none, and shows themselves to friends."""
    await _place(ask, "friends")
    await ask.ok(Ask(TARGET, "PUT", f"/v1/me/friends/{ME}"))
    await ask.ok(Ask(TARGET, "DELETE", f"/v1/me/friends/{ME}"))


async def _erased(_world: World, ask: Asker) -> None:
    await _place(ask)
    await ask.ok(Ask(TARGET, "PUT", f"/v1/me/friends/{ME}"))
    await ask.ok(Ask(TARGET, "DELETE", f"/v1/me?confirm={TARGET}"))


async def _befriended(_world: World, ask: Asker) -> None:
    await ask.ok(Ask(TARGET, "PUT", f"/v1/me/friends/{ME}", {"precision": "near"}))


def _friend(setup: Setup) -> Setup:
    async def both(world: World, ask: Asker) -> None:
        await _befriended(world, ask)
        await setup(world, ask)

    return both


STATES: Final[dict[str, Setup]] = {
    "never existed": _never,
    "hidden": _hidden,
    "hidden after having been seen": _hid,
    "blocks me": _blocked,
    "out of range": _out_of_range,
    "expired": _expired,
    "cleared": _cleared,
    "unfriended": _unfriended,
    "erased": _erased,
}


FRIENDS: Final[dict[str, Setup]] = {
    "never anywhere": _befriended,
    **{f"a friend, {name}": _friend(STATES[name]) for name in ("hidden", "out of range", "expired", "cleared")},
}
"""Accepted friends who cannot be seen now."""

SHAKING: Final = {"blocks me": PARIS, "out of range": _FAR}
"""Who shakes when I do, and where; I must not be told."""


async def prepared(world: World, setup: Setup) -> Asker:
    """The world at one and the same moment, whatever the set-up took."""
    ask = Asker(world)
    start_ms = world.now_ms
    await ask.ok(Ask(ME, "PUT", "/v1/me/position", {"lat": PARIS[0], "lon": PARIS[1], "ttl_s": 28_800}))
    await ask.ok(Ask(ME, "PATCH", "/v1/me/settings", {"visibility": "everyone", "bottles": "on"}))
    await ask.ok(Ask(ME, "PUT", f"/v1/me/friends/{TARGET}", {"precision": "near"}))
    await setup(world, ask)
    await world.at(start_ms + 2 * HOUR_MS)
    await ask.ok(Ask(ME, "PUT", "/v1/me/position", {"lat": PARIS[0], "lon": PARIS[1], "ttl_s": 28_800}))
    return ask


def _questions(world: World, instant: int) -> list[Ask]:
    theirs = world.hive.shakes._shake_id(TARGET, f"{_SHAKEN}-{instant}")
    bottle = world.hive.bottles._mac("bottle", TARGET, _THROWN)
    lat, lon = PARIS
    asks = [Ask(ME, "GET", f"/v1/nearby?radius_m={radius}&limit=100") for radius in (3000, 20_000, 50_000)]
    asks += [Ask(ME, "GET", f"/v1/radar?radius_m={radius}") for radius in (1000, 100_000)]
    asks += [
        Ask(ME, "GET", "/v1/me/friends"),
        Ask(ME, "PUT", f"/v1/me/friends/{TARGET}", {"precision": ("city", "near")[instant % 2]}),
        Ask(ME, "GET", "/v1/me/friends"),
        Ask(ME, "POST", "/v1/shakes", {"lat": lat, "lon": lon}, key=f"mine-{instant}"),
        Ask(ME, "GET", f"/v1/shakes/{world.hive.shakes._shake_id(ME, f'mine-{instant}')}"),
        Ask(ME, "GET", f"/v1/shakes/{theirs}"),
        Ask(ME, "GET", f"/v1/bottles/{bottle}"),
        Ask(ME, "POST", f"/v1/bottles/{bottle}/throw-back"),
        Ask(ME, "POST", f"/v1/bottles/{bottle}/replies", {"text": "hello"}, key=f"reply-{instant}"),
        Ask(ME, "POST", f"/v1/bottles/{bottle}/block"),
        Ask(ME, "GET", f"/v1/users/{TARGET}"),
        Ask(ME, "PUT", f"/v1/me/blocks/{TARGET}"),
        Ask(ME, "GET", "/v1/me/blocks"),
        Ask(ME, "GET", "/v1/me/friends"),
        Ask(ME, "DELETE", f"/v1/me/blocks/{TARGET}"),
        Ask(ME, "PUT", f"/v1/me/mutes/{TARGET}"),
        Ask(ME, "GET", "/v1/me/mutes"),
        Ask(ME, "DELETE", f"/v1/me/mutes/{TARGET}"),
        Ask(ME, "POST", "/v1/reports", _report("user", TARGET), key=f"user-{instant}"),
        Ask(ME, "POST", "/v1/reports", _report("bottle", bottle), key=f"bottle-{instant}"),
        Ask(ME, "DELETE", f"/v1/me/friends/{TARGET}"),
        Ask(ME, "GET", "/v1/me/friends"),
        Ask(ME, "GET", "/v1/me/settings"),
        Ask(ME, "GET", "/v1/me/position"),
    ]
    return asks


def _report(kind: str, target: str) -> dict[str, object]:
    return {"target": {"type": kind, "id": target}, "reason": "spam"}


INSTANTS_MS: Final = (0, EPOCH_MS, 3 * EPOCH_MS, 7 * EPOCH_MS)


async def ask_all(world: World, ask: Asker, shaking: tuple[float, float] | None = None) -> list[tuple[Ask, Answer]]:
    """Everything, at each instant; ``shaking``: where the target shakes just before I do."""
    answers: list[tuple[Ask, Answer]] = []
    for instant, after_ms in enumerate(INSTANTS_MS):
        if instant:
            await world.later(after_ms - INSTANTS_MS[instant - 1])
        if shaking is not None:
            point = {"lat": shaking[0], "lon": shaking[1]}
            await ask.ok(Ask(TARGET, "POST", "/v1/shakes", point, key=f"{_SHAKEN}-{instant}"))
        answers += [(one, await ask(one)) for one in _questions(world, instant)]
    return answers


async def ask_friend(world: World, ask: Asker) -> list[tuple[Ask, Answer]]:
    """What a friend can ask, at each instant."""
    paths = ("/v1/radar?radius_m=1000", "/v1/radar?radius_m=100000", "/v1/me/friends", "/v1/nearby?radius_m=50000")
    answers: list[tuple[Ask, Answer]] = []
    for instant, after_ms in enumerate(INSTANTS_MS):
        if instant:
            await world.later(after_ms - INSTANTS_MS[instant - 1])
        answers += [(one, await ask(one)) for one in (Ask(ME, "GET", path) for path in paths)]
    return answers
