"""Every refusal is a documented problem; nothing that was sent comes back; nothing unforeseen escapes."""

import asyncio
import logging
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from pydantic import field_validator
from starlette.responses import Response, StreamingResponse

from api import errors as http_errors
from api.dependencies import IdPath, Lat, Lon, Model, answer
from api.errors import refused_response
from api.problem_table import PROBLEMS
from api.strict_json import StrictRoute
from discovery import errors as rules

from .skeleton import app_with, client

SECRET_LAT = 48.8566131
router = APIRouter(route_class=StrictRoute)


class Place(Model):
    lat: Lat
    lon: Lon
    kind: str = ""

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("must be a known kind")
        return value


@router.put("/v1/things/{thing}")
async def put_thing(thing: IdPath, place: Place) -> Response:
    return answer({"thing": thing, "kind": place.kind})


@router.delete("/v1/things/{thing}")
async def delete_thing(thing: IdPath) -> Response:
    raise rules.NotFound("No such thing.")


@router.post("/v1/fault")
async def fault(place: Place) -> Response:
    raise ZeroDivisionError(f"lost at {place.lat}")


@router.get("/v1/broken-off")
async def broken_off() -> Response:
    async def body() -> Any:
        yield b"first"
        raise ZeroDivisionError(f"lost at {SECRET_LAT}")

    return StreamingResponse(body())


@router.get("/v1/away")
async def away(outcome_unknown: bool = False) -> Response:
    raise rules.StateAway(outcome_unknown=outcome_unknown)


def _add(app: FastAPI) -> None:
    app.router.routes.extend(router.routes)


APP = app_with(_add)


def _subclasses(cls: type[rules.Refused]) -> list[type[rules.Refused]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found += _subclasses(sub)
    return found


def test_every_refusal_has_its_row() -> None:
    declared = [cls for cls in _subclasses(rules.Refused)[1:] if cls.__module__.startswith(("api.", "discovery."))]
    assert {rules.StateAway, http_errors.BadJson} < set(declared)
    assert {cls.code for cls in declared} | {"outcome_unknown"} <= PROBLEMS.keys()


def test_every_row_is_whole() -> None:
    for code, row in PROBLEMS.items():
        assert row.code == code
        assert row.status in (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 503)
        assert all((row.title, row.meaning, row.remedy))
        assert (row.retry_after_s is not None) >= (row.status in (429, 503))


async def test_every_problem_is_documented() -> None:
    async with client(APP) as one:
        index = (await one.get("/problems")).text
        listed = (await one.get("/problems", headers={"Accept": "application/json"})).json()["problems"]
        assert [row["code"] for row in listed] == list(PROBLEMS)
        for row in PROBLEMS.values():
            assert f'href="/problems/{row.code}"' in index
            page = await one.get(f"/problems/{row.code}", headers={"Accept": "text/html,application/xml"})
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert f"Status {row.status}" in page.text
            described = await one.get(f"/problems/{row.code}", headers={"Accept": "application/problem+json"})
            assert described.json()["meaning"] == row.meaning
        assert (await one.get("/problems/none")).status_code == 404


@pytest.mark.parametrize(
    ("error", "status", "headers", "members"),
    [
        (rules.QuotaExceeded("used up", 1_800_000_000_000, 77), 429, {"Retry-After": "77"}, "resets_at"),
        (rules.QuotaExceeded("used up", 1_800_000_000_000, 0), 429, {"Retry-After": "1"}, "resets_at"),
        (rules.StateAway(), 503, {"Retry-After": "1"}, ""),
        (rules.StateAway(outcome_unknown=True), 503, {"Retry-After": "1"}, ""),
        (rules.StillRunning("wait"), 409, {"Retry-After": "1"}, ""),
        (rules.ImportRefused("bad rows", [{"row": 2}], [{"row": 3}]), 422, {}, "rejected"),
        (rules.Invalid("too many", "limit"), 422, {}, "errors"),
    ],
)
def test_refusals_with_more_to_say(error: rules.Refused, status: int, headers: dict[str, str], members: str) -> None:
    response = refused_response(error)
    assert response.status_code == status
    assert {name: response.headers.get(name) for name in headers} == headers
    assert members.encode() in bytes(response.body)


async def test_shape_of_a_problem() -> None:
    async with client(APP) as one:
        response = await one.put("/v1/things/a", json={"lat": 91, "lon": "x", "kind": "bad", "more": 1})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "/problems/invalid",
        "title": "Not valid",
        "status": 422,
        "detail": PROBLEMS["invalid"].meaning,
        "code": "invalid",
        "errors": [
            {"field": "lat", "message": "Input should be less than or equal to 90"},
            {"field": "lon", "message": "Input should be a valid number"},
            {"field": "kind", "message": "must be a known kind"},
            {"field": "more", "message": "Extra inputs are not permitted"},
        ],
    }


