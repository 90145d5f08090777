"""Shake over HTTP on one worker; the matching itself is tested in tests/discovery/test_shake_fold.py."""

import asyncio
from typing import Any

from discovery.store import keys
from tests.world import PARIS, World

HERE = {"lat": PARIS[0], "lon": PARIS[1]}


async def shake(world: World, user: str, key: str = "k1", **body: Any) -> Any:
    async with world.client(user) as client:
        return await client.post("/v1/shakes", json={**HERE, **body}, headers={"Idempotency-Key": key})


async def test_two_shakes_match_both_ways(world: World) -> None:
    first = (await shake(world, "ann")).json()
    assert (first["state"], first["matches"]) == ("waiting", [])
    second = (await shake(world, "bob")).json()
    assert second["state"] == "matched"
    assert second["matches"] == [{"user": "ann", "distance_min_m": 0, "distance_max_m": 3000}]
    async with world.client("ann") as ann:
        seen = (await ann.get(f"/v1/shakes/{first['shake_id']}")).json()
        assert [match["user"] for match in seen["matches"]] == ["bob"]
        foreign = await ann.get(f"/v1/shakes/{second['shake_id']}")
        assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
        assert (await ann.get("/v1/position")).status_code == 404
        assert (await ann.get("/v1/me/position")).status_code == 404  # a shake makes no presence


async def test_a_long_poll_ends_with_the_match(world: World) -> None:
    first = (await shake(world, "ann")).json()
    async with world.client("ann") as ann:
        poll = asyncio.create_task(ann.get(f"/v1/shakes/{first['shake_id']}", params={"wait_s": 4}))
        await asyncio.sleep(0.1)
        await shake(world, "bob")
        answer = (await asyncio.wait_for(poll, 2)).json()
    assert [match["user"] for match in answer["matches"]] == ["bob"]


async def test_out_of_the_window_is_nobody(world: World) -> None:
    first = (await shake(world, "ann")).json()
    await world.later(8000)
    assert (await shake(world, "bob")).json()["matches"] == []
    async with world.client("ann") as ann:
        assert (await ann.get(f"/v1/shakes/{first['shake_id']}")).json()["state"] == "nobody"


async def test_the_same_key_is_the_same_shake(world: World) -> None:
    first = (await shake(world, "ann")).json()
    before = await world.state.call("XLEN", keys.feed("shake"))
    assert (await shake(world, "ann")).json() == first
    assert await world.state.call("XLEN", keys.feed("shake")) == before
    reused = await shake(world, "ann", limit=3)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    async with world.client("ann") as ann:
        missing = await ann.post("/v1/shakes", json=HERE)
    assert (missing.status_code, missing.json()["code"]) == (400, "idempotency_key_required")


async def test_blocked_hidden_and_blocked_since_never_match(world: World) -> None:
    async with world.client("ann") as ann:
        await ann.put("/v1/me/blocks/bob")
    await world.befriend("ann", "carl")
    async with world.client("carl") as carl:
        await carl.put("/v1/me/friends/ann", json={"precision": "hidden"})
    mine = (await shake(world, "ann")).json()
    for user in ("bob", "carl"):
        assert "ann" not in [match["user"] for match in (await shake(world, user)).json()["matches"]]
    assert (await shake(world, "dora")).json()["state"] == "matched"
    async with world.client("ann") as ann:
        path = f"/v1/shakes/{mine['shake_id']}"
        assert [match["user"] for match in (await ann.get(path)).json()["matches"]] == ["dora"]
        await ann.put("/v1/me/blocks/dora")
        assert (await ann.get(path)).json()["matches"] == []


async def test_anywhere_shows_no_distance(world: World) -> None:
    await shake(world, "ann", reach="anywhere")
    far = (await shake(world, "bob", lat=-33.9, lon=151.2, reach="anywhere")).json()
    assert far["matches"] == [{"user": "ann", "distance_min_m": None, "distance_max_m": None}]


async def test_bad_shakes(world: World) -> None:
    for body, field in (({"limit": 21}, "limit"), ({"reach": "far"}, "reach"), ({"lat": 99}, "lat")):
        answer = await shake(world, "ann", **body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
    async with world.client("kid", "minor") as kid:
        answer = await kid.post("/v1/shakes", json=HERE, headers={"Idempotency-Key": "k"})
    assert answer.json()["code"] == "adults_only"
