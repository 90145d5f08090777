"""Settings, friends and blocks over HTTP."""

import asyncio

import httpx2
import pytest

from discovery.errors import Erased
from tests.world import HOUR_MS, PARIS, STRANGER_EPOCH_MS, World


async def friend_row(world: World, user: str, other: str) -> dict[str, object] | None:
    async with world.client(user) as client:
        rows = (await client.get("/v1/me/friends")).json()["friends"]
    return next((row for row in rows if row["user"] == other), None)


async def radar_users(world: World, user: str, radius_m: int = 10_000) -> list[str]:
    async with world.client(user) as client:
        answer = await client.get("/v1/radar", params={"radius_m": radius_m})
    assert answer.status_code == 200, answer.text
    return [row["user"] for row in answer.json()["friends"]]


async def test_defaults_and_lapse_of_everyone(world: World) -> None:
    async with world.client("ann") as client:
        settings = "/v1/me/settings"
        assert (await client.get(settings)).json() == {
            "visibility": "nobody",
            "visible_until": None,
            "quiet_zones": [],
            "bottles": "off",
        }
        await client.patch(settings, json={"visibility": "friends"})
        shown = (await client.patch(settings, json={"visibility": "everyone", "bottles": "on"})).json()
        assert (shown["visibility"], shown["bottles"]) == ("everyone", "on")
        await world.later(8 * HOUR_MS - 10_000)
        assert (await client.get(settings)).json()["visibility"] == "everyone"
        await world.later(20_000)
        assert (await client.get(settings)).json()["visibility"] == "friends"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"visibility": "all"}, "visibility"),
        ({"visible_until": "tomorrow"}, "visible_until"),
        ({"visibility": "everyone", "visible_until": "2020-01-01T00:00:00Z"}, "visible_until"),
        ({"visibility": "everyone", "visible_until": "2030-01-01T00:00:00Z"}, "visible_until"),
        ({"visibility": "nobody", "visible_until": "2027-01-15T09:00:00Z"}, "visible_until"),
        ({"quiet_zones": ["871fb4662ffffff"]}, "quiet_zones"),
        ({"bottles": True}, "bottles"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_bad_settings(world: World, body: dict[str, object], field: str) -> None:
    async with world.client("ann") as client:
        answer = await client.patch("/v1/me/settings", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_everyone_and_bottles_are_for_adults(world: World) -> None:
    for age in ("minor", None):
        async with world.client("kid", age) as client:
            for body in ({"visibility": "everyone"}, {"bottles": "on"}):
                answer = await client.patch("/v1/me/settings", json=body)
                assert (answer.status_code, answer.json()["code"]) == (403, "adults_only")
            assert (await client.patch("/v1/me/settings", json={"visibility": "friends"})).status_code == 200


async def test_the_app_needs_consent_to_widen(world: World) -> None:
    async with world.operator() as app:
        path = "/v1/app/users/ann"
        answer = await app.put(path, json={"visibility": "friends"})
        assert answer.json()["errors"][0]["field"] == "consent"
        consent = {"version": "1", "at": "2026-11-22T08:00:00Z"}
        assert (await app.put(path, json={"visibility": "friends", "consent": consent})).json()[
            "visibility"
        ] == "friends"
        assert (await app.put(path, json={"visibility": "nobody"})).json()["visibility"] == "nobody"
        assert (await app.put(path, json={"visibility": "everyone", "consent": consent})).status_code == 403
        grown = await app.put(path, json={"visibility": "everyone", "consent": consent, "age": "adult"})
        assert grown.json()["visibility"] == "everyone"


async def test_a_friendship_exists_when_both_have_asked(world: World) -> None:
    async with world.client("ann") as ann, world.client("bob") as bob:
        asked = (await ann.put("/v1/me/friends/bob", json={})).json()
        assert asked == {"user": "bob", "state": "requested", "i_show": "area", "shows_me": None, "until": None}
        assert (await friend_row(world, "bob", "ann") or {})["state"] == "incoming"
        accepted = (await bob.put("/v1/me/friends/ann", json={"precision": "city"})).json()
        assert (accepted["state"], accepted["shows_me"]) == ("accepted", "area")
        assert (await ann.delete("/v1/me/friends/bob")).status_code == 204
    assert await friend_row(world, "ann", "bob") is None
    assert (await friend_row(world, "bob", "ann") or {})["state"] == "requested"


async def test_asking_anybody_gives_the_same_bytes(world: World) -> None:
    await world.place("real", *PARIS)
    async with world.client("ann") as ann, world.client("blocker") as blocker:
        await blocker.put("/v1/me/blocks/ann")
        answers = [await ann.put(f"/v1/me/friends/{user}", json={}) for user in ("real", "none", "blocker")]
    bodies = {answer.text.replace(user, "X") for answer, user in zip(answers, ("real", "none", "blocker"), strict=True)}
    assert len(bodies) == 1


async def test_near_lapses_to_area(world: World) -> None:
    async with world.client("ann") as ann:
        near = (await ann.put("/v1/me/friends/bob", json={"precision": "near"})).json()
        assert near["until"] is not None
        await world.later(30 * 24 * HOUR_MS + 1000)
        assert (await friend_row(world, "ann", "bob") or {})["i_show"] == "area"


async def test_radar_shows_the_coarser_of_both(world: World) -> None:
    await world.place("ann", *PARIS, visibility="friends")
    await world.place("bob", 48.87, 2.36, visibility="friends")
    expected = (("near", "near", "near", 8), ("near", "city", "city", 5), ("area", "near", "area", 7))
    for mine, theirs, seen, resolution in expected:
        async with world.client("ann") as ann, world.client("bob") as bob:
            await ann.put("/v1/me/friends/bob", json={"precision": mine})
            await bob.put("/v1/me/friends/ann", json={"precision": theirs})
            row = (await ann.get("/v1/radar", params={"radius_m": 100_000})).json()["friends"][0]
            assert row["precision"] == seen
            assert int(row["cell"][1], 16) == resolution
            assert row["geometry"]["type"] == "Polygon"
            back = (await bob.get("/v1/radar", params={"radius_m": 100_000})).json()["friends"][0]
            assert back["distance_m"] == row["distance_m"]
    async with world.client("bob") as bob:
        await bob.put("/v1/me/friends/ann", json={"precision": "hidden"})
    assert await radar_users(world, "ann", 100_000) == []


async def test_radar_needs_an_own_position_and_visibility(world: World) -> None:
    async with world.client("ann") as ann:
        first = await ann.get("/v1/radar")
        assert (first.status_code, first.json()["code"]) == (409, "position_required")
        await ann.put("/v1/me/position", json={"lat": 1, "lon": 1})
        second = await ann.get("/v1/radar")
        assert (second.status_code, second.json()["code"]) == (409, "not_visible")
        assert (await ann.get("/v1/radar", params={"radius_m": 3000})).status_code == 422


async def test_a_block_ends_it_all_both_ways(world: World) -> None:
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    await world.befriend("ann", "bob")
    assert await radar_users(world, "ann") == ["bob"]
    async with world.client("ann") as ann:
        assert (await ann.put("/v1/me/blocks/bob")).status_code == 204
        assert (await ann.get("/v1/me/blocks")).json() == {"blocks": [{"user": "bob"}], "next_cursor": None}
    assert await radar_users(world, "ann") == await radar_users(world, "bob") == []
    assert (await friend_row(world, "bob", "ann") or {})["state"] == "requested"
    for user in ("ann", "bob"):
        async with world.client(user) as client:
            assert (await client.get("/v1/nearby")).json()["people"] == []
    async with world.client("ann") as ann:
        await ann.delete("/v1/me/blocks/bob")
        assert [row["user"] for row in (await ann.get("/v1/nearby")).json()["people"]] == ["bob"]


async def test_who_is_blocked_does_not_get_rid_of_it_by_erasing_that_account(world: World) -> None:
    """The block, as a mute, is of the human behind it."""
    for user, person in {"x1": "P", "x2": "P", "y": "Y"}.items():
        await world.hive.settings.note_person(user, person)
        await world.place(user, *PARIS)
    await world.later(STRANGER_EPOCH_MS)

    async def seen(user: str) -> set[str]:
        async with world.client(user) as own:
            answer = await own.get("/v1/nearby", params={"radius_m": 5000})
            return {row["user"] for row in answer.json()["people"]}

    assert await seen("y") == {"x1", "x2"}
    async with world.client("y") as y, world.client("x1") as x1:
        assert (await y.put("/v1/me/mutes/x1")).status_code == 204
        assert (await y.put("/v1/me/blocks/x1")).status_code == 204
        assert (await x1.delete("/v1/me?confirm=x1")).status_code == 202
        assert await seen("x2") == await seen("y") == set()
        assert (await y.delete("/v1/me/blocks/x1")).status_code == 204
        assert (await seen("x2"), await seen("y")) == ({"y"}, set()), "still muted"
        assert (await y.delete("/v1/me/mutes/x1")).status_code == 204
    assert await seen("y") == {"x2"}


async def test_a_block_stands_though_another_account_is_erased_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("ann", "ann2"):
        await world.hive.settings.note_person(user, "P")
    await world.place("bob", *PARIS)
    await world.befriend("ann2", "bob")
    decline = world.hive.safety._decline

    async def late(user: str, other: str) -> None:
        async with world.client("ann2") as second:
            act = asyncio.create_task(second.delete("/v1/me?confirm=ann2"))  # a task, for a request of its own
            assert (await act).status_code == 202
        raised = await asyncio.gather(decline(user, other), return_exceptions=True)
        assert list(raised) == [None], "nothing is left to end"
        raise Erased("as where that is not folded yet")

    monkeypatch.setattr(world.hive.safety, "_decline", late)
    async with world.client("ann") as ann:
        assert (await ann.put("/v1/me/blocks/bob")).status_code == 204
        assert (await ann.get("/v1/me/blocks")).json()["blocks"] == [{"user": "bob"}]


async def test_blocks_are_paged(world: World) -> None:
    async with world.client("ann") as ann:
        for n in range(5):
            await ann.put(f"/v1/me/blocks/u{n}")
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (
                await ann.get("/v1/me/blocks", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
            ).json()
            seen += [row["user"] for row in page["blocks"]]
            cursor = page["next_cursor"]
    assert seen == [f"u{n}" for n in range(5)]


async def pairs(app: httpx2.AsyncClient, *rows: dict[str, object]) -> dict[str, object]:
    answer = await app.post("/v1/app/friendships", json={"pairs": list(rows)})
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


async def test_the_app_keeps_the_graph_but_never_undoes_a_person(world: World) -> None:
    async with world.operator() as app, world.client("ann", None) as ann:
        added = await pairs(
            app, {"a": "ann", "b": "bob", "op": "add"}, {"a": "ann", "b": "ann", "op": "add"}, {"a": "x"}
        )
        assert added == {"applied": 1, "skipped": [{"index": 1, "code": "self"}, {"index": 2, "code": "invalid"}]}
        assert (await friend_row(world, "ann", "bob") or {})["state"] == "accepted"
        assert (await friend_row(world, "bob", "ann") or {})["shows_me"] == "area"
        await ann.put("/v1/me/friends/bob", json={"precision": "hidden"})
        again = await pairs(app, {"a": "bob", "b": "ann", "op": "add"})
        assert again["skipped"] == [{"index": 0, "code": "declined_by_person"}]
        await pairs(app, {"a": "ann", "b": "bob", "op": "remove"})
        assert await friend_row(world, "ann", "bob") is None
        await pairs(app, {"a": "ann", "b": "bob", "op": "add"})
        await ann.delete("/v1/me/friends/bob")
        assert (await pairs(app, {"a": "ann", "b": "bob", "op": "add"}))["applied"] == 0
        await ann.put("/v1/me/blocks/carl")
        assert (await pairs(app, {"a": "carl", "b": "ann", "op": "add"}))["applied"] == 0


async def test_an_adult_and_a_minor_need_a_guardian_or_the_minors_own_asking(world: World) -> None:
    consent = {"version": "1", "at": "2026-11-22T08:00:00Z"}
    async with world.operator() as app, world.client("old") as old, world.client("kid", "minor") as kid:
        await app.put("/v1/app/users/old", json={"age": "adult", "consent": consent})
        await app.put("/v1/app/users/kid", json={"age": "minor"})
        assert (await pairs(app, {"a": "old", "b": "kid", "op": "add"}))["skipped"] == [
            {"index": 0, "code": "guardian_required"}
        ]
        await old.put("/v1/me/friends/kid", json={})
        await world.later(1000)
        assert (await kid.put("/v1/me/friends/old", json={})).json()["state"] == "requested"
        await pairs(app, {"a": "old", "b": "kid", "op": "add", "guardian": True})
    assert (await friend_row(world, "kid", "old") or {})["state"] == "accepted"
