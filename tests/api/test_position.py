"""Presence over HTTP: one state machine a person, published at edges only."""

from typing import Any

import pytest

from geo import cells
from tests.world import EPOCH_MS, HOUR_MS, PARIS, START_MS, STRANGER_EPOCH_MS, World


async def put(world: World, user: str, lat: float, lon: float, **more: Any) -> dict[str, Any]:
    async with world.client(user) as client:
        answer = await client.put("/v1/me/position", json={"lat": lat, "lon": lon, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def centre(cell: int) -> tuple[float, float]:
    return cells.center(cell)


def neighbour8() -> tuple[int, int]:
    """Two resolution-8 cells of different resolution-7 parents that lie beside each other, at Paris."""
    home = cells.cell_of(*PARIS, 8)
    near = cells.disk(home, 2500.0)[0]
    other = next(int(cell) for cell in near if cells.parent(int(cell), 7) != cells.parent(home, 7))
    return home, other


async def test_the_first_position_is_published_at_once(world: World) -> None:
    body = await put(world, "ann", *PARIS)
    cell7 = cells.cell_of(*PARIS, 7)
    home8 = cells.cell_of(*PARIS, 8)
    assert body["published"]["cell"] == cells.to_hex(cells.parent(home8, 7))
    assert body["published"]["resolution"] == 7
    assert body["published"]["uncertainty_m"] == pytest.approx(0.399 * cells.area_m2(cell7) ** 0.5, rel=0.05)
    assert body["finest"] is None
    assert body["visibility"] == "nobody"


async def test_a_move_is_published_at_the_stranger_edge_only(world: World) -> None:
    home, other = neighbour8()
    await put(world, "ann", *centre(home))
    assert (await put(world, "ann", *centre(other)))["published"]["cell"] == cells.to_hex(cells.parent(home, 7))
    await world.later(EPOCH_MS)  # an edge, but not a stranger edge
    assert (await put(world, "ann", *centre(other)))["published"]["cell"] == cells.to_hex(cells.parent(home, 7))
    await world.later(2 * EPOCH_MS)
    assert (await put(world, "ann", *centre(other)))["published"]["cell"] == cells.to_hex(cells.parent(other, 7))


async def test_who_comes_back_too_soon_comes_back_in_the_old_cell(world: World) -> None:
    home, other = neighbour8()
    await put(world, "ann", *centre(home))
    async with world.client("ann") as client:
        assert (await client.delete("/v1/me/position")).status_code == 204
    await world.later(STRANGER_EPOCH_MS)  # one stranger edge passed: not yet a whole stranger epoch away
    assert (await put(world, "ann", *centre(other)))["published"]["cell"] == cells.to_hex(cells.parent(home, 7))


async def test_who_was_away_a_whole_stranger_epoch_appears_at_once(world: World) -> None:
    home, other = neighbour8()
    await put(world, "ann", *centre(home))
    async with world.client("ann") as client:
        assert (await client.delete("/v1/me/position")).status_code == 204
        assert (await client.get("/v1/me/position")).status_code == 404
    await world.later(2 * STRANGER_EPOCH_MS)
    assert (await put(world, "ann", *centre(other)))["published"]["cell"] == cells.to_hex(cells.parent(other, 7))


async def test_expiry_counts_as_absence_from_its_time_on(world: World) -> None:
    home, other = neighbour8()
    await put(world, "ann", *centre(home), ttl_s=3600)
    await world.later(HOUR_MS + 2 * STRANGER_EPOCH_MS)
    assert (await put(world, "ann", *centre(other)))["published"]["cell"] == cells.to_hex(cells.parent(other, 7))


async def test_a_report_that_changes_nothing_writes_nothing(world: World, no_feed_entry: Any) -> None:
    first = await put(world, "ann", *PARIS)
    async with no_feed_entry():
        assert await put(world, "ann", *PARIS) == first
    await world.later(EPOCH_MS)  # an eighth of the two hours is gone, and the epoch is new
    again = await put(world, "ann", *PARIS)
    assert again["expires_at"] > first["expires_at"]


async def test_the_app_cannot_bring_back_who_cleared(world: World) -> None:
    async with world.client("ann") as client:
        await client.put("/v1/me/position", json={"lat": PARIS[0], "lon": PARIS[1]})
        await client.delete("/v1/me/position")
    rows = [{"user": "ann", "lat": 1.0, "lon": 2.0}, {"user": "bob", "lat": 1.0, "lon": 2.0}]
    async with world.operator() as app:
        answer = (await app.post("/v1/app/positions", json={"positions": rows})).json()
    assert answer["accepted"] == 1
    assert [(row["index"], row["code"]) for row in answer["rejected"]] == [(0, "cleared_by_person")]
    await put(world, "ann", *PARIS)
    async with world.operator() as app:
        assert (await app.post("/v1/app/positions", json={"positions": rows})).json()["accepted"] == 2


async def test_rows_of_the_app_are_judged_one_by_one(world: World) -> None:
    rows = [
        {"user": "a", "lat": 91, "lon": 0},
        {"user": "b", "lat": 1, "lon": 0},
        {"user": "c d", "lat": 1, "lon": 0},
        {"user": "d", "lat": 1, "lon": 0, "accuracy_m": 601},
        {"user": "e", "lat": 1},
        "nonsense",
        {"user": "f", "lat": 1, "lon": 1, "extra": 1},
    ]
    async with world.operator() as app:
        answer = (await app.post("/v1/app/positions", json={"positions": rows})).json()
    assert answer["accepted"] == 1
    found = [(row["index"], row["field"], row["code"]) for row in answer["rejected"]]
    assert [(index, code) for index, _, code in found] == [
        (0, "invalid"),
        (2, "invalid"),
        (3, "too_inaccurate"),
        (4, "invalid"),
        (5, "invalid"),
        (6, "invalid"),
    ]
    assert [field for _, field, _ in found[:4]] == ["lat", "user", "accuracy_m", "lon"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"lat": 90.001, "lon": 0}, 422, "lat"),
        ({"lat": 0, "lon": -180.5}, 422, "lon"),
        ({"lat": "48.8", "lon": 0}, 422, "lat"),
        ({"lat": True, "lon": 0}, 422, "lat"),
        ({"lon": 0}, 422, "lat"),
        ({"lat": 0, "lon": 0, "speed": 3}, 422, "speed"),
        ({"lat": 0, "lon": 0, "ttl_s": 60}, 422, "ttl_s"),
        ({"lat": 0, "lon": 0, "accuracy_m": 601}, 422, "accuracy_m"),
        ({"lat": 0, "lon": 0, "coord_type": "mars"}, 422, "coord_type"),
    ],
)
async def test_bad_positions_name_the_field_and_change_nothing(
    world: World, no_feed_entry: Any, body: dict[str, Any], status: int, field: str
) -> None:
    async with world.client("ann") as client, no_feed_entry():
        answer = await client.put("/v1/me/position", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    "text", ['{"lat": NaN, "lon": 0}', '{"lat": Infinity, "lon": 0}', '{"lat": 1, "lat": 2}', "{", ""]
)
async def test_unreadable_positions(world: World, text: str) -> None:
    async with world.client("ann") as client:
        answer = await client.put("/v1/me/position", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_json"


async def test_edges_are_whole_multiples_of_the_epoch(world: World) -> None:
    assert START_MS - 60_000 == START_MS // STRANGER_EPOCH_MS * STRANGER_EPOCH_MS
    body = await put(world, "ann", *PARIS)
    assert body["next_epoch_at"] == "2027-01-15T08:15:00Z"
