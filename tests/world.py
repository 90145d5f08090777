"""A whole service in one process for feature tests: real state server, real hive, the real app over ASGI.

Hive time is put by real tick entries with an offset and then stands still, so that hours pass without waiting, without
a false clock, and two runs give equal bytes.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from api.auth import Age, mint_token
from api.main import create_app
from api.settings import Settings, load_settings
from discovery.hive import Hive, Rules
from discovery.store import keys
from discovery.store.client import State
from discovery.store.ticker import Tick, pack_tick

EPOCH_MS = 900_000
STRANGER_EPOCH_MS = 3 * EPOCH_MS
HOUR_MS = 3_600_000
START_MS = 1_800_000_000_000 // STRANGER_EPOCH_MS * STRANGER_EPOCH_MS + 60_000  # one minute after a stranger edge
_STILL_MS = -(10**13)  # hive time is the larger of what it was and id + offset: this far back it never moves
_AHEAD_MS = 200  # ticks stand so far ahead: what is appended behind our back then gets their very millisecond

PARIS = (48.8566, 2.3522)
SECRET = b"test secret of at least thirty-two bytes"


class World:
    """One hive and one app on an empty state. ``now_ms`` is where hive time was put."""

    def __init__(self, state: State, settings: Settings, hive: Hive) -> None:
        self.state = state
        self.settings = settings
        self.hive = hive
        self.app = create_app(hive, settings)
        self.now_ms = 0

    async def at(self, hive_ms: int) -> None:
        """Put hive time to exactly ``hive_ms`` on both feeds, and let it stand still there."""
        for follower in (*self.hive.feeds.followers, self.hive.shake_feed):
            seconds, micros = await self.state.call("TIME")
            newest_ms = (await follower.tail())[0]
            id_ms = max(newest_ms, int(seconds) * 1000 + int(micros) // 1000 + _AHEAD_MS) + 1
            for offset_ms in (hive_ms - id_ms, _STILL_MS):
                tick = pack_tick(Tick(offset_ms, EPOCH_MS))
                await self.state.call("XADD", follower.key, f"{id_ms}-*", "k", "t", "d", tick)
            await follower.fold_to_tail(3.0)
        self.now_ms = hive_ms

    async def later(self, ms: int) -> None:
        """Let ``ms`` pass."""
        await self.at(self.now_ms + ms)

    def client(self, user: str, age: Age | None = "adult", headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
        """Somebody's app."""
        assert self.settings.jwt_secret is not None
        token = mint_token(self.settings.jwt_secret.get_secret_value(), user, age, 3600, time.time())
        return self._client({"Authorization": f"Bearer {token}", **(headers or {})})

    def operator(self) -> httpx2.AsyncClient:
        """The app's backend."""
        assert self.settings.admin_key is not None
        return self._client({"X-API-Key": self.settings.admin_key.get_secret_value()})

    def _client(self, headers: dict[str, str]) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    async def place(self, user: str, lat: float, lon: float, visibility: str = "everyone", **more: Any) -> None:
        """Somebody with a position and a visibility."""
        async with self.client(user) as client:
            answer = await client.put("/v1/me/position", json={"lat": lat, "lon": lon, **more})
            assert answer.status_code == 200, answer.text
            answer = await client.patch("/v1/me/settings", json={"visibility": visibility})
            assert answer.status_code == 200, answer.text

    async def befriend(self, a: str, b: str, precision: str = "area") -> None:
        """Both ask."""
        for user, other in ((a, b), (b, a)):
            async with self.client(user) as client:
                answer = await client.put(f"/v1/me/friends/{other}", json={"precision": precision})
                assert answer.status_code == 200, answer.text


@contextlib.asynccontextmanager
async def open_world(state: State, data_dir: Path, start_ms: int = START_MS, **rules: Any) -> AsyncIterator[World]:
    """A started world at ``start_ms``; ``rules``: fields of ``Rules``."""
    settings = load_settings(data_dir=data_dir, epoch_s=EPOCH_MS // 1000)
    draws = random.Random(7)
    apart = random.Random(70)  # for bytes: a key of the day is drawn when a loop wakes, at no fixed place in a history
    hive = Hive(
        state,
        SECRET,
        Rules(ticks_missed_after_s=math.inf, lease_valid_s=600.0, lease_dead_s=1200.0, **rules),
        lambda: draws.getrandbits(32),
        apart.randbytes,
        time.monotonic,
    )
    await hive.start()
    world = World(state, settings, hive)
    await world.at(start_ms)
    try:
        yield world
    finally:
        await hive.stop()


@pytest_asyncio.fixture
async def world(state: State, tmp_path: Path) -> AsyncIterator[World]:
    """A fresh world on an empty state."""
    async with open_world(state, tmp_path) as opened:
        yield opened


@pytest.fixture
def no_feed_entry(state: State) -> Any:
    """``async with no_feed_entry():`` fails when the body wrote to the people feed."""

    @contextlib.asynccontextmanager
    async def check() -> AsyncIterator[None]:
        before = await state.call("XLEN", keys.feed("s00"))
        yield
        assert await state.call("XLEN", keys.feed("s00")) == before

    return check


async def gathered(*calls: Any) -> list[Any]:
    """Run calls at once."""
    return list(await asyncio.gather(*calls))