@pytest.mark.parametrize(
    "body",
    [
        {"lat": str(SECRET_LAT), "lon": 1},
        {"lat": [SECRET_LAT], "lon": 1},
        {"lat": SECRET_LAT * 10, "lon": SECRET_LAT},
        {"lat": SECRET_LAT, "lon": 1, "kind": {"x": SECRET_LAT}},
        {"lat": SECRET_LAT, "lon": 1, str(SECRET_LAT): 1},
        [SECRET_LAT],
    ],
)
async def test_no_value_is_echoed(body: Any) -> None:
    async with client(APP) as one:
        for path in ("/v1/things/a", f"/v1/things/a?at={SECRET_LAT}", f"/v1/things/a?{SECRET_LAT}"):
            response = await one.put(path, json=body)
            assert response.status_code == 422
            assert "8566" not in response.text


async def test_unknown_path_and_method() -> None:
    async with client(APP) as one:
        for path in ("/nowhere", "/v1/things", "/v1/things/", "/v1/things/a/", "/healthz/", "/docs/assets/none.js"):
            response = await one.get(path)
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
        for method in ("GET", "POST", "PATCH", "OPTIONS", "BREW"):
            response = await one.request(method, "/v1/things/a")
            assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
            assert response.headers["allow"] == "DELETE, PUT"
        assert (await one.delete("/v1/things/%20")).status_code == 422


async def test_a_fault_is_answered_without_detail_and_logged_without_values(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with client(APP) as one:
        with structlog.testing.capture_logs() as lines, caplog.at_level(logging.DEBUG):
            response = await one.post("/v1/fault", json={"lat": SECRET_LAT, "lon": 1})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.json()["detail"] == PROBLEMS["internal"].meaning
    failure = next(line for line in lines if line["event"] == "failure")
    assert failure["request_id"] == response.headers["x-request-id"]
    assert "8566" not in response.text + caplog.text + capsys.readouterr().err


async def test_a_broken_answer_is_not_completed() -> None:
    """The answer has begun when the fault comes: the connection breaks off, without the fault's message."""
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v1/broken-off", "query_string": b"", "headers": []}
    with pytest.raises(RuntimeError, match="broke off") as raised:
        await APP({**scope, "raw_path": b"", "scheme": "http", "root_path": ""}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert raised.value.__suppress_context__


async def test_state_away_is_503_and_counted() -> None:
    async with client(APP) as one:
        response = await one.get("/v1/away?outcome_unknown=true")
    assert (response.status_code, response.json()["code"]) == (503, "outcome_unknown")
    assert response.headers["retry-after"] == "1"
    assert b"nearhive_state_errors_total 1.0" in APP.state.metrics.render()


@pytest.mark.parametrize("where", ["orjson.loads", "json.JSONDecoder.decode", "api.strict_json._ReadRequest.json"])
async def test_a_worker_short_of_memory_does_not_call_the_body_bad(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    async with client(app_with(lambda app: app.include_router(router))) as http:
        monkeypatch.setattr(where, fails)
        answer = await http.put(
            "/v1/things/a", content=b'{"lat": 1, "at": ":"}', headers={"content-type": "application/json"}
        )
        monkeypatch.undo()
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


async def test_no_memory_for_a_thread_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    async with client(app_with(lambda app: app.include_router(router))) as http:
        monkeypatch.setattr("api.strict_json._PARSED_AT_ONCE", 4)
        monkeypatch.setattr("asyncio.to_thread", fails)
        answer = await http.put("/v1/things/a", content=b'{"lat": 1}', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
