"""Precise sharing: one friend is shown the cell of resolution 11, live; everybody else what they were shown before."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api.auth import Age
from discovery.precise import LONGEST_SHARE_MS
from discovery.store import keys
from discovery.store.client import State
from geo import cells
from tests.world import EPOCH_MS, HOUR_MS, PARIS, World, open_world

NEAR_PARIS = (48.8600, 2.3400)
Point = tuple[float, float]


def time_text(world: World, in_ms: int) -> str:
    return datetime.fromtimestamp((world.now_ms + in_ms) / 1000, UTC).isoformat()


async def share(world: World, owner: str, other: str, in_ms: int = HOUR_MS) -> dict[str, Any]:
    async with world.client(owner) as client:
        body = {"precision": "precise", "until": time_text(world, in_ms)}
        answer = await client.put(f"/v1/me/friends/{other}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def seen(world: World, viewer: str, other: str) -> dict[str, Any] | None:
    async with world.client(viewer) as client:
        answer = await client.get("/v1/radar", params={"radius_m": 100_000})
    assert answer.status_code == 200, answer.text
    return next((friend for friend in answer.json()["friends"] if friend["user"] == other), None)


async def precision(world: World, viewer: str, other: str) -> str | None:
    blip = await seen(world, viewer, other)
    return None if blip is None else str(blip["precision"])


async def listed(world: World, user: str, other: str) -> dict[str, Any]:
    async with world.client(user) as client:
        rows = (await client.get("/v1/me/friends")).json()["friends"]
    return next(row for row in rows if row["user"] == other)


async def friends_who_share(world: World, in_ms: int = HOUR_MS, first: str = "ann") -> None:
    """Ann shows Bob where she is."""
    await world.place("ann", *PARIS, visibility="friends", ttl_s=28_800)
    await world.place("bob", *NEAR_PARIS, visibility="friends", ttl_s=28_800)
    second = "bob" if first == "ann" else "ann"
    await act(world, first, "PUT", f"/v1/me/friends/{second}", json={})
    await world.later(1000)
    await act(world, second, "PUT", f"/v1/me/friends/{first}", json={})
    await share(world, "ann", "bob", in_ms)
    await world.place("ann", *PARIS, visibility="friends", ttl_s=28_800)


async def test_the_friend_is_shown_the_cell_of_resolution_11_at_once(world: World) -> None:
    await friends_who_share(world)
    for point in (PARIS, (48.8570, 2.3530), (48.8700, 2.3600)):
        await world.place("ann", *point, visibility="friends", ttl_s=28_800)
        blip = await seen(world, "bob", "ann")
        assert blip is not None
        cell = cells.cell_of(*point, 11)
        assert (blip["precision"], blip["cell"]) == ("precise", cells.to_hex(cell))
        assert blip["geometry"] == cells.polygon(cell)
        own = world.hive.presence.cell_at(world.hive.people.slot_or_new("bob"), "near")
        assert blip["distance_m"] == round(cells.distance_m(own, cell), 3)
    back = await seen(world, "ann", "bob")
    assert back is not None
    assert back["precision"] == "area", "it has one direction"


async def test_both_lists_and_the_own_position_tell_of_it(world: World) -> None:
    await friends_who_share(world)
    until = datetime.fromtimestamp((world.now_ms + HOUR_MS) / 1000, UTC).isoformat().replace("+00:00", "Z")
    mine, theirs = await listed(world, "ann", "bob"), await listed(world, "bob", "ann")
    assert (mine["i_show"], mine["shows_me"], mine["until"]) == ("precise", "area", until)
    assert (theirs["i_show"], theirs["shows_me"], theirs["until"]) == ("area", "precise", None)
    async with world.client("ann") as ann:
        finest = (await ann.get("/v1/me/position")).json()["finest"]
    assert (finest["cell"], finest["resolution"], finest["audience"]) == (
        cells.to_hex(cells.cell_of(*PARIS, 11)),
        11,
        "precise",
    )


@pytest.mark.parametrize("before", ["hidden", "city", "area", "near"])
async def test_after_its_end_the_half_counts_as_before(world: World, before: str) -> None:
    await friends_who_share(world)
    async with world.client("ann") as ann, world.client("bob") as bob:
        await ann.put("/v1/me/friends/bob", json={"precision": before})
        await bob.put("/v1/me/friends/ann", json={"precision": "near"})
    assert await precision(world, "bob", "ann") == (None if before == "hidden" else before), "another precision ends it"
    await share(world, "ann", "bob")
    assert await precision(world, "bob", "ann") in (before, None), "until the next report"
    await world.place("ann", *PARIS, visibility="friends", ttl_s=28_800)
    assert await precision(world, "bob", "ann") == "precise"
    await world.later(HOUR_MS)
    assert await precision(world, "bob", "ann") == (None if before == "hidden" else before)
    assert (await listed(world, "ann", "bob"))["i_show"] == before
    assert world.hive.friendships.precise.standing(world.now_ms) == {}


async def act(world: World, user: str, method: str, path: str, **more: Any) -> None:
    async with world.client(user) as client:
        answer = await client.request(method, path, **more)
        assert answer.status_code in (200, 204), answer.text


ENDS: dict[str, list[tuple[str, str, str, dict[str, Any]]]] = {
    "hide": [("ann", "PATCH", "/v1/me/settings", {"json": {"visibility": "nobody"}})],
    "clear": [("ann", "DELETE", "/v1/me/position", {})],
    "unfriend": [("ann", "DELETE", "/v1/me/friends/bob", {})],
    "be unfriended": [("bob", "DELETE", "/v1/me/friends/ann", {})],
    "block": [("ann", "PUT", "/v1/me/blocks/bob", {}), ("ann", "DELETE", "/v1/me/blocks/bob", {})],
    "be blocked": [("bob", "PUT", "/v1/me/blocks/ann", {}), ("bob", "DELETE", "/v1/me/blocks/ann", {})],
    "show less": [("ann", "PUT", "/v1/me/friends/bob", {"json": {"precision": "area"}})],
}


@pytest.mark.parametrize("end", ENDS)
async def test_what_ends_it_ends_it_for_good(world: World, end: str) -> None:
    """Whoever comes back, and is a friend again, does not share again."""
    await friends_who_share(world)
    for user, method, path, more in ENDS[end]:
        await act(world, user, method, path, **more)
    assert await precision(world, "bob", "ann") in (None, "area")
    for user, other in (("ann", "bob"), ("bob", "ann")):
        await act(world, user, "PUT", f"/v1/me/friends/{other}", json={"precision": "area"})
        await world.place(user, *PARIS, visibility="friends")
    assert await precision(world, "bob", "ann") == "area"
    assert (await listed(world, "ann", "bob"))["i_show"] == "area"


@pytest.mark.parametrize("blocker", ["bob2", "ann2"])
@pytest.mark.parametrize("blocked", ["first", "second"])
async def test_a_block_by_another_account_ends_it_for_good(world: World, blocker: str, blocked: str) -> None:
    """Of either human; lifting the block brings nothing back."""
    for user in ("ann", "ann2", "bob", "bob2"):
        await world.hive.settings.note_person(user, f"human {user[0]}")
    await friends_who_share(world)
    other = ("ann" if blocker == "bob2" else "bob") + ("2" if blocked == "second" else "")
    assert await precision(world, "bob", "ann") == "precise"
    await act(world, blocker, "PUT", f"/v1/me/blocks/{other}")
    assert await precision(world, "bob", "ann") is None
    await act(world, blocker, "DELETE", f"/v1/me/blocks/{other}")
    assert await precision(world, "bob", "ann") is None
    await world.later(1000)
    for user, friend in (("ann", "bob"), ("bob", "ann")):
        await act(world, user, "PUT", f"/v1/me/friends/{friend}", json={"precision": "area"})
    assert await precision(world, "bob", "ann") == "area"


async def test_who_lapses_to_nobody_does_not_share_when_visible_again(world: World) -> None:
    await friends_who_share(world, 20 * HOUR_MS)
    async with world.client("ann") as ann:
        await ann.patch("/v1/me/settings", json={"visibility": "nobody"})
        await ann.patch("/v1/me/settings", json={"visibility": "everyone"})
    await share(world, "ann", "bob", 20 * HOUR_MS)
    await world.place("ann", *PARIS, ttl_s=28_800)
    await world.later(8 * HOUR_MS + 1000)
    await world.place("bob", *PARIS, visibility="friends")
    assert await seen(world, "bob", "ann") is None
    await world.place("ann", *PARIS, visibility="friends")
    assert await precision(world, "bob", "ann") == "area"


@pytest.mark.parametrize("first", ["ann", "bob"])
@pytest.mark.parametrize("minor", ["ann", "bob"])
async def test_turning_minor_ends_it(world: World, minor: str, first: str) -> None:
    """Where the adult asked first, so does the friendship."""
    await friends_who_share(world, first=first)
    async with world.operator() as app:
        await app.put(f"/v1/app/users/{minor}", json={"age": "minor"})
    assert await precision(world, "bob", "ann") != "precise"
    standing = "accepted" if minor == first else "requested"
    mine, theirs = await listed(world, "ann", "bob"), await listed(world, "bob", "ann")
    assert (mine["state"], theirs["state"]) == (standing, standing)
    assert theirs["shows_me"] == ("area" if minor == first else None)
    kept = minor == first == "bob"
    assert mine["i_show"] == ("precise" if kept else "area"), "of her friend's age she is told nothing"


async def talk(world: World, age: Age, precision: str) -> tuple[list[bytes], dict[str, Any] | None]:
    """All that Ann is answered about a friend of this age with whom she shares; and what the friend sees of her."""
    await world.place("ann", *PARIS, visibility="friends", ttl_s=28_800)
    async with world.client("kim", age) as kim:
        assert (await kim.put("/v1/me/position", json={"lat": 48.86, "lon": 2.34, "ttl_s": 28_800})).status_code == 200
        assert (await kim.patch("/v1/me/settings", json={"visibility": "friends"})).status_code == 200
        assert (await kim.put("/v1/me/friends/ann", json={"precision": precision})).status_code == 200
        await world.later(1000)
        found: list[bytes] = []
        async with world.client("ann", headers={"X-Request-Id": "same"}) as ann:

            async def ask(method: str, path: str, **more: Any) -> None:
                answer = await ann.request(method, path, **more)
                found.append(repr((answer.status_code, sorted(answer.headers.items()))).encode() + answer.content)

            async def look() -> None:
                for path in ("/v1/me/friends", "/v1/me/position", "/v1/radar?radius_m=100000", "/v1/me/settings"):
                    await ask("GET", path)

            share = {"precision": "precise", "until": time_text(world, HOUR_MS)}
            for body in (share, {"precision": "near"}, share):
                await ask("PUT", "/v1/me/friends/kim", json=body)
                await look()
                await ask("PUT", "/v1/me/position", json={"lat": 48.8571, "lon": 2.3541, "ttl_s": 28_800})
                await look()
            radar = (await kim.get("/v1/radar?radius_m=100000")).json()["friends"]
            for ms in (EPOCH_MS, HOUR_MS):
                await world.later(ms)
                await look()
            await ask("DELETE", "/v1/me/friends/kim")
            await ask("PUT", "/v1/me/friends/kim", json=share)
            await look()
    return found, next((friend for friend in radar if friend["user"] == "ann"), None)


@pytest.mark.parametrize("precision", ["hidden", "city", "area"])
async def test_who_shares_is_not_told_whether_the_friend_is_a_minor(
    state: State, tmp_path: Path, precision: str
) -> None:
    """The same bytes, while an adult sees the place and a minor does not."""
    told, sees = [], []
    ages: tuple[Age, Age] = ("adult", "minor")
    for age in ages:
        await state.call("FLUSHALL")
        async with open_world(state, tmp_path) as world:
            found, blip = await talk(world, age, precision)
            told.append(found)
            sees.append(None if blip is None else blip["precision"])
    assert told[0] == told[1]
    assert sum(b'"i_show":"precise"' in answer for answer in told[0]) >= 4
    assert sum(b'"audience":"precise"' in answer for answer in told[0]) >= 2
    assert sees == ["precise", None if precision == "hidden" else precision]


async def test_who_turns_minor_reads_as_who_shows_area(state: State, tmp_path: Path) -> None:
    """A friend at `near`: by the app's word, or by their own choice."""
    told = []
    for by_app in (False, True):
        await state.call("FLUSHALL")
        async with open_world(state, tmp_path) as world:
            for user in ("kim", "ann"):
                await world.place(user, *PARIS, visibility="friends", ttl_s=28_800)
            async with world.client("kim") as kim, world.operator() as app:
                await kim.put("/v1/me/friends/ann", json={"precision": "near"})
                await world.later(1000)
                async with world.client("ann", headers={"X-Request-Id": "same"}) as ann:
                    accepted = await ann.put("/v1/me/friends/kim", json={"precision": "near"})
                    assert accepted.json()["shows_me"] == "near"
                    if by_app:
                        assert (await app.put("/v1/app/users/kim", json={"age": "minor"})).status_code == 200
                    else:
                        await kim.put("/v1/me/friends/ann", json={"precision": "area"})
                    paths = ("/v1/me/friends", "/v1/me/position", "/v1/radar?radius_m=100000")
                    told.append([(await ann.get(path)).content for path in paths])
    assert told[0] == told[1]
    assert b'"shows_me":"area"' in told[0][0]


