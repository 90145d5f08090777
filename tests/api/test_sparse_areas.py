"""Sparse areas over HTTP: nearby, radar, shake and the own position agree on one coarser cell."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3_int
import pytest
import pytest_asyncio

from geo import cells
from geo.sparse import SparseAreas, sparse_areas
from tests.service import serving
from tests.world import PARIS, World

# One cell of resolution 5: its first child is a town, the second has some villages, in the others nobody lives.
CITY = cells.cell_of(*PARIS, 5)
TOWN6, VILLAGES6, *EMPTY6 = (int(cell) for cell in h3_int.cell_to_children(CITY, 6))
TOWN = [int(cell) for cell in h3_int.cell_to_children(TOWN6, 7)]
VILLAGES = [int(cell) for cell in h3_int.cell_to_children(VILLAGES6, 7)]
RESIDENTS = {
    **dict.fromkeys(TOWN, 9000.0),
    **dict.fromkeys(VILLAGES, 800.0),
    **dict.fromkeys((int(cell) for cell in h3_int.cell_to_children(EMPTY6[0], 7)), 300.0),
}


@pytest.fixture(scope="module")
def areas() -> SparseAreas:
    found = sparse_areas(RESIDENTS)
    assert [found.published(cell) for cell in TOWN] == TOWN
    assert {found.published(cell) for cell in VILLAGES} == {VILLAGES6}
    assert {found.published(int(cell)) for cell in h3_int.cell_to_children(EMPTY6[1], 7)} == {CITY}
    return found


@pytest_asyncio.fixture
async def sparse(world: World, areas: SparseAreas, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A town, two people in one village area, and one in the open."""
    monkeypatch.setattr(world.hive.presence, "_areas", areas)
    places = {
        "towner": TOWN[0],
        "neighbour": TOWN[1],
        "vera": VILLAGES[0],
        "vito": VILLAGES[6],
        "otto": int(h3_int.cell_to_center_child(EMPTY6[1], 7)),
    }
    for user, cell in places.items():
        await world.place(user, *cells.center(cell))
    yield world


async def get(world: World, user: str, path: str) -> Any:
    async with world.client(user) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_my_position_says_what_is_shown(sparse: World, areas: SparseAreas) -> None:
    for user, cell in (("towner", TOWN[0]), ("vera", VILLAGES6), ("otto", CITY)):
        published = (await get(sparse, user, "/v1/me/position"))["published"]
        assert published["cell"] == cells.to_hex(cell)
        assert published["resolution"] == cells.resolution_of(cell)
        assert published["uncertainty_m"] == pytest.approx(areas.uncertainty_m(cell), abs=0.1)


async def test_strangers_are_judged_at_the_coarser_of_the_pair(sparse: World) -> None:
    seen = {}
    for user in ("towner", "vera", "otto"):
        people = (await get(sparse, user, "/v1/nearby?radius_m=50000"))["people"]
        seen[user] = {row["user"]: (row["distance_min_m"], row["distance_max_m"]) for row in people}
        assert [row["distance_max_m"] for row in people] == sorted(row["distance_max_m"] for row in people)
        assert len(people) == 4
    assert seen["towner"]["neighbour"] == (0, 3000)
    assert seen["towner"]["vera"] == seen["vera"]["towner"] == seen["vera"]["neighbour"] == (0, 10_000)
    assert seen["vera"]["vito"] == (0, 10_000)
    assert set(seen["otto"].values()) == {(0, 20_000)}
    assert seen["towner"]["otto"] == seen["vera"]["otto"] == (0, 20_000)


async def test_a_small_radius_covers_the_first_band_of_everybody(sparse: World) -> None:
    people = (await get(sparse, "vera", "/v1/nearby?radius_m=3000"))["people"]
    assert {row["user"] for row in people} == {"towner", "neighbour", "vito", "otto"}


