"""Many points in one call: the same as one by one, JSON and CSV in and out, every bad point named."""

import asyncio
import csv
import io
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx2
import numpy as np
import pytest
import pytest_asyncio
from pyarrow import parquet

from api import store_points
from api.failed import Failed
from api.store_points import nearest_of_file
from geo.sphere import bearing_deg, bearings_deg
from tests.world import World

NEAREST = "/v1/brands/acme/stores/nearest"
ODD_NAMES = ["NA", "null", 'a "b",\nc', "NaN"]
KNOWN = ("store_id", "name", "lat", "lon", "distance_m", "bearing_deg", "open")


@pytest_asyncio.fixture
async def operator(world: World, seed: int) -> AsyncIterator[httpx2.AsyncClient]:
    draw = random.Random(seed)
    rows = ["store_id,name,lat,lon,opening_hours,timezone,services"]
    for index in range(400):
        hours = draw.choice(["24/7", "Mo-Fr 09:00-17:00", ""])
        services = ";".join(f"s{n}" for n in range(90) if draw.random() < 0.05)
        lat, lon = draw.uniform(-60, 60), draw.uniform(-180, 180)
        rows.append(f'n{index},"Näme, {index}",{lat},{lon},{hours},Europe/Paris,{services}')
    async with world.operator() as client:
        await client.put("/v1/brands/acme", json={"name": "Acme"})
        headers = {"Content-Type": "text/csv"}
        answer = await client.put("/v1/brands/acme/stores", content="\n".join(rows).encode(), headers=headers)
        assert answer.status_code == 200, answer.text
        zone = {"type": "Polygon", "coordinates": [[[-170, -50], [170, -50], [170, 50], [-170, 50], [-170, -50]]]}
        assert (await client.put("/v1/brands/acme/stores/n7/zone", json=zone)).status_code == 200
        yield client


def drawn(seed: int, count: int) -> list[dict[str, Any]]:
    draw = random.Random(seed + 1)
    return [{"id": f"p{n}", "lat": draw.uniform(-80, 80), "lon": draw.uniform(-180, 180)} for n in range(count)]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"limit": 20, "max_distance_m": 900_000},
        {"min_distance_m": 500_000, "max_distance_m": 1_500_000},
        {"open": "now"},
        {"open": "2026-11-23T11:00:00Z", "services": ["s1"]},
        {"open": "2031-11-23T11:00:00Z"},
        {"open": "on_arrival", "speed_kmh": 900},
        {"services": ["s89"]},
        {"q": "name 3"},
        {"in_zone": True},
        {"services": ["no such"]},
        {"coord_type": "bd09"},
    ],
)
async def test_a_batch_is_its_points_one_by_one(operator: httpx2.AsyncClient, seed: int, asked: dict[str, Any]) -> None:
    points = drawn(seed, 25)
    answer = await operator.post(NEAREST, json={"points": points, **asked})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["id"] for result in results] == [point["id"] for point in points]
    for point, result in zip(points, results, strict=True):
        one = (await operator.post(NEAREST, json={"lat": point["lat"], "lon": point["lon"], **asked})).json()
        expected = [feature["properties"] for feature in one["features"]]
        assert [store["store_id"] for store in result["stores"]] == [each["store_id"] for each in expected]
        for store, each in zip(result["stores"], expected, strict=True):
            assert tuple(store) == KNOWN
            assert store["distance_m"] == pytest.approx(each["distance_m"], abs=0.002)
            assert abs(store["bearing_deg"] - each["bearing_deg"]) % 360 == pytest.approx(0, abs=0.011)
            assert store["open"]["state"] == each["open"]["state"]


async def test_csv_in_and_out(operator: httpx2.AsyncClient, seed: int) -> None:
    points = drawn(seed, 30)
    for delimiter, header in ((",", "id,lat,lon"), (";", "ID;Latitude;lng"), ("\t", "point\ty\tx")):
        lines = [header, *(delimiter.join(map(str, point.values())) for point in points)]
        content = "\r\n".join(lines).encode()
        headers = {"Content-Type": "text/csv"}
        answer = await operator.post(f"{NEAREST}?limit=2", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["id"] for row in rows] == [point["id"] for point in points for _ in range(2)]
        headers["Accept"] = "application/json"
        as_json = (await operator.post(f"{NEAREST}?limit=2", content=content, headers=headers)).json()["results"]
        flat = [store for result in as_json for store in result["stores"]]
        assert [row["store_id"] for row in rows] == [store["store_id"] for store in flat]
        assert [row["name"] for row in rows] == [store["name"] for store in flat]
        assert [float(row["distance_m"]) for row in rows] == [store["distance_m"] for store in flat]
        assert [row["open"] for row in rows] == [store["open"]["state"] for store in flat]


