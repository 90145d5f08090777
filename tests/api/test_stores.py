"""The store finder over HTTP: who may import and ask, what an import answers, the nearest. Details of files and hours
are tested in tests/discovery/stores."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from discovery.store.client import State
from tests.world import World

STORES = "/v1/brands/acme/stores"
CSV = """store_id,name,lat,lon,city,country,opening_hours,timezone,services,tags
paris,Acme Paris,48.8566,2.3522,Paris,FR,Mo-Fr 09:00-17:00,Europe/Paris,wifi;repair,a=1
lyon,Acme Lyon,45.7640,4.8357,Lyon,FR,24/7,Europe/Paris,wifi,
nice,Acme Nice,43.7102,7.2620,Nice,FR,,Europe/Paris,,
"""
FEATURE = {
    "type": "Feature",
    "id": "oslo",
    "geometry": {"type": "Point", "coordinates": [10.7522, 59.9139]},
    "properties": {"name": "Acme Oslo", "services": ["wifi"]},
}
MONDAY_NOON = "2026-11-23T11:00:00Z"
MONDAY_NIGHT = "2026-11-23T23:00:00Z"


@dataclass
class Shop:
    """The brand `acme` with its key, and a brand beside it."""

    world: World
    key: str
    other_key: str

    async def ask(self, method: str, path: str = STORES, key: str | None = None, **more: Any) -> httpx2.Response:
        async with self.world._client({"X-API-Key": self.key if key is None else key}) as client:
            return await client.request(method, path, **more)

    async def put(self, body: str | bytes, query: str = "", kind: str = "text/csv", **more: Any) -> httpx2.Response:
        content = body.encode() if isinstance(body, str) else body
        return await self.ask("PUT", STORES + query, content=content, headers={"Content-Type": kind}, **more)

    async def nearest(self, **body: Any) -> dict[str, Any]:
        answer = await self.ask("POST", f"{STORES}/nearest", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/geo+json"
        found: dict[str, Any] = answer.json()
        return found

    async def ids(self, **body: Any) -> list[str]:
        return [feature["id"] for feature in (await self.nearest(**body))["features"]]


@pytest_asyncio.fixture
async def shop(world: World) -> AsyncIterator[Shop]:
    made = []
    async with world.operator() as operator:
        for brand in ("acme", "rival"):
            answer = await operator.put(f"/v1/brands/{brand}", json={"name": brand.title()})
            assert answer.json() == {"brand": brand, "name": brand.title(), "website": None}
            made.append((await operator.post(f"/v1/brands/{brand}/keys", json={"kind": "secret"})).json())
    assert made[0].keys() == {"key_id", "key", "kind", "origins", "quota_per_day"}
    assert made[0]["key"].startswith("nh_sk_")
    yield Shop(world, made[0]["key"], made[1]["key"])


def counts(answer: httpx2.Response) -> tuple[int, int, int, int]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["added"], body["changed"], body["removed"], body["unchanged"]


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


# --- import ---


async def test_an_import_counts_what_it_changed(shop: Shop) -> None:
    assert counts(await shop.put(CSV)) == (3, 0, 0, 0)
    assert counts(await shop.put(CSV)) == (0, 0, 0, 3)
    without_nice = "".join(CSV.splitlines(keepends=True)[:3]).replace("Acme Lyon", "Lyon")
    assert counts(await shop.put(without_nice)) == (0, 1, 1, 1)
    assert refusal(await shop.ask("GET", f"{STORES}/nice")) == (404, "not_found")
    assert (await shop.ask("GET", f"{STORES}/lyon")).json()["properties"]["name"] == "Lyon"


async def test_geojson_replaces_what_csv_brought(shop: Shop) -> None:
    await shop.put(CSV)
    collection = orjson.dumps({"type": "FeatureCollection", "features": [FEATURE]})
    for kind in ("application/geo+json", "Application/Geo+JSON; charset=utf-8"):
        answer = await shop.put(collection, kind=kind)
        assert answer.status_code == 200, answer.text
    feature = (await shop.ask("GET", f"{STORES}/oslo")).json()
    assert feature["geometry"] == FEATURE["geometry"]
    assert (feature["id"], feature["properties"]["services"]) == ("oslo", ["wifi"])
    assert await shop.ids(lat=60, lon=10) == ["oslo"]


async def test_a_dry_run_changes_nothing(shop: Shop) -> None:
    assert counts(await shop.put(CSV, "?dry_run=true")) == (3, 0, 0, 0)
    assert await shop.ids(lat=1, lon=1) == []
    await shop.put(CSV)
    assert counts(await shop.put("store_id,lat,lon\nx,1,1\n", "?dry_run=true")) == (1, 0, 3, 0)
    assert refusal(await shop.put("store_id,lat,lon\nx,91,1\n", "?dry_run=true")) == (422, "import_refused")
    assert len(await shop.ids(lat=1, lon=1)) == 3


BAD_ROWS = (
    "store_id,lat,lon,timezone\nok,1,1,\nnorth,91,1,\n\nnearest,1,1,\nok,2,2,\nzone,1,1,Mars/Base\nshort,1\nnolat,,1,\n"
)
EXPECTED = [(3, "lat"), (5, "store_id"), (6, "store_id"), (7, "timezone"), (8, None), (9, "lat")]


async def test_one_bad_row_refuses_the_file_and_every_bad_row_is_named(shop: Shop) -> None:
    await shop.put(CSV)
    for query in ("", "?on_error=refuse"):
        answer = await shop.put(BAD_ROWS, query)
        assert refusal(answer) == (422, "import_refused")
        assert [(row["row"], row["field"]) for row in answer.json()["rejected"]] == EXPECTED
        assert all(row["message"] for row in answer.json()["rejected"])
    assert len(await shop.ids(lat=1, lon=1)) == 3


async def test_skip_takes_the_rest(shop: Shop) -> None:
    answer = await shop.put(BAD_ROWS, "?on_error=skip")
    assert counts(answer) == (1, 0, 0, 0)
    assert [(row["row"], row["field"]) for row in answer.json()["rejected"]] == EXPECTED
    assert await shop.ids(lat=1, lon=1) == ["ok"]


async def test_oddities_warn_and_are_taken(shop: Shop) -> None:
    answer = await shop.put("store_id,lat,lon,colour,country,website\na b,0,0,red,XX,acme.example\n")
    assert counts(answer) == (1, 0, 0, 0)
    warned = {(row["row"], row["field"]) for row in answer.json()["warnings"]}
    assert warned >= {(1, "colour"), (2, "store_id"), (2, "country"), (2, "website"), (2, "lat")}
    assert (await shop.ask("GET", f"{STORES}/a-b")).json()["properties"]["website"] == "https://acme.example"


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", "text/csv", "empty"),
        (b"store_id,lat,lon\n", "text/csv", "no stores"),
        (b"store_id,name\na,A\n", "text/csv", "no column lat"),
        (b"lat,lat,lon\n1,1,1\n", "text/csv", "two columns"),
        (b"PK\x03\x04", "text/csv", "Excel"),
        ("lat,lon,name\n1,1,caf\u00e9\n".encode("latin-1"), "text/csv; charset=utf-8", "not UTF-8"),
        (b"lat,lon,name\n1,north,A\n", "text/csv", "rejected"),
        (b"{}", "application/json", "rejected"),
        (b"[]", "application/json", "no stores"),
        (b'lat,lon,name\n1,1,"a\n', "text/csv", "not CSV"),
        (b"\x00\x01\x02", "text/csv", ""),
        (b"", "application/geo+json", ""),
        (b"{}", "application/geo+json", ""),
        (b"[]", "application/geo+json", ""),
        (b'{"type": "FeatureCollection"}', "application/geo+json", ""),
        (b'{"type": "FeatureCollection", "features": {}}', "application/geo+json", ""),
        (b'{"type": "FeatureCollection", "features": [', "application/geo+json", ""),
        (b'{"type": "FeatureCollection", "features": []}', "application/geo+json", "no stores"),
        (b'{"type": "Topology", "objects": {}}', "application/geo+json", ""),
        (b"lat,lon\n1,1\n", "application/geo+json", ""),
        (b"\xff\xfe{}", "application/geo+json", ""),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_whole(shop: Shop, body: bytes, kind: str, says: str) -> None:
    await shop.put(CSV)
    for query in ("", "?on_error=skip"):
        answer = await shop.put(body, query, kind)
        assert answer.status_code == 422, answer.text
        assert says in answer.text
    assert len(await shop.ids(lat=1, lon=1)) == 3


async def test_features_that_are_no_stores_are_named_by_their_place(shop: Shop) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    features = [
        FEATURE,
        {**FEATURE, "id": "line", "geometry": line},
        FEATURE,
        {**FEATURE, "id": "search"},
        {**FEATURE, "id": "far", "geometry": {"type": "Point", "coordinates": [181, 0]}},
        {**FEATURE, "id": "none", "geometry": None},
        5,
    ]
    body = orjson.dumps({"type": "FeatureCollection", "features": features})
    answer = await shop.put(body, kind="application/geo+json")
    assert refusal(answer) == (422, "import_refused")
    assert [row["row"] for row in answer.json()["rejected"]] == [2, 3, 4, 5, 6, 7]
    skipped = await shop.put(body, "?on_error=skip", "application/geo+json")
    assert counts(skipped) == (1, 0, 0, 0)


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", "text/csv2", "", "multipart/form-data; boundary=x"])
async def test_other_content_types_are_not_read(shop: Shop, kind: str) -> None:
    assert refusal(await shop.put(CSV, kind=kind)) == (415, "unsupported_media_type")
    assert await shop.ids(lat=1, lon=1) == []


async def test_parameters_of_an_import_are_checked(shop: Shop) -> None:
    for query, field in (("?on_error=ignore", "on_error"), ("?dry_run=maybe", "dry_run"), ("?dry=1", "dry")):
        answer = await shop.put(CSV, query)
        assert refusal(answer)[0] == 422
        assert answer.json()["errors"][0]["field"] == field
    assert await shop.ids(lat=1, lon=1) == []


async def test_no_coordinate_of_a_refused_row_is_echoed(shop: Shop) -> None:
    answer = await shop.put("store_id,lat,lon\na,91.23456,1\n")
    assert "91.2" not in answer.text


# --- one store, and the nearest ---


async def test_one_store_is_a_feature(shop: Shop) -> None:
    await shop.put(CSV)
    answer = await shop.ask("GET", f"{STORES}/paris")
    assert answer.headers["content-type"] == "application/geo+json"
    body = answer.json()
    assert (body["type"], body["id"]) == ("Feature", "paris")
    assert body["geometry"] == {"type": "Point", "coordinates": [2.3522, 48.8566]}
    properties = body["properties"]
    assert (properties["store_id"], properties["services"], properties["tags"]) == (
        "paris",
        ["wifi", "repair"],
        {"a": "1"},
    )
    for unknown in ("none", "PARIS", "nearest2"):
        assert refusal(await shop.ask("GET", f"{STORES}/{unknown}")) == (404, "not_found")


async def test_the_nearest_first_with_distance_bearing_and_hours(shop: Shop) -> None:
    await shop.put(CSV)
    found = await shop.nearest(lat=48.85, lon=2.35)
    assert [feature["id"] for feature in found["features"]] == ["paris", "lyon", "nice"]
    first = found["features"][0]["properties"]
    assert 0 < first["distance_m"] < 1000
    assert 0 <= first["bearing_deg"] < 360
    assert first["open"].keys() == {"state", "next_change", "closes_in_s"}
    assert [feature["properties"]["open"]["state"] for feature in found["features"]][1:] == ["open", "unknown"]


async def test_get_answers_as_post_does(shop: Shop) -> None:
    await shop.put(CSV)
    for body, query in (
        ({}, ""),
        ({"limit": 1}, "&limit=1"),
        ({"max_distance_m": 500_000}, "&max_distance_m=500000"),
        ({"services": ["wifi", "repair"]}, "&services=wifi;%20repair;"),
        ({"open": MONDAY_NIGHT}, f"&open={MONDAY_NIGHT}"),
    ):
        got = await shop.ask("GET", f"{STORES}/nearest?lat=45.8&lon=4.8{query}")
        assert got.status_code == 200, got.text
        assert [one["id"] for one in got.json()["features"]] == await shop.ids(lat=45.8, lon=4.8, **body), query


async def test_what_counts_and_what_stands_in_when_nothing_does(shop: Shop) -> None:
    await shop.put(CSV)
    here = {"lat": 48.85, "lon": 2.35}
    assert await shop.ids(**here, limit=2) == ["paris", "lyon"]
    assert await shop.ids(**here, services=["wifi"]) == ["paris", "lyon"]
    assert await shop.ids(**here, services=["wifi", "repair"]) == ["paris"]
    assert await shop.ids(**here, services=["none"]) == []
    assert await shop.ids(**here, open=MONDAY_NOON) == ["paris", "lyon"], "unknown hours are not open"
    assert await shop.ids(**here, open=MONDAY_NIGHT) == ["lyon"]
    assert "lyon" in await shop.ids(**here, open="now")
    near = await shop.nearest(**here, max_distance_m=1000)
    assert [feature["id"] for feature in near["features"]] == ["paris"]
    far = await shop.nearest(lat=59.9, lon=10.7, max_distance_m=1000)
    assert far["features"] == []
    assert far["fallback"]["type"] == "FeatureCollection"
    assert far["fallback"]["features"][0]["id"] == "paris"


async def test_a_brand_without_stores_answers_an_empty_list(shop: Shop) -> None:
    assert (await shop.nearest(lat=1, lon=1))["features"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"lat": 1}, "lon"),
        ({"lat": "1", "lon": 1}, "lat"),
        ({"lat": 91, "lon": 1}, "lat"),
        ({"lat": 1, "lon": 1, "limit": 0}, "limit"),
        ({"lat": 1, "lon": 1, "limit": 101}, "limit"),
        ({"lat": 1, "lon": 1, "limit": True}, "limit"),
        ({"lat": 1, "lon": 1, "max_distance_m": -1}, "max_distance_m"),
        ({"lat": 1, "lon": 1, "open": "noon"}, "open"),
        ({"lat": 1, "lon": 1, "open": "2026-11-22T08:00:00"}, "open"),
        ({"lat": 1, "lon": 1, "services": "wifi"}, "services"),
        ({"lat": 1, "lon": 1, "services": [""]}, "services"),
        ({"lat": 1, "lon": 1, "zone": 1}, "zone"),
    ],
)
async def test_bad_questions(shop: Shop, body: dict[str, Any], field: str) -> None:
    answer = await shop.ask("POST", f"{STORES}/nearest", json=body)
    assert refusal(answer) == (422, "invalid")
    assert [error["field"].partition(".")[0] for error in answer.json()["errors"]] == [field]


# --- who ---


async def test_who_may_import_and_ask(shop: Shop) -> None:
    assert shop.world.settings.admin_key is not None
    operator = shop.world.settings.admin_key.get_secret_value()
    asks = (("PUT", STORES), ("GET", f"{STORES}/paris"), ("GET", f"{STORES}/nearest?lat=1&lon=1"))
    await shop.put(CSV)
    for method, path in asks:
        more: dict[str, Any] = (
            {"content": CSV.encode(), "headers": {"Content-Type": "text/csv"}} if method == "PUT" else {}
        )
        assert (await shop.ask(method, path, shop.key, **more)).status_code == 200
        assert (await shop.ask(method, path, operator, **more)).status_code == 200
        for wrong in (shop.other_key, shop.key[:-1], shop.key + "x", "nh_sk_", ""):
            assert refusal(await shop.ask(method, path, wrong, **more)) == (401, "unauthorized")
        async with shop.world.client("ann") as user:
            assert refusal(await user.request(method, path, **more)) == (403, "forbidden")


async def test_a_brand_nobody_made(shop: Shop) -> None:
    async with shop.world.operator() as operator:
        answers = [
            await operator.get("/v1/brands/none/stores/a"),
            await operator.get("/v1/brands/none/stores/nearest?lat=1&lon=1"),
            await operator.put("/v1/brands/none/stores", content=CSV, headers={"Content-Type": "text/csv"}),
            await operator.post("/v1/brands/none/keys", json={"kind": "secret"}),
        ]
    assert {refusal(answer) for answer in answers} == {(404, "not_found")}
    assert refusal(await shop.ask("GET", "/v1/brands/none/stores/a")) == (401, "unauthorized")


async def test_a_brand_is_renamed_and_keeps_its_stores_and_keys(shop: Shop) -> None:
    await shop.put(CSV)
    async with shop.world.operator() as operator:
        body = {"name": "New", "website": "https://new.example"}
        assert (await operator.put("/v1/brands/acme", json=body)).json() == {"brand": "acme", **body}
        for bad in ({"name": ""}, {"name": " "}, {"name": "x", "website": "javascript:alert(1)"}, {}):
            assert (await operator.put("/v1/brands/acme", json=bad)).status_code == 422
    assert len(await shop.ids(lat=1, lon=1)) == 3


async def test_brands_do_not_see_each_other(shop: Shop) -> None:
    await shop.put(CSV)
    answer = await shop.ask("POST", "/v1/brands/rival/stores/nearest", shop.other_key, json={"lat": 1, "lon": 1})
    assert answer.json()["features"] == []


async def test_no_key_is_kept_in_the_state(shop: Shop, state: State) -> None:
    for key in await state.call("KEYS", "*"):
        kind = await state.call("TYPE", key)
        if kind == b"hash":
            assert shop.key.encode() not in b"".join(await state.call("HVALS", key))
