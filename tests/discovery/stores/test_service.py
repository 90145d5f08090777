"""Brands, keys and imports over a real state server."""

import asyncio
import io
import json
import random
from collections.abc import Callable

import pytest

from discovery.errors import Conflict, ImportRefused, Invalid, NotFound
from discovery.store import keys
from discovery.store.client import State
from discovery.stores import shelves
from discovery.stores.brand_keys import base62
from discovery.stores.catalogue import Catalogue
from discovery.stores.packing import pack
from discovery.stores.question import Question
from discovery.stores.service import Stores

ONE = b"store_id,name,lat,lon\na,A,1,1\n"
TWO = b"store_id,name,lat,lon\na,A,1,1\nb,B,2,2\n"
BAD = b"store_id,name,lat,lon\na,A,1,1\nb,B,north,2\n"


class Announced(list[tuple[str, int]]):
    async def __call__(self, brand: str, version: int) -> None:
        self.append((brand, version))


Make = Callable[[], Stores]


@pytest.fixture
def announced() -> Announced:
    return Announced()


@pytest.fixture
def make(state: State, announced: Announced, seed: int) -> Make:
    return lambda: Stores(state, Catalogue(), announced, random.Random(seed).randbytes)


async def test_a_brand_its_key_and_its_stores_are_seen_by_another_worker(make: Make, announced: Announced) -> None:
    here, there = make(), make()
    await here.put_brand("acme", " Acme ", "https://acme.example")
    key_id, key = await here.new_key("acme")
    report = await here.import_stores("acme", "text/csv", io.BytesIO(TWO))
    assert report.as_json() == {
        "added": 2,
        "changed": 0,
        "removed": 0,
        "unchanged": 0,
        "rejected": [],
        "warnings": [],
    }
    assert announced == [("acme", 0), ("acme", 0), ("acme", report.version)]
    await there.load_all()
    brand = there.catalogue.brand("acme")
    assert (brand.name, brand.website, brand.version, list(brand.keys)) == (
        "Acme",
        "https://acme.example",
        report.version,
        [key_id],
    )
    assert there.key_allows("acme", key)
    assert there.reads.store("acme", "b") == here.reads.store("acme", "b")
    assert json.loads(there.reads.store("acme", "b"))["properties"]["name"] == "B"
    question = Question(1.9, 1.9, 0)
    assert await there.reads.nearest("acme", question, 0) == await here.reads.nearest("acme", question, 0)


async def test_keys(make: Make, state: State) -> None:
    stores = make()
    await stores.put_brand("acme", "Acme")
    await stores.put_brand("other", "Other")
    _, key = await stores.new_key("acme")
    assert key.startswith("nh_sk_")
    assert len(key) == 6 + 27
    assert key[6:].isalnum()
    assert stores.key_allows("acme", key)
    wrong = ["", key[:-1], key + "0", key.lower(), key.replace("sk", "pk"), "é", "\ud800"]
    assert not any(stores.key_allows("acme", other) for other in wrong)
    assert not stores.key_allows("other", key)
    assert not stores.key_allows("nobody", key)
    kept = b"".join(await state.call("HGETALL", keys.brand_keys("acme")))
    assert key.encode() not in kept
    assert key[6:].encode() not in kept


def test_base62_is_a_number_of_27_digits() -> None:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for data in (bytes(20), b"\xff" * 20, bytes(range(20))):
        text = base62(data, 27)
        assert len(text) == 27
        assert sum(digits.index(c) * 62**i for i, c in enumerate(reversed(text))) == int.from_bytes(data, "big")


async def test_what_is_refused(make: Make) -> None:
    stores = make()
    await stores.put_brand("acme", "Acme")
    for brand, name, website in [("a b", "A", None), ("acme", "  ", None), ("acme", "A", "javascript:1")]:
        with pytest.raises(Invalid):
            await stores.put_brand(brand, name, website)
    with pytest.raises(Invalid):
        await stores.new_key("acme", "publishable")
    with pytest.raises(NotFound):
        await stores.new_key("nobody")
    with pytest.raises(NotFound):
        await stores.import_stores("nobody", "text/csv", io.BytesIO(ONE))
    with pytest.raises(NotFound):
        await stores.reads.nearest("nobody", Question(0.0, 0.0, 0), 0)
    with pytest.raises(NotFound):
        stores.reads.store("acme", "a")
    assert json.loads(await stores.reads.nearest("acme", Question(0.0, 0.0, 0), 0))["features"] == []


