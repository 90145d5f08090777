"""Packed store sets: what goes in comes out, and differences are counted."""

import io
import random

import pytest

from discovery.stores.changes import Difference, difference
from discovery.stores.importers import read_stores
from discovery.stores.packing import MAX_CHUNK_BYTES, empty_set, pack, unpack
from discovery.stores.store_set import StoreSet


def stores_of(lines: list[str]) -> StoreSet:
    text = "store_id,name,lat,lon,services,opening_hours,timezone\n" + "\n".join(lines)
    return read_stores("text/csv", io.BytesIO(text.encode()), "B").stores


def many(rng: random.Random, count: int) -> StoreSet:
    services = [f"service {number}" for number in range(90)]
    return stores_of(
        [
            f"s{number},N{rng.getrandbits(400):x},{rng.uniform(-90, 90)},{rng.uniform(-180, 180)},"
            f"{';'.join(rng.sample(services, 3))},09:00-{rng.randint(10, 20)}:00,Asia/Tokyo"
            for number in range(count)
        ]
    )


def test_unpack_gives_what_was_packed(seed: int) -> None:
    before = many(random.Random(seed), 20_000)
    chunks = pack(before)
    assert len(chunks) > 1
    assert max(map(len, chunks)) <= MAX_CHUNK_BYTES
    after = unpack(chunks)
    assert difference(before, after) == Difference(0, 0, 0, 20_000)
    assert after.services.names == before.services.names
    assert len(after.services.names) == 90
    assert after.services.masks.tolist() == before.services.masks.tolist()
    assert [rows.tolist() for rows in after.services.rare] == [rows.tolist() for rows in before.services.rare]
    assert after.hours.keys == before.hours.keys
    assert after.hours_rows.tolist() == before.hours_rows.tolist()
    assert after.feature(7) == before.feature(7)


def test_the_empty_set() -> None:
    assert len(empty_set()) == len(unpack(pack(empty_set()))) == 0
    assert empty_set().row_of("a") is None


def test_every_id_is_found_and_no_other(seed: int) -> None:
    rng = random.Random(seed)
    ids = sorted({f"{rng.choice('aBz9')}{rng.getrandbits(12)}" for _ in range(500)})
    stores = stores_of([f"{store_id},N,1,1,,," for store_id in ids])
    assert [stores.row_of(store_id) for store_id in ids] == list(range(len(ids)))
    assert stores.row_of("nope") is stores.row_of("é") is stores.row_of("") is None


def test_difference_counts() -> None:
    old = stores_of(["a,A,1,1,,,", "b,B,1,1,,,", "c,C,1,1,,,", "d,D,1,1,x,,"])
    new = stores_of(["a,A,1,1,,,", "b,B,1,1.5,,,", "d,D,1,1,y,,", "e,E,1,1,,,", "f,F,1,1,,,"])
    assert difference(old, new) == Difference(added=2, changed=2, removed=1, unchanged=1)


def test_damaged_bytes_are_noticed(seed: int) -> None:
    rng = random.Random(seed)
    chunks = pack(many(rng, 15_000))
    position = rng.randrange(len(chunks[0]))
    flipped = bytearray(chunks[0])
    flipped[position] ^= 1 << rng.randrange(8)
    for damaged in ([], chunks[:-1], chunks[1:], [bytes(flipped), *chunks[1:]], [*chunks[:-1], chunks[-1][:-1]]):
        with pytest.raises(ValueError, match="store set is damaged"):
            unpack(damaged)