async def test_a_point_without_stores_is_not_lost(operator: httpx2.AsyncClient) -> None:
    body = {"points": [{"lat": 89, "lon": 0}], "max_distance_m": 1}
    assert (await operator.post(NEAREST, json=body)).json() == {"results": [{"id": 0, "stores": []}]}
    answer = await operator.post(NEAREST, json=body, headers={"Accept": "text/csv"})
    assert answer.text.splitlines()[1:] == ["0,,,,,,,,,,"]


@pytest.mark.parametrize(
    ("points", "field"),
    [
        ([], "points"),
        ([{"lat": 1, "lon": 1}, {"lat": 91, "lon": 1}], "points.1.lat"),
        ([{"lat": 1}], "points.0.lon"),
        ([{"lat": True, "lon": 1}], "points.0.lat"),
        ([{"lat": "1", "lon": 1}], "points.0.lat"),
        ([{"lat": 1, "lon": 10**400}], "points.0.lon"),
        ([{"lat": 1, "lon": 1, "id": [1]}], "points.0.id"),
        ([{"lat": 1, "lon": 1, "id": "x" * 129}], "points.0.id"),
        ([{"lat": 1, "lon": 1, "x": 1}], "points.0"),
        ([1], "points.0"),
        ([{"lat": 1, "lon": 1}] * 10_001, "points"),
    ],
)
async def test_bad_points_are_named(operator: httpx2.AsyncClient, points: list[Any], field: str) -> None:
    answer = await operator.post(NEAREST, json={"points": points})
    if answer.status_code == 400:  # orjson reads no integer beyond a double
        assert field == "points.0.lon"
        return
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "body"),
        (b"a,b\n1,1\n", "header"),
        (b"lat,lon\n", "points"),
        (b"lat,lon\n1,1\n1,181\n", "row 3: lon"),
        (b"lat,lon\n1\n", "row 2: lon"),
        (b"lat,lon\nnan,1\n", "row 2: lat"),
        (b'lat,lon\n"1,1\n', "body"),
        (b"lat,lon\n\xff,1\n", "body"),
    ],
)
async def test_bad_csv_is_named(operator: httpx2.AsyncClient, content: bytes, field: str) -> None:
    answer = await operator.post(NEAREST, content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_what_does_not_go_with_points(world: World, operator: httpx2.AsyncClient) -> None:
    points = [{"lat": 1, "lon": 1}]
    for more in ({"lat": 1.0, "lon": 1.0}, {"explain": True}, {"fields": ["name"]}):
        assert (await operator.post(NEAREST, json={"points": points, **more})).status_code == 422
    assert (await operator.post(NEAREST, json={})).json()["errors"] == [
        {"field": "lat", "message": "Field required"},
        {"field": "lon", "message": "Field required"},
    ]
    body = {"kind": "publishable", "origins": ["https://a.example"]}
    key = (await operator.post("/v1/brands/acme/keys", json=body)).json()["key"]
    async with world._client({"X-API-Key": key, "Origin": "https://a.example"}) as page:
        assert (await page.post(NEAREST, json={"points": points})).status_code == 403


async def test_each_point_counts_for_the_quota(world: World, operator: httpx2.AsyncClient) -> None:
    body = {"kind": "secret", "quota_per_day": 10}
    key = (await operator.post("/v1/brands/acme/keys", json=body)).json()["key"]
    async with world._client({"X-API-Key": key}) as server:
        assert (await server.post(NEAREST, json={"points": [{"lat": 1, "lon": 1}] * 8})).status_code == 200
        assert (await server.post(NEAREST, json={"points": [{"lat": 1, "lon": 1}] * 3})).status_code == 429


def test_bearings_of_arrays_are_those_of_points(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lats1, lats2 = draw.uniform(-90, 90, (2, 2000))
    lons1, lons2 = draw.uniform(-180, 180, (2, 2000))
    lats2[:10], lons2[:10] = lats1[:10], lons1[:10]
    found = bearings_deg(lats1, lons1, lats2, lons2)
    expected = [bearing_deg(*map(float, pair)) for pair in zip(lats1, lons1, lats2, lons2, strict=True)]
    assert ((found >= 0) & (found < 360)).all()
    assert np.abs((found - expected + 180) % 360 - 180).max() < 1e-9


class AsCommandLine:
    """The connection of the command line, to the app in this process."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def post_csv(self, path: str, content: bytes, query: dict[str, str]) -> bytes:
        headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
        asked = self._client.post(path, params=query, content=content, headers=headers)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        assert answer.status_code == 200, answer.text
        return answer.content


async def test_a_parquet_file_has_what_the_csv_has(
    operator: httpx2.AsyncClient, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three calls, with names that a reader may take for none, or that go over two lines."""
    odd = json.dumps([{"id": f"o{n}", "name": name, "lat": 70 + n, "lon": 1} for n, name in enumerate(ODD_NAMES)])
    headers = {"Content-Type": "application/json"}
    assert (await operator.patch("/v1/brands/acme/stores", content=odd, headers=headers)).status_code == 200
    monkeypatch.setattr(store_points, "POINTS_A_CALL", 20)
    file, client = tmp_path / "points.csv", cast("Any", AsCommandLine(operator))
    lines = ["id,lat,lon", "null,70,1", "NA,72.6,1", *(",".join(map(str, point.values())) for point in drawn(seed, 50))]
    file.write_text("\n".join(lines))
    for out in (tmp_path / "out.csv", tmp_path / "out.parquet"):
        await asyncio.to_thread(nearest_of_file, client, NEAREST, file, out, 3)
    found = parquet.ParquetFile(tmp_path / "out.parquet")
    assert (found.metadata.num_rows, found.num_row_groups) == (3 * 52, 3)
    with (tmp_path / "out.csv").open(newline="") as text:
        expected = list(csv.DictReader(text))
    kinds = {"lat": float, "lon": float, "distance_m": float, "bearing_deg": float, "rank": int, "closes_in_s": int}
    rows = found.read().to_pylist()
    assert rows == [
        {name: kinds.get(name, str)(cell) if cell else None for name, cell in row.items()} for row in expected
    ]
    assert set(ODD_NAMES) <= {row["name"] for row in rows[:6]}
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_no_points_and_no_pyarrow_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, client = tmp_path / "points.csv", cast("Any", Recorded())
    for content in ("", "id,lat,lon\n"):
        file.write_text(content)
        for name in ("out.csv", "out.parquet"):
            with pytest.raises(Failed, match="has no points"):
                nearest_of_file(client, "/x", file, tmp_path / name, 5)
    file.write_text("id,lat,lon\np,1,1\n")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(Failed, match="pip install pyarrow"):
        nearest_of_file(client, "/x", file, tmp_path / "out.parquet", 5)
    assert os.listdir(tmp_path) == ["points.csv"]


class Recorded:
    """Stands for the connection of the command line: answers each call with one line a point."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def post_csv(self, path: str, content: bytes, query: dict[str, str]) -> bytes:
        rows = content.decode().splitlines()[1:]
        self.sizes.append(len(rows))
        if "bad" in rows[-1]:
            raise Failed("row 2: lat: must be a number")
        return b"id,rank\r\n" + b"".join(b"%b,1\r\n" % row.split(",")[0].encode() for row in rows)


def test_a_file_of_points_goes_in_parts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    points, out, client = tmp_path / "points.csv", tmp_path / "out.csv", Recorded()
    points.write_text("id,lat,lon\n" + "".join(f"p{n},1,1\n" for n in range(25_000)))
    nearest_of_file(cast("Any", client), "/x", points, out, 5)
    assert client.sizes == [10_000, 10_000, 5_000]
    lines = out.read_text().split()
    assert (lines[0], len(lines), lines[-1]) == ("id,rank", 25_001, "p24999,1")
    assert "25,000 points in" in capfd.readouterr().err
    points.write_text("id,lat,lon\n" + "p,1,1\n" * 10_000 + "p,bad,1\n")
    with pytest.raises(Failed, match="of points 10,001 to 10,001"):
        nearest_of_file(cast("Any", client), "/x", points, out, 5)
    assert out.read_text().split() == lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "points.csv"]
    with pytest.raises(Failed, match=r"must end in \.csv or \.parquet"):
        nearest_of_file(cast("Any", client), "/x", points, tmp_path / "out.txt", 5)
