"""A change of a brand reaches all workers even when the one that made it ends before it has told them."""

import asyncio
import io
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from discovery.errors import Conflict, StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.stores import shelves
from discovery.stores.catalogue import Catalogue
from discovery.stores.service import Stores

ONE = b"store_id,name,lat,lon\na,A,1,1\n"
TWO = b"store_id,name,lat,lon\na,A,1,1\nb,B,2,2\n"
LOOKS = 10


class Ended(Exception):
    """The worker is gone."""


class Swarm:
    """Workers that are told as by the feed: each loads what is current. ``dies`` ends the teller instead."""

    def __init__(self, state: State, seed: int) -> None:
        draws = random.Random(seed)
        self.workers = [Stores(state, Catalogue(), self.announce, draws.randbytes) for _ in range(3)]
        self.told: list[tuple[str, int]] = []
        self.fails: list[Exception] = []

    async def announce(self, brand: str, version: int) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.told.append((brand, version))
        await asyncio.gather(*(worker.load(brand, version) for worker in self.workers))

    def versions(self, brand: str = "acme") -> list[int]:
        return [worker.catalogue.brand(brand).version for worker in self.workers]


@pytest.fixture
async def swarm(state: State, seed: int) -> Swarm:
    made = Swarm(state, seed)
    await made.workers[0].put_brand("acme", "Acme")
    await made.workers[0].import_stores("acme", "text/csv", io.BytesIO(ONE))
    assert len(set(made.versions())) == 1
    return made


async def marks(state: State) -> list[str]:
    return [mark.decode() for mark in await state.call("SMEMBERS", keys.stores_changing())]


async def test_a_change_that_was_told_leaves_no_mark(swarm: Swarm, state: State) -> None:
    assert await marks(state) == []
    await swarm.workers[1].new_key("acme")
    assert await marks(state) == []
    assert [await swarm.workers[2].announce_forgotten() for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("change", ["stores", "name", "key"])
async def test_what_an_ended_worker_did_not_tell_is_told_at_the_second_look(
    swarm: Swarm, state: State, change: str
) -> None:
    importer, leader, other = swarm.workers
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "stores": lambda: importer.import_stores("acme", "text/csv", io.BytesIO(TWO)),
        "name": lambda: importer.put_brand("acme", "Acme 2"),
        "key": lambda: importer.new_key("acme"),
    }
    before = swarm.versions()[2], other.catalogue.brand("acme")
    swarm.fails = [Ended()]
    with pytest.raises(Ended):
        await acts[change]()
    assert len(await marks(state)) == 1
    assert (swarm.versions()[2], other.catalogue.brand("acme")) == before
    assert [await leader.announce_forgotten() for _ in range(2)] == [0, 1]
    found = [worker.catalogue.brand("acme") for worker in swarm.workers]
    assert [(b.version, b.name, set(b.keys)) for b in found[1:]] == [
        (found[0].version, found[0].name, set(found[0].keys))
    ] * 2
    assert (found[0].version, found[0].name, found[0].keys) != (before[1].version, before[1].name, before[1].keys)
    for _ in range(LOOKS):
        await leader.announce_forgotten()
    assert await marks(state) == []
    assert await leader.announce_forgotten() == 0


async def test_a_worker_that_ends_before_the_flip_leaves_the_old_set_everywhere(
    swarm: Swarm, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(*_: Any) -> None:
        raise Ended

    version = swarm.versions()[0]
    with monkeypatch.context() as patch:
        patch.setattr(shelves, "make_current", ends)
        with pytest.raises(Ended):
            await swarm.workers[0].import_stores("acme", "text/csv", io.BytesIO(TWO))
    told = [await swarm.workers[1].announce_forgotten() for _ in range(LOOKS + 1)]
    assert told == [0] + [1] * (LOOKS - 1) + [0]
    assert swarm.versions() == [version] * 3
    assert await marks(state) == []


async def test_a_change_made_long_after_its_mark_is_told_too(swarm: Swarm, state: State) -> None:
    """Its worker stood still between the two, and ends right after it."""
    importer, leader, _ = swarm.workers
    known = importer.catalogue.brand("acme")
    chunks = [b"".join(await asyncio.to_thread(_packed_two))]
    version = await shelves.write_set(state, "acme", chunks)
    await importer._changing.begin("acme")
    for _ in range(LOOKS - 2):
        await leader.announce_forgotten()
    await shelves.make_current(state, "acme", (known.version, known.chunks), (version, 1))
    await leader.announce_forgotten()
    assert swarm.versions() == [version] * 3


def _packed_two() -> Sequence[bytes]:
    from discovery.stores.importers import read_stores
    from discovery.stores.packing import pack

    return pack(read_stores("text/csv", io.BytesIO(TWO), "Acme").stores)


async def test_who_was_slower_leaves_no_mark(swarm: Swarm, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    flip = shelves.make_current

    async def overtaken(state: State, brand: str, expected: Any, new: Any) -> None:
        monkeypatch.setattr(shelves, "make_current", flip)
        await swarm.workers[1].import_stores("acme", "text/csv", io.BytesIO(ONE))
        await flip(state, brand, expected, new)

    monkeypatch.setattr(shelves, "make_current", overtaken)
    with pytest.raises(Conflict):
        await swarm.workers[0].import_stores("acme", "text/csv", io.BytesIO(TWO))
    assert await marks(state) == []


async def test_an_unknown_outcome_keeps_its_mark_and_one_brand_does_not_hold_up_another(
    swarm: Swarm, state: State
) -> None:
    await swarm.workers[0].put_brand("zeta", "Zeta")
    for brand in ("acme", "zeta"):
        swarm.fails = [StateAway(outcome_unknown=True)]
        with pytest.raises(StateAway):
            await swarm.workers[0].put_brand(brand, f"{brand} 2")
    assert {mark.split()[0] for mark in await marks(state)} == {"acme", "zeta"}
    swarm.fails = [StateAway(), StateAway()]
    assert [await swarm.workers[1].announce_forgotten() for _ in range(3)] == [0, 0, 2]
    assert [worker.catalogue.brand("zeta").name for worker in swarm.workers] == ["zeta 2"] * 3


async def test_loads_at_once_share_reads_and_never_end_on_an_older_set(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Reads take random times, as over a network; imports and loads of one brand meet."""
    draws, plain, reads = random.Random(seed), shelves.load_brand, 0

    async def slow(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        await asyncio.sleep(draws.random() / 100)
        found = await plain(*args)
        await asyncio.sleep(draws.random() / 100)
        return found

    monkeypatch.setattr(shelves, "load_brand", slow)
    seen: dict[int, int] = {}

    async def load(n: int) -> None:
        await asyncio.sleep(draws.random() / 5)
        worker = swarm.workers[n % 3]
        await worker.load("acme")
        version = worker.catalogue.brand("acme").version
        assert version >= seen.get(n % 3, 0)
        seen[n % 3] = version

    async def imports() -> None:
        for n in range(4):
            await swarm.workers[0].import_stores("acme", "text/csv", io.BytesIO((ONE, TWO)[n % 2]))

    await asyncio.gather(imports(), *(load(n) for n in range(300)))
    assert len(set(swarm.versions())) == 1
    assert reads < 150


async def test_a_load_given_up_does_not_end_that_of_others(swarm: Swarm) -> None:
    worker = swarm.workers[1]
    first = asyncio.create_task(worker.load("acme"))
    second = asyncio.create_task(worker.load("acme"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