async def test_who_may_share_and_until_when(world: World) -> None:
    await world.place("ann", *PARIS, visibility="friends")
    async with world.client("ann") as ann, world.client("ann", "minor") as young:

        async def refusal(client: Any, user: str, until: str | None = "") -> tuple[int, str]:
            more = {} if until is None else {"until": until or time_text(world, LONGEST_SHARE_MS)}
            answer = await client.put(f"/v1/me/friends/{user}", json={"precision": "precise", **more})
            return answer.status_code, answer.json()["code"]

        assert await refusal(ann, "nobody") == (409, "not_friends")
        await ann.put("/v1/me/friends/asked", json={})
        assert await refusal(ann, "asked") == (409, "not_friends")
        await world.befriend("ann", "bob")
        for until in (None, time_text(world, 0), time_text(world, LONGEST_SHARE_MS + 1000)):
            assert await refusal(ann, "bob", until) == (422, "invalid")
        await ann.patch("/v1/me/settings", json={"visibility": "nobody"})
        assert await refusal(ann, "bob") == (409, "not_visible")
        assert await refusal(young, "bob") == (403, "adults_only")


async def test_a_quiet_zone_hides_it_like_everything_else(world: World) -> None:
    await friends_who_share(world)
    zone = cells.to_hex(cells.cell_of(*PARIS, 5))
    await act(world, "ann", "PATCH", "/v1/me/settings", json={"quiet_zones": [zone]})
    assert await precision(world, "bob", "ann") == "city"
    await world.place("ann", 48.8570, 2.3530, visibility="friends")
    assert world.hive.friendships.precise.standing(world.now_ms)[world.hive.people.slot_or_new("ann")].cell == 0
    assert await precision(world, "bob", "ann") == "city"
    away = (49.5, 3.5)
    await world.place("ann", *away, visibility="friends")
    blip = await seen(world, "bob", "ann")
    assert blip is None or blip["precision"] != "precise" or blip["cell"] == cells.to_hex(cells.cell_of(*away, 11))