async def test_pages_hold_everybody_once(sparse: World) -> None:
    whole = (await get(sparse, "otto", "/v1/nearby?radius_m=20000"))["people"]
    found, cursor = [], ""
    while cursor is not None:
        page = await get(sparse, "otto", f"/v1/nearby?radius_m=20000&limit=1{cursor and '&cursor=' + cursor}")
        found += page["people"]
        cursor = page["next_cursor"]
    assert found == whole


async def test_who_moves_inside_a_part_is_seen_by_nobody(sparse: World) -> None:
    """Equal bytes: the part is all that anybody's answer is made of."""
    before = [await get(sparse, user, "/v1/nearby?radius_m=50000") for user in ("towner", "otto")]
    sparse.hive.presence.stranger[sparse.hive.people.slot_or_new("vera")] = cells.cell_of(*cells.center(VILLAGES[3]), 8)
    sparse.hive.presence._crowd = None
    assert [await get(sparse, user, "/v1/nearby?radius_m=50000") for user in ("towner", "otto")] == before


async def test_friends_at_area_see_the_coarser_of_the_pair(sparse: World) -> None:
    await sparse.befriend("towner", "vera")
    await sparse.befriend("towner", "neighbour")
    radar = (await get(sparse, "towner", "/v1/radar?radius_m=50000"))["friends"]
    shown = {row["user"]: (row["cell"], row["distance_m"]) for row in radar}
    assert shown["neighbour"][0] == cells.to_hex(TOWN[1])
    assert shown["vera"] == (cells.to_hex(VILLAGES6), round(cells.distance_m(TOWN6, VILLAGES6), 3))
    other_way = (await get(sparse, "vera", "/v1/radar?radius_m=50000"))["friends"]
    assert [(row["cell"], row["distance_m"]) for row in other_way] == [(cells.to_hex(TOWN6), shown["vera"][1])]


async def test_shakes_meet_in_the_first_band_of_the_pair(sparse: World) -> None:
    async def shake(user: str, cell: int) -> Any:
        lat, lon = cells.center(cell)
        async with sparse.client(user, headers={"Idempotency-Key": "k"}) as client:
            answer = await client.post("/v1/shakes", json={"lat": lat, "lon": lon})
        assert answer.status_code == 201, answer.text
        return {row["user"]: (row["distance_min_m"], row["distance_max_m"]) for row in answer.json()["matches"]}

    await shake("towner", TOWN[0])
    assert await shake("vera", VILLAGES[0]) == {"towner": (0, 10_000)}
    assert await shake("vito", VILLAGES[6]) == {"towner": (0, 10_000), "vera": (0, 10_000)}
    assert set((await shake("otto", EMPTY6[1])).values()) == {(0, 20_000)}


def make_by_itself(directory: Path) -> None:
    """The service does the same at its first start, but on a busy machine the 15 s may be more than a test waits."""
    subprocess.run([sys.executable, "-m", "api.sparse_areas", directory], timeout=240, check=True)


async def test_a_real_service_shows_coarser_cells_by_it(tmp_path: Path) -> None:
    """``nearhive serve`` with the table of all places: in the Sahara a parent, in Paris the cell of resolution 7."""
    await asyncio.to_thread(make_by_itself, tmp_path / "data")
    with serving(tmp_path, epoch_s="3600", log_level="warning", sparse_areas="on") as service:
        async with service.by_worker() as workers:
            told = (await workers[0][0].ask("GET", "/v1/privacy")).ok()
            assert told["sparse_areas"] is True
            for place, coarser in (((23.0, 5.0), True), (PARIS, False)):
                for number, (worker,) in enumerate(workers):
                    me = service.person(f"somebody-{number}-{coarser}")
                    point = {"lat": place[0], "lon": place[1]}
                    published = (await worker.ask("PUT", "/v1/me/position", point, me)).ok()["published"]
                    assert (published["resolution"] < 7) == coarser, published
                    assert published["cell"] == cells.to_hex(
                        cells.parent(cells.cell_of(*place, 8), published["resolution"])
                    )
