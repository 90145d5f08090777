"""Requests that StrictRoute refuses before, or lets through to, the models."""

import asyncio
from typing import Annotated, Any

import httpx2
import orjson
import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from api.auth import CurrentUser
from api.dependencies import BrandPath, Instant, Lat, LatParam, Lon, LonParam, Model, RequiredKey, UserId, answer
from api.errors import BadJson
from api.pagination import LimitParam
from api.strict_json import LIST_BODY, StrictRoute, body_chunks, body_limit, parse_json, raw_body

from .skeleton import app_with, bearer, client


class Point(Model):
    lat: Lat
    lon: Lon
    user: UserId | None = None
    at: Instant | None = None


class Points(Model):
    points: list[Point]


class QuickRoute(StrictRoute):
    body_deadline_s = 0.05


router = APIRouter(route_class=StrictRoute)
quick = APIRouter(route_class=QuickRoute)


@router.post("/v1/point")
async def post_point(point: Point) -> Response:
    return answer({"lat": point.lat, "at": point.at})


@quick.post("/v1/quick")
async def post_quick(point: Point) -> Response:
    return answer({"lat": point.lat})


@router.post("/v1/points")
@body_limit(LIST_BODY)
async def post_points(body: Points) -> Response:
    return answer({"count": len(body.points)})


@router.post("/v1/optional")
async def post_optional(point: Point | None = None) -> Response:
    return answer({"given": point is not None})


@router.post("/v1/nothing")
async def post_nothing(key: RequiredKey) -> Response:
    return answer({"key": key})


@router.get("/v1/query")
async def get_query(lat: LatParam, lon: LonParam, limit: LimitParam = 30) -> Response:
    return answer({"lat": lat, "lon": lon, "limit": limit})


@router.get("/v1/names")
async def get_names(named: Annotated[str, Query(alias="with")] = "") -> Response:
    return answer({"with": named})


@router.put("/v1/raw/{brand}")
@raw_body(100)
async def put_raw(request: Request, brand: BrandPath) -> Response:
    size = 0
    async for chunk in body_chunks(request, 100, 0.05):
        size += len(chunk)
    return answer({"brand": brand, "bytes": size})


@router.post("/v1/guarded")
async def post_guarded(caller: CurrentUser, point: Point) -> Response:
    return answer({"user": caller.user})


def _add(app: FastAPI) -> None:
    app.router.routes.extend(router.routes)
    app.router.routes.extend(quick.routes)


APP = app_with(_add)


async def send(method: str, path: str, **request: Any) -> httpx2.Response:
    async with client(APP) as one:
        return await one.request(method, path, **request)


async def post(path: str, raw: bytes, content_type: str | None = "application/json") -> httpx2.Response:
    return await send("POST", path, content=raw, headers={"Content-Type": content_type} if content_type else {})