async def test_the_apps_reports_move_it_too(world: World) -> None:
    await friends_who_share(world)
    async with world.operator() as app:
        rows = [{"user": "ann", "lat": 48.8571, "lon": 2.3540}]
        assert (await app.post("/v1/app/positions", json={"positions": rows})).json()["accepted"] == 1
    blip = await seen(world, "bob", "ann")
    assert blip is not None
    assert blip["cell"] == cells.to_hex(cells.cell_of(48.8571, 2.3540, 11))


async def entries(world: World, kind: str) -> int:
    rows = await world.state.call("XRANGE", keys.feed("s00"), "-", "+")
    return sum(1 for _, fields in rows if fields[1].decode() == kind)


async def test_the_feed_hears_of_it_only_while_it_is_shared_and_only_of_another_cell(world: World) -> None:
    await friends_who_share(world)
    assert await entries(world, "l") == 1
    await world.place("ann", *PARIS, visibility="friends")
    await world.place("bob", *PARIS, visibility="friends")
    assert await entries(world, "l") == 1
    await world.later(HOUR_MS)
    await world.place("ann", *NEAR_PARIS, visibility="friends")
    assert await entries(world, "l") == 1


def point_in(cell: int, draws: random.Random) -> Point:
    """Anywhere in a triangle of the cell's fan."""
    lat, lon = cells.center(cell)
    corners = cells.boundary(cell)
    at, share, depth = draws.randrange(len(corners)), draws.random(), draws.random() * 0.99
    a, b = corners[at], corners[(at + 1) % len(corners)]
    edge_lat, edge_lon = a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
    return lat + depth * (edge_lat - lat), lon + depth * (edge_lon - lon)


