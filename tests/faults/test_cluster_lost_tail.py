"""What was forbidden and acknowledged, and then lost with the newest entries of a feed, is said again by the workers.

A failover with a replica that acknowledged nothing does that. Here the entries and the records are taken away by hand,
and the connections of the followers are cut, as a change of master does.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from discovery.store import keys
from discovery.store.client import State
from tests.cluster_servers import ClusterServers
from tests.faults.on_cluster import agreed, opened, service_on
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject
from tests.service import Connection

TIMES, TIMES_NIGHTLY = 1, 10
_AGAIN_S = within(5.0)
_SHARDS = keys.Shards(keys.CLUSTER_SHARDS)
_HERE = {"lat": 48.8566, "lon": 2.3522}
_LOSE = """
for _, row in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+')) do redis.call('XDEL', KEYS[1], row[1]) end
return redis.call('RESTORE', KEYS[2], 0, ARGV[2], 'REPLACE')
"""


async def test_lost_blocks_and_hidings_are_said_again(
    tmp_path: Path, cluster_servers: ClusterServers, seed: int, scale: int
) -> None:
    times = TIMES if scale == 1 else TIMES_NIGHTLY
    with reported("q5_lost_tail", seed, "cluster", times=times) as run:
        async with service_on(cluster_servers, tmp_path) as service, opened(cluster_servers.url) as state:
            loser = Loser(cluster_servers, service, state)
            async with service.by_worker() as ((one,), (other,)):
                for turn in range(times):
                    label = f"{seed:x}.{turn}"
                    await loser.settle(one, label)
                    await loser.lose_a_block(one, other, label)
                    await loser.lose_a_hiding(one, other, label)
            run.counts = {"said_again": 2 * times, "lost": 0, "edges": await agreed(service)}


class Loser:
    """Ann, Bob and Dora see each other; then Ann blocks Bob, and Dora hides, and the state forgets it."""

    def __init__(self, cluster: ClusterServers, service: Subject, state: State) -> None:
        self.cluster = cluster
        self.service = service
        self.state = state

    async def ask(self, connection: Connection, user: str, method: str, path: str, body: object = None) -> Any:
        answer = await connection.ask(method, path, body, self.service.person(user))
        assert answer.status in {200, 204}, (method, path, answer)
        return answer.json() if answer.body else None

    async def settle(self, one: Connection, label: str) -> None:
        """All three in one place, once the shards lost before are restored."""
        await self.service.ready(_AGAIN_S)
        for name in ("ann", "bob", "dora"):
            user = f"{name}.{label}"
            await self.ask(one, user, "PUT", "/v1/me/position", _HERE)
            await self.ask(one, user, "PATCH", "/v1/me/settings", {"visibility": "everyone"})
        assert await self.seen(one, label) == {"ann", "dora"}

    async def seen(self, connection: Connection, label: str) -> set[str]:
        """Whom Bob sees nearby; None of them while the worker restores the shard."""
        answer = await connection.ask("GET", "/v1/nearby?limit=50", None, self.service.person(f"bob.{label}"))
        names = {row["user"] for row in answer.ok()["people"]} if answer.status == 200 else set()
        return {name for name in ("ann", "dora") if f"{name}.{label}" in names}

    async def lose_a_block(self, one: Connection, other: Connection, label: str) -> None:
        """Ann blocks Bob."""
        ann, bob = f"ann.{label}", f"bob.{label}"
        before = await self.stands(ann, keys.Shards.blocks)
        await self.ask(one, ann, "PUT", f"/v1/me/blocks/{bob}")
        await self.lose(ann, *before)
        await self.never_again(one, other, label, "ann", lambda: self.state.call("HGET", _SHARDS.blocks(ann), bob))

    async def lose_a_hiding(self, one: Connection, other: Connection, label: str) -> None:
        """Dora hides."""
        dora = f"dora.{label}"
        before = await self.stands(dora, keys.Shards.person)
        await self.ask(other, dora, "PATCH", "/v1/me/settings", {"visibility": "nobody"})
        await self.lose(dora, *before)

        async def hidden() -> bool:
            return bool(await self.state.call("HGET", _SHARDS.person(dora), "visibility") == b"nobody")

        await self.never_again(one, other, label, "dora", hidden)

    async def stands(self, user: str, record: Any) -> tuple[str, str, bytes]:
        """Newest entry of the user's feed, a record, and its content (of an empty hash: of one with a dummy)."""
        name = record(_SHARDS, user)
        (row,) = await self.state.call("XREVRANGE", self.feed(user), "+", "-", "COUNT", 1)
        dump = await self.state.call("DUMP", name)
        if dump is None:
            await self.state.call("HSET", f"{name}.nothing", "nobody", "nobody")
            dump = await self.state.call("DUMP", f"{name}.nothing")
            await self.state.call("DEL", f"{name}.nothing")
        return row[0].decode(), name, dump

    def feed(self, user: str) -> str:
        return keys.feed(keys.shard_tag(_SHARDS.of(user)))

    async def lose(self, user: str, entry: str, record: str, dump: bytes) -> None:
        """All after ``entry`` is gone, the record is as it was, and everybody has to connect anew: in one step."""
        owner = await asyncio.to_thread(self.cluster.owner_of, record)
        with redis.Redis(port=owner.port, protocol=2) as client:
            both = client.pipeline(transaction=True)
            both.execute_command("EVAL", _LOSE, 2, self.feed(user), record, entry, dump)
            both.execute_command("CLIENT", "KILL", "TYPE", "normal")
            both.execute()

    async def never_again(self, one: Connection, other: Connection, label: str, name: str, stands: Any) -> None:
        """Soon the record stands again, and then Bob sees the person through neither worker."""
        ends_s = time.monotonic() + _AGAIN_S
        while not await stands():
            assert time.monotonic() < ends_s, f"nobody said it again: {self.service.log_end()}"
            await asyncio.sleep(0.05)
        assert "said_again" in self.service.log.read_text()
        for connection in (one, other):
            while not await self.seen(connection, label) and name == "ann":
                assert time.monotonic() < ends_s, "the worker does not answer"
                await asyncio.sleep(0.05)
            assert name not in await self.seen(connection, label)


async def test_a_connection_apart_never_changes_its_server_without_a_failure(cluster_servers: ClusterServers) -> None:
    async with opened(cluster_servers.url) as state:
        key = "{moves}:feed"
        await state.call("XADD", key, "1-1", "k", "v")
        blocking = state.blocking(key=key)
        command = ("XREAD", "STREAMS", key, "0-0")
        assert await blocking.execute_command(*command)
        before = state.node_of(key)
        await asyncio.to_thread(cluster_servers.failover, key)
        while state.node_of(key) == before:
            await state.call("XLEN", key)
        with pytest.raises(state.connection_errors):
            await blocking.execute_command(*command)
        assert await blocking.execute_command(*command)
        await blocking.aclose()
        await state.call("DEL", key)
