"""Liveness, readiness, pages, headers, metrics and the log line."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from api import logs
from api.main import create_admin_app, create_app
from api.metrics import AtWork, Metrics, two_digits
from api.openapi import contexts
from api.routes import ROUTERS

from .skeleton import ADMIN_KEY, NOW_S, ReadyHive, app_with, bearer, client, settings

APP = app_with()


async def test_healthz_and_readyz() -> None:
    hive = ReadyHive()
    async with client(create_app(hive, settings(), lambda: NOW_S)) as one:
        assert (await one.get("/healthz")).json() == {"status": "ok"}
        assert (await one.get("/readyz")).json() == {"status": "ok", "lag_s": 0.0}
        hive.state, hive.lag = (False, "reading the feed"), 2.7
        response = await one.get("/readyz")
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert (response.json()["detail"], response.json()["lag_s"]) == ("reading the feed", 2.5)
        assert response.headers["retry-after"] == "1"
        assert (await one.get("/healthz")).status_code == 200
        hive.lag = float("inf")  # nothing has been folded yet
        assert "lag_s" not in (await one.get("/readyz")).json()


async def test_readyz_shows_weak_durability() -> None:
    async with client(app_with(durability="weak")) as one:
        assert (await one.get("/readyz")).json() == {"status": "ok", "durability": "weak", "lag_s": 0.0}


@pytest.mark.parametrize("page", ["/", "/docs", "/problems", "/problems/invalid"])
async def test_pages_load_nothing_from_elsewhere(page: str) -> None:
    async with client(APP) as one:
        response = await one.get(page)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")
        assert not re.search(r"""["'(]\s*(?:https?:)?//""", response.text)
        links = re.findall(r"""(?:href|src)=["']([^"']+)["']|url: '([^']+)'""", response.text)
        assert links
        for link in {left or right for left, right in links}:
            assert link.startswith("/")
            assert (await one.get(link)).status_code == 200, link


async def test_openapi_is_complete() -> None:
    async with client(APP) as one:
        schema = (await one.get("/openapi.json")).json()
    assert schema["info"]["title"] == "Nearhive"
    assert schema["info"]["version"]
    assert "HTTPValidationError" not in json.dumps(schema)
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]
    assert schema["paths"]["/readyz"]["get"]["responses"]["503"]


def test_operations_have_names_of_their_own() -> None:
    found = [(context.name, context.path_format, context.methods) for context in contexts(APP)]
    assert len({name for name, _, _ in found}) == len(found)
    assert len(ROUTERS) >= 1


async def test_request_ids_are_echoed_or_made() -> None:
    async with client(APP) as one:
        assert (await one.get("/healthz", headers={"X-Request-Id": "a.b-c_1"})).headers["x-request-id"] == "a.b-c_1"
        for bad in ("", "a b", "x" * 65, "<script>", "é"):
            made = (await one.get("/healthz", headers=[(b"X-Request-Id", bad.encode())])).headers["x-request-id"]
            assert re.fullmatch("[0-9a-f]{16}", made)


async def test_headers() -> None:
    async with client(APP) as one:
        for path in ("/", "/healthz", "/nowhere", "/docs", "/docs/assets/swagger-ui.css"):
            assert (await one.get(path)).headers["x-content-type-options"] == "nosniff"
        for path in ("/v1/me/position", "/v1/nearby", "/v1/radar", "/v1/shakes", "/v1/bottles", "/v1/app/positions"):
            assert (await one.get(path)).headers["cache-control"] == "no-store"


async def test_headers_end_at_16_kb() -> None:
    async with client(APP) as one:
        assert (await one.get("/healthz", headers={"X-Long": "x" * 15_000})).status_code == 200
        response = await one.get("/healthz", headers={"X-Long": "x" * 17_000})
        assert (response.status_code, response.json()["code"]) == (431, "headers_too_large")
        assert response.headers["x-request-id"]


async def test_bodies_end_at_4_mb_whatever_the_route() -> None:
    async with client(APP) as one:
        headers = {"Content-Length": str(5 * 1024 * 1024)}
        response = await one.post("/nowhere", headers=headers, content=b"x")
        assert (response.status_code, response.json()["code"]) == (413, "too_large")
        stores = await one.put("/v1/brands/acme/stores", headers=headers, content=b"x")
        assert stores.status_code != 413


async def test_the_log_line_holds_no_path_query_or_header() -> None:
    async with client(APP) as one:
        with structlog.testing.capture_logs() as lines:
            await one.get("/problems/48.85661?lat=48.85661", headers={**bearer("ann"), "X-Request-Id": "r1"})
            await one.get("/v1/48.85661")
    assert [line["event"] for line in lines] == ["request", "request"]
    assert lines[0] == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "route": "/problems/{code}",
        "status": 422,
        "duration_ms": lines[0]["duration_ms"],
        "request_id": "r1",
    }
    assert "48.85" not in str([{**line, "duration_ms": 0} for line in lines])


