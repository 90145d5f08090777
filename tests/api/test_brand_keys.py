"""Keys of a brand over HTTP: publishable ones and their origins, two live at once, revoked, quotas, counts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from discovery.stores.brand_keys import origin_of
from tests.world import World

PAGE = "https://www.example.com"
BRAND = "/v1/brands/acme"
NEAREST = f"{BRAND}/stores/nearest"
POINT = {"lat": 1.0, "lon": 1.0}


@pytest_asyncio.fixture
async def operator(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.operator() as client:
        await client.put(BRAND, json={"name": "Acme"})
        csv = b"store_id,lat,lon\na,1,1\nb,2,2\n"
        imported = await client.put(f"{BRAND}/stores", content=csv, headers={"Content-Type": "text/csv"})
        assert imported.status_code == 200
        yield client


async def made(operator: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await operator.post(f"{BRAND}/keys", json={"kind": "publishable", "origins": [PAGE], **body})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_publishable_key_reads_from_its_origins(world: World, operator: httpx2.AsyncClient) -> None:
    key = (await made(operator, origins=[PAGE + ":443", "http://localhost:3000", "https://*.acme.example"]))["key"]
    assert key.startswith("nh_pk_")
    async with world._client({"X-API-Key": key}) as page:
        for origin in (PAGE, "http://localhost:3000", "https://shop.acme.example"):
            answer = await page.post(NEAREST, json=POINT, headers={"Origin": origin})
            assert answer.status_code == 200, answer.text
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["vary"] == "Origin"
        wrong = (
            "https://example.com",
            "http://www.example.com",
            "null",
            "",
            "https://acme.example",
            PAGE + ".evil.com",
        )
        for origin in (*wrong, "https://*.acme.example", "https://evilacme.example", PAGE + ":8443"):
            assert refusal(await page.post(NEAREST, json=POINT, headers={"Origin": origin})) == (
                403,
                "origin_not_allowed",
            )
        assert refusal(await page.post(NEAREST, json=POINT)) == (403, "origin_not_allowed")
        by_referer = await page.get(f"{BRAND}/stores/a", headers={"Referer": f"{PAGE}/stores?x=1"})
        assert by_referer.status_code == 200


async def test_a_publishable_key_only_reads(world: World, operator: httpx2.AsyncClient) -> None:
    key = (await made(operator))["key"]
    async with world._client({"X-API-Key": key, "Origin": PAGE}) as page:
        for path in (
            "stores/nearest?lat=1&lon=1",
            "stores",
            "stores/search?q=a",
            "stores/a",
            "stores/cell/871fb4662ffffff",
        ):
            assert (await page.get(f"{BRAND}/{path}")).status_code == 200, path
        assert (await page.post(f"{BRAND}/stores/serving", json=POINT)).status_code == 200
        assert refusal(await page.post(NEAREST, json={**POINT, "explain": True})) == (403, "forbidden")
        for method, path in (("DELETE", "stores/a"), ("GET", "export?format=csv"), ("GET", "keys"), ("PUT", "stores")):
            assert (await page.request(method, f"{BRAND}/{path}")).status_code in (401, 403), path
        assert (await page.post("/v1/brands/rival/stores/nearest", json=POINT)).status_code == 401


async def test_a_publishable_key_may_stand_in_the_url_of_a_get(world: World, operator: httpx2.AsyncClient) -> None:
    key = (await made(operator))["key"]
    secret = (await made(operator, kind="secret", origins=[]))["key"]
    async with world._client({"Origin": PAGE}) as page:
        assert (await page.get(f"{BRAND}/stores/a?key={key}")).status_code == 200
        assert (await page.get(f"{BRAND}/stores/a?key={key}&key={key}")).status_code == 401
        assert (await page.get(f"{BRAND}/stores/a?key={secret}")).status_code == 401
        assert (await page.post(f"{NEAREST}?key={key}", json=POINT)).status_code == 401
        twice = await page.get(f"{BRAND}/stores/a?key={key}", headers={"X-API-Key": key})
        assert refusal(twice) == (422, "invalid")


async def test_preflights(world: World, operator: httpx2.AsyncClient) -> None:
    await made(operator)
    async with world._client({}) as page:
        allowed = await page.options(NEAREST, headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert "X-API-Key" in allowed.headers["access-control-allow-headers"]
        for path, origin in ((NEAREST, "https://evil.example"), ("/v1/brands/nobody/stores/nearest", PAGE)):
            answer = await page.options(path, headers={"Origin": origin})
            assert answer.status_code == 204
            assert not any(name.startswith("access-control") for name in answer.headers)


async def test_two_keys_of_a_kind_live_at_once_and_a_revoked_one_is_gone(
    world: World, operator: httpx2.AsyncClient
) -> None:
    first, second = [await made(operator, kind="secret", origins=[]) for _ in range(2)]
    third = await operator.post(f"{BRAND}/keys", json={"kind": "secret"})
    assert refusal(third) == (409, "conflict")
    await made(operator)
    listed = (await operator.get(f"{BRAND}/keys")).json()["keys"]
    assert sorted(key["kind"] for key in listed) == ["publishable", "secret", "secret"]
    assert not any("key" in key or "sha256" in key for key in listed)
    assert (await operator.delete(f"{BRAND}/keys/{first['key_id']}")).status_code == 204
    assert (await operator.delete(f"{BRAND}/keys/{first['key_id']}")).status_code == 404
    for key, status in ((first, 401), (second, 200)):
        async with world._client({"X-API-Key": key["key"]}) as server:
            assert (await server.get(f"{BRAND}/stores/a")).status_code == status
    await made(operator, kind="secret", origins=[])


async def test_of_many_at_once_two_are_made(operator: httpx2.AsyncClient) -> None:
    asked = [operator.post(f"{BRAND}/keys", json={"kind": "secret"}) for _ in range(6)]
    assert sorted(answer.status_code for answer in await asyncio.gather(*asked)) == [201, 201, 409, 409, 409, 409]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "publishable"},
        {"kind": "publishable", "origins": []},
        {"kind": "publishable", "origins": ["*"]},
        {"kind": "publishable", "origins": ["https://a.example/path"]},
        {"kind": "publishable", "origins": ["ftp://a.example"]},
        {"kind": "publishable", "origins": ["https://a.example:70000"]},
        {"kind": "secret", "origins": [PAGE]},
        {"kind": "secret", "quota_per_day": 0},
        {"kind": "other"},
    ],
)
async def test_keys_that_are_refused(operator: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    assert (await operator.post(f"{BRAND}/keys", json=body)).status_code == 422
    assert (await operator.get(f"{BRAND}/keys")).json() == {"keys": []}


async def test_a_quota_is_for_a_day_and_is_counted(world: World, operator: httpx2.AsyncClient) -> None:
    key = await made(operator, kind="secret", origins=[], quota_per_day=3)
    async with world._client({"X-API-Key": key["key"]}) as server:
        for _ in range(2):
            assert (await server.get(f"{BRAND}/stores/a")).status_code == 200
        await world.hive.stores.usage.flush()
        assert (await server.get(f"{BRAND}/stores/a")).status_code == 200
        refused = await server.get(f"{BRAND}/stores/a")
        assert refusal(refused) == (429, "quota_exceeded")
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        await world.hive.stores.usage.flush()
        usage = (await operator.get(f"{BRAND}/keys")).json()["keys"][0]["usage"]
        assert [day["requests"] for day in usage] == [3]
        await world.later(86_400_000)
        assert (await server.get(f"{BRAND}/stores/a")).status_code == 200
        await world.hive.stores.usage.flush()
        usage = (await operator.get(f"{BRAND}/keys")).json()["keys"][0]["usage"]
        assert [day["requests"] for day in usage] == [3, 1]


def test_origins_are_written_as_browsers_write_them() -> None:
    assert origin_of("HTTPS://Www.Example.Com:443") == PAGE
    assert origin_of("http://[::1]:8000") == "http://[::1]:8000"
    assert origin_of("http://localhost:80") == "http://localhost"
    for text in (
        "null",
        "",
        "https://",
        "https://a b",
        "https://a/b",
        "https://*",
        "https://a.*.b",
        "x://a",
        "https://a:0",
    ):
        assert origin_of(text) is None, text
