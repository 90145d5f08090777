"""News of store sets while shards are restored: none is missed, and none counts as loaded before it is."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from discovery.hive import Hive, Rules
from discovery.store import keys
from discovery.store.client import State
from discovery.store.writer import append
from discovery.stores import shelves
from tests.world import SECRET

EPOCH_MS = 60_000


@pytest_asyncio.fixture
async def hive(state: State) -> AsyncIterator[Hive]:
    """A worker of two shards."""
    draws = random.Random(3)
    hive = Hive(state, SECRET, Rules(), lambda: draws.getrandbits(32), draws.randbytes, time.monotonic)
    await hive.start(2)
    hive.keep_house(EPOCH_MS)
    await until(lambda: hive.ready()[0])
    yield hive
    await hive.stop()


async def until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def change_brand(state: State) -> Any:
    """As another worker does; the entry that tells of it."""
    await shelves.write_brand(state, "shop", "Shop", None)
    return await append(state, keys.feed("s00"), "b", orjson.dumps(["shop", 0]), 3.0)


class Held:
    """Commands about one key wait."""

    def __init__(self, state: State, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self.go_on = asyncio.Event()
        call = state.call

        async def held(*command: Any, **options: Any) -> Any:
            if command[1] == key:
                self.waiting += 1
                await self.go_on.wait()
            return await call(*command, **options)

        monkeypatch.setattr(state, "call", held)


async def test_news_are_heard_while_another_shard_is_restored(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(hive.state, keys.checkpoint("s01"), monkeypatch)
    hive.feeds.doubt(1)
    await until(lambda: held.waiting)
    await hive.feeds.followers[0].folded(await change_brand(hive.state), 3.0)
    held.go_on.set()
    await until(lambda: hive.ready()[0])
    await until(lambda: hive.catalogue.find("shop") is not None)


async def test_news_of_a_restored_shard_are_loaded_before_it_says_so(
    hive: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Held(hive.state, keys.checkpoint("s00"), monkeypatch)
    hive.feeds.doubt(0)
    await until(lambda: checkpoint.waiting)
    entry = await change_brand(hive.state)
    brands = Held(hive.state, keys.brands(), monkeypatch)
    checkpoint.go_on.set()
    await until(lambda: brands.waiting)
    assert hive.feeds.followers[0].position >= entry
    assert hive.store_news.loaded(0) < entry
    brands.go_on.set()
    await until(lambda: hive.store_news.loaded(0) >= entry)
    assert hive.catalogue.find("shop") is not None
