"""Quiet zones over HTTP: strangers see nobody there, friends see `city`; entering and leaving show at edges only."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from geo import cells
from tests.api.test_class_a import Others
from tests.world import EPOCH_MS, PARIS, STRANGER_EPOCH_MS, World, open_world

HOME = cells.cell_of(*PARIS, 8)
ZONE = cells.parent(HOME, 5)
OUTSIDE = next(
    int(cell) for cell in cells.disk(HOME, 25_000.0)[0] if cells.parent(int(cell), 5) != ZONE
)  # the nearest cell of another zone


async def get(world: World, user: str, path: str) -> Any:
    async with world.client(user) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer


async def near(world: World, user: str) -> bytes:
    found: bytes = (await get(world, user, "/v1/nearby?radius_m=50000")).content
    return found


async def radar(world: World, user: str) -> dict[str, tuple[str, str]]:
    friends = (await get(world, user, "/v1/radar?radius_m=100000")).json()["friends"]
    return {row["user"]: (row["precision"], row["cell"]) for row in friends}


async def zones(world: World, user: str, *given: int) -> Any:
    async with world.client(user) as client:
        return await client.patch("/v1/me/settings", json={"quiet_zones": [cells.to_hex(zone) for zone in given]})


async def test_settings_take_show_and_replace_zones(world: World) -> None:
    other = cells.parent(OUTSIDE, 5)
    answer = await zones(world, "ann", ZONE, other, ZONE)
    assert answer.json()["quiet_zones"] == [cells.to_hex(ZONE), cells.to_hex(other)]
    async with world.client("ann") as ann:
        kept = await ann.patch("/v1/me/settings", json={"bottles": "on"})
        assert kept.json()["quiet_zones"] == answer.json()["quiet_zones"]
    assert (await zones(world, "ann")).json()["quiet_zones"] == []
    record = await world.state.call("HGET", world.hive.shards.person("ann"), "quiet_zones")
    assert record == b"[]"


@pytest.mark.parametrize(
    "given",
    [
        [cells.to_hex(HOME)],
        [cells.to_hex(cells.parent(HOME, 4))],
        ["zone"],
        [""],
        [cells.to_hex(ZONE).upper()],
        ["0" + cells.to_hex(ZONE)],
        [cells.to_hex(int(cell)) for cell in cells.disk(ZONE, 60_000.0)[0][:17]],
        [ZONE],
        "all",
    ],
)
async def test_anything_but_sixteen_cells_of_resolution_5_is_refused(world: World, given: Any) -> None:
    await zones(world, "ann", ZONE)
    async with world.client("ann") as ann:
        answer = await ann.patch("/v1/me/settings", json={"quiet_zones": given})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert answer.json()["errors"][0]["field"].startswith("quiet_zones")
        assert (await ann.get("/v1/me/settings")).json()["quiet_zones"] == [cells.to_hex(ZONE)]


async def test_who_is_not_seen_for_a_zone_does_not_see(world: World) -> None:
    """Reciprocity, at the very moments at which the one shows: at once for a setting, at stranger edges for a move."""
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)

    async def seen_both_ways() -> tuple[Any, bool]:
        shown = "ann" in (await get(world, "bob", "/v1/nearby?radius_m=50000")).text
        async with world.client("ann") as ann:
            answer = await ann.get("/v1/nearby?radius_m=50000")
        return answer.json().get("code") or [row["user"] for row in answer.json()["people"]], shown

    assert await seen_both_ways() == (["bob"], True)
    await zones(world, "ann", ZONE)
    assert await seen_both_ways() == ("not_visible", False)
    await world.place("ann", *cells.center(OUTSIDE))
    assert await seen_both_ways() == ("not_visible", False)
    await world.later(EPOCH_MS)
    assert await seen_both_ways() == ("not_visible", False)
    await world.later(2 * EPOCH_MS)
    assert await seen_both_ways() == (["bob"], True)
    await world.place("ann", *PARIS)
    assert await seen_both_ways() == (["bob"], True), "until the edge"
    await world.later(STRANGER_EPOCH_MS)
    assert await seen_both_ways() == ("not_visible", False)
    async with world.client("ann") as ann:
        answer = await ann.get("/v1/nearby?cursor=AAAA")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_visible")
        assert (await ann.get("/v1/radar")).status_code == 200
    await zones(world, "ann")
    assert await seen_both_ways() == (["bob"], True)


async def test_in_a_zone_strangers_see_what_they_see_of_nobody(world: World) -> None:
    await world.place("viewer", *PARIS)
    empty = await near(world, "viewer")
    await world.place("ann", *PARIS)
    shown = await near(world, "viewer")
    assert shown != empty
    assert (await zones(world, "ann", ZONE)).status_code == 200
    assert await near(world, "viewer") == empty, "at once, as hiding does"
    assert (await get(world, "ann", "/v1/me/position")).json()["in_quiet_zone"] is True
    await zones(world, "ann", cells.parent(OUTSIDE, 5))
    assert await near(world, "viewer") == shown
    await world.later(STRANGER_EPOCH_MS)
    await zones(world, "ann", ZONE)
    assert (await get(world, "viewer", "/v1/nearby")).json()["people"] == []


async def test_entering_and_leaving_show_at_the_edges_of_strangers(world: World) -> None:
    """Equal bytes until there: whoever reports and from where, nobody learns when a zone was entered."""
    await world.place("viewer", *cells.center(OUTSIDE))
    await world.place("ann", *cells.center(OUTSIDE))
    await zones(world, "ann", ZONE)
    before = await near(world, "viewer")
    assert b'"ann"' in before
    await world.place("ann", *PARIS)
    await world.later(EPOCH_MS)
    assert await near(world, "viewer") == before
    await world.later(2 * EPOCH_MS)
    assert b'"ann"' not in await near(world, "viewer")
    await world.place("ann", *cells.center(OUTSIDE))
    await world.later(2 * EPOCH_MS)
    assert b'"ann"' not in await near(world, "viewer")
    await world.later(EPOCH_MS)
    assert b'"ann"' in await near(world, "viewer")


@pytest.mark.parametrize("precision", ["area", "near"])
async def test_friends_see_city_in_a_zone_each_way(world: World, precision: str) -> None:
    """Watching means showing: whoever is in their zone sees no more of the other either."""
    for user in ("ann", "bob"):
        await world.place(user, *PARIS, visibility="friends")
    await world.befriend("ann", "bob", precision)
    open_to = await radar(world, "bob")
    assert open_to["ann"] == (precision, cells.to_hex(HOME if precision == "near" else cells.parent(HOME, 7)))
    await zones(world, "ann", ZONE)
    assert await radar(world, "bob") == {"ann": ("city", cells.to_hex(ZONE))}
    assert await radar(world, "ann") == {"bob": ("city", cells.to_hex(ZONE))}
    finest = (await get(world, "ann", "/v1/me/position")).json()["finest"]
    assert (finest["cell"], finest["audience"]) == (cells.to_hex(ZONE), "city")
    await zones(world, "ann")
    assert await radar(world, "bob") == open_to


async def test_a_friend_at_near_never_sees_a_cell_of_the_zone(world: World) -> None:
    """Cells of `near` move at every edge, `city` at every third: in between the friend sees the city left."""
    for user in ("ann", "bob", "cleo"):
        await world.place(user, *cells.center(OUTSIDE), visibility="friends")
    await world.befriend("ann", "bob", "near")
    await world.befriend("ann", "cleo", "area")
    await zones(world, "ann", ZONE)
    area = await radar(world, "cleo")
    await world.place("ann", *PARIS, visibility="friends")
    for _ in range(2):
        await world.later(EPOCH_MS)
        assert await radar(world, "bob") == {"ann": ("city", cells.to_hex(cells.parent(OUTSIDE, 5)))}
        assert await radar(world, "cleo") == area, "who sees `area` learns of it at a stranger edge"
    await world.later(EPOCH_MS)
    assert await radar(world, "bob") == await radar(world, "cleo") == {"ann": ("city", cells.to_hex(ZONE))}


async def test_hidden_stays_hidden_in_a_zone(world: World) -> None:
    for user in ("ann", "bob"):
        await world.place(user, *PARIS, visibility="friends")
    await world.befriend("ann", "bob", "hidden")
    await zones(world, "ann", ZONE)
    assert await radar(world, "bob") == {}


async def test_shaking_is_consent_in_a_zone_too(world: World) -> None:
    await zones(world, "ann", ZONE)
    matches = []
    for user in ("ann", "bob"):
        async with world.client(user, headers={"Idempotency-Key": "k"}) as client:
            answer = await client.post("/v1/shakes", json={"lat": PARIS[0], "lon": PARIS[1]})
            matches = [row["user"] for row in answer.json()["matches"]]
    assert matches == ["ann"]


async def test_every_worker_has_folded_a_zone_before_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(world.hive.leases)
    monkeypatch.setattr(world.hive.writer, "leases", others)
    assert (await zones(world, "ann", ZONE)).status_code == 200
    assert others.waited == [world.hive.feeds.followers[0].position]
    others.hang = True
    assert (await zones(world, "ann")).status_code == 503


async def test_a_worker_that_starts_later_knows_the_zones(world: World, tmp_path: Path) -> None:
    await world.place("viewer", *PARIS)
    empty = await near(world, "viewer")
    await world.place("ann", *PARIS)
    assert (await zones(world, "ann", ZONE)).status_code == 200
    await world.hive.leave()
    await world.hive.stop()
    async with open_world(world.state, tmp_path / "later", world.now_ms) as later:
        assert (await get(later, "ann", "/v1/me/settings")).json()["quiet_zones"] == [cells.to_hex(ZONE)]
        assert await near(later, "viewer") == empty


async def test_a_zone_that_a_failover_lost_is_said_again(world: World) -> None:
    """Beside those that stand; one that was dropped since is not."""
    other = cells.parent(OUTSIDE, 5)
    await zones(world, "ann", ZONE, other)
    slot, reassertion = world.hive.people.slot_or_new("ann"), world.hive._reassertion
    said = reassertion.take(0)
    assert said[("quiet", "ann")][1] == [ZONE, other]
    world.hive.people.quiet_zones.set(slot, [other])  # as the replica has it
    reassertion.say_again(0, said, world.now_ms)
    await asyncio.gather(*reassertion._tasks)
    assert set(world.hive.people.quiet_zones.of(slot)) == {ZONE, other}
    reassertion.say_again(0, said, world.now_ms)
    assert not reassertion._tasks, "what stands is not said again"
