"""Two real workers are one world: fresh within a second, equal at every edge, replaced when killed, ended by Ctrl-C."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api.doctor import common_edges
from tests.service import Connection, Service, for_all, serving, wait_until_gone

FRESH_S = 1.0
END_S = 15.0
UPDATES_A_S = 500
TRAFFIC_S = 10.0
WALKERS = 500
_CONNECTIONS = 16  # to each worker
_POLL_S = 0.005
_TURN_S = 0.1
_TURNS = int(2 * TRAFFIC_S / _TURN_S)
_SHOWN = ("friends", "nobody")
_HERE = (48.8566, 2.3522)
_STEP_DEG = 0.03  # three cells on: every report changes the pending cell


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), epoch_s="1", log_level="warning") as running:
        yield running


# --- one world ---


class Probe(NamedTuple):
    """A change that one worker answers, and the read by which another one shows it."""

    write: Callable[[Connection, int], Awaitable[None]]
    shows: Callable[[Connection, int], Awaitable[bool]]


def _probes(service: Service) -> dict[str, Probe]:
    """Changes of three kinds: settings, a friendship and a position by the app's backend. Each turn another one."""
    me, operator = service.person("prober", age=None), service.operator

    async def set_visibility(connection: Connection, turn: int) -> None:
        body = {"visibility": _SHOWN[turn % 2]}
        (await connection.ask("PATCH", "/v1/me/settings", body, me)).ok()

    async def shows_visibility(connection: Connection, turn: int) -> bool:
        return bool((await connection.ask("GET", "/v1/me/settings", headers=me)).ok()["visibility"] == _SHOWN[turn % 2])

    async def befriend(connection: Connection, turn: int) -> None:
        body = {"pairs": [{"a": "prober", "b": f"pal-{turn}", "op": "add"}]}
        answer = await connection.ask("POST", "/v1/app/friendships", body, operator)
        assert answer.ok() == {"applied": 1, "skipped": []}

    async def shows_friend(connection: Connection, turn: int) -> bool:
        friends = (await connection.ask("GET", "/v1/me/friends", headers=me)).ok()["friends"]
        return any(one["user"] == f"pal-{turn}" and one["state"] == "accepted" for one in friends)

    async def appear(connection: Connection, turn: int) -> None:
        body = {"positions": [{"user": f"friend-{turn}", "lat": _HERE[0], "lon": _HERE[1]}]}
        assert (await connection.ask("POST", "/v1/app/positions", body, operator)).ok() == {
            "accepted": 1,
            "rejected": [],
        }

    async def shows_on_radar(connection: Connection, turn: int) -> bool:
        viewer = service.person("viewer", age=None)
        friends = (await connection.ask("GET", "/v1/radar?radius_m=1000", headers=viewer)).ok()["friends"]
        return any(one["user"] == f"friend-{turn}" for one in friends)

    return {
        "settings": Probe(set_visibility, shows_visibility),
        "friendship": Probe(befriend, shows_friend),
        "position": Probe(appear, shows_on_radar),
    }


async def _befriend_viewer(service: Service, connections: list[Connection]) -> None:
    """A person on the map, and friends of that person who show themselves but were never anywhere."""
    operator, users = service.operator, ["viewer", *(f"friend-{turn}" for turn in range(_TURNS))]
    shown = {"visibility": "friends", "consent": {"version": "1", "at": "2026-11-22T08:00:00Z"}}

    async def show(connection: Connection, user: str) -> None:
        (await connection.ask("PUT", f"/v1/app/users/{user}", shown, operator)).ok()

    await for_all(connections, users, show)
    pairs = [{"a": "viewer", "b": user, "op": "add"} for user in users[1:]]
    answer = await connections[0].ask("POST", "/v1/app/friendships", {"pairs": pairs}, operator)
    assert answer.ok()["applied"] == _TURNS
    body = {"positions": [{"user": "viewer", "lat": _HERE[0], "lon": _HERE[1]}]}
    assert (await connections[0].ask("POST", "/v1/app/positions", body, operator)).ok()["accepted"] == 1


