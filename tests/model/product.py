"""Two workers of the product in one process on one state, asked through their whole HTTP application.

Hive time is put by tick entries, as in ``tests.world``, and stands still otherwise. Workers are replaced, checkpoints
written and shards put in doubt on demand. A 503 is repeated, as clients do: a busy machine is no divergence.
"""

import asyncio
import contextlib
import math
import os
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import jwt
import orjson
from fastapi import FastAPI

from api.main import create_app
from api.settings import Settings, load_settings
from discovery.errors import StateAway
from discovery.hive import Hive, Rules
from discovery.housekeeping import Checkpointer
from discovery.store import keys
from discovery.store.checkpoints import Checkpoints
from discovery.store.client import State
from discovery.store.feed import EntryId, Follower, parse_id
from discovery.store.keeper import StreamKeeper
from discovery.store.leader import Leader
from discovery.store.shard_lease import DEAD_S, VALID_S
from discovery.store.ticker import Tick, pack_tick
from discovery.store.world import open_world
from tests.model.bottle_model import QUOTA
from tests.model.people_model import Token
from tests.world import EPOCH_MS, SECRET, START_MS

_STILL_MS = -(10**13)  # hive time is the larger of what it was and id + offset: this far back it never moves
_PATIENCE_S = 30.0
_TRIES = 20
_NEVER = (2**62, 0)

Answer = tuple[int, bytes]


class Worker:
    """One hive with its application. Somebody always waits on its feeds, so that they are read without a pause."""

    def __init__(self, hive: Hive, app: FastAPI) -> None:
        self.hive = hive
        self.app = app
        self._waiters = [asyncio.create_task(feed.folded(_NEVER, 1e9)) for feed in self.streams]

    @property
    def streams(self) -> list[Follower]:
        return [*self.hive.feeds.followers, self.hive.shake_feed]

    async def stop(self) -> None:
        for waiter in self._waiters:
            waiter.cancel()
        await asyncio.gather(*self._waiters, return_exceptions=True)
        await self.hive.leave()
        await self.hive.stop()


