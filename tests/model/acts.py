"""Random acts as plain data, drawn before anything runs: who is counted, a bottle is the n-th of those thrown.

So a sequence can be repeated with fresh people, whole or with acts left out.
"""

import random
from collections.abc import Callable
from typing import Any

from tests.model.people_model import HOUR_MS, MONTH_MS
from tests.naive_geo import destination
from tests.world import EPOCH_MS, STRANGER_EPOCH_MS

Act = tuple[str, dict[str, Any]]

USERS = 8
ONE_HUMAN = (4, 5)
MINOR, AGELESS = 6, 7
SPOTS_M = (0, 300, 900, 2500, 4200, 7000, 15_000, 35_000, 60_000)
STEPS_MS = (1, 700, 700, 4000, 4000, 60_000, 700_000, EPOCH_MS, EPOCH_MS, STRANGER_EPOCH_MS, 2 * HOUR_MS, 9 * HOUR_MS)
CENTRES = ((48.8566, 2.3522), (0.0, 179.999), (89.7, 10.0), (-33.9, 151.2), (52.6223, 11.2063), (64.7, -179.99))


def draw_acts(draws: random.Random, steps: int) -> list[Act]:
    """A sequence of so many acts. Its places lie around one centre; most begin with people who take part in all.

    Some have a theme, whose acts are many, and few who act: so that they meet.
    """
    spots = _spots(draws)
    theme, people = draws.choice(list(_THEMES.values())), draws.choice((3, USERS))
    names = list(_WEIGHTS)
    chosen = draws.choices(names, [_WEIGHTS[name] * (5 if name in theme else 1) for name in names], k=steps)
    drawn = [
        (name, {"w": draws.randrange(2), "u": draws.randrange(people), **_ARGS[name](draws, spots)}) for name in chosen
    ]
    return drawn if draws.random() < 0.25 else [*_crowd(draws, spots), *drawn]


def _crowd(draws: random.Random, spots: list[tuple[float, float]]) -> list[Act]:
    """Everybody near, visible, with bottles on, and some friends."""
    acts: list[Act] = [
        ("app_user", {"u": AGELESS, "visibility": None, "consent": False, "age": "adult", "suspended": None})
    ]
    for user in range(USERS):
        near = {"point": destination(draws.choice(spots[:5]), draws.uniform(0, 360), draws.uniform(0, 300))}
        acts.append(("move", {"u": user, **near, "accuracy_m": None, "ttl_s": 28_800}))
        acts.append(("settings", {"u": user, "visibility": "everyone", "until_s": None, "bottles": True}))
    for _ in range(3):
        v, precision = _other(draws), draws.choice(("near", "area", "city", "hidden"))
        acts.append(("befriend", {"u": _other(draws), "v": v, "precision": precision, "until_s": None, "both": True}))
    return [(name, {"w": draws.randrange(2), **args}) for name, args in acts]


def _spots(draws: random.Random) -> list[tuple[float, float]]:
    centre = draws.choice(CENTRES)
    if draws.random() < 0.7:
        centre = (draws.uniform(-70, 70), draws.uniform(-180, 180))
    return [destination(centre, draws.uniform(0, 360), far_m) for far_m in SPOTS_M]


def _place(draws: random.Random, spots: list[tuple[float, float]]) -> dict[str, Any]:
    near = draws.choices(spots, [4, 4, 4, 3, 3, 2, 1, 1, 1][: len(spots)])[0]
    return {"point": destination(near, draws.uniform(0, 360), abs(draws.gauss(0, 150)))}


def _other(draws: random.Random) -> int:
    return draws.randrange(USERS)


def _settings(draws: random.Random) -> dict[str, Any]:
    visibility = draws.choice((None, "everyone", "everyone", "everyone", "friends", "nobody"))
    until_s = draws.choice((None, None, None, 1, 3600, 5 * 3600, 86_400, 86_401, -5, 0))
    return {"visibility": visibility, "until_s": until_s, "bottles": draws.choice((None, None, True, True, False))}


def _friend(draws: random.Random) -> dict[str, Any]:
    precision = draws.choice(("near", "near", "area", "area", "city", "hidden"))
    until_s = draws.choice((None, None, None, None, 3600, 30 * 86_400, 30 * 86_400 + 1, 0))
    return {"v": _other(draws), "precision": precision, "until_s": until_s, "both": draws.random() < 0.6}


def _app_positions(draws: random.Random, spots: list[tuple[float, float]]) -> dict[str, Any]:
    rows = []
    for _ in range(draws.randint(1, 4)):
        accuracy_m = draws.choice((None, None, 15.0, 700.0))
        ttl_s = draws.choice((3600, 7200, 28_800))
        rows.append({"u": _other(draws), **_place(draws, spots), "accuracy_m": accuracy_m, "ttl_s": ttl_s})
    return {"rows": rows}


