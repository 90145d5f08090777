"""No exact point of a person is left anywhere: planted ones are sent by every route that takes a point, well and badly.

Then the data directory, the logs at DEBUG, the metrics and every refusal are searched for each form of each of them.
"""

import asyncio
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h3
import pytest

from geo.datums import bd09_to_wgs84, gcj02_to_wgs84
from tests.canary import Canary, geohash, leaks, plant, read_all
from tests.service import Connection, Service, serving

STATED = "in a bottle"  # the one canary that a person wrote down as text: it must be found
_MANY = 400_000


class Sent(NamedTuple):
    """One request around a canary; ``says``: the status it must be answered with."""

    method: str
    path: str
    body: Any
    says: int
    who: str = "me"


Make = Callable[[float, float], Sent]

GOOD: dict[str, Make] = {
    "position": lambda lat, lon: Sent("PUT", "/v1/me/position", {"lat": lat, "lon": lon, "accuracy_m": 12.5}, 200),
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
    "search by GET, swapped": lambda lat, lon: Sent(
        "GET", f"/v1/brands/shop/stores/nearest?lat={lon}&lon={lat}", None, 422, "operator"
    ),
    "search of no brand": lambda lat, lon: Sent(
        "GET", f"/v1/brands/none/stores/nearest?lat={lat}&lon={lon}", None, 404, "operator"
    ),
}
"""Requests that are refused: no answer may repeat the point."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, epoch_s="1", log_level="debug") as running:
        yield running


async def test_no_exact_point_is_left_anywhere(service: Service, tmp_path: Path, seed: int) -> None:
    draws = random.Random(seed)
    canaries = {name: plant(draws, name) for name in [*GOOD, *BAD, "no HTTP", STATED]}
    async with service.by_worker() as groups:
        workers = [group[0] for group in groups]
        await _prepare(service, workers[0], canaries[STATED])
        for name, make in [*GOOD.items(), *BAD.items()]:
            await _send(service, draws.choice(workers), make(canaries[name].lat, canaries[name].lon), canaries[name])
        await _send_garbage(service, canaries["no HTTP"])
        await asyncio.sleep(3.2)  # a stranger edge: everything is published, gauges are set, status rows are written
        running = read_all(tmp_path) | await _served(service, workers)
    assert await asyncio.to_thread(service.interrupt) == 0
    everything = running | {f"{name} (ended)": content for name, content in read_all(tmp_path).items()}
    _check_it_was_searched(everything, canaries)
    sought = [*canaries.values(), *_converted(canaries)]
    assert leaks([canary for canary in sought if canary.name != STATED], everything) == []


async def _prepare(service: Service, worker: Connection, stated: Canary) -> None:
    """A brand to search, a person visible to all, and as control a point that somebody writes into a bottle."""
    stores = b"store_id,name,lat,lon\na,Near,1.5,2.5\n"
    (await worker.ask("PUT", "/v1/brands/shop", {"name": "A shop"}, service.operator)).ok()
    csv = service.operator | {"Content-Type": "text/csv"}
    (await worker.ask("PUT", "/v1/brands/shop/stores", stores, csv)).ok()
    me = service.person("me") | {"Idempotency-Key": "throw"}
    (await worker.ask("PATCH", "/v1/me/settings", {"visibility": "everyone", "bottles": "on"}, me)).ok()
    (await worker.ask("POST", "/v1/bottles", {"text": f"I am at {stated.lat}, {stated.lon}"}, me)).ok(201)


async def _send(service: Service, worker: Connection, sent: Sent, canary: Canary) -> None:
    key = {"Idempotency-Key": canary.name.replace(" ", "-")}
    headers = {
        "me": service.person("me") | key,
        "keyless": service.person("me"),
        "minor": service.person("tim", "minor") | key,
        "operator": service.operator,
        "nobody": {},
    }[sent.who]
    if sent.says == 413:  # the service closes that connection
        async with service.connections(1) as (worker,):
            answer = await worker.ask(sent.method, sent.path, sent.body, headers)
    else:
        answer = await worker.ask(sent.method, sent.path, sent.body, headers)
    assert answer.status == sent.says, (canary.name, answer.status, answer.body)
    echoed = answer.body + json.dumps(answer.headers).encode()
    assert canary.found_in(echoed) == [], (canary.name, answer.body)


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
    for path in ("/v1/me/position", "/v1/nearby", "/v1/radar", "/v1/me/friends"):
        answer = await workers[0].ask("GET", path, headers=service.person("me"))
        found[path] = answer.body
    return found


def _check_it_was_searched(everything: dict[str, bytes], canaries: dict[str, Canary]) -> None:
    """What is kept is found: the stated text, the cells of resolution 8, a log line of each route."""
    stored = b"".join(content for name, content in everything.items() if "appendonlydir" in name)
    assert {"lat decimals", "lon decimals"} <= set(canaries[STATED].found_in(stored))
    for name in ("position", "position by the app", "shake nearby"):
        kept = h3.latlng_to_cell(canaries[name].lat, canaries[name].lon, 8)
        assert struct.pack("<Q", int(kept, 16)) in stored, name
    log = everything["service.log"]
    for route in (b"/v1/me/position", b"/v1/shakes", b"/v1/app/positions", b"/v1/brands/{brand}/stores/nearest"):
        assert b'"route":"%b"' % route in log
    assert b"Traceback" not in log


def _converted(canaries: dict[str, Canary]) -> list[Canary]:
    """What became of points in the shifted coordinates of Chinese maps."""
    return [
        Canary("from gcj02", *gcj02_to_wgs84(*canaries["position in gcj02"][1:])),
        Canary("from bd09", *bd09_to_wgs84(*canaries["position in bd09"][1:])),
    ]


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


def test_geohash_is_the_known_one() -> None:
    """The example of the scheme's own page."""
    assert geohash(57.64911, 10.40744) == "u4pruyd"
