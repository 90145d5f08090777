"""How many friends and blocks one person may have: what hides is always possible, the rest ends at 5,000."""

import pytest

from discovery import app_backend, friends, safety
from discovery.errors import TooManyBlocks, TooManyFriends
from tests.world import World

MOST = 4


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with fewer, so that it is quick."""
    assert friends.MOST_HALVES == safety.MOST_BLOCKS == 5000
    for module in (friends, app_backend):
        monkeypatch.setattr(module, "MOST_HALVES", MOST)
    monkeypatch.setattr(safety, "MOST_BLOCKS", MOST)


async def test_who_has_the_most_friends_asks_nobody_else(world: World) -> None:
    async with world.client("ann") as ann, world.client("late") as late:
        for n in range(MOST):
            assert (await ann.put(f"/v1/me/friends/u{n}", json={})).status_code == 200
        full = await ann.put("/v1/me/friends/more", json={})
        assert (full.status_code, full.json()["code"]) == (409, TooManyFriends.code)
        changed = await ann.put("/v1/me/friends/u0", json={"precision": "city"})
        assert (changed.status_code, changed.json()["i_show"]) == (200, "city"), "what stands may be changed"
        await late.put("/v1/me/friends/ann", json={})
        assert (await ann.delete("/v1/me/friends/late")).status_code == 204, "declining is always possible"
        rows = (await ann.get("/v1/me/friends")).json()["friends"]
        assert [row["user"] for row in rows] == [f"u{n}" for n in range(MOST)]


async def test_the_apps_row_is_skipped_and_the_other_side_shows_nothing(world: World) -> None:
    async with world.client("ann") as ann, world.operator() as app:
        for n in range(MOST):
            await ann.put(f"/v1/me/friends/u{n}", json={})
        for user in ("ann", "bob", "u1"):
            await app.put(f"/v1/app/users/{user}", json={"age": "adult"})
        for a, b in (("ann", "bob"), ("bob", "ann")):
            answer = await app.post("/v1/app/friendships", json={"pairs": [{"a": a, "b": b, "op": "add"}]})
            assert answer.json() == {"applied": 0, "skipped": [{"index": 0, "code": "too_many_friends"}]}
        assert await world.state.call("HLEN", world.hive.shards.friend_halves("bob")) == 0
        standing = await app.post("/v1/app/friendships", json={"pairs": [{"a": "ann", "b": "u1", "op": "add"}]})
        assert standing.json() == {"applied": 1, "skipped": []}


async def test_what_a_person_said_goes_before_want_of_room(world: World) -> None:
    async with world.client("ann") as ann, world.client("bob") as bob, world.operator() as app:
        for n in range(MOST):
            await ann.put(f"/v1/me/friends/u{n}", json={})
        await bob.put("/v1/me/blocks/ann")
        for user in ("ann", "bob"):
            await app.put(f"/v1/app/users/{user}", json={"age": "adult"})
        answer = await app.post("/v1/app/friendships", json={"pairs": [{"a": "ann", "b": "bob", "op": "add"}]})
        assert answer.json()["skipped"] == [{"index": 0, "code": "declined_by_person"}]


async def test_who_has_the_most_blocks_blocks_nobody_else(world: World) -> None:
    async with world.client("ann") as ann:
        for n in range(MOST):
            assert (await ann.put(f"/v1/me/blocks/u{n}")).status_code == 204
        full = await ann.put("/v1/me/blocks/more")
        assert (full.status_code, full.json()["code"]) == (409, TooManyBlocks.code)
        assert (await ann.put("/v1/me/blocks/u0")).status_code == 204, "the same again"
        await ann.delete("/v1/me/blocks/u0")
        assert (await ann.put("/v1/me/blocks/more")).status_code == 204