async def test_a_caller_who_leaves_is_no_fault() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"content-length", b"5")]
    scope = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b"", "headers": headers}
    with structlog.testing.capture_logs() as lines:
        await APP({**scope, "raw_path": b"", "scheme": "http", "root_path": ""}, receive, send)
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]


async def test_metrics_need_the_operator_and_hold_fixed_labels() -> None:
    metrics = Metrics()
    public = create_app(ReadyHive(), settings(), lambda: NOW_S, metrics)
    async with client(public) as one:
        for path in ("/healthz", "/problems/invalid", "/problems/none", "/v1/48.85661", "/openapi.json"):
            await one.get(path)
        assert (await one.get("/metrics")).status_code == 404
    metrics.at_edge(12_345, 678)
    metrics.at_work(AtWork(True, 1.74, 2, 3, 17, False))
    async with client(create_admin_app(ReadyHive(), settings(), lambda: NOW_S, metrics)) as one:
        assert (await one.get("/metrics")).status_code == 401
        assert (await one.get("/metrics", headers=bearer())).status_code == 403
        text = (await one.get("/metrics", headers={"X-API-Key": ADMIN_KEY})).text
    for line in (
        'nearhive_requests_total{operation="healthz",status="200"} 1.0',
        'nearhive_requests_total{operation="problem",status="404"} 1.0',
        'nearhive_requests_total{operation="other",status="404"} 2.0',
        'nearhive_request_seconds_count{operation="healthz"} 1.0',
        "nearhive_people 12000.0",
        "nearhive_shakes 680.0",
        "nearhive_feed_lag_seconds 1.5",
        "nearhive_workers_ready 1.0",
        "nearhive_leases_missing 2.0",
        "nearhive_streams_led 3.0",
        "nearhive_streams 17.0",
        "nearhive_read_only 0.0",
        "nearhive_moderation_queue 2.0",
        "nearhive_moderation_oldest_seconds 90.0",
    ):
        assert line in text.splitlines()
    assert "48.85" not in text


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, 0), (7, 7), (99, 99), (100, 100), (994, 990), (996, 1000), (1234, 1200), (10**9 + 1, 10**9)],
)
def test_two_digits(count: int, shown: int) -> None:
    assert two_digits(count) == shown


_FORKED = """
import os, sys
from pathlib import Path
from api import metrics
metrics.share_between_processes(Path(sys.argv[1]))
import api.main
made = metrics.Metrics()
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        made.request("healthz", 200, 0.001)
        made.at_edge(1234, 5)
        made.at_work(metrics.AtWork(number != 1, float(number), number, 1, 17, number == 2))
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print(made.render().decode())
for pid in children:
    metrics.forget_process(pid)
print("AFTER")
print(made.render().decode())
"""


def test_metrics_of_several_processes_are_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKED, str(tmp_path / "metrics")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"},
    )
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split("AFTER")
    assert 'nearhive_requests_total{operation="healthz",status="200"} 3.0' in before
    assert "nearhive_people 1200.0" in before
    lines = before.splitlines()
    shown = {"feed_lag_seconds": 2, "workers_ready": 2, "leases_missing": 3, "streams_led": 3, "streams": 17}
    for name, value in (shown | {"read_only": 1}).items():
        assert f"nearhive_{name} {float(value)}" in lines
    assert 'nearhive_requests_total{operation="healthz",status="200"} 3.0' in after
    assert "nearhive_feed_lag_seconds 2.0" not in after


_LOGGED = """
import asyncio, logging, sys, structlog
from api import logs
logs.configure("debug", sys.argv[1])
log = structlog.get_logger("api.test")
log.debug("ours", cells=3)
logging.getLogger("discovery.test").debug("ours too")
logging.getLogger("httpx2").info("GET /v1/x?lat=48.85661")
logging.getLogger("uvicorn.access").error("GET /v1/x?lat=48.85661")
logging.getLogger("other").warning("at %s with %s", 48.85661, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.abc")
try:
    raise ValueError("at 48.85661")
except ValueError as error:
    log.error("failed", exc_info=error)
    logging.getLogger("other").exception("failed too")

async def fail():
    raise ValueError("at 48.85661")

async def main():
    asyncio.get_running_loop().set_exception_handler(logs.loop_exception_handler)
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task

asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_level_writes_what_was_sent(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", _LOGGED, form], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    for shown in ("ours", "ours too", "failed", "failed too", "background_failure", "builtins.ValueError", "<string>:"):
        assert shown in done.stderr
    for hidden in ("48.85", "eyJ", "GET /"):
        assert hidden not in done.stderr
    if form == "json":
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert len(lines) == 6
        assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)


def test_configure_may_be_called_again() -> None:
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    try:
        logs.configure("info", "json")
        logs.configure("warning", "console")
        assert len(root.handlers) == 1
    finally:
        root.handlers, root.level = handlers, level
        structlog.configure(**config)
        for name in ("api", "discovery", "geo"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def test_loop_failures_without_an_exception_are_logged() -> None:
    loop = asyncio.new_event_loop()
    with structlog.testing.capture_logs() as lines:
        logs.loop_exception_handler(loop, {"message": "something closed"})
    loop.close()
    assert lines[0]["what"] == "something closed"
