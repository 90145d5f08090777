"""Every route of the service against every kind of caller, against what it does not know, and against hostile input.

A new route fails here until it has its row in ``ROUTES``: who may call it, and one request that is valid in form.
"""

import copy
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute

from api.main import create_app
from api.settings import load_settings
from api.strict_json import StrictRoute, known_query
from tests.world import PARIS, World

POINT = {"lat": PARIS[0], "lon": PARIS[1]}
BOTTLE = "0" * 32
STORES = b'store_id,lat,lon,services,opening_hours\na,1,1,wifi,"Mo-Fr 09:00-17:00; PH off"\nc,48.85,2.35,wifi,24/7\n'
IMPORT = b"store_id,lat,lon\nb,2,2\n"
IMPORTS = ("put_stores", "patch_stores", "post_nearest_csv")
PUBLIC, USER, OPERATOR, BRAND = "public", "user", "operator", "brand"


@dataclass(frozen=True)
class Row:
    """Who may call, the path, and a JSON body (None: none is taken)."""

    who: str
    path: str
    body: Any = None


ROUTES: dict[str, Row] = {
    "problems": Row(PUBLIC, "/problems"),
    "problem": Row(PUBLIC, "/problems/not_found"),
    "landing": Row(PUBLIC, "/"),
    "healthz": Row(PUBLIC, "/healthz"),
    "readyz": Row(PUBLIC, "/readyz"),
    "get_privacy": Row(PUBLIC, "/v1/privacy"),
    "put_position": Row(USER, "/v1/me/position", {**POINT, "accuracy_m": 10, "ttl_s": 7200, "coord_type": "wgs84"}),
    "get_position": Row(USER, "/v1/me/position"),
    "delete_position": Row(USER, "/v1/me/position"),
    "get_settings": Row(USER, "/v1/me/settings"),
    "patch_settings": Row(
        USER,
        "/v1/me/settings",
        {"visibility": "everyone", "visible_until": "2027-01-15T09:00:00Z", "bottles": "on", "quiet_zones": []},
    ),
    "put_friend": Row(USER, "/v1/me/friends/bob", {"precision": "near", "until": "2027-01-16T09:00:00Z"}),
    "delete_friend": Row(USER, "/v1/me/friends/bob"),
    "get_friends": Row(USER, "/v1/me/friends"),
    "put_block": Row(USER, "/v1/me/blocks/carl"),
    "delete_block": Row(USER, "/v1/me/blocks/carl"),
    "get_blocks": Row(USER, "/v1/me/blocks?limit=5"),
    "put_mute": Row(USER, "/v1/me/mutes/dora"),
    "delete_mute": Row(USER, "/v1/me/mutes/dora"),
    "get_mutes": Row(USER, "/v1/me/mutes?limit=5"),
    "post_report": Row(
        USER, "/v1/reports", {"target": {"type": "user", "id": "erik"}, "reason": "spam", "note": "of the matrix"}
    ),
    "post_appeal": Row(USER, "/v1/me/appeal", {"text": "why?"}),
    "get_nearby": Row(USER, "/v1/nearby?radius_m=5000&limit=5"),
    "get_radar": Row(USER, "/v1/radar?radius_m=5000"),
    "post_shake": Row(USER, "/v1/shakes", {**POINT, "reach": "nearby", "limit": 5, "accuracy_m": 5}),
    "get_shake": Row(USER, f"/v1/shakes/{'0' * 32}?wait_s=0"),
    "throw_bottle": Row(USER, "/v1/bottles", {"text": "hello", "language": "en"}),
    "pick_bottle": Row(USER, "/v1/bottles/pick"),
    "throw_back": Row(USER, f"/v1/bottles/{BOTTLE}/throw-back"),
    "reply": Row(USER, f"/v1/bottles/{BOTTLE}/replies", {"text": "hello"}),
    "block_other": Row(USER, f"/v1/bottles/{BOTTLE}/block"),
    "get_bottle": Row(USER, f"/v1/bottles/{BOTTLE}"),
    "delete_bottle": Row(USER, f"/v1/bottles/{BOTTLE}"),
    "my_bottles": Row(USER, "/v1/me/bottles?limit=5"),
    "post_positions": Row(
        OPERATOR, "/v1/app/positions", {"positions": [{"user": "x", **POINT, "accuracy_m": 3, "ttl_s": 3600}]}
    ),
    "post_friendships": Row(
        OPERATOR, "/v1/app/friendships", {"pairs": [{"a": "x", "b": "y", "op": "add", "guardian": True}]}
    ),
    "put_user": Row(
        OPERATOR,
        "/v1/app/users/x",
        {
            "visibility": "everyone",
            "consent": {"version": "1", "at": "2026-11-22T08:00:00Z"},
            "age": "adult",
            "suspended": [{"feature": "nearby", "until": "2027-01-16T09:00:00Z"}],
        },
    ),
    "get_status": Row(OPERATOR, "/v1/app/status"),
    "put_brand": Row(OPERATOR, "/v1/brands/acme", {"name": "Acme", "website": "https://acme.example"}),
    "post_key": Row(OPERATOR, "/v1/brands/acme/keys", {"kind": "secret"}),
    "get_keys": Row(OPERATOR, "/v1/brands/acme/keys"),
    "delete_key": Row(OPERATOR, "/v1/brands/acme/keys/k_none"),
    "preflight": Row(PUBLIC, "/v1/brands/acme/stores/nearest"),
    "put_stores": Row(BRAND, "/v1/brands/acme/stores?dry_run=true&on_error=skip"),
    "patch_stores": Row(BRAND, "/v1/brands/acme/stores?dry_run=true&on_error=skip"),
    "export_stores": Row(BRAND, "/v1/brands/acme/export?format=csv"),
    "put_store": Row(
        BRAND,
        "/v1/brands/acme/stores/z",
        {
            "type": "Feature",
            "id": "z",
            "geometry": {"type": "Point", "coordinates": [2.35, 48.85]},
            "properties": {"name": "Z", "services": ["wifi"]},
        },
    ),
    "delete_store": Row(BRAND, "/v1/brands/acme/stores/z"),
    "post_nearest": Row(
        BRAND,
        "/v1/brands/acme/stores/nearest",
        {
            **POINT,
            "coord_type": "wgs84",
            "limit": 3,
            "max_distance_m": 1e6,
            "min_distance_m": 0,
            "open": "on_arrival",
            "speed_kmh": 50,
            "services": ["wifi"],
            "tags": {"a": "b", "c": None},
            "without_services": ["x"],
            "without_tags": {"d": "e"},
            "q": "word",
            "in_zone": True,
            "fields": ["name", "open"],
            "explain": True,
        },
    ),
    "post_nearest_csv": Row(
        BRAND,
        "/v1/brands/acme/stores/nearest?limit=3&max_distance_m=9&min_distance_m=1&open=on_arrival&speed_kmh=5&services=wifi",
    ),
    "get_nearest": Row(
        BRAND,
        "/v1/brands/acme/stores/nearest?lat=1&lon=1&coord_type=bd09&limit=3&max_distance_m=9&min_distance_m=1&open=on_arrival"
        "&speed_kmh=5&services=wifi&tags=a=b&q=word&in_zone=true&fields=name",
    ),
    "post_serving": Row(
        BRAND,
        "/v1/brands/acme/stores/serving",
        {**POINT, "coord_type": "gcj02", "limit": 3, "open": "now", "services": ["wifi"], "fields": ["name"]},
    ),
    "get_stores": Row(
        BRAND, "/v1/brands/acme/stores?bbox=170,-10,-170,10&tag=a&services=wifi&q=word&open=now&fields=name&limit=9"
    ),
    "complete_stores": Row(BRAND, "/v1/brands/acme/stores/search?q=wo&limit=3"),
    "get_cell": Row(BRAND, "/v1/brands/acme/stores/cell/871fb4662ffffff"),
    "get_demand": Row(BRAND, "/v1/brands/acme/demand?from=2026-11-20&to=2026-11-21&resolution=6&format=csv"),
    "get_next_places": Row(
        BRAND, "/v1/brands/acme/demand/next?from=2026-11-20&to=2026-11-21&resolution=6&limit=3&format=csv"
    ),
    "put_zone": Row(
        BRAND,
        "/v1/brands/acme/stores/a/zone",
        {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 0]]], "bbox": [0, 0, 2, 2]},
    ),
    "get_zone": Row(BRAND, "/v1/brands/acme/stores/a/zone"),
    "delete_zone": Row(BRAND, "/v1/brands/acme/stores/a/zone"),
    "get_store": Row(BRAND, "/v1/brands/acme/stores/a"),
    "export_me": Row(USER, "/v1/me/export"),
    "delete_user": Row(OPERATOR, "/v1/app/users/x"),
    "delete_me": Row(USER, "/v1/me?confirm=ann"),  # last: then the token holds no more
}

