"""No exact point of a person is left anywhere: planted ones are sent by every route that takes a point, well and badly.

Then the data directory with the append-only file, the logs at DEBUG, the metrics and every refusal are searched for
each form of each of them; and once more after both workers were made to crash while they had such a point in hand. The
service writes no traces, which is checked too: nothing keeps the headers by which traces travel, and of an exception
only its class and the places it passed are written.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import random
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import h3
import pytest

from api.dependencies import rfc3339
from discovery.store.client import State
from geo.datums import bd09_to_wgs84, gcj02_to_wgs84
from tests.canary import Canary, geo_score, geohash, leaks, plant, read_all
from tests.faults.subject import stopped
from tests.privacy.asgi import Ask, Asker
from tests.privacy.test_mutations import debug_log
from tests.service import Connection, Service, serving, wait_until_gone
from tests.world import World

STATED = "in a bottle"  # the one canary that a person wrote down as text: it must be found
PRECISE = "shown precisely"  # to one friend: its cell of resolution 11 may stand in the feed, nothing finer
CRASHED = "in hand at a crash"
_MANY = 400_000
_BACK_S = 30.0


class Sent(NamedTuple):
    """One request around a canary; ``says``: the status it must be answered with. ``who`` "fresh" has no other place:
    no speed is measured."""

    method: str
    path: str
    body: Any
    says: int
    who: str = "fresh"


Make = Callable[[float, float], Sent]

GOOD: dict[str, Make] = {
    "position": lambda lat, lon: Sent(
        "PUT", "/v1/me/position", {"lat": lat, "lon": lon, "accuracy_m": 12.5}, 200, "me"
    ),
    "position in gcj02": lambda lat, lon: Sent(
        "PUT", "/v1/me/position", {"lat": lat, "lon": lon, "coord_type": "gcj02"}, 200
    ),
    "position in bd09": lambda lat, lon: Sent(
        "PUT", "/v1/me/position", {"lat": lat, "lon": lon, "coord_type": "bd09"}, 200
    ),
    "shake nearby": lambda lat, lon: Sent("POST", "/v1/shakes", {"lat": lat, "lon": lon}, 201),
    "shake anywhere": lambda lat, lon: Sent("POST", "/v1/shakes", {"lat": lat, "lon": lon, "reach": "anywhere"}, 201),
    "position by the app": lambda lat, lon: Sent(
        "POST", "/v1/app/positions", {"positions": [{"user": "app-user", "lat": lat, "lon": lon}]}, 200, "operator"
    ),
    PRECISE: lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": lat, "lon": lon}, 200, "sharer"),
    "row that is too fast": lambda lat, lon: Sent(
        "POST", "/v1/app/positions", {"positions": [{"user": "jumper", "lat": lat, "lon": lon}]}, 200, "operator"
    ),
    "search": lambda lat, lon: Sent(
        "POST", "/v1/brands/shop/stores/nearest", {"lat": lat, "lon": lon}, 200, "operator"
    ),
    "search by GET": lambda lat, lon: Sent(
        "GET", f"/v1/brands/shop/stores/nearest?lat={lat}&lon={lon}", None, 200, "operator"
    ),
}
"""Requests that are answered."""

BAD: dict[str, Make] = {
    "unknown field": lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": lat, "lon": lon, "alt": lat}, 422),
    "numbers as text": lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": str(lat), "lon": str(lon)}, 422),
    "swapped": lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": lon, "lon": lat}, 422),
    "too inaccurate": lambda lat, lon: Sent(
        "PUT", "/v1/me/position", {"lat": lat, "lon": lon, "accuracy_m": 5000}, 422
    ),
    "no JSON": lambda lat, lon: Sent("PUT", "/v1/me/position", b'{"lat": %r, "lon": %r,}' % (lat, lon), 400),
    "a key twice": lambda lat, lon: Sent(
        "PUT", "/v1/me/position", b'{"lat": %r, "lat": %r, "lon": %r}' % (lat, lat, lon), 400
    ),
    "a point as key": lambda lat, lon: Sent("PUT", "/v1/me/position", {f"{lat},{lon}": 1}, 422),
    "a pair": lambda lat, lon: Sent("PUT", "/v1/me/position", [lat, lon], 422),
    "no token": lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": lat, "lon": lon}, 401, "nobody"),
    "wrong method": lambda lat, lon: Sent("POST", "/v1/me/position", {"lat": lat, "lon": lon}, 405),
    "too large": lambda lat, lon: Sent(
        "PUT", "/v1/me/position", b'{"lat": %r, "lon": %r%s}' % (lat, lon, b" " * _MANY), 413
    ),
    "position by GET": lambda lat, lon: Sent("GET", f"/v1/me/position?lat={lat}&lon={lon}", None, 422),
    "nearby with a point": lambda lat, lon: Sent("GET", f"/v1/nearby?lat={lat}&lon={lon}", None, 422),
    "radar with a point": lambda lat, lon: Sent("GET", f"/v1/radar?radius_m={lat}&{lon}=1", None, 422),
    "point in the path": lambda lat, lon: Sent("GET", f"/v1/nearby/{lat},{lon}", None, 404),
    "point in an id": lambda lat, lon: Sent("GET", f"/v1/shakes/{lat},{lon}", None, 422),
    "shake without key": lambda lat, lon: Sent("POST", "/v1/shakes", {"lat": lat, "lon": lon}, 400, "keyless"),
    "shake of a minor": lambda lat, lon: Sent("POST", "/v1/shakes", {"lat": lat, "lon": lon}, 403, "minor"),
    "shake too far": lambda lat, lon: Sent("POST", "/v1/shakes", {"lat": lat, "lon": lon, "limit": lon}, 422),
    "rows by the app": lambda lat, lon: Sent(
        *("POST", "/v1/app/positions"),
        {"positions": [{"user": "u", "lat": lon, "lon": lat}, {"user": "u", "lat": str(lat), "lon": lon}, [lat, lon]]},
        200,
        "operator",
    ),
    "app without rows": lambda lat, lon: Sent(
        "POST", "/v1/app/positions", {"positions": {"lat": lat, "lon": lon}}, 422, "operator"
    ),
    "search with a fault": lambda lat, lon: Sent(
        "POST", "/v1/brands/shop/stores/nearest", {"lat": lat, "lon": lon, "limit": lat}, 422, "operator"
    ),
    "search by GET with a fault": lambda lat, lon: Sent(
        "GET", f"/v1/brands/shop/stores/nearest?lat={lat}&lon={lon}&at={lat},{lon}", None, 422, "operator"
    ),
    "search by GET with axes swapped": lambda lat, lon: Sent(
        "GET", f"/v1/brands/shop/stores/nearest?lat={lon}&lon={lat}", None, 422, "operator"
    ),
    "too fast": lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": lat, "lon": lon}, 409, "jumper"),
    "shake too fast": lambda lat, lon: Sent("POST", "/v1/shakes", {"lat": lat, "lon": lon}, 409, "jumper"),
    "quiet zone too fine": lambda lat, lon: Sent(
        "PATCH", "/v1/me/settings", {"quiet_zones": [h3.latlng_to_cell(lat, lon, 15)]}, 422
    ),
    "quiet zone as a point": lambda lat, lon: Sent(
        "PATCH", "/v1/me/settings", {"quiet_zones": [{"lat": lat, "lon": lon}]}, 422
    ),
    "friend with a point": lambda lat, lon: Sent(
        "PUT", "/v1/me/friends/bob", {"precision": "precise", "until": [lat, lon]}, 422
    ),
    "report of a point": lambda lat, lon: Sent(
        "POST", "/v1/reports", {"target": {"type": "user", "id": f"{lat},{lon}"}, "reason": "spam", "lat": lat}, 422
    ),
    "appeal with a point": lambda lat, lon: Sent("POST", "/v1/me/appeal", {"text": {"lat": lat, "lon": lon}}, 422),
    "mute of a point": lambda lat, lon: Sent("PUT", f"/v1/me/mutes/{lat},{lon}", None, 422),
    "block of a point": lambda lat, lon: Sent("PUT", f"/v1/me/blocks/{lat},{lon}", None, 422),
    "export with a point": lambda lat, lon: Sent("GET", f"/v1/me/export?lat={lat}&lon={lon}", None, 422),
    "erasure with a point": lambda lat, lon: Sent("DELETE", f"/v1/me?confirm={lat},{lon}", None, 422),
    "consent with a point": lambda lat, lon: Sent(
        "PUT", "/v1/app/users/somebody", {"consent": {"version": lat, "at": f"{lon}"}}, 422, "operator"
    ),
    "search of no brand": lambda lat, lon: Sent(
        "GET", f"/v1/brands/none/stores/nearest?lat={lat}&lon={lon}", None, 404, "operator"
    ),
}
"""Requests that are refused: no answer may repeat the point."""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Where cores, temporary files and the words of a crash would be written, they are searched too."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with serving(tmp_path, epoch_s="1", log_level="debug", speed_limit="on") as running:
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


async def test_no_exact_point_is_left_anywhere(service: Service, tmp_path: Path, seed: int) -> None:
    draws = random.Random(seed)
    canaries = {name: plant(draws, name) for name in [*GOOD, *BAD, "no HTTP", STATED, CRASHED]}
    canaries[PRECISE] = canaries[PRECISE]._replace(also_kept=11)
    async with service.by_worker() as groups:
        workers = [group[0] for group in groups]
        await _prepare(service, workers[0], canaries[STATED])
        for name, make in [*GOOD.items(), *BAD.items()]:
            await _send(service, draws.choice(workers), make(canaries[name].lat, canaries[name].lon), canaries[name])
        await _send_garbage(service, canaries["no HTTP"])
        await _look_precisely(service, workers[0], canaries[PRECISE])
        await asyncio.sleep(3.2)  # a stranger edge: everything is published, gauges are set, status rows are written
        running = read_all(tmp_path) | await _served(service, workers)
    await _crash(service, canaries[CRASHED])
    crashed = {f"{name} (crashed)": content for name, content in read_all(tmp_path).items()}
    assert await asyncio.to_thread(service.interrupt) == 0
    everything = running | crashed | {f"{name} (ended)": content for name, content in read_all(tmp_path).items()}
    _check_it_was_searched(everything, canaries)
    sought = [*canaries.values(), *_converted(canaries)]
    assert leaks([canary for canary in sought if canary.name != STATED], everything) == []
    assert [name for name in everything if Path(name).name.startswith("core")] == []


async def _prepare(service: Service, worker: Connection, stated: Canary) -> None:
    """A brand to search, a person visible to all, and as control a point that somebody writes into a bottle."""
    stores = b"store_id,name,lat,lon\na,Near,1.5,2.5\n"
    (await worker.ask("PUT", "/v1/brands/shop", {"name": "A shop"}, service.operator)).ok()
    csv = service.operator | {"Content-Type": "text/csv"}
    (await worker.ask("PUT", "/v1/brands/shop/stores", stores, csv)).ok()
    me = service.person("me") | {"Idempotency-Key": "throw"}
    (await worker.ask("PATCH", "/v1/me/settings", {"visibility": "everyone", "bottles": "on"}, me)).ok()
    (await worker.ask("POST", "/v1/bottles", {"text": f"I am at {stated.lat}, {stated.lon}"}, me)).ok(201)
    for lat in (-10.0, -40.0):  # the free jump of a day
        (await worker.ask("PUT", "/v1/me/position", {"lat": lat, "lon": 2.5}, service.person("jumper"))).ok()
    share = {"precision": "precise", "until": rfc3339(time.time_ns() // 1_000_000 + 3_600_000)}
    (await worker.ask("PATCH", "/v1/me/settings", {"visibility": "friends"}, service.person("sharer"))).ok()
    (await worker.ask("PUT", "/v1/me/friends/sharer", None, service.person("me"))).ok()
    for body in (None, share):
        (await worker.ask("PUT", "/v1/me/friends/me", body, service.person("sharer"))).ok()


async def _look_precisely(service: Service, worker: Connection, canary: Canary) -> None:
    """The friend who may see the cell of resolution 11 sees that, and no more of the point: positive control."""
    sharer, me = service.person("sharer"), service.person("me")
    position = (await worker.ask("GET", "/v1/me/position", headers=sharer)).ok()
    assert position["finest"]["cell"] == h3.latlng_to_cell(canary.lat, canary.lon, 11)
    mine = (await worker.ask("GET", "/v1/me/friends", headers=me)).ok()["friends"]
    assert [row["shows_me"] for row in mine] == ["precise"]


async def _crash(service: Service, canary: Canary) -> None:
    """Both workers die of a fault, each while it waits for the state with the point in hand; others follow them."""
    pids = service.worker_pids()
    if sys.platform == "linux":
        assert [resource.prlimit(pid, resource.RLIMIT_CORE)[0] for pid in pids] == [0, 0]
    async with service.by_worker() as groups:
        with stopped([service.server_pid]):
            body, person = {"lat": canary.lat, "lon": canary.lon}, service.person("crasher")
            asked = [asyncio.create_task(group[0].ask("PUT", "/v1/me/position", body, person)) for group in groups]
            await asyncio.sleep(0.3)
            assert not any(task.done() for task in asked)
            for pid, fault in zip(pids, (signal.SIGABRT, signal.SIGSEGV), strict=True):
                os.kill(pid, fault)
                await asyncio.to_thread(wait_until_gone, [pid], _BACK_S)  # or both write into one another's words
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, OSError) for answer in answers), answers
    await asyncio.to_thread(_wait_until_back, service, pids)


def _wait_until_back(service: Service, dead: list[int]) -> None:
    ends_s = time.monotonic() + _BACK_S
    while True:
        assert time.monotonic() < ends_s, service.log_end()
        now = set(service.worker_pids())
        with contextlib.suppress(OSError, ValueError, IndexError):
            looks = 4 if len(now) == len(dead) and not now & set(dead) else 0
            if looks and all(service.get("/readyz").status == 200 for _ in range(looks)):
                return
        time.sleep(0.05)


async def _send(service: Service, worker: Connection, sent: Sent, canary: Canary) -> None:
    slug = canary.name.replace(" ", "-")
    key = {"Idempotency-Key": slug}
    headers = {
        "fresh": service.person(slug) | key,
        "me": service.person("me") | key,
        "sharer": service.person("sharer"),
        "jumper": service.person("jumper") | key,
        "keyless": service.person("me"),
        "minor": service.person("tim", "minor") | key,
        "operator": service.operator,
        "nobody": {},
    }[sent.who] | _traced(canary)
    if sent.says == 413:  # the service closes that connection
        async with service.connections(1) as (worker,):
            answer = await worker.ask(sent.method, sent.path, sent.body, headers)
    else:
        answer = await worker.ask(sent.method, sent.path, sent.body, headers)
    assert answer.status == sent.says, (canary.name, answer.status, answer.body)
    echoed = answer.body + json.dumps(answer.headers).encode()
    assert canary.found_in(echoed) == [], (canary.name, answer.body)


def _traced(canary: Canary) -> dict[str, str]:
    """As a client whose own tracer takes the point along."""
    point = f"lat={canary.lat},lon={canary.lon}"
    return {"Traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "Tracestate": f"app={point}", "Baggage": point}


async def _send_garbage(service: Service, canary: Canary) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"GIMME /v1/nearby?at={canary.lat},{canary.lon} {canary.lat}\r\n\r\n".encode())
    assert canary.found_in(await reader.read()) == []
    writer.close()


async def _served(service: Service, workers: list[Connection]) -> dict[str, bytes]:
    """What the service tells of itself, and the whole of what its people are shown."""
    metrics = await asyncio.to_thread(service.get, "/metrics", service.operator, admin=True)
    assert b"nearhive_requests_total" in metrics.body
    found = {"/metrics": metrics.body, "/v1/app/status": json.dumps(await asyncio.to_thread(service.status)).encode()}
    for path in ("/v1/me/position", "/v1/nearby", "/v1/radar", "/v1/me/friends", "/v1/me/export", "/v1/privacy"):
        answer = await workers[0].ask("GET", path, headers=service.person("me"))
        found[path] = answer.body
    for user in ("jumper", "sharer"):
        found[f"export of {user}"] = (await workers[1].ask("GET", "/v1/me/export", headers=service.person(user))).body
    return found


def _check_it_was_searched(everything: dict[str, bytes], canaries: dict[str, Canary]) -> None:
    """What is kept is found: the stated text, the cells of resolution 8, a log line of each route."""
    stored = b"".join(content for name, content in everything.items() if "appendonlydir" in name)
    assert {"lat decimals", "lon decimals"} <= set(canaries[STATED].found_in(stored))
    for name in ("position", "position by the app", "shake nearby"):
        kept = h3.latlng_to_cell(canaries[name].lat, canaries[name].lon, 8)
        assert struct.pack("<Q", int(kept, 16)) in stored, name
    assert str(int(h3.latlng_to_cell(*canaries[PRECISE][1:3], 11), 16)).encode() in stored
    assert any(name.startswith("tmp/") for name in everything), "the metrics of the workers"
    for fault in (b"Fatal Python error: Aborted", b"Fatal Python error: Segmentation fault"):
        assert fault in everything["service.log (crashed)"]
    log = everything["service.log"]
    for route in (b"/v1/me/position", b"/v1/shakes", b"/v1/app/positions", b"/v1/brands/{brand}/stores/nearest"):
        assert b'"route":"%b"' % route in log
    assert b"Traceback" not in log


def _converted(canaries: dict[str, Canary]) -> list[Canary]:
    """What became of points in the shifted coordinates of Chinese maps."""
    return [
        Canary("from gcj02", *gcj02_to_wgs84(*canaries["position in gcj02"][1:3])),
        Canary("from bd09", *bd09_to_wgs84(*canaries["position in bd09"][1:3])),
    ]


# --- what stands for traces ---


async def test_an_exception_with_the_point_in_hand_tells_only_where_it_passed(world: World, seed: int) -> None:
    canary = plant(random.Random(seed), "in an exception")
    point = {"lat": canary.lat, "lon": canary.lon}

    async def fails(*_args: Any) -> None:
        raise ValueError(f"no way with {canary.lat}, {canary.lon}")

    cast(Any, world.hive.positions).report = cast(Any, world.hive.shakes).shake = fails
    ask = Asker(world)
    with debug_log() as written:
        answers = [
            await ask(Ask("me", "PUT", "/v1/me/position", point)),
            await ask(Ask("me", "POST", "/v1/shakes", point, key="shake")),
        ]
    assert [answer.status for answer in answers] == [500, 500]
    log = written.getvalue()
    assert log.count("builtins.ValueError") == 2
    assert log.count("in fails") == 2
    assert leaks([canary], {"log": log.encode()} | {f"answer {n}": one.body for n, one in enumerate(answers)}) == []


def test_there_is_no_tracer() -> None:
    """Whoever adds one must search what it writes, too."""
    needed = " ".join(importlib.metadata.requires("nearhive") or []).lower()
    assert "uvicorn" in needed
    for tracer in ("opentelemetry", "ddtrace", "sentry", "jaeger", "zipkin", "elastic-apm", "newrelic", "logfire"):
        assert tracer not in needed


# --- the search itself ---


def _written(canary: Canary) -> dict[str, bytes]:
    cell = h3.latlng_to_cell(canary.lat, canary.lon, 12)
    return {
        "JSON": json.dumps({"lat": canary.lat, "lon": canary.lon}).encode(),
        "five decimals": f"{canary.lat:.5f} {canary.lon:.5f}".encode(),
        "cut decimals": f"at {canary.lat:.7f}"[:-2].encode(),
        "radians": repr(canary.lon * 3.141592653589793 / 180).encode(),
        "doubles": struct.pack("<dd", canary.lat, canary.lon),
        "a double, network order": struct.pack(">d", canary.lon),
        "floats": struct.pack("<ff", canary.lon, canary.lat),
        "fixed point": struct.pack(">ii", round(canary.lat * 1e7), round(canary.lon * 1e7)),
        "fixed point text": f"{round(canary.lat * 1e7)}".encode(),
        "microdegrees": f"{int(canary.lat * 1e6)},{int(canary.lon * 1e6)}".encode(),
        "geohash": geohash(canary.lat, canary.lon).encode(),
        "Redis score": f"{geo_score(canary.lat, canary.lon)}".encode(),
        "Redis score as a double": struct.pack("<d", geo_score(canary.lat, canary.lon)),
        "cell of resolution 15": h3.latlng_to_cell(canary.lat, canary.lon, 15).encode(),
        "cell of resolution 15 as number": str(int(h3.latlng_to_cell(canary.lat, canary.lon, 15), 16)).encode(),
        "cell": cell.encode(),
        "cell as number": struct.pack("<Q", int(cell, 16)),
        "finer than kept": h3.latlng_to_cell(canary.lat, canary.lon, 9).encode(),
        "parent of a finer one": h3.cell_to_parent(h3.latlng_to_cell(canary.lat, canary.lon, 15), 9).encode(),
    }


@pytest.mark.parametrize("form", _written(Canary("any", 61.5, 101.5)))
def test_the_search_finds_each_form(form: str, seed: int) -> None:
    draws = random.Random(seed)
    canary, other = plant(draws, "planted"), plant(draws, "other")
    content = draws.randbytes(50_000) + _written(canary)[form] + draws.randbytes(50_000)
    assert canary.found_in(content), form
    assert leaks([other], {"noise": content}) == []


def test_the_search_lets_the_kept_cells_be() -> None:
    canary = Canary("planted", 61.1234567, 101.1234567)
    for resolution in (5, 7, 8):
        cell = h3.latlng_to_cell(canary.lat, canary.lon, resolution)
        assert canary.found_in(cell.encode() + struct.pack("<Q", int(cell, 16))) == []


def test_the_search_lets_the_shared_cell_be_and_nothing_finer() -> None:
    canary = Canary("planted", 61.1234567, 101.1234567, also_kept=11)
    cells = {resolution: h3.latlng_to_cell(canary.lat, canary.lon, resolution) for resolution in (8, 11, 12, 15)}
    assert [resolution for resolution, cell in cells.items() if canary.found_in(cell.encode())] == [12, 15]


async def test_the_score_is_that_of_the_server(state: State, seed: int) -> None:
    for canary in (plant(random.Random(seed + number), "any") for number in range(20)):
        await state.call("GEOADD", "places", str(canary.lon), str(canary.lat), canary.name)
        assert int(await state.call("ZSCORE", "places", canary.name)) == geo_score(canary.lat, canary.lon)


def test_geohash_is_the_known_one() -> None:
    """The example of the scheme's own page."""
    assert geohash(57.64911, 10.40744) == "u4pruyd"