async def observe(world: World) -> list[bytes]:
    """What a stranger and other friends are answered."""
    asks = [("stranger", f"/v1/nearby?radius_m={radius}&limit=100") for radius in (3000, 20_000)]
    asks += [(friend, f"/v1/radar?radius_m={radius}") for friend in ("near", "city") for radius in (1000, 100_000)]
    asks += [("near", "/v1/me/friends"), ("stranger", "/v1/me/friends"), ("stranger", "/v1/me/position")]
    found = []
    for user, path in asks:
        async with world.client(user, headers={"X-Request-Id": "same"}) as client:
            answer = await client.get(path)
            found.append(repr((answer.status_code, sorted(answer.headers.items()))).encode() + answer.content)
    return found


async def run(world: World, points: list[list[Point]], sharing: bool) -> list[bytes]:
    """What a stranger and two other friends are answered while the victim shares with Bob, or does not."""
    for user in ("stranger", "near", "city", "bob"):
        await world.place(user, *PARIS, ttl_s=28_800)
    for friend, how in (("near", "near"), ("city", "city"), ("bob", "area")):
        await world.befriend("victim", friend, how)
    found: list[bytes] = []
    for step, reports in enumerate(points):
        for lat, lon in reports:
            await world.place("victim", lat, lon, ttl_s=28_800)
            if sharing:
                await share(world, "victim", "bob", HOUR_MS if step % 2 else 8 * HOUR_MS)
        found += await observe(world)
        await world.later(EPOCH_MS)
        found += await observe(world)
    return found


