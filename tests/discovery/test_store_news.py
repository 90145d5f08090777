"""News of store sets while shards are restored: none is missed, and none counts as loaded before it is."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import orjson
import pytest
import pytest_asyncio

from discovery.errors import StateAway
from discovery.hive import Hive, Rules
from discovery.store import keys
from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer
from discovery.store.writer import append
from discovery.stores import news, shelves
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


TWO_STORES = b"store_id,name,lat,lon\na,A,1,1\nb,B,2,2\n"


@pytest_asyncio.fixture
async def other(hive: Hive, state_server: EmbeddedServer) -> AsyncIterator[Hive]:
    """A second worker, beside ``hive``; both know the brand "shop"."""
    draws = random.Random(4)
    client = State(state_server.url)
    await client.open()
    other = Hive(client, SECRET, Rules(), lambda: draws.getrandbits(32), draws.randbytes, time.monotonic)
    await other.start(2)
    other.keep_house(EPOCH_MS)
    await until(lambda: other.ready()[0])
    await hive.stores.put_brand("shop", "Shop")
    yield other
    await other.stop()
    await client.close()


async def test_an_import_is_in_while_another_worker_still_loads(
    hive: Hive, other: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody need guess: the answer says that the new set is in, and who is late has it as soon as it can."""
    monkeypatch.setattr(news, "_EVERYWHERE_LEAST_S", 0.3)
    slow = Held(other.state, keys.brand_chunk("shop", 1, 0), monkeypatch)
    report = await hive.stores.import_stores("shop", "text/csv", BytesIO(TWO_STORES))
    assert (slow.waiting, report.everywhere, report.difference.added) == (1, False, 2)
    assert [(note["row"], "has not loaded" in str(note["message"])) for note in report.warnings] == [(0, True)]
    assert (hive.catalogue.brand("shop").version, other.catalogue.brand("shop").version) == (1, 0)
    with pytest.raises(StateAway) as away:  # one store has no report to say it in
        await hive.stores.remove_store("shop", "a")
    assert away.value.outcome_unknown
    slow.go_on.set()
    await until(lambda: other.catalogue.brand("shop").version == 2)
    assert (len(other.catalogue.brand("shop").stores), other.catalogue.held()) == (1, 1)


async def test_the_more_stores_the_longer_workers_may_load(
    hive: Hive, other: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "_EVERYWHERE_LEAST_S", 0.1)
    monkeypatch.setattr(news, "_EVERYWHERE_EACH_S", 2.0)
    slow = Held(other.state, keys.brand_chunk("shop", 1, 0), monkeypatch)
    importing = asyncio.create_task(hive.stores.import_stores("shop", "text/csv", BytesIO(TWO_STORES)))
    await until(lambda: slow.waiting)
    await asyncio.sleep(0.5)
    assert not importing.done()
    slow.go_on.set()
    report = await importing
    assert (report.everywhere, report.warnings) == (True, [])
    assert len(other.catalogue.brand("shop").stores) == 2


async def test_an_import_whose_swap_is_not_answered_is_unknown(
    hive: Hive, other: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: Any) -> None:
        raise StateAway(outcome_unknown=True)

    monkeypatch.setattr(shelves, "make_current", silent)
    with pytest.raises(StateAway):
        await hive.stores.import_stores("shop", "text/csv", BytesIO(TWO_STORES))
    assert (hive.catalogue.brand("shop").version, other.catalogue.brand("shop").version) == (0, 0)
