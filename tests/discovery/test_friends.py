"""Rules of friendships and blocks that only show over time, or when acts of a person and of the app meet."""

import asyncio
from typing import Any

import httpx2
import pytest

from discovery.friends import DAY_MS
from tests.world import HOUR_MS, PARIS, World


async def row(world: World, user: str, other: str) -> dict[str, Any]:
    async with world.client(user) as client:
        rows = (await client.get("/v1/me/friends")).json()["friends"]
    return next((row for row in rows if row["user"] == other), {})


async def show(world: World, user: str, other: str, precision: str = "area", **more: Any) -> None:
    async with world.client(user, "minor" if user == "kid" else "adult") as client:
        answer = await client.put(f"/v1/me/friends/{other}", json={"precision": precision, **more})
    assert answer.status_code == 200, answer.text


async def pairs(world: World, *rows: dict[str, Any]) -> dict[str, Any]:
    async with world.operator() as app:
        answer = await app.post("/v1/app/friendships", json={"pairs": list(rows)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_declined_request_is_silent_thirty_days_and_may_then_be_made_again(world: World) -> None:
    await show(world, "ann", "bob")
    async with world.client("bob") as bob:
        await bob.delete("/v1/me/friends/ann")
    assert await row(world, "bob", "ann") == {}
    await world.later(29 * DAY_MS)
    await show(world, "ann", "bob")
    assert await row(world, "bob", "ann") == {}, "asking again does not end the silence"
    await world.later(2 * DAY_MS)
    assert await row(world, "bob", "ann") == {}, "nor does its end without asking again"
    await show(world, "ann", "bob")
    assert (await row(world, "bob", "ann"))["state"] == "incoming"


async def test_the_same_half_again_within_a_day_writes_nothing(world: World, no_feed_entry: Any) -> None:
    await show(world, "ann", "bob")
    async with no_feed_entry():
        await show(world, "ann", "bob")


async def test_what_a_guardian_vouched_for_outlasts_a_change_of_precision(world: World) -> None:
    async with world.operator() as app:
        for user, age in (("old", "adult"), ("kid", "minor")):
            await app.put(f"/v1/app/users/{user}", json={"age": age})
    await pairs(world, {"a": "old", "b": "kid", "op": "add", "guardian": True})
    assert (await row(world, "old", "kid"))["state"] == "accepted"
    await show(world, "old", "kid", "city")
    await show(world, "kid", "old", "city")
    assert (await row(world, "old", "kid"))["state"] == "accepted"
    for user, other in (("old", "kid"), ("kid", "old")):
        async with world.client(user) as client:
            await client.delete(f"/v1/me/friends/{other}")
        await show(world, user, other, "city")
        await world.later(1000)
    assert (await row(world, "old", "kid"))["state"] == "requested", "it ended with the halves: the adult asked first"


@pytest.mark.parametrize(("a", "b"), [("ann", "bob"), ("area", "bob"), ("bob", "area")])
async def test_a_guardians_word_changes_no_precision_and_no_lapse(world: World, a: str, b: str) -> None:
    """`area` is an id like any other."""
    await show(world, a, b, "near")
    await show(world, b, a, "city")
    before = await row(world, a, b)
    await pairs(world, {"a": a, "b": b, "op": "add", "guardian": True})
    assert await row(world, a, b) == before
    assert before["until"] is not None
    await world.later(30 * DAY_MS + HOUR_MS)
    assert (await row(world, a, b))["i_show"] == "area"


async def test_the_same_guardian_pair_again_writes_nothing(world: World, no_feed_entry: Any) -> None:
    pair = {"a": "old", "b": "kid", "op": "add", "guardian": True}
    await pairs(world, pair)
    async with no_feed_entry():
        assert (await pairs(world, pair, pair))["applied"] == 2


async def test_ages_that_tokens_told_count_for_the_apps_pairs(world: World) -> None:
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    async with world.client("kid", "minor") as kid, world.operator() as app:
        await kid.put("/v1/me/position", json={"lat": 1, "lon": 1})
        await app.put("/v1/app/users/bob", json={"age": "adult"})
    skipped = (await pairs(world, *({"a": "ann", "b": other, "op": "add"} for other in ("bob", "kid"))))["skipped"]
    assert skipped == [{"index": 1, "code": "guardian_required"}]
    assert (await row(world, "ann", "bob"))["state"] == "accepted"


async def test_pairs_of_one_request_are_applied_in_order(world: World) -> None:
    pair = {"a": "ann", "b": "bob"}
    await pairs(world, {**pair, "op": "add"}, {**pair, "op": "remove"}, {**pair, "op": "add"})
    assert (await row(world, "ann", "bob"))["state"] == "accepted"
    await pairs(world, {**pair, "op": "remove"})
    assert await row(world, "ann", "bob") == await row(world, "bob", "ann") == {}


async def test_more_pairs_than_one_script_takes(world: World) -> None:
    rows = [{"a": "ann", "b": f"f{n}", "op": "add"} for n in range(601)]
    assert (await pairs(world, *rows, {"a": "ann", "b": "ann", "op": "add"}))["applied"] == 601
    async with world.client("ann") as ann:
        assert len((await ann.get("/v1/me/friends")).json()["friends"]) == 601


async def blocked(client: httpx2.AsyncClient) -> list[str]:
    return [row["user"] for row in (await client.get("/v1/me/blocks")).json()["blocks"]]


async def test_a_listed_name_sent_back_as_an_id_unblocks_nobody(world: World) -> None:
    """An app that copies its list to a new phone puts every name of it."""
    await world.hive.safety.block("ann", "bob", name="bottle:1")
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    async with world.client("ann") as ann, world.client("bob") as bob:
        assert (await ann.put("/v1/me/blocks/bottle:1")).status_code == 204
        assert await blocked(ann) == ["bottle:1"]
        assert (await bob.get("/v1/nearby")).json()["people"] == []
        await ann.delete("/v1/me/blocks/bottle:1")
        assert len((await bob.get("/v1/nearby")).json()["people"]) == 1


async def test_two_names_for_one_person_are_two_blocks(world: World) -> None:
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    async with world.client("ann") as ann, world.client("bob") as bob:
        await ann.put("/v1/me/blocks/bottle:1")  # an id that nobody has; the bottle's own block comes later
        await world.hive.safety.block("ann", "bob", name="bottle:1")
        await ann.put("/v1/me/blocks/bob")
        assert await blocked(ann) == ["bob", "bottle:1"]
        for name in ("bob", "bottle:1"):
            assert (await bob.get("/v1/nearby")).json()["people"] == []
            await ann.delete(f"/v1/me/blocks/{name}")
        assert len((await bob.get("/v1/nearby")).json()["people"]) == 1


async def test_who_shows_and_unfriends_at_once_is_answered(world: World) -> None:
    """Both are folded before either is answered."""
    friends, safety = world.hive.friends, world.hive.safety
    for other in ("bob", "bea"):
        shown, *_ = await asyncio.gather(
            friends.show("ann", other, "city", None, "adult"),
            friends.unfriend("ann", other),
            safety.block("ann", other),
        )
        assert (shown.user, shown.state, shown.i_show, shown.shows_me) == (other, "requested", "city", None)