class Product:
    """``shards`` of a new world on the empty ``state``."""

    def __init__(self, state: State, data_dir: Path, shards: int, draws: random.Random) -> None:
        self.state = state
        self.settings: Settings = load_settings(data_dir=data_dir, epoch_s=EPOCH_MS // 1000)
        self.shards = shards
        self.draws = draws
        self.now_ms = 0
        self.repeats = 0  # of requests that were answered 503
        self.restarts = 0
        self.checkpoints = 0
        self.workers: list[Worker] = []
        self._tokens: dict[tuple[str, Token], str] = {}
        self._leader = f"test-{os.urandom(4).hex()}"
        self._written = 0

    # --- life ---

    async def open(self) -> None:
        await open_world(self.state, shards=self.shards)
        self.workers = [await self._worker(), await self._worker()]
        await self.at(START_MS)

    async def close(self) -> None:
        for worker in self.workers:
            await worker.stop()

    async def _worker(self) -> Worker:
        # On a busy machine no lease should lapse; but on Cluster a new worker counts no look for `dead_s`.
        valid_s, dead_s = (VALID_S, DEAD_S) if self.state.is_cluster else (600.0, 1200.0)
        rules = Rules(
            ticks_missed_after_s=math.inf,
            lease_valid_s=valid_s,
            lease_dead_s=dead_s,
            quick_deadline_s=3.0,
            bottle_throws_per_day=QUOTA,
            bottle_picks_per_day=QUOTA,
        )
        hive = Hive(self.state, SECRET, rules, lambda: self.draws.getrandbits(32), os.urandom, time.monotonic)
        await hive.start()
        return Worker(hive, create_app(hive, self.settings))

    async def restart(self, which: list[int]) -> None:
        """Other processes take the places of ``which``: all that they know comes from the state."""
        self.restarts += len(which)
        for number in which:
            await self.workers[number].stop()
        for number in which:
            self.workers[number] = await self._worker()

    # --- time ---

    async def at(self, hive_ms: int) -> None:
        """Put hive time to exactly ``hive_ms`` on every stream, and let it stand still there."""
        streams = [feed.key for feed in self.workers[0].streams]
        entries = await asyncio.gather(*(self._tick(key, hive_ms) for key in streams))
        for worker in self.workers:
            await asyncio.gather(
                *(feed.folded(entry, _PATIENCE_S) for feed, entry in zip(worker.streams, entries, strict=True))
            )
        self.now_ms = hive_ms
        async with asyncio.timeout(_PATIENCE_S):  # a shard that is restored stands further back for a moment
            while {feed.now_ms for worker in self.workers for feed in worker.streams} != {hive_ms}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _tick(self, key: str, hive_ms: int) -> EntryId:
        rows = await self.state.call("XREVRANGE", key, "+", "-", "COUNT", 1)
        id_ms = (parse_id(rows[0][0])[0] if rows else time.time_ns() // 1_000_000) + 1
        for offset_ms in (hive_ms - id_ms, _STILL_MS):
            tick = pack_tick(Tick(offset_ms, EPOCH_MS))
            entry = await self.state.call("XADD", key, f"{id_ms}-*", "k", "t", "d", tick)
        return parse_id(entry)

    async def sync(self) -> None:
        """Every worker has folded all that stands in the state; a worker that restores a shard stands further back
        than what it has told."""
        for feeds in zip(*(worker.streams for worker in self.workers), strict=True):
            tail = await feeds[0].tail()
            for feed in feeds:
                await feed.folded(tail, _PATIENCE_S)
        async with asyncio.timeout(_PATIENCE_S):  # and takes a restored shard for whole in the loop's next turn
            while not all(worker.hive.feeds.whole for worker in self.workers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    # --- checkpoints ---

    async def checkpoint(self, number: int, shards: list[int]) -> None:
        """A worker writes the checkpoints of some shards; the feed before the ones before is gone."""
        for shard in shards:
            for _ in range(_TRIES):
                if await self._checkpointed(number, shard):
                    break
            else:
                raise AssertionError("the checkpoint was not made current")
            self.checkpoints += 1

    async def _checkpointed(self, number: int, shard: int) -> bool:
        """False when it was refused: on a busy Cluster a lead lapses, or a worker restores the shard meanwhile."""
        await self.sync()
        hive = self.workers[number].hive
        token = await self._lead(keys.shard_tag(shard))
        keeper = cast(StreamKeeper, SimpleNamespace(token=token))
        feed = hive.feeds.followers[shard]
        self._written += 1
        name = f"{self._leader}-{self._written}"
        writer = Checkpointer(self.state, shard, keeper, feed, hive._sharded, hive.presence, name, time.monotonic)
        await writer._write(token)
        current = await Checkpoints(self.state, keys.shard_tag(shard)).current()
        return current is not None and current.offset == feed.position

    async def _lead(self, tag: str) -> str:
        for _ in range(_TRIES):
            leader = Leader(self.state, tag, self._leader, time.monotonic)
            with contextlib.suppress(StateAway):
                await leader.look()
            if leader.token is not None:
                return leader.token
        raise AssertionError(f"nobody may lead {tag}")

    async def doubt(self, number: int, shard: int) -> None:
        """As after a failover: the worker drops a shard and restores it."""
        hive = self.workers[number].hive
        feed = hive.feeds.followers[shard]
        hive.feeds.doubt(shard)
        await feed.folded(await self._tick(feed.key, self.now_ms), _PATIENCE_S)
        while not hive.feeds.restored:  # noqa: ASYNC110 (nothing tells when a shard is restored)
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)  # what it would say again is written by now

    # --- requests ---

    async def ask(
        self, number: int, user: str, token: Token, method: str, path: str, body: Any = None, key: str | None = None
    ) -> Answer:
        """Somebody's app asks a worker."""
        headers = {"authorization": f"Bearer {self._token(user, token)}"}
        return await self._ask(number, method, path, body, headers, key)

    async def ask_as_operator(self, number: int, method: str, path: str, body: Any) -> Answer:
        assert self.settings.admin_key is not None
        return await self._ask(number, method, path, body, {"x-api-key": self.settings.admin_key.get_secret_value()})

    async def _ask(
        self, number: int, method: str, path: str, body: Any, headers: dict[str, str], key: str | None = None
    ) -> Answer:
        headers = {**headers, "x-request-id": "same"}
        if key is not None:
            headers["idempotency-key"] = key
        raw = b"" if body is None else orjson.dumps(body)
        if raw:
            headers["content-type"] = "application/json"
        for _ in range(_TRIES):
            status, content = await call_app(self.workers[number].app, method, path, headers, raw)
            if status != 503:
                return status, content
            self.repeats += 1
            await asyncio.sleep(0.1)
        return status, content

    def _token(self, user: str, token: Token) -> str:
        known = self._tokens.get((user, token))
        if known is None:
            assert self.settings.jwt_secret is not None
            now_s = int(time.time())
            claims = {"sub": user, "iat": now_s, "exp": now_s + 24 * 3600, "aud": "nearhive"}
            claims |= {name: value for name, value in (("age", token.age), ("person", token.person)) if value}
            known = jwt.encode(claims, self.settings.jwt_secret.get_secret_value().encode(), algorithm="HS256")
            self._tokens[user, token] = known
        return known


async def call_app(app: FastAPI, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """One request to an ASGI application, without a client library between."""
    bare, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(bare),
        "raw_path": bare.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()]
        + [(b"content-length", str(len(body)).encode())],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    status, parts = 0, []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)