def _pairs(draws: random.Random) -> dict[str, Any]:
    names = "a", "b", "op", "guardian"
    rows = [
        (_other(draws), _other(draws), draws.choice(("add", "add", "add", "remove")), draws.random() < 0.4)
        for _ in range(draws.randint(1, 4))
    ]
    return {"rows": [dict(zip(names, row, strict=True)) for row in rows]}


def _app_user(draws: random.Random) -> dict[str, Any]:
    suspended = {
        draws.choice(("nearby", "shake", "bottles", "radar")): draws.choice((-1, 60, 2000, 7200))
        for _ in range(draws.randint(0, 2))
    }
    return {
        "visibility": draws.choice((None, "everyone", "friends", "nobody")),
        "consent": draws.random() < 0.6,
        "age": draws.choice((None, None, "adult", "adult", "minor")),
        "suspended": draws.choice((None, None, suspended)),
    }


def _bottle(draws: random.Random) -> dict[str, Any]:
    """One of the last ones mostly; by who holds it, wrote it, or anybody."""
    return {"n": int(draws.expovariate(0.4)), "by": draws.choice(("holder", "holder", "author", "u"))}


Drawn = Callable[[random.Random, list[tuple[float, float]]], dict[str, Any]]

# name -> weight, arguments
_ACTS: dict[str, tuple[int, Drawn]] = {
    "move": (
        14,
        lambda d, s: {
            **_place(d, s),
            "accuracy_m": d.choice((None, None, 10.0, 30.0, 601.0)),
            "ttl_s": d.choice((3600, 7200, 28_800)),
        },
    ),
    "see_position": (2, lambda d, s: {}),
    "clear": (2, lambda d, s: {}),
    "settings": (9, lambda d, s: _settings(d)),
    "befriend": (8, lambda d, s: _friend(d)),
    "unfriend": (2, lambda d, s: {"v": _other(d)}),
    "friends": (3, lambda d, s: {}),
    "block": (2, lambda d, s: {"v": _other(d)}),
    "unblock": (2, lambda d, s: {"v": _other(d), "n": d.randrange(4)}),
    "blocks": (1, lambda d, s: {}),
    "app_positions": (4, _app_positions),
    "app_pairs": (4, lambda d, s: _pairs(d)),
    "app_user": (4, lambda d, s: _app_user(d)),
    "nearby": (
        12,
        lambda d, s: {"radius_m": d.choice((3000, 5000, 10_000, 20_000, 50_000)), "limit": d.choice((1, 2, 30))},
    ),
    "radar": (6, lambda d, s: {"radius_m": d.choice((1000, 2000, 5000, 10_000, 25_000, 50_000, 100_000))}),
    "shake": (
        8,
        lambda d, s: {
            "others": [_other(d) for _ in range(d.choice((0, 0, 1, 2)))],
            **_place(d, s[: d.choice((3, 9))]),
            "reach": d.choice(("nearby", "nearby", "anywhere")),
            "limit": d.choice((1, 2, 10)),
            "again": d.random() < 0.15,
        },
    ),
    "look": (4, lambda d, s: {"n": d.randrange(6)}),
    "throw": (8, lambda d, s: {"text": d.choice("xyz"), "again": d.random() < 0.15}),
    "pick": (9, lambda d, s: {"again": d.random() < 0.15}),
    "throw_back": (2, lambda d, s: _bottle(d)),
    "reply": (6, lambda d, s: {**_bottle(d), "text": d.choice("xyz"), "again": d.random() < 0.2}),
    "block_other": (1, lambda d, s: _bottle(d)),
    "delete_bottle": (1, lambda d, s: _bottle(d)),
    "see_bottle": (2, lambda d, s: _bottle(d)),
    "my_bottles": (2, lambda d, s: {"limit": d.choice((1, 2, 100))}),
    "lapse": (1, lambda d, s: {"n": int(d.expovariate(0.4))}),
    "end": (1, lambda d, s: {"n": int(d.expovariate(0.4))}),
    "later": (10, lambda d, s: {"ms": MONTH_MS + 1 if d.random() < 0.03 else d.choice(STEPS_MS)}),
    "checkpoint": (3, lambda d, s: {"share": d.random()}),
    "doubt": (3, lambda d, s: {"n": d.randrange(64)}),
    "restart": (1, lambda d, s: {"which": d.choice(([0], [1], [0, 1]))}),
}
_WEIGHTS = {name: weight for name, (weight, _) in _ACTS.items()}
_THEMES = {
    "none": (),
    "bottles": ("throw", "pick", "throw_back", "reply", "block_other", "see_bottle", "my_bottles", "lapse"),
    "shakes": ("shake", "look"),
    "friends": ("befriend", "unfriend", "friends", "block", "unblock", "radar", "app_pairs"),
    "workers": ("checkpoint", "doubt", "restart", "later"),
}
_ARGS = {name: drawn for name, (_, drawn) in _ACTS.items()}