def codes(response: httpx2.Response) -> tuple[int, str, list[str]]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"/problems/{body['code']}"
    return response.status_code, body["code"], [error["field"] for error in body["errors"]]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nope",
        b'{"lat": NaN, "lon": 1}',
        b'{"lat": Infinity, "lon": 1}',
        b'{"lat": -Infinity, "lon": 1}',
        b'{"lat": 1e999, "lon": 1}',
        b'{"lat": 1, "lat": 2, "lon": 1}',
        b'{"lat": 1, "l\\u0061t": 2, "lon": 1}',
        b'{"lat": 1, "lon": {"a": 1, "a": 1}}',
        b'{"lat": 1, "lon": 1, "user": "\xff"}',
        b'{"lat": 1, "lon": 1, "user": "\\ud800"}',
        b'\xef\xbb\xbf{"lat": 1, "lon": 1}',
        b'{"lat": 1, "lon": 1} x',
        b"{'lat': 1, 'lon': 1}",
        b'{"lat": 1, "lon": 1,}',
        b'{"lat": 01, "lon": 1}',
        b"[" * 7000,
        b"[" * 7000 + b"]" * 7000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"lat": 1, "lon": ' + b"[" * 32 + b"]" * 32 + b"}",
    ],
)
async def test_unreadable_is_400(raw: bytes) -> None:
    assert codes(await post("/v1/point", raw)) == (400, "bad_json", [])


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"null", ["body"]),
        (b"[]", ["body"]),
        (b'{"lat": 1, "lon": ' + b"[" * 31 + b"]" * 31 + b"}", ["lon"]),
        (b'"text"', ["body"]),
        (b"{}", ["lat", "lon"]),
        (b'{"lat": 90.001, "lon": 1}', ["lat"]),
        (b'{"lat": 1, "lon": -180.5}', ["lon"]),
        (b'{"lat": "1", "lon": 1}', ["lat"]),
        (b'{"lat": true, "lon": 1}', ["lat"]),
        (b'{"lat": null, "lon": 1}', ["lat"]),
        (b'{"lat": [1], "lon": 1}', ["lat"]),
        (b'{"lat": 1' + b"0" * 400 + b', "lon": 1}', ["lat"]),
        (b'{"lat": 1, "lon": 1, "extra": 1}', ["extra"]),
        (b'{"lat": 1, "lon": 1, "48.85661": 1}', ["?"]),
        (b'{"lat": 1, "lon": 1, "user": "a b"}', ["user"]),
        (b'{"lat": 1, "lon": 1, "user": "a\\n"}', ["user"]),
        (b'{"lat": 1, "lon": 1, "user": "-a"}', ["user"]),
        (b'{"lat": 1, "lon": 1, "user": 7}', ["user"]),
        (b'{"lat": 1, "lon": 1, "at": "2026-11-22T08:00:00"}', ["at"]),
        (b'{"lat": 1, "lon": 1, "at": 1764000000}', ["at"]),
        (b'{"lat": 1, "lon": 1, "at": "2026-13-22T08:00:00Z"}', ["at"]),
    ],
)
async def test_readable_but_invalid_is_422(raw: bytes, fields: list[str]) -> None:
    response = await post("/v1/point", raw)
    if b"0000000" in raw:  # beyond a double: not readable as JSON, by RFC 8259 section 6
        assert codes(response)[:2] == (400, "bad_json")
    else:
        assert codes(response) == (422, "invalid", fields)


@pytest.mark.parametrize("lat", [b"48", b"48.0", b"-90", b"90", b"4.8e1", b"-0"])
async def test_numbers_are_taken_as_json_has_them(lat: bytes) -> None:
    response = await post("/v1/point", b'{"lat": ' + lat + b', "lon": -180}')
    assert response.status_code == 200
    assert response.json()["lat"] == float(lat)


async def test_instant_is_milliseconds() -> None:
    response = await post("/v1/point", b'{"lat": 1, "lon": 1, "at": "1970-01-01T01:00:01.5+01:00"}')
    assert response.json()["at"] == 1500


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset=utf-16"],
)
async def test_other_media_types_are_415(content_type: str | None) -> None:
    assert codes(await post("/v1/point", b'{"lat": 1, "lon": 1}', content_type))[:2] == (415, "unsupported_media_type")


async def test_charset_utf8_is_fine() -> None:
    assert (await post("/v1/point", b'{"lat": 1, "lon": 1}', "Application/JSON; charset=UTF-8")).status_code == 200


async def test_optional_body_may_be_absent() -> None:
    assert (await send("POST", "/v1/optional")).json() == {"given": False}
    assert (await post("/v1/optional", b'{"lat": 1, "lon": 1}')).json() == {"given": True}


async def test_small_bodies_end_at_16_kb() -> None:
    padded = b'{"lat": 1, "lon": 1}'.ljust(16 * 1024)
    assert (await post("/v1/point", padded)).status_code == 200
    too_large = await post("/v1/point", padded + b" ")
    assert codes(too_large)[:2] == (413, "too_large")
    assert too_large.headers["connection"] == "close"


async def test_size_is_counted_without_content_length() -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 1024

    headers = {"Content-Type": "application/json"}
    assert codes(await send("POST", "/v1/point", content=chunks(), headers=headers))[:2] == (413, "too_large")


async def test_lists_end_at_4_mb() -> None:
    raw = orjson.dumps({"points": [{"lat": 1.5, "lon": 2.5, "user": f"u{number}"} for number in range(10_000)]})
    assert (await post("/v1/points", raw)).json() == {"count": 10_000}
    assert codes(await post("/v1/points", raw.ljust(LIST_BODY + 1)))[:2] == (413, "too_large")


async def test_slow_body_is_408() -> None:
    async def slowly() -> Any:
        yield b'{"lat": 1,'
        await asyncio.sleep(1)
        yield b' "lon": 1}'

    headers = {"Content-Type": "application/json"}
    assert codes(await send("POST", "/v1/quick", content=slowly(), headers=headers))[:2] == (408, "body_timeout")


