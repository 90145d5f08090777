"""Nearby over HTTP: bands, pages, who is listed, and equal bytes for whatever must not show."""

import random
from typing import Any

from geo import cells
from geo.privacy import STRANGER_BANDS_M, band_of
from tests.world import EPOCH_MS, HOUR_MS, PARIS, STRANGER_EPOCH_MS, World


async def nearby(world: World, user: str, **params: Any) -> dict[str, Any]:
    async with world.client(user) as client:
        answer = await client.get("/v1/nearby", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def users_near(world: World, user: str, **params: Any) -> list[str]:
    return [row["user"] for row in (await nearby(world, user, **params))["people"]]


async def test_everyone_in_the_right_band_exactly_once(world: World, seed: int) -> None:
    draws = random.Random(seed)
    places = {f"u{n}": (PARIS[0] + draws.gauss(0, 0.2), PARIS[1] + draws.gauss(0, 0.3)) for n in range(120)}
    await world.place("ann", *PARIS)
    for user, place in places.items():
        await world.place(user, *place)
    here = cells.parent(cells.cell_of(*PARIS, 8), 7)
    expected = {}
    for user, place in places.items():
        band = band_of(cells.distance_m(here, cells.parent(cells.cell_of(*place, 8), 7)))
        if band >= 0:
            expected[user] = STRANGER_BANDS_M[band], STRANGER_BANDS_M[band + 1]
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await nearby(world, "ann", radius_m=50_000, limit=7, **({"cursor": cursor} if cursor else {}))
        found += page["people"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert {row["user"]: (row["distance_min_m"], row["distance_max_m"]) for row in found} == expected
    assert len(found) == len(expected)
    assert [row["distance_min_m"] for row in found] == sorted(row["distance_min_m"] for row in found)
    whole = await nearby(world, "ann", radius_m=50_000, limit=100)
    assert whole["people"][:7] == found[:7]


async def test_who_is_not_listed_leaves_no_trace(world: World) -> None:
    """Hidden, friends-only, expired, blocked, minor, far, friend: the answer is that of an empty world."""
    await world.place("ann", *PARIS)
    empty = await nearby(world, "ann")
    await world.place("hidden", *PARIS, visibility="nobody")
    await world.place("shy", *PARIS, visibility="friends")
    await world.place("far", 40.0, 3.0)
    await world.place("blocker", *PARIS)
    async with world.client("blocker") as blocker:
        await blocker.put("/v1/me/blocks/ann")
    await world.place("friend", *PARIS)
    await world.befriend("ann", "friend")
    await world.place("cleared", *PARIS)
    async with world.client("cleared") as cleared:
        await cleared.delete("/v1/me/position")
    await world.place("turned-minor", *PARIS)
    async with world.operator() as app:
        await app.put("/v1/app/users/turned-minor", json={"age": "minor"})
        suspended = [{"feature": "nearby", "until": "2030-01-01T00:00:00Z"}]
        await world.place("suspended", *PARIS)
        await app.put("/v1/app/users/suspended", json={"suspended": suspended})
    assert await nearby(world, "ann") == empty


async def test_appearing_hiding_and_lapsing_show_at_once(world: World) -> None:
    await world.place("ann", *PARIS)
    assert await users_near(world, "ann") == []
    await world.place("bob", *PARIS)
    assert await users_near(world, "ann") == ["bob"]
    async with world.client("bob") as bob:
        await bob.patch("/v1/me/settings", json={"visibility": "friends"})
        assert await users_near(world, "ann") == []
        await bob.patch("/v1/me/settings", json={"visibility": "everyone"})
        assert await users_near(world, "ann") == ["bob"]
    await world.later(2 * HOUR_MS + EPOCH_MS)  # presence ends at an edge
    async with world.client("ann") as ann:
        assert (await ann.get("/v1/nearby")).json()["code"] == "position_required"
        await ann.put("/v1/me/position", json={"lat": PARIS[0], "lon": PARIS[1]})
    assert await users_near(world, "ann") == []  # bob's two hours are over too


async def test_the_order_changes_with_the_epoch_and_cursors_with_it(world: World) -> None:
    await world.place("ann", *PARIS, ttl_s=28_800)
    for n in range(30):
        await world.place(f"u{n}", *PARIS, ttl_s=28_800)
    first = await nearby(world, "ann", limit=10)
    await world.later(EPOCH_MS)
    assert await users_near(world, "ann", limit=10) == [row["user"] for row in first["people"]]
    await world.later(STRANGER_EPOCH_MS)
    assert await users_near(world, "ann", limit=10) != [row["user"] for row in first["people"]]
    async with world.client("ann") as ann:
        old = await ann.get("/v1/nearby", params={"limit": 10, "cursor": first["next_cursor"]})
        assert (old.status_code, old.json()["code"]) == (400, "cursor_expired")
        fresh = (await ann.get("/v1/nearby", params={"limit": 10})).json()["next_cursor"]
        other = await ann.get("/v1/nearby", params={"limit": 10, "cursor": fresh, "radius_m": 3000})
        assert other.json()["code"] == "bad_cursor"
        broken = await ann.get("/v1/nearby", params={"cursor": "AAAA"})
        assert (broken.status_code, broken.json()["code"]) == (400, "bad_cursor")
    async with world.client("u1") as thief:
        assert (await thief.get("/v1/nearby", params={"cursor": fresh})).json()["code"] == "bad_cursor"


async def test_see_and_be_seen(world: World) -> None:
    async with world.client("ann") as ann:
        assert (await ann.get("/v1/nearby")).json()["code"] == "position_required"
        await world.place("ann", *PARIS, visibility="friends")
        assert (await ann.get("/v1/nearby")).json()["code"] == "not_visible"
    async with world.client("kid", "minor") as kid:
        assert (await kid.get("/v1/nearby")).json()["code"] == "adults_only"


async def test_bad_parameters(world: World) -> None:
    await world.place("ann", *PARIS)
    async with world.client("ann") as ann:
        for query in ("radius_m=4000", "radius_m=5e3", "limit=0", "limit=101", "radius=5000", "limit=5&limit=6"):
            answer = await ann.get(f"/v1/nearby?{query}")
            assert answer.status_code == 422, query
            assert answer.json()["errors"][0]["field"] == query.partition("=")[0]
