"""A hold is effective on the other worker before the third report is answered: asked in the same breath."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service import Connection, Service, serving

ROUNDS = 8
_HERE = {"lat": 48.8566, "lon": 2.3522}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), epoch_s="900", log_level="warning") as running:
        yield running


async def ask(connection: Connection, service: Service, user: str, method: str, path: str, body: Any = None) -> Any:
    headers = service.person(user) | {"Idempotency-Key": f"{user}-{path}"}
    return await connection.ask(method, path, body, headers)


async def place(connection: Connection, service: Service, user: str) -> None:
    (await ask(connection, service, user, "PUT", "/v1/me/position", _HERE)).ok()
    body = {"visibility": "everyone", "bottles": "on"}
    (await ask(connection, service, user, "PATCH", "/v1/me/settings", body)).ok()


async def report(connection: Connection, service: Service, user: str, target: dict[str, str]) -> None:
    headers = service.person(user) | {"Idempotency-Key": f"report-{target['id']}"}
    body = {"target": target, "reason": "spam"}
    (await connection.ask("POST", "/v1/reports", body, headers)).ok(202)


async def shown(connection: Connection, service: Service, viewer: str) -> set[str]:
    answer = await ask(connection, service, viewer, "GET", "/v1/nearby?radius_m=3000&limit=100")
    return {row["user"] for row in answer.ok()["people"]}


@pytest.mark.timeout(90)
async def test_the_third_report_holds_on_the_other_worker(service: Service) -> None:
    async with service.by_worker() as (one, two):
        first, second = one[0], two[0]
        for user in ("viewer", *(f"target-{turn}" for turn in range(ROUNDS))):
            await place(first, service, user)
        for turn in range(ROUNDS):
            target = {"type": "user", "id": f"target-{turn}"}
            here, there = (first, second) if turn % 2 else (second, first)
            await asyncio.gather(*(report(here, service, f"r{n}", target) for n in range(2)))
            assert target["id"] in await shown(there, service, "viewer")
            await report(here, service, "r2", target)
            assert target["id"] not in await shown(there, service, "viewer")


@pytest.mark.timeout(90)
async def test_the_third_report_takes_a_bottle_from_the_other_worker(service: Service) -> None:
    async with service.by_worker() as (one, two):
        first, second = one[0], two[0]
        for user in ("author", "reader", "b0", "b1", "b2"):
            await place(first, service, user)
        thrown = await ask(first, service, "author", "POST", "/v1/bottles", {"text": "hello"})
        bottle_id = thrown.ok(201)["bottle_id"]
        for n in range(3):
            picked = await ask(second, service, f"b{n}", "POST", "/v1/bottles/pick")
            assert picked.ok()["bottle"]["bottle_id"] == bottle_id
            await report(first, service, f"b{n}", {"type": "bottle", "id": bottle_id})
        assert (await ask(second, service, "reader", "POST", "/v1/bottles/pick")).ok()["bottle"] is None