async def test_rejected_rows_refuse_or_are_skipped(make: Make, state: State, announced: Announced) -> None:
    stores = make()
    await stores.put_brand("acme", "Acme")
    await stores.import_stores("acme", "text/csv", io.BytesIO(ONE))
    before, told = await state.call("DBSIZE"), len(announced)
    with pytest.raises(ImportRefused) as refused:
        await stores.import_stores("acme", "text/csv", io.BytesIO(BAD))
    rejected = [{"row": 3, "field": "lat", "message": "not a number of degrees such as 48.8566"}]
    assert refused.value.rejected == rejected
    with pytest.raises(Invalid):
        await stores.import_stores("acme", "text/csv", io.BytesIO(b"lat;name\n1;1\n"))
    assert (await state.call("DBSIZE"), len(announced)) == (before, told)
    report = await stores.import_stores("acme", "text/csv", io.BytesIO(BAD), "skip")
    assert (report.rejected, report.difference.unchanged, report.difference.added) == (rejected, 1, 0)


async def test_a_dry_run_changes_nothing(make: Make, state: State) -> None:
    stores = make()
    await stores.put_brand("acme", "Acme")
    before = await state.call("DBSIZE")
    report = await stores.import_stores("acme", "text/csv", io.BytesIO(TWO), dry_run=True)
    assert (report.difference.added, report.version) == (2, 0)
    assert len(stores.catalogue.brand("acme").stores) == 0
    assert await state.call("DBSIZE") == before


async def test_replacing_counts_and_lets_the_old_chunks_go(make: Make, state: State) -> None:
    stores = make()
    await stores.put_brand("acme", "Acme")
    first = await stores.import_stores("acme", "text/csv", io.BytesIO(TWO))
    second = await stores.import_stores("acme", "text/csv", io.BytesIO(b"store_id,name,lat,lon\nb,B,2,3\nc,C,3,3\n"))
    assert second.difference == type(second.difference)(added=1, changed=1, removed=1, unchanged=0)
    assert second.version > first.version
    old = await state.call("TTL", keys.brand_chunk("acme", first.version, 0))
    new = await state.call("TTL", keys.brand_chunk("acme", second.version, 0))
    assert 0 < old <= shelves.SPARE_CHUNKS_TTL_S
    assert new == -1


async def test_of_two_imports_at_once_one_wins_whole(make: Make, state: State) -> None:
    here, there = make(), make()
    await here.put_brand("acme", "Acme")
    data = [b"store_id,name,lat,lon\n%b,N,1,1\n" % name for name in (b"x", b"y")]
    results = await asyncio.gather(
        here.import_stores("acme", "text/csv", io.BytesIO(data[0])),
        there.import_stores("acme", "text/csv", io.BytesIO(data[1])),
        return_exceptions=True,
    )
    losers = [result for result in results if isinstance(result, Conflict)]
    # They may also have come one after the other; never may one count from a set that is gone.
    assert len(losers) <= 1
    last = make()
    await last.load_all()
    assert len(last.catalogue.brand("acme").stores) == 1


async def test_the_slower_import_is_a_conflict_and_changes_nothing(make: Make, state: State) -> None:
    stores = make()
    await stores.put_brand("acme", "Acme")
    await stores.import_stores("acme", "text/csv", io.BytesIO(TWO))
    known = stores.catalogue.brand("acme")
    chunks = pack(known.stores)
    winner, loser = [await shelves.write_set(state, "acme", chunks) for _ in range(2)]
    expected = known.version, known.chunks
    await shelves.make_current(state, "acme", expected, (winner, len(chunks)))
    with pytest.raises(Conflict, match="another import"):
        await shelves.make_current(state, "acme", expected, (loser, len(chunks)))
    assert await shelves.current(state, "acme") == (winner, len(chunks))
    # What the loser wrote goes by itself; what the winner wrote stays.
    assert await state.call("TTL", keys.brand_chunk("acme", loser, 0)) > 0
    assert await state.call("TTL", keys.brand_chunk("acme", winner, 0)) == -1


async def test_a_version_that_is_gone_is_a_conflict(state: State) -> None:
    with pytest.raises(Conflict, match="gone"):
        await shelves.load(state, "acme", 5, 2)


async def test_names_and_keys_change_without_loading_the_set_again(make: Make) -> None:
    here, there = make(), make()
    await here.put_brand("acme", "Acme")
    await here.import_stores("acme", "text/csv", io.BytesIO(TWO))
    await there.load_all()
    before = there.catalogue.brand("acme").stores
    await here.put_brand("acme", "Acme 2")
    await there.load("acme")
    assert there.catalogue.brand("acme").name == "Acme 2"
    assert there.catalogue.brand("acme").stores is before
    await there.load("nobody")
    assert "nobody" not in there.catalogue
