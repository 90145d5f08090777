"""The presence kernels against their slow twins, on columns of any content."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geo.kernels import presence
from tests import naive_presence as naive

PEOPLE = 6
CELLS = st.sampled_from([0x881FB46601FFFFF, 0x881FB46603FFFFF, 0x881FB46605FFFFF, 2**64 - 1])
TIMES = st.integers(0, 10)  # few, so that equal ones meet
REPORTS = st.lists(st.tuples(st.integers(0, PEOPLE - 1), CELLS, st.just(0) | st.integers(1, 12)), max_size=12)
PERSON = st.builds(naive.Person, st.just(0) | CELLS, CELLS, CELLS, TIMES, TIMES)
WORD = st.integers(0, 2**64 - 1)
TIME = st.integers(0, 2**62)


def columns_of(people: list[naive.Person]) -> tuple[np.ndarray, ...]:
    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(person, name) for person in people], kind)

    return (
        column("published", np.uint64),
        column("stranger", np.uint64),
        column("pending", np.uint64),
        column("live_until_ms", np.int64),
        column("seen_ms", np.int64),
    )


def people_of(columns: tuple[np.ndarray, ...]) -> list[naive.Person]:
    return [naive.Person(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def run_fold(columns: tuple[np.ndarray, ...], reports: list[tuple[int, int, int]], now_ms: int, absent_ms: int) -> None:
    presence.fold_reports(
        np.array([slot for slot, _, _ in reports], np.int32),
        np.array([cell for _, cell, _ in reports], np.uint64),
        np.array([expiry for _, _, expiry in reports], np.int64),
        now_ms,
        absent_ms,
        *columns,
    )


def run_digest(
    hashes: Sequence[int], published: Sequence[int], pending: Sequence[int], expiries_ms: Sequence[int]
) -> int:
    hash_column, published_column, pending_column = (
        np.array(column, np.uint64) for column in (hashes, published, pending)
    )
    return int(presence.digest(hash_column, published_column, pending_column, np.array(expiries_ms, np.int64)))


@given(st.lists(PERSON, min_size=PEOPLE, max_size=PEOPLE), REPORTS, TIMES, st.integers(-3, 10))
def test_reports_are_folded_as_by_the_twin(
    people: list[naive.Person], reports: list[tuple[int, int, int]], now_ms: int, absent_ms: int
) -> None:
    columns = columns_of(people)
    run_fold(columns, reports, now_ms, absent_ms)
    naive.fold_reports(people, reports, now_ms, absent_ms)
    assert people_of(columns) == people


@given(st.lists(PERSON, min_size=PEOPLE, max_size=PEOPLE), REPORTS, REPORTS, TIMES)
def test_one_batch_is_as_good_as_two(
    people: list[naive.Person], first: list[tuple[int, int, int]], second: list[tuple[int, int, int]], now_ms: int
) -> None:
    """Group commit must not show: a person may come several times in one batch."""
    together, apart = columns_of(people), columns_of(people)
    run_fold(together, first + second, now_ms, 3)
    run_fold(apart, first, now_ms, 3)
    run_fold(apart, second, now_ms, 3)
    assert people_of(together) == people_of(apart)


def test_an_empty_batch_changes_nothing() -> None:
    people = [naive.Person(5, 5, 6, 7, 8)]
    columns = columns_of(people)
    run_fold(columns, [], 100, 100)
    assert people_of(columns) == people


@given(st.lists(st.tuples(WORD, WORD, st.integers(0, 3)), max_size=20), st.integers(-1, 3))
def test_an_edge_adopts_every_cell_of_its_shard(rows: list[tuple[int, int, int]], shard: int) -> None:
    source, target, shards = ([row[i] for row in rows] for i in range(3))
    column = np.array(target, np.uint64)
    presence.adopt(np.array(source, np.uint64), column, np.array(shards, np.uint8), shard)
    assert column.tolist() == naive.adopt(source, target, shards, shard)


@given(st.lists(st.tuples(WORD, WORD, WORD, TIME), max_size=8), st.randoms())
def test_digest_is_that_of_the_twin_in_any_order_of_slots(rows: list[tuple[int, int, int, int]], draws: Any) -> None:
    expected = naive.digest(rows)
    shuffled = rows.copy()
    draws.shuffle(shuffled)
    for some in (rows, shuffled):
        columns = list(zip(*some, strict=True)) or [(), (), (), ()]
        assert run_digest(*columns) == expected


@given(st.tuples(WORD, WORD, WORD, TIME), st.integers(0, 3), st.integers(0, 61))
def test_a_digest_sees_every_bit_of_every_field(row: tuple[int, int, int, int], field: int, bit: int) -> None:
    """But for the two that are folded together, a hash and a cell that change in the same bit; and for who was never
    seen, whose hash counts nothing."""
    changed = list(row)
    changed[field] ^= 1 << bit
    assume(any(row[1:]) or any(changed[1:]))
    digests = []
    for person_hash, published, pending, expiry_ms in (row, changed):
        digests.append(run_digest([person_hash], [published], [pending], [expiry_ms]))
    assert digests[0] != digests[1]


@pytest.mark.parametrize("name", ["fold_reports", "adopt", "digest"])
def test_every_kernel_is_compiled_ahead_and_really_ran(name: str) -> None:
    kernel = getattr(presence, name)
    assert len(kernel.nopython_signatures) == 1
    assert not kernel._can_compile, "a call with other types must fail, not compile again"