# What each credential gets from a route of each kind; None: in, that is no 401 and no 403.
EXPECTED: dict[str, dict[str, int | None]] = {
    "none": {PUBLIC: None, USER: 401, OPERATOR: 401, BRAND: 401},
    "bad token": {PUBLIC: None, USER: 401, OPERATOR: 403, BRAND: 403},
    "user": {PUBLIC: None, USER: None, OPERATOR: 403, BRAND: 403},
    "operator": {PUBLIC: None, USER: 403, OPERATOR: None, BRAND: None},
    "own brand": {PUBLIC: None, USER: 403, OPERATOR: 403, BRAND: None},
    "other brand": {PUBLIC: None, USER: 403, OPERATOR: 403, BRAND: 401},
    "bad key": {PUBLIC: None, USER: 403, OPERATOR: 401, BRAND: 401},
    "empty key": {PUBLIC: None, USER: 403, OPERATOR: 401, BRAND: 401},
}


@dataclass(frozen=True)
class Town:
    """A world with two brands, and a client of every kind of caller."""

    routes: dict[str, APIRoute]
    clients: dict[str, httpx2.AsyncClient]

    async def ask(self, name: str, who: str = "", **more: Any) -> httpx2.Response:
        """The valid request of a route, or with other parts."""
        row, route = ROUTES[name], self.routes[name]
        default_who = {PUBLIC: "none"}.get(row.who, "own brand" if row.who == BRAND else row.who)
        options: dict[str, Any] = {"headers": {"Idempotency-Key": f"key-{name}"}}
        if name in IMPORTS:
            options["content"] = IMPORT
            options["headers"]["Content-Type"] = "text/csv"
        elif row.body is not None:
            options["json"] = row.body
        if "json" in more or "content" in more:
            options.pop("json", None)
        if "content" in more and name not in IMPORTS:
            options["headers"]["Content-Type"] = "application/json"
        method = next(iter(route.methods or ()))
        url = more.pop("url", row.path)
        return await self.clients[who or default_who].request(method, url, **(options | more))


