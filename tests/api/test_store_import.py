"""Imports over HTTP beyond a plain replacement: merge, one store, export, other media types."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.discovery.stores.test_hours_and_zones_fuzz import ZoneMaker
from tests.discovery.stores.test_import_fuzz import JsonMaker
from tests.world import World

BRAND = "/v1/brands/acme"
CSV = "id;Name;lat;lon;Mon;Tue\na;Café;48,85;2,35;9-17;closed\nb;B;48,9;2,35;;\n".encode("cp1252")
FEATURE = {
    "type": "Feature",
    "geometry": {"type": "Point", "coordinates": [2.35, 48.7]},
    "properties": {"name": "C", "services": ["wi;fi"], "tags": {"k;1": " v=w"}},
}


@pytest.fixture
async def shop(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.operator() as client:
        assert (await client.put(BRAND, json={"name": "Acme"})).status_code == 200
        yield client


async def send(client: httpx2.AsyncClient, method: str, body: bytes, kind: str, query: str = "") -> Any:
    answer = await client.request(method, f"{BRAND}/stores{query}", content=body, headers={"Content-Type": kind})
    return answer.json() | {"status": answer.status_code}


def counts(report: Any) -> tuple[int, ...]:
    assert report["status"] == 200, report
    return tuple(report[name] for name in ("added", "changed", "removed", "unchanged"))


async def test_merge_one_store_and_export(shop: httpx2.AsyncClient) -> None:
    assert counts(await send(shop, "PUT", CSV, "text/csv")) == (2, 0, 0, 0)
    more = json.dumps([{"id": "b", "name": "B2", "lat": 48.9, "lng": 2.35}, {"id": "d", "lat": 1, "lon": 9.5}]).encode()
    assert counts(await send(shop, "PATCH", more, "application/json", "?dry_run=true")) == (1, 1, 0, 1)
    assert counts(await send(shop, "PATCH", more, "application/json")) == (1, 1, 0, 1)
    made = await shop.put(f"{BRAND}/stores/c", json=FEATURE)
    assert (made.status_code, made.json()["properties"]["tags"]) == (200, {"k;1": " v=w"})
    assert (await shop.put(f"{BRAND}/stores/c", json=made.json())).json() == made.json()
    assert (await shop.delete(f"{BRAND}/stores/d")).status_code == 204
    assert (await shop.delete(f"{BRAND}/stores/d")).status_code == 404
    for kind, form in (("text/csv; charset=utf-8", "csv"), ("application/geo+json", "geojson")):
        out = await shop.get(f"{BRAND}/export?format={form}")
        assert (out.status_code, out.headers["content-type"]) == (200, kind)
        again = await send(shop, "PUT", out.content, kind)
        assert counts(again) == (0, 0, 0, 3)
        assert again["warnings"] == []
    names = {row["id"]: row["properties"]["name"] for row in (await shop.get(f"{BRAND}/export")).json()["features"]}
    assert names == {"a": "Café", "b": "B2", "c": "C"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "other"}, "id"),
        ({"properties": {"store_id": "other"}}, "store_id"),
        ({"geometry": {"type": "Point", "coordinates": [2.35, 91]}}, "lat"),
        ({"properties": {"timezone": "Mars/Base"}}, "timezone"),
        ({"properties": {"name": "x" * 4001}}, "name"),
    ],
)
async def test_one_store_that_is_not_fit(shop: httpx2.AsyncClient, change: dict[str, Any], field: str) -> None:
    answer = await shop.put(f"{BRAND}/stores/c", json=FEATURE | change)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])
    assert (await shop.get(f"{BRAND}/stores/c")).status_code == 404


async def test_a_file_of_errors_removes_nothing(shop: httpx2.AsyncClient) -> None:
    await send(shop, "PUT", CSV, "text/csv")
    refused = await send(shop, "PUT", b"lat,lon\nnorth,1\n", "text/csv", "?on_error=skip")
    assert (refused["status"], refused["code"]) == (422, "import_refused")
    assert refused["rejected"] == [
        {"row": 2, "field": "lat", "message": "not a number of degrees such as 48.8566"},
    ]
    assert len((await shop.get(f"{BRAND}/export")).json()["features"]) == 2


async def test_bodies_at_random_are_taken_or_refused_by_row_and_field(
    shop: httpx2.AsyncClient, seed: int, scale: int
) -> None:
    """Files, stores, zones and questions: no 500, and each refusal names what it refuses."""
    draw = random.Random(seed)
    make, shapes = JsonMaker(draw), ZoneMaker(draw)
    assert counts(await send(shop, "PUT", CSV, "text/csv")) == (2, 0, 0, 0)
    for turn in range(25 * scale):
        records = [make.record() for _ in range(draw.randrange(4))]
        query = draw.choice(["?dry_run=true", "?dry_run=true&on_error=skip"])
        asked = [
            ("PATCH", f"stores{query}", records, draw.choice(["application/json", "application/geo+json"])),
            ("PUT", f"stores/s{turn % 3}", draw.choice([make.record(), {**FEATURE, "properties": make.value(2)}]), ""),
            ("PUT", "stores/a/zone", shapes.zone(), ""),
            ("POST", "stores/nearest", draw.choice([make.value(2), {"lat": 1, "lon": 1, "tags": make.value(2)}]), ""),
        ]
        for method, path, body, kind in asked:
            headers = {"Content-Type": kind or "application/json"}
            answer = await shop.request(method, f"{BRAND}/{path}", content=json.dumps(body), headers=headers)
            assert answer.status_code in (200, 400, 422), (answer.status_code, path, body)
            if answer.status_code == 422:
                found = answer.json()
                assert found.get("errors") or found.get("rejected"), (found, body)
                assert all(row["message"] for row in found.get("errors") or found["rejected"])
