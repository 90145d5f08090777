"""The table of ids against a dict, and its hash against the twin."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.id_table import IdTable
from geo.kernels import texts
from tests import naive_geo

KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["", "a", "b", "ab", "ba", "aa"])


@given(st.lists(st.lists(TEXTS, max_size=12), max_size=12))
def test_ids_are_numbered_as_in_a_dict(batches: list[list[str]]) -> None:
    table, twin = IdTable(KEY), dict[str, int]()
    for batch in batches:
        assert table.find(batch).tolist() == [twin.get(text, -1) for text in batch]
        for text in batch:
            twin.setdefault(text, len(twin))
        assert table.add(batch).tolist() == [twin[text] for text in batch]
    assert list(table) == table[:] == list(twin)
    assert len(table) == len(twin)
    assert all(table[number] == text and table.get(text) == number for text, number in twin.items())
    assert table.get("nobody of all these, who came never") is None


def test_many_ids_through_every_growth(seed: int, scale: int) -> None:
    draws = random.Random(seed)
    ids = [f"{draws.randrange(10**6)}-{'x' * draws.randrange(100)}" for _ in range(30_000 * scale)]
    table, twin, seen = IdTable(KEY), dict[str, int](), []
    at = 0
    while at < len(ids):
        batch = ids[at : at + draws.choice([1, 7, 500, 6000])]
        at += len(batch)
        for text in batch:
            twin.setdefault(text, len(twin))
        assert table.add(batch).tolist() == [twin[text] for text in batch]
        seen.append(len(table))
    assert seen == sorted(seen)
    assert list(table) == list(twin)
    assert table.find(ids).tolist() == [twin[text] for text in ids]


@given(st.binary(max_size=40), st.integers(0, 3))
def test_the_hash_is_that_of_the_twin(message: bytes, before: int) -> None:
    data = np.frombuffer(b"abc"[:before] + message + b"z", np.uint8)
    key = b"".join(part.to_bytes(8, "little") for part in KEY)
    found = texts.siphash24_bytes(np.uint64(KEY[0]), np.uint64(KEY[1]), data, before, before + len(message))
    assert int(found) == naive_geo.siphash24(key, message)


def test_a_number_that_nobody_has() -> None:
    table = IdTable(KEY)
    table.add(["ann", "bob"])
    assert (table[-1], table[-2]) == ("bob", "ann")
    for number in (2, -3):
        with pytest.raises(IndexError):
            table[number]


def test_what_is_asked_again_and_again_is_answered_alike(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """From what was asked lately, which is emptied many times here; who comes after a first question is found then."""
    monkeypatch.setattr("discovery.id_table._MOST_RECENT", 8)
    draws, table, twin = random.Random(seed), IdTable(KEY), dict[str, int]()
    for _ in range(3000):
        text = f"person-{draws.randrange(40)}"
        if draws.random() < 0.05:
            table.add([text])
            twin.setdefault(text, len(twin))
        assert table.get(text) == twin.get(text)
        assert len(table._recent) <= 8
    assert len(twin) > 16, "more than fit"


def test_ids_take_the_memory_that_they_say() -> None:
    table = IdTable(KEY)
    n = 100_000
    table.make_room(n, 12 * n)
    table.add([f"u{number:011d}" for number in range(n)])
    held = table._data.nbytes + table._starts.nbytes + table._index.nbytes
    assert held / n < 22.5


@pytest.mark.parametrize("name", ["find_texts", "add_texts", "index_texts", "siphash24_bytes"])
def test_every_kernel_is_compiled_ahead(name: str) -> None:
    assert len(getattr(texts, name).signatures) == 1
