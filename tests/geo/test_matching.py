"""The matching kernel on bare arrays: its lists of open shakes, their proven bound, order, and forgetting."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config
from numpy.typing import NDArray

from geo.kernels import matching
from geo.kernels.keyed import siphash24
from geo.kernels.matching import MAX_MATCHES, MAX_NEAR, NONE, SHAKE
from tests import naive_shake

KEY = (np.uint64(7), np.uint64(11))


class World:
    """All shakes stand in one cell and come in the same millisecond."""

    def __init__(self, limits: Sequence[int], excluded: Sequence[Sequence[int]] | None = None) -> None:
        n = len(limits)
        self.shakes: NDArray[Any] = np.zeros(n, SHAKE)
        if getattr(config, "DISABLE_JIT", False):
            self.shakes = self.shakes.view(np.recarray)  # fields by name, as Numba has them
        self.shakes["shake_hash"] = self.shakes["person_hash"] = np.arange(n)
        self.shakes["order_key"] = [siphash24(*KEY, np.uint64(person)) for person in range(n)]
        self.shakes["window_ms"] = self.shakes["closed_ms"] = 5000
        self.shakes["limit"] = limits
        self.shakes["earlier"] = self.shakes["mark"] = NONE
        lists = excluded or [()] * n
        self.shakes["excluded_count"] = [len(one) for one in lists]
        self.shakes["excluded_at"] = np.cumsum([0] + [len(one) for one in lists])[:-1]
        self.excluded = np.array([person for one in lists for person in sorted(one)], np.uint64)
        self.links = np.full((2, 2, n), NONE, np.int32)
        self.cell_ends = np.full((1, 2, 2), NONE, np.int32)
        self.queue_ends = np.full((2, 2), NONE, np.int32)
        self.match_slot = np.full((n, MAX_MATCHES), NONE, np.int32)
        self.match_band = np.full((n, MAX_MATCHES), NONE, np.int8)
        self.near_row = np.full((1, MAX_NEAR), NONE, np.int32)
        self.near_band = np.full((1, MAX_NEAR), NONE, np.int8)
        self.near_row[0, 0] = self.near_band[0, 0] = 0

    def fold(self, first: int, end: int) -> list[int]:
        changed = np.empty(22 * (end - first), np.int32)
        written = matching.fold_newcomers(
            self.shakes, self.links, self.cell_ends, self.queue_ends, self.match_slot, self.match_band,
            self.near_row, self.near_band, self.excluded, 0, first, end, *KEY, changed,
        )  # fmt: skip
        return changed[:written].tolist()  # type: ignore[no-any-return]

    def drop(self, dropped: int, count: int) -> None:
        matching.drop_oldest(
            self.shakes, self.links, self.cell_ends, self.queue_ends, self.match_slot, self.match_band, dropped, count
        )

    def listed(self, kind: int = 0) -> list[int]:
        """The list read forwards; it must be the same backwards."""
        first, last = (self.cell_ends[0] if kind == 0 else self.queue_ends)[0]
        forwards = self._walk(first, self.links[kind, 0])
        assert forwards == self._walk(last, self.links[kind, 1])[::-1]
        return forwards

    def _walk(self, slot: int, step: NDArray[np.int32]) -> list[int]:
        seen = []
        while slot != NONE:
            seen.append(int(slot))
            slot = step[slot]
        return seen

    def matched(self, slot: int) -> list[int]:
        return self.match_slot[slot, : self.shakes["count"][slot]].tolist()  # type: ignore[no-any-return]


def test_every_kernel_is_compiled_ahead_and_really_ran() -> None:
    for kernel in (matching.fold_newcomers, matching.read_matches, matching.state_digest, matching.drop_oldest):
        assert len(kernel.nopython_signatures) == 1
    world = World([1, 1])
    assert world.fold(0, 2) == [0, 1]
    assert world.matched(0) == [1]
    assert world.matched(1) == [0]
    assert world.listed() == []


def test_a_newcomer_takes_the_next_keys_after_its_own() -> None:
    # The first eleven exclude each other, so that all of them are still open when the twelfth comes.
    world = World([20] * 11 + [4], [range(11)] * 11 + [[]])
    world.fold(0, 12)
    keys = world.shakes["order_key"]
    expected = sorted(range(11), key=lambda slot: (int(keys[slot]) - int(keys[11])) % 2**64)[:4]
    assert world.matched(11) == expected


def test_a_crowd_leaves_at_most_twenty_listed(seed: int) -> None:
    rng = random.Random(seed)
    world = World([rng.randint(1, 20) for _ in range(5000)])
    longest = 0
    for slot in range(5000):
        world.fold(slot, slot + 1)
        longest = max(longest, len(world.listed()))
    assert 1 <= longest <= 20
    assert all(len(world.matched(slot)) <= world.shakes["limit"][slot] for slot in range(5000))


def test_a_crowd_whose_people_exclude_each_other_stays_within_the_bound() -> None:
    # The worst that 256 exclusions a person allow: everybody excludes the 256 before them.
    n, each = 3000, 256
    world = World([20] * n, [[p for p in range(slot - each, slot) if p >= 0] for slot in range(n)])
    longest = 0
    for slot in range(n):
        world.fold(slot, slot + 1)
        longest = max(longest, len(world.listed()))
    assert 256 < longest <= 551


def test_the_order_read_is_band_then_key_then_oldest_anywhere() -> None:
    world = World([20] * 9)
    world.shakes["count"][0] = 8
    world.match_slot[0, :8] = [8, 3, 6, 1, 7, 2, 5, 4]
    world.match_band[0, :8] = [2, 0, 1, 1, 2, 0, 0, 2]
    slots, bands = np.empty(MAX_MATCHES, np.int64), np.empty(MAX_MATCHES, np.int64)
    assert matching.read_matches(world.shakes, world.match_slot, world.match_band, 0, *KEY, slots, bands) == 8
    keys = world.shakes["order_key"]
    ring = sorted(range(1, 9), key=lambda slot: (int(keys[slot]) - int(keys[0])) % 2**64)
    expected = [slot for slot in ring if slot in (3, 2, 5)] + [slot for slot in ring if slot in (6, 1)] + [4, 7, 8]
    assert slots[:8].tolist() == expected
    assert bands[:8].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


WORD = st.integers(0, 2**64 - 1)


@given(st.data())
def test_the_digest_is_that_of_the_twin(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 8))
    world = World([MAX_MATCHES] * n)
    rows = []
    for slot in range(n):
        me = (data.draw(WORD), data.draw(WORD), data.draw(st.integers(0, 2**62)))
        world.shakes["shake_hash"][slot], world.shakes["person_hash"][slot], world.shakes["closed_ms"][slot] = me
        matches = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 2)), max_size=4))
        world.shakes["count"][slot] = len(matches)
        for at, (matched, band) in enumerate(matches):
            world.match_slot[slot, at], world.match_band[slot, at] = matched, band
        rows.append((me, matches))
    first, end = sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))
    expected = naive_shake.state_digest(
        (*me, [(rows[matched][0][0], band) for matched, band in matches]) for me, matches in rows[first:end]
    )
    found = matching.state_digest(world.shakes, world.match_slot, world.match_band, first, end)
    assert int(found) == expected


@pytest.mark.parametrize("dropped", [0, 1, 5, 19, 20])
def test_forgetting_moves_everything_down(dropped: int) -> None:
    world = World([2, 1, 3, 20, 5] * 4, [[p for p in range(20) if p % 3 == slot % 3] for slot in range(20)])
    world.shakes["anywhere"] = [slot % 2 for slot in range(20)]
    world.fold(0, 20)
    before = {slot: world.matched(slot) for slot in range(20)}
    listed = [world.listed(kind) for kind in range(2)]
    assert len(listed[0]) > 3
    world.shakes["mark"] = 3  # a number that another shake has after the move
    world.drop(dropped, 20)
    assert (world.shakes["mark"][: 20 - dropped] == NONE).all()
    for slot in range(dropped, 20):
        assert world.shakes["person_hash"][slot - dropped] == slot
        assert world.matched(slot - dropped) == [max(other - dropped, NONE) for other in before[slot]]
    for kind in range(2):
        assert world.listed(kind) == [slot - dropped for slot in listed[kind] if slot >= dropped]
