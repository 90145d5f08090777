"""Demand over HTTP: whole days alone, fixed once published, and a brand that searches itself learns of nobody."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest_asyncio

from discovery.store import keys
from geo import cells
from tests.world import World

DAY_MS = 86_400_000
PAGE = "https://shop.example"
CENTRE = cells.cell_of(48.8566, 2.3522, 6)
SIBLINGS = cells.children(CENTRE, 7).tolist()


class Brand:
    """A brand with a server of its own, a page, and a world to live in."""

    def __init__(self, world: World, name: str, operator: httpx2.AsyncClient) -> None:
        self.world, self.name, self.operator = world, name, operator
        self.path = f"/v1/brands/{name}"
        self.secret = ""

    async def open(self) -> None:
        await self.operator.put(self.path, json={"name": self.name})
        self.secret = (await self.operator.post(f"{self.path}/keys", json={"kind": "secret"})).json()["key"]
        await self.stores("far,-40,-70,wifi")
        await self.world.hive.demand.flush()

    async def stores(self, *rows: str) -> None:
        content = "\n".join(("store_id,lat,lon,services", *rows)).encode()
        headers = {"Content-Type": "text/csv"}
        answer = await self.operator.put(f"{self.path}/stores", content=content, headers=headers)
        assert answer.status_code == 200, answer.text

    async def search(self, cell: int, searcher: str, times: int = 1, **more: Any) -> None:
        lat, lon = cells.center(cell)
        async with self.world._client({"X-API-Key": self.secret, "X-Searcher-Id": searcher}) as server:
            for _ in range(times):
                answer = await server.post(f"{self.path}/stores/nearest", json={"lat": lat, "lon": lon, **more})
                assert answer.status_code == 200, answer.text

    async def demand(self, path: str = "", resolution: int | str = 7, **more: Any) -> httpx2.Response:
        day = datetime.fromtimestamp((self.world.now_ms - DAY_MS) / 1000, UTC).strftime("%Y-%m-%d")
        query = {"from": day, "to": day, "resolution": str(resolution), **more}
        async with self.world._client({"X-API-Key": self.secret}) as server:
            return await server.get(f"{self.path}/demand{path}", params=query)

    async def tomorrow(self) -> None:
        await self.world.hive.demand.flush()
        await self.world.at((self.world.now_ms // DAY_MS + 1) * DAY_MS + 120_000)
        await self.world.hive.demand_days.publish()
        await self.world.hive.demand.flush()


@pytest_asyncio.fixture
async def brands(world: World) -> AsyncIterator[list[Brand]]:
    async with world.operator() as operator:
        found = [Brand(world, name, operator) for name in ("one", "two")]
        for brand in found:
            await brand.open()
        yield found


def rows_of(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/geo+json"
    found: dict[str, Any] = answer.json()
    return found


async def test_a_brand_that_searches_itself_learns_of_nobody(brands: list[Brand]) -> None:
    """It searches k - 1 times in the cell that it watches, moves its stores, and has many searches next to it. Two
    brands do the same; in the cell of one of them somebody else searches too, before and after the stores move."""
    for at, brand in enumerate(brands):
        for number, size in enumerate((4, 12, 7, 25)):
            for n in range(size):
                await brand.search(SIBLINGS[number], f"own-{number}-{n}")
        for number in (4, 5):  # where nobody searches but the other one
            if at:
                await brand.search(SIBLINGS[number], "the other one")
                await brand.stores("near,48.85,2.35,wifi")
    await brands[0].stores("near,48.85,2.35,wifi")
    for brand in brands:
        await brand.search(SIBLINGS[2], "own-2-0", 3)
    await brands[0].tomorrow()
    for resolution in (5, 6, 7):
        one, two = [rows_of(await brand.demand(resolution=resolution)) for brand in brands]
        assert one == two, resolution
    assert sorted(feature["properties"]["searchers"] for feature in one["features"]) == ["10-19", "20-39"]
    assert one["other"]["searchers"] == "10-19"  # 4 and 7, and of the one brand 1 more


async def test_a_fifth_searcher_crosses_an_edge_and_ten_searches_of_one_do_not(brands: list[Brand]) -> None:
    for brand, extra in zip(brands, (0, 1), strict=True):
        for n in range(4 + extra):
            await brand.search(SIBLINGS[0], f"p{n}", 3)
        for n in range(12):
            await brand.search(SIBLINGS[1], f"q{n}")
        await brand.search(SIBLINGS[2], "alone", 12)
    await brands[0].tomorrow()
    one, two = [rows_of(await brand.demand()) for brand in brands]
    assert (one["features"], one["other"]["searchers"]) == ([], "10-19")
    assert [feature["id"] for feature in two["features"]] == [cells.to_hex(SIBLINGS[1])]
    assert two["other"]["searches"] == "20-39"


async def test_only_whole_days_and_fixed_once_published(brands: list[Brand]) -> None:
    brand = brands[0]
    for number, size in enumerate((6, 9)):
        for n in range(size):
            await brand.search(SIBLINGS[number], f"p{n}", open="now", services=[])
    await brand.world.hive.demand.flush()
    await brand.world.at((brand.world.now_ms // DAY_MS + 1) * DAY_MS + 1000)
    await brand.world.hive.demand_days.publish()
    assert (await brand.demand()).status_code == 422  # a minute must pass first
    await brand.world.later(120_000)
    await brand.world.hive.demand_days.publish()
    first = await brand.demand()
    assert len(rows_of(first)["features"]) == 1
    await brand.stores("near,48.85,2.35,wifi")
    await brand.world.hive.demand_days.publish()
    assert (await brand.demand()).content == first.content
    today = datetime.fromtimestamp(brand.world.now_ms / 1000, UTC).strftime("%Y-%m-%d")
    windows: list[dict[str, Any]] = [
        {"to": today},
        {"from": today},
        {"from": "2026-13-01"},
        {"from": "1990-01-01"},
        {"resolution": "8"},
    ]
    for window in windows:
        assert (await brand.demand(**window)).status_code == 422, window


async def test_the_day_is_closed_and_its_key_destroyed(brands: list[Brand]) -> None:
    brand, state = brands[0], brands[0].world.state
    day = brand.world.now_ms // DAY_MS
    await brand.search(SIBLINGS[0], "secret-name")
    await brand.world.hive.demand.flush()
    members = await state.call("SMEMBERS", keys.demand_searchers("one", day))
    assert len(members) == 1
    assert b"secret-name" not in members[0]
    key = await state.call("GET", keys.demand_key(day))
    assert len(key) == 32
    await brand.tomorrow()
    gone = (keys.demand_key(day), keys.demand_searchers("one", day), keys.demand_counts("one", day))
    assert [await state.call("EXISTS", name) for name in gone] == [0, 0, 0]
    assert day not in brand.world.hive.demand._keys
    rows = rows_of(await brand.demand())
    assert (rows["features"], rows["other"], rows["unserved_share"]) == ([], None, None)


async def test_missing_services_distances_and_where_next(brands: list[Brand]) -> None:
    brand = brands[0]
    for number, size in enumerate((6, 12, 5)):
        for n in range(size):
            await brand.search(SIBLINGS[number], f"p{n}", services=["wifi", "charging"])
    await brand.stores("near,48.8566,2.3522,wifi")
    await brand.tomorrow()
    found = rows_of(await brand.demand())
    assert found["missing_services"] == [{"service": "charging", "searchers": "10-19"}]
    assert found["unserved_share"] == 0.0
    for feature in found["features"]:
        assert feature["properties"]["nearest_store_m"] in ("0-1000", "1000-2000", "2000-5000", "5000-10000")
        assert feature["properties"]["beyond_10_km"] == 0.0
        assert feature["geometry"]["type"] == "Polygon"
    places = rows_of(await brand.demand("/next", limit="2"))["features"]
    assert places[0]["properties"]["rank"] == 1
    as_csv = await brand.demand(format="csv")
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert as_csv.text.splitlines()[-1].startswith("other,,,1,")
    assert (await brand.demand("/next", format="csv")).text.startswith("rank,cell,lat,lon,")


async def test_whose_searches_count(brands: list[Brand]) -> None:
    """Not the operator's; those of a page by network address, so that one visitor is one searcher."""
    brand, hive = brands[0], brands[0].world.hive
    body = {"kind": "publishable", "origins": [PAGE]}
    key = (await brand.operator.post(f"{brand.path}/keys", json=body)).json()["key"]
    point = {"lat": 48.85, "lon": 2.35}
    async with brand.world._client({"X-API-Key": key, "Origin": PAGE}) as page:
        for _ in range(3):
            await page.post(f"{brand.path}/stores/nearest", json=point, headers={"X-Searcher-Id": "other"})
    await brand.operator.post(f"{brand.path}/stores/nearest", json=point)
    await hive.demand.flush()
    day = brand.world.now_ms // DAY_MS
    counts = await brand.world.state.call("HVALS", keys.demand_counts("one", day))
    assert [int(count) for count in counts] == [3]
    assert await brand.world.state.call("SCARD", keys.demand_searchers("one", day)) == 1
    for path in ("demand", "demand/next"):
        async with brand.world._client({"X-API-Key": key, "Origin": PAGE}) as page:
            assert (await page.get(f"{brand.path}/{path}?from=2026-11-20&to=2026-11-20")).status_code == 401