@pytest_asyncio.fixture
async def town(world: World) -> AsyncIterator[Town]:
    keys = {}
    async with world.operator() as operator:
        for brand in ("acme", "rival"):
            await operator.put(f"/v1/brands/{brand}", json={"name": brand})
            keys[brand] = (await operator.post(f"/v1/brands/{brand}/keys", json={"kind": "secret"})).json()["key"]
        imported = await operator.put("/v1/brands/acme/stores", content=STORES, headers={"Content-Type": "text/csv"})
        assert imported.status_code == 200
        await world.hive.demand_days.publish()
    await world.place("ann", *PARIS)
    clients = {
        "none": world._client({}),
        "bad token": world._client({"Authorization": "Bearer a.b.c"}),
        "user": world.client("ann"),
        "operator": world.operator(),
        "own brand": world._client({"X-API-Key": keys["acme"]}),
        "other brand": world._client({"X-API-Key": keys["rival"]}),
        "bad key": world._client({"X-API-Key": "x" * 40}),
        "empty key": world._client({"X-API-Key": ""}),
    }
    yield Town({route.name: route for route in world.app.routes if isinstance(route, APIRoute)}, clients)
    for client in clients.values():
        await client.aclose()


def assert_problem(answer: httpx2.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "errors"} <= answer.json().keys()


def test_every_route_has_its_row(tmp_path: Path) -> None:
    app = create_app(None, load_settings(data_dir=tmp_path))
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert sorted(route.name for route in routes) == sorted(ROUTES)
    assert all(isinstance(route, StrictRoute) for route in routes)
    others = {str(getattr(route, "path", "")) for route in app.routes} - {route.path for route in routes}
    assert others == {"/openapi.json", "/docs", "/docs/assets"}


@pytest.mark.parametrize("who", EXPECTED)
async def test_who_may_call_what(town: Town, who: str) -> None:
    for name, row in ROUTES.items():
        answer = await town.ask(name, who)
        expected = EXPECTED[who][row.who]
        if expected is None:
            assert answer.status_code not in (401, 403), (name, answer.text)
            assert answer.status_code < 500, (name, answer.text)
        else:
            assert answer.status_code == expected, (name, answer.text)
            assert_problem(answer)
            assert ("www-authenticate" in answer.headers) == (expected == 401)