class Traffic:
    """Reports of many people at a fixed rate through all workers; each one changes a cell."""

    def __init__(self, service: Service, connections: list[Connection]) -> None:
        self._connections = connections
        self._people = [service.person(f"walker-{number}") for number in range(WALKERS)]
        self._turns = itertools.count()
        self.answered = 0
        self.seconds = 0.0

    async def run(self, seconds: float) -> None:
        started_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for connection in self._connections:
                group.create_task(self._report(connection, started_s, started_s + seconds))
        self.seconds = time.monotonic() - started_s

    async def _report(self, connection: Connection, started_s: float, ends_s: float) -> None:
        while (due_s := started_s + (turn := next(self._turns)) / UPDATES_A_S) < ends_s:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            who, step = turn % WALKERS, turn // WALKERS
            body = {"lat": -40 + who / 10, "lon": who / 5 + step * _STEP_DEG}
            (await connection.ask("PUT", "/v1/me/position", body, self._people[who])).ok()
            self.answered += 1


async def _delay_s(probe: Probe, turn: int, writer: Connection, reader: Connection) -> float:
    """Seconds from the answer of one worker until the other shows the change; it must not have shown it before."""
    assert not await probe.shows(reader, turn)
    await probe.write(writer, turn)
    answered_s = time.monotonic()
    while not await probe.shows(reader, turn):
        assert time.monotonic() < answered_s + 10 * FRESH_S, "the other worker never saw it"
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - answered_s


async def test_an_update_is_seen_by_the_other_worker_within_a_second_at_500_updates_a_second(service: Service) -> None:
    probes = _probes(service)
    delays: dict[str, list[float]] = {name: [] for name in probes}
    async with service.by_worker(_CONNECTIONS) as groups, service.by_worker() as ((one,), (other,)):
        all_of_them = [connection for group in groups for connection in group]
        await _befriend_viewer(service, all_of_them)
        await asyncio.sleep(FRESH_S)
        traffic = Traffic(service, all_of_them)
        running = asyncio.create_task(traffic.run(TRAFFIC_S))
        try:
            for turn in range(_TURNS):
                for name, probe in probes.items():
                    writer, reader = (one, other) if turn % 2 else (other, one)
                    delays[name].append(await _delay_s(probe, turn, writer, reader))
                if running.done():
                    break
                await asyncio.sleep(_TURN_S)
        finally:
            await running
    print(f"{traffic.answered / traffic.seconds:.0f} updates/s;", end=" ")
    print({name: f"{len(found)} probes, at most {max(found):.3f} s" for name, found in delays.items()})
    assert max(itertools.chain.from_iterable(delays.values())) < FRESH_S
    assert min(map(len, delays.values())) >= 10
    assert traffic.answered == UPDATES_A_S * TRAFFIC_S
    # A machine that is busy with other things may be slower; then it is fresh under all that it can take.
    assert traffic.seconds < 2 * TRAFFIC_S, "the updates came at less than half the rate that is promised for"


async def test_digests_of_the_last_three_common_edges_are_equal(service: Service) -> None:
    """With people who move, so that each edge has another digest."""
    async with service.by_worker(2) as groups:
        traffic = Traffic(service, [connection for group in groups for connection in group])
        await traffic.run(3.5)
        edges = await _three_common_edges(service)
    assert all(len(set(found.values())) == 1 for _, found in edges), edges
    assert len({next(iter(found.values())) for _, found in edges}) == 3, "nothing happened between the edges"
    assert [edge % 1000 for edge, _ in edges] == [0, 0, 0]


async def _three_common_edges(service: Service) -> list[tuple[int, dict[str, str]]]:
    ends_s = time.monotonic() + 10
    while True:
        status = await asyncio.to_thread(service.status)
        of_all = {row["pid"] for row in status["workers"]} == set(service.worker_pids())  # a new one has no row yet
        if of_all and len(edges := common_edges(status)) == 3:
            return edges
        assert time.monotonic() < ends_s, status
        await asyncio.sleep(0.2)


# --- keys of brands ---


class Shop:
    """A brand whose keys two workers make, end and count."""

    def __init__(self, service: Service, workers: list[Connection]) -> None:
        self.workers = workers
        self._operator = service.operator

    async def make(self, by: Connection, **more: Any) -> tuple[str, str]:
        answer = await by.ask("POST", "/v1/brands/shop/keys", {"kind": "secret", **more}, self._operator)
        return (made := answer.ok(201))["key_id"], made["key"]

    async def revoke(self, by: Connection, key_id: str) -> None:
        assert (await by.ask("DELETE", f"/v1/brands/shop/keys/{key_id}", headers=self._operator)).status == 204

    async def statuses(self, key: str) -> list[int]:
        """Of a read with the key on each worker."""
        headers = {"X-API-Key": key}
        return [
            (await worker.ask("GET", "/v1/brands/shop/stores/a", headers=headers)).status for worker in self.workers
        ]

    async def used(self, key_id: str) -> int:
        listed = (await self.workers[0].ask("GET", "/v1/brands/shop/keys", headers=self._operator)).ok()["keys"]
        return sum(day["requests"] for key in listed if key["key_id"] == key_id for day in key["usage"])