async def test_trickling_body_is_408() -> None:
    """The deadline is for the whole body: bytes that keep coming do not extend it."""

    async def trickle() -> Any:
        for _ in range(50):
            yield b" "
            await asyncio.sleep(0.01)

    headers = {"Content-Type": "application/json"}
    assert codes(await send("POST", "/v1/quick", content=trickle(), headers=headers))[:2] == (408, "body_timeout")


async def test_raw_body_is_streamed_and_bounded() -> None:
    path = "/v1/raw/acme"
    assert (await send("PUT", path, content=b"x" * 100)).json() == {"brand": "acme", "bytes": 100}
    assert codes(await send("PUT", path, content=b"x" * 101))[:2] == (413, "too_large")


async def test_where_no_body_is_taken_none_or_an_empty_object_may_come() -> None:
    headers = {"Idempotency-Key": "k1"}
    for body in ({}, {"content": b""}, {"content": b"{}"}):
        assert (await send("POST", "/v1/nothing", headers=headers, **body)).status_code == 200
    response = await send("POST", "/v1/nothing", headers=headers, content=b'{"a": 1}')
    assert codes(response) == (422, "invalid", ["body"])


@pytest.mark.parametrize("key", ["", "a b", "k" * 129, "é".encode()])
async def test_idempotency_key_out_of_form_is_422(key: str | bytes) -> None:
    response = await send("POST", "/v1/nothing", headers=[("Idempotency-Key", key)])
    assert codes(response) == (422, "invalid", ["Idempotency-Key"])


async def test_idempotency_key_missing_or_twice() -> None:
    assert codes(await send("POST", "/v1/nothing"))[:2] == (400, "idempotency_key_required")
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert codes(await send("POST", "/v1/nothing", headers=twice))[:2] == (422, "invalid")


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("lat=1&lon=1&radius=5", ["radius"]),
        ("lat=1&lon=1&lat=2", ["lat"]),
        ("lat=1&lon=1&Lat=2", ["Lat"]),
        ("lat=1&lon=1&48.8566=1", ["?"]),
        ("lat=1&lon=1&limit", ["limit"]),
        ("lat=1&lon=1&x=&y=", ["x", "y"]),
        ("lat=nan&lon=1", ["lat"]),
        ("lat=1_0&lon=1", ["lat"]),
        ("lat=%201&lon=1", ["lat"]),
        ("lat=1&lon=181", ["lon"]),
        ("lat=1&lon=1&limit=0", ["limit"]),
        ("lat=1&lon=1&limit=101", ["limit"]),
        ("lat=1", ["lon"]),
    ],
)
async def test_query_parameters_are_known_once_and_valid(query: str, fields: list[str]) -> None:
    assert codes(await send("GET", f"/v1/query?{query}")) == (422, "invalid", fields)


async def test_valid_query() -> None:
    assert (await send("GET", "/v1/query?lat=-1.5&lon=1e1&limit=100")).json() == {"lat": -1.5, "lon": 10, "limit": 100}
    assert (await send("GET", "/v1/names?with=x")).json() == {"with": "x"}
    assert codes(await send("GET", "/v1/names?named=x")) == (422, "invalid", ["named"])


@pytest.mark.parametrize("brand", ["-a", "a%20b", "a%0A", "%C3%A9", "a" * 129, ".."])
async def test_path_ids_out_of_form(brand: str) -> None:
    response = await send("PUT", f"/v1/raw/{brand}", content=b"x")
    assert codes(response)[0] in (404, 422)


async def test_percent_encoded_ids_are_read() -> None:
    response = await send("PUT", "/v1/raw/a%7Cb%3D%2Bc%40d%3Ae", content=b"x")
    assert response.json()["brand"] == "a|b=+c@d:e"


async def test_credentials_come_before_everything_else() -> None:
    for raw in (b"", b"{", b" " * 20_000):
        assert codes(await post("/v1/guarded?unknown=1", raw))[0] == 401
    response = await send("POST", "/v1/guarded", json={"lat": 1, "lon": 1}, headers=bearer("ann"))
    assert response.json() == {"user": "ann"}


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_values)
def test_whatever_json_is_is_read_unchanged(value: Any) -> None:
    assert parse_json(orjson.dumps(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except BadJson:
        return
    assert orjson.loads(raw) == value