async def test_the_valid_requests_are_valid(town: Town) -> None:
    """Else the other tests here would prove little: what is refused is refused for its one fault."""
    refused = {}
    for name in sorted(ROUTES, key=lambda name: name.startswith(("delete", "throw"))):
        answer = await town.ask(name)
        if answer.status_code not in (200, 201, 202, 204):
            refused[name] = answer.status_code
    # There is no such shake and no such bottle, and nothing is suspended.
    missing = ("get_shake", "throw_back", "reply", "block_other", "get_bottle", "delete_bottle")
    assert refused == {**dict.fromkeys(missing, 404), "post_appeal": 409, "delete_key": 404}


async def test_a_refused_caller_changes_nothing(town: Town) -> None:
    for name, row in ROUTES.items():
        for who, expected in EXPECTED.items():
            if expected[row.who] is not None:
                await town.ask(name, who)
    assert (await town.ask("get_position")).status_code == 200
    assert (await town.ask("get_friends")).json() == {"friends": []}
    assert (await town.ask("get_blocks")).json()["blocks"] == []
    assert (await town.ask("get_mutes")).json()["mutes"] == []
    assert (await town.ask("my_bottles")).json()["bottles"] == []
    assert (await town.ask("get_store")).status_code == 200
    assert (await town.ask("get_settings")).json()["bottles"] == "off"


@pytest.mark.parametrize("name", ROUTES)
async def test_the_credential_is_judged_before_anything_else(town: Town, name: str) -> None:
    """Who may not call learns nothing of what would be valid."""
    row = ROUTES[name]
    if row.who == PUBLIC:
        return
    answer = await town.ask(name, "none", url=row.path.partition("?")[0] + "?nonsense=1", content=b"{not json")
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ROUTES)
async def test_unknown_and_repeated_parameters_are_refused(town: Town, name: str) -> None:
    path, _, query = ROUTES[name].path.partition("?")
    unknown = await town.ask(name, url=f"{path}?{query}&nonsense=1" if query else f"{path}?nonsense=1")
    assert unknown.status_code == 422, unknown.text
    assert unknown.json()["errors"] == [{"field": "nonsense", "message": "unknown parameter"}]
    for parameter in query.split("&") if query else ():
        twice = await town.ask(name, url=f"{path}?{query}&{parameter}")
        assert twice.status_code == 422
        assert [error["field"] for error in twice.json()["errors"]] == [parameter.partition("=")[0]]


@pytest.mark.parametrize("name", [name for name in ROUTES if name not in IMPORTS])
async def test_unknown_fields_are_refused(town: Town, name: str) -> None:
    body = ROUTES[name].body
    answer = await town.ask(name, json={**(body or {}), "nonsense": 1})
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == ["body" if body is None else "nonsense"]
    for place in [place for place, value in places(body) if isinstance(value, dict) and place]:
        deep = await town.ask(name, json=replaced(body, place, {**value_at(body, place), "nonsense": 1}))
        row_by_row = name in ("post_positions", "post_friendships")  # each row of these is judged by itself
        assert deep.status_code == (200 if row_by_row else 422), deep.text
        assert "nonsense" in deep.text or name == "post_friendships"
        if row_by_row:
            assert deep.json().get("rejected") or deep.json().get("skipped")


# --- hostile input ---