@asynccontextmanager
async def shop_of(service: Service) -> AsyncIterator[Shop]:
    async with service.by_worker() as groups:
        workers = [group[0] for group in groups]
        (await workers[0].ask("PUT", "/v1/brands/shop", {"name": "Shop"}, service.operator)).ok()
        headers = service.operator | {"Content-Type": "text/csv"}
        (await workers[0].ask("PUT", "/v1/brands/shop/stores", b"store_id,lat,lon\na,1,1\n", headers)).ok()
        yield Shop(service, workers)


async def test_a_key_is_taken_and_refused_by_both_workers_from_the_answer_on(service: Service) -> None:
    """Rotation, over and over: the next key is made by one worker, the last one ended by the other."""
    async with shop_of(service) as shop:
        old_id, old = await shop.make(shop.workers[0])
        for turn in range(8):
            new_id, new = await shop.make(shop.workers[turn % 2])
            assert [await shop.statuses(key) for key in (old, new)] == [[200, 200], [200, 200]]
            await shop.revoke(shop.workers[(turn + turn // 2) % 2], old_id)
            assert [await shop.statuses(key) for key in (old, new)] == [[401, 401], [200, 200]]
            old_id, old = new_id, new
        body = {"kind": "secret"}
        asked = [worker.ask("POST", "/v1/brands/shop/keys", body, service.operator) for worker in shop.workers]
        assert sorted(answer.status for answer in await asyncio.gather(*asked)) == [201, 409]


async def test_a_quota_is_of_both_workers_together(service: Service) -> None:
    async with shop_of(service) as shop:
        for key in (await shop.workers[0].ask("GET", "/v1/brands/shop/keys", headers=service.operator)).ok()["keys"]:
            await shop.revoke(shop.workers[0], key["key_id"])
        key_id, key = await shop.make(shop.workers[0], quota_per_day=10)
        _, other = await shop.make(shop.workers[0])
        for _ in range(5):
            assert await shop.statuses(key) == [200, 200]
        answered = 10
        async with asyncio.timeout(10):
            while (found := await shop.statuses(key)) != [429, 429]:  # each adds up once a second, and then knows
                answered += found.count(200)
                await asyncio.sleep(0.2)
        assert await shop.statuses(other) == [200, 200]
        async with asyncio.timeout(10):
            while await shop.used(key_id) != answered:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert answered <= 10 + 2 * 15  # of the second or so between two counts, at 5 a second each
        assert await shop.statuses(key) == [429, 429]


async def test_metrics_tell_of_all_workers(service: Service) -> None:
    before = await asyncio.to_thread(_requests, service)
    async with service.by_worker() as ((one,), (other,)):
        for connection in (one, other, other):
            assert (await connection.ask("GET", "/v1/nowhere")).status == 404
        ends_s = time.monotonic() + FRESH_S  # a request is counted when its answer is out
        counted = 0.0
        while counted < 3 and time.monotonic() < ends_s:
            counted = await asyncio.to_thread(_requests, service) - before
    assert counted == 3


def _requests(service: Service) -> float:
    """How many requests found no route, by /metrics."""
    text = service.get("/metrics", service.operator, admin=True).body.decode()
    head = 'nearhive_requests_total{operation="other",status="404"} '
    return sum(float(line.removeprefix(head)) for line in text.splitlines() if line.startswith(head))


# --- the end of one, the end of all ---


@asynccontextmanager
async def _survivor(service: Service) -> AsyncIterator[tuple[int, Connection]]:
    """The pid of the first worker, and a connection to the other one."""
    async with service.by_worker() as ((_,), (kept,)):
        yield service.worker_pids()[0], kept


async def test_a_killed_worker_is_replaced_while_the_other_goes_on(service: Service) -> None:
    me, body = service.person("witness"), {"lat": 1.5, "lon": 2.5, "ttl_s": 28_800}
    async with _survivor(service) as (victim, kept):
        before = (await kept.ask("PUT", "/v1/me/position", body, me)).ok()
        os.kill(victim, signal.SIGKILL)
        ends_s = time.monotonic() + 20
        while victim in service.worker_pids() or len(service.worker_pids()) < 2:
            assert time.monotonic() < ends_s, "nobody took the place of the killed worker"
            assert (await kept.ask("PUT", "/v1/me/position", body, me)).ok()["expires_at"]
            await asyncio.sleep(0.02)
        assert (await kept.ask("GET", "/v1/me/position", headers=me)).ok()["published"] == before["published"]
    assert victim not in service.worker_pids()
    await _ready_on_all(service)
    async with service.by_worker() as groups:
        for (connection,) in groups:
            assert (await connection.ask("GET", "/v1/me/position", headers=me)).ok()["published"] == before["published"]
    assert all(len(set(found.values())) == 1 for _, found in await _three_common_edges(service))


async def _ready_on_all(service: Service) -> None:
    ends_s = time.monotonic() + 20
    async with service.by_worker() as groups:
        for (connection,) in groups:
            while (await connection.ask("GET", "/readyz")).status != 200:
                assert time.monotonic() < ends_s, "the new worker never became ready"
                await asyncio.sleep(_TURN_S)


async def test_ctrl_c_ends_everything_and_the_next_start_has_the_data(tmp_path: Path) -> None:
    with serving(tmp_path, epoch_s="1") as service:
        me, friend = service.person("ada"), service.person("ben")
        async with service.by_worker() as ((one,), (other,)):
            written = await _write_some(service, one, other)
        pids = [*service.pids(), service.server_pid]
        assert len(set(pids)) == 3
        started_s = time.monotonic()
        assert await asyncio.to_thread(service.interrupt) == 0
        wait_until_gone(pids, 0.5)
        assert time.monotonic() - started_s < END_S
        with pytest.raises(ConnectionRefusedError):
            service.get("/healthz")
        await asyncio.to_thread(service.start)
        async with service.by_worker() as groups:
            for (connection,) in groups:
                assert await _read_some(service, connection, me, friend) == written
    assert "Traceback" not in service.log.read_text()


async def _write_some(service: Service, one: Connection, other: Connection) -> list[Any]:
    """A bit of everything that is kept, through both workers."""
    me, friend, operator = service.person("ada"), service.person("ben"), service.operator
    (await one.ask("PATCH", "/v1/me/settings", {"visibility": "friends", "bottles": "on"}, me)).ok()
    (await other.ask("PUT", "/v1/me/position", {"lat": 48.85, "lon": 2.35, "ttl_s": 28_800}, me)).ok()
    (await one.ask("PUT", "/v1/me/friends/ben", {"precision": "near"}, me)).ok()
    (await other.ask("PUT", "/v1/me/friends/ada", {"precision": "city"}, friend)).ok()
    (await one.ask("PUT", "/v1/me/blocks/eve", headers=me)).ok(204)
    (await other.ask("POST", "/v1/bottles", {"text": "hello"}, me | {"Idempotency-Key": "throw"})).ok(201)
    (await one.ask("PUT", "/v1/brands/shop", {"name": "A shop"}, operator)).ok()
    stores = b"store_id,name,lat,lon\na,Near,48.86,2.35\n"
    (await one.ask("PUT", "/v1/brands/shop/stores", stores, operator | {"Content-Type": "text/csv"})).ok()
    await asyncio.sleep(FRESH_S)
    return await _read_some(service, one, me, friend)


async def _read_some(service: Service, worker: Connection, me: dict[str, str], friend: dict[str, str]) -> list[Any]:
    """What is kept of it, without what moves with time."""
    paths = ("/v1/me/settings", "/v1/me/friends", "/v1/me/blocks", "/v1/me/bottles")
    found = [(await worker.ask("GET", path, headers=me)).ok() for path in paths]
    found.append((await worker.ask("GET", "/v1/me/friends", headers=friend)).ok())
    place = (await worker.ask("GET", "/v1/me/position", headers=me)).ok()
    found.append([place["expires_at"], place["published"], place["visibility"]])
    found.append((await worker.ask("GET", "/v1/brands/shop/stores/a", headers=service.operator)).ok())
    assert found[1]["friends"][0]["state"] == "accepted"
    assert [one["user"] for one in found[2]["blocks"]] == ["eve"]
    return [*found, len(found[3]["bottles"])]