async def test_nobody_else_is_told_anything_by_it(state: State, tmp_path: Path, seed: int) -> None:
    """Other points of the same cells, with a share and without: all other audiences get the same bytes."""
    draws = random.Random(seed)
    near = [int(cell) for cell in cells.disk(cells.cell_of(*PARIS, 8), 4000.0)[0]]
    track = [near[0], near[-1], near[0]]
    transcripts = []
    for sharing in (False, True):
        points = [[point_in(cell, draws) for _ in range(2)] for cell in track]
        await state.call("FLUSHALL")
        async with open_world(state, tmp_path) as world:
            transcripts.append(await run(world, points, sharing))
            assert (await precision(world, "bob", "victim") == "precise") == sharing
    assert transcripts[0] == transcripts[1]
    assert any(b"victim" in answer for answer in transcripts[0])


async def test_a_checkpoint_holds_it_no_longer_than_it_lasts(world: World) -> None:
    await friends_who_share(world)
    slot = world.hive.people.slot_or_new("ann")
    shown = world.hive.friendships.precise.standing(world.now_ms)[slot]
    assert shown.cell == cells.cell_of(*PARIS, 11)
    assert world.hive.friendships.precise.standing(world.now_ms + HOUR_MS) == {}
    assert world.hive.friendships.precise.cell(slot) == 0