HOSTILE_IDS = [
    "x" * 129,
    "x" * 4000,
    "%00",
    "a%00b",
    "a%2Fb",
    "%2F",
    "%2E%2E%2Fx",
    "%F0%9F%98%80",
    "%FF%FE",
    "%0D%0AX: y",
    "a%20b",
    "-",
    "{x}",
    "%7Bs00%7D:feed",
    "'",
    "*",
    "%25",
    "%D9%A3",
]
HOSTILE_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    -0.0,
    1e308,
    2**63,
    2**64,
    10**400,
    "",
    " ",
    "x" * 5000,
    "\x00",
    "\ud83d\ude00",
    "\u202e\u0000",
    "9999-12-31T23:59:59.999999999Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "NaN",
    [],
    [[]],
    [None],
    {},
    {"a": {"b": {}}},
    [1] * 200,
]
HOSTILE_BODIES = [
    b"",
    b" ",
    b"null",
    b"0",
    b'""',
    b"[]",
    b"[{}]",
    b"{}",
    b"[" * 40 + b"]" * 40,
    b"[" * 7000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b'{"lat": 1e999}',
    b'{"lat": -1e-999}',
    b'{"lat": ' + b"9" * 5000 + b"}",
    b'{"a": "\\ud800"}',
    b'{"\\u0000": 1}',
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b'{"__proto__": {}, "constructor": 1}',
    '{"😀": 1}'.encode(),
]
HOSTILE_QUERY = [
    "",
    "-1",
    "0",
    "1e5",
    "99999999999999999999999",
    "nan",
    "inf",
    "1_000",
    "%00",
    "%FF",
    "%F0%9F%98%80",
    "%D9%A3",
    "x" * 3000,
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00%2B23:59",
    "true",
    "[]",
    ";;;",
]


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every place inside a JSON value, the whole of it first."""
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*at, name))


def value_at(value: Any, place: tuple[str | int, ...]) -> Any:
    for name in place:
        value = value[name]
    return value


def replaced(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    if not place:
        return new
    changed = copy.deepcopy(value)
    value_at(changed, place[:-1])[place[-1]] = new
    return changed


def assert_no_fault(answer: httpx2.Response, said: object) -> None:
    assert answer.status_code < 500, (said, answer.text)
    if answer.status_code >= 400:
        assert_problem(answer)


@pytest.mark.parametrize("name", [name for name, row in ROUTES.items() if row.body is not None])
async def test_no_body_is_a_fault_of_the_service(town: Town, name: str) -> None:
    body = ROUTES[name].body
    for raw in HOSTILE_BODIES:
        answer = await town.ask(name, content=raw)
        assert_no_fault(answer, raw[:80])
        may_be_empty = {"patch_settings": [b"{}"], "put_user": [b"{}"], "put_friend": [b"", b"{}"]}.get(name, [])
        assert answer.status_code in (400, 413, 422) or raw in may_be_empty, (raw[:80], answer.status_code)
    for place, _ in places(body):
        for value in HOSTILE_VALUES:
            raw = json.dumps(replaced(body, place, value)).encode()
            assert_no_fault(await town.ask(name, content=raw), (place, repr(value)[:60]))


@pytest.mark.parametrize("name", [name for name, row in ROUTES.items() if row.who != PUBLIC or name == "problem"])
async def test_no_id_is_a_fault_of_the_service(town: Town, name: str) -> None:
    template, path = town.routes[name].path.split("/"), ROUTES[name].path.partition("?")[0].split("/")
    for position, part in enumerate(template):
        if part.startswith("{"):
            for hostile in HOSTILE_IDS:
                url = "/".join([*path[:position], hostile, *path[position + 1 :]])
                answer = await town.ask(name, url=url)
                assert_no_fault(answer, hostile)
                assert answer.status_code in (401, 404, 405, 422), (hostile, answer.status_code)


@pytest.mark.parametrize("name", ROUTES)
async def test_no_query_and_no_header_is_a_fault_of_the_service(town: Town, name: str) -> None:
    path, _, query = ROUTES[name].path.partition("?")
    valid = dict(part.split("=", 1) for part in query.split("&")) if query else {}
    for parameter in known_query(town.routes[name]):
        for hostile in HOSTILE_QUERY:
            others = {other: value for other, value in valid.items() if other != parameter}
            url = path + "?" + "&".join(f"{key}={value}" for key, value in {**others, parameter: hostile}.items())
            assert_no_fault(await town.ask(name, url=url), (parameter, hostile))
    for key in ("", " ", "x" * 129, "\u00e9", "a b", "\x7f"):
        answer = await town.ask(name, headers={"Idempotency-Key": key.encode("latin-1")})
        assert_no_fault(answer, key)


@pytest.mark.parametrize("name", [name for name, row in ROUTES.items() if row.who != PUBLIC])
async def test_no_credential_is_a_fault_of_the_service(town: Town, name: str) -> None:
    for value in (b"Bearer", b"Bearer ", b"Basic x", b"Bearer \xff\xfe", b"Bearer " + b"a" * 5000, b"bearer a.b.c"):
        answer = await town.ask(name, "none", headers={"Authorization": value})
        assert answer.status_code in (401, 403), (value[:20], answer.status_code)
    for value in (b"\xff", b"nh_sk_", b"nh_pk_x", b"nh_op_x", b"nh_sk_" + b"\xe9" * 40, b"y" * 5000):
        answer = await town.ask(name, "none", headers={"X-API-Key": value})
        assert answer.status_code in (401, 403), (value[:20], answer.status_code)
