"""``nearhive serve`` on a Cluster of 3 + 3: every feature through both workers, 16 shards, checkpoints, a restart."""

import asyncio
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from discovery.store import keys
from discovery.store.client import State
from tests.cluster_servers import ClusterServers
from tests.faults.on_cluster import agreed, opened, service_on
from tests.faults.patience import within
from tests.faults.subject import Subject
from tests.service import NEARHIVE, Connection, for_all

_PARIS = (48.8566, 2.3522)
_PEOPLE = 64  # four for each shard
_STORES = "store_id,name,lat,lon\nparis,Paris,48.8566,2.3522\nlyon,Lyon,45.7640,4.8357\n"
_CHECKPOINTS_S = 25.0  # ten seconds after the lead was taken, and two stranger edges
_BACK_S = within(5.0)
_SHARDS = keys.Shards(keys.CLUSTER_SHARDS)


async def test_every_feature_lives_on_a_cluster(tmp_path: Path, cluster_servers: ClusterServers, seed: int) -> None:
    async with service_on(cluster_servers, tmp_path) as service, opened(cluster_servers.url) as state:
        town = Town(service, f"{seed:x}")
        async with service.by_worker() as ((one,), (other,)):
            await town.build(one, other)
            await town.holds(one)
            await town.holds(other)
            await town.shake(one, other)
        await agreed(service)
        await _checkpoints(state)
        _doctor(service)
        service.end()
        service.start()
        await service.ready(_BACK_S)
        async with service.by_worker() as ((one,), (other,)):
            await town.holds(one)
            await town.holds(other)
        await agreed(service)


class Town:
    """People, friends, a block, a bottle and stores; each act is asked of one worker and looked up in both."""

    def __init__(self, service: Subject, label: str) -> None:
        self.service = service
        self.people = [f"p{number}.{label}" for number in range(_PEOPLE)]
        self.bottle = ""
        ann = self.people[0]
        self.ann = ann
        self.bob = next(user for user in self.people if _SHARDS.of(user) != _SHARDS.of(ann))
        self.eve, self.sailor, self.finder = [user for user in self.people if user not in (ann, self.bob)][:3]

    async def ask(self, connection: Connection, user: str, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer that must be good."""
        headers = self.service.person(user) | {"Idempotency-Key": f"{method}{path}"}
        answer = await connection.ask(method, path, body, headers)
        assert answer.status in {200, 201, 204}, (method, path, answer)
        return answer.json() if answer.body else None

    async def build(self, one: Connection, other: Connection) -> None:
        """Half of it through each worker."""
        assert {_SHARDS.of(user) for user in self.people} == set(_SHARDS.all())
        await for_all([one, other], self.people, self._settle)
        await self._befriend(other)
        await self.ask(one, self.ann, "PUT", f"/v1/me/blocks/{self.eve}")
        thrown = await self.ask(one, self.sailor, "POST", "/v1/bottles", {"text": "hello"})
        self.bottle = thrown["bottle_id"]
        picked = await self.ask(other, self.finder, "POST", "/v1/bottles/pick")
        assert picked["bottle"]["bottle_id"] == self.bottle
        await self._open_stores(other)

    async def _settle(self, connection: Connection, user: str) -> None:
        await self.ask(connection, user, "PUT", "/v1/me/position", {"lat": _PARIS[0], "lon": _PARIS[1]})
        await self.ask(connection, user, "PATCH", "/v1/me/settings", {"visibility": "everyone", "bottles": "on"})

    async def _befriend(self, connection: Connection) -> None:
        """Told by the app: two halves in two shards."""
        pairs = [{"a": self.ann, "b": self.bob, "op": "add"}]
        answer = await connection.ask("POST", "/v1/app/friendships", {"pairs": pairs}, self.service.operator)
        assert answer.ok() == {"applied": 1, "skipped": []}

    async def _open_stores(self, connection: Connection) -> None:
        operator = self.service.operator
        (await connection.ask("PUT", "/v1/brands/acme", {"name": "Acme"}, operator)).ok()
        made = (await connection.ask("POST", "/v1/brands/acme/keys", {"kind": "secret"}, operator)).ok(201)
        self.key = {"X-API-Key": made["key"]}
        kind = {"Content-Type": "text/csv"}
        answer = await connection.ask("PUT", "/v1/brands/acme/stores", _STORES.encode(), self.key | kind)
        assert answer.ok()["added"] == 2

    async def holds(self, connection: Connection) -> None:
        """What was built shows through this worker."""
        near = (await self.ask(connection, self.bob, "GET", f"/v1/nearby?limit={_PEOPLE}"))["people"]
        assert {row["user"] for row in near} == {*self.people} - {self.bob, self.ann}, "strangers, all in one cell"
        seen = {row["user"] for row in (await self.ask(connection, self.eve, "GET", "/v1/nearby?limit=64"))["people"]}
        assert self.ann not in seen, "blocked"
        radar = await self.ask(connection, self.ann, "GET", "/v1/radar?radius_m=5000")
        assert [row["user"] for row in radar["friends"]] == [self.bob]
        blocks = await self.ask(connection, self.ann, "GET", "/v1/me/blocks")
        assert blocks["blocks"] == [{"user": self.eve}]
        for user, role in ((self.sailor, "thrown"), (self.finder, "picked")):
            (row,) = (await self.ask(connection, user, "GET", "/v1/me/bottles"))["bottles"]
            assert (row["bottle_id"], row["role"]) == (self.bottle, role)
        found = await connection.ask(
            "POST", "/v1/brands/acme/stores/nearest", {"lat": _PARIS[0], "lon": _PARIS[1]}, self.key
        )
        assert [store["id"] for store in found.ok()["features"]] == ["paris", "lyon"]

    async def shake(self, one: Connection, other: Connection) -> None:
        """Two who shake through two workers find each other."""
        point = {"lat": _PARIS[0], "lon": _PARIS[1]}
        first = await self.ask(one, self.sailor, "POST", "/v1/shakes", point)
        second = await self.ask(other, self.finder, "POST", "/v1/shakes", point)
        for connection, user, shake, met in (
            (other, self.sailor, first, self.finder),
            (one, self.finder, second, self.sailor),
        ):
            seen = await self.ask(connection, user, "GET", f"/v1/shakes/{shake['shake_id']}?wait_s=2")
            assert [match["user"] for match in seen["matches"]] == [met]


async def _checkpoints(state: State) -> None:
    """Every shard gets one, and every master owns some of them."""
    ends_s = time.monotonic() + _CHECKPOINTS_S
    while missing := [shard for shard in _SHARDS.all() if not await _has_checkpoint(state, shard)]:
        assert time.monotonic() < ends_s, f"no checkpoint of {missing}"
        await asyncio.sleep(0.2)


async def _has_checkpoint(state: State, shard: int) -> bool:
    return bool(await state.call("EXISTS", keys.checkpoint(keys.shard_tag(shard))))


def _doctor(service: Subject) -> None:
    """Sees one service of two workers and 17 streams, each with a leader."""
    command = [str(NEARHIVE), "doctor", "--url", service.url]
    done = subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    heads = Counter(line.split()[0] for line in done.stdout.splitlines())
    assert (heads["stream"], heads["worker"]) == (keys.CLUSTER_SHARDS + 1, 2), done.stdout
    assert "WITHOUT A LEADER" not in done.stdout
    assert "all workers agree" in done.stdout
