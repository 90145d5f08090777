"""Presence against its slow twin over random histories: reports, shakes, clears, time, other epoch lengths, crowds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.people import EVERYONE, People
from discovery.presence import Presence
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, Report, pack, unpack
from discovery.sealed import Sealer
from geo import cells
from geo.crowd import BandsAround
from geo.kernels import presence as kernels
from tests import naive_presence as naive

SEALER = Sealer(b"secret of the presence tests, of 32 bytes")
EPOCH_MS = 900_000
STRANGER_EPOCH_MS = 3 * EPOCH_MS
START_MS = 1_800_000_000_000 // STRANGER_EPOCH_MS * STRANGER_EPOCH_MS
ADULT = CLAIM_TOLD | CLAIM_KNOWN | CLAIM_ADULT

HOME = cells.cell_of(48.8566, 2.3522, 8)
CELLS8 = [int(cell) for cell in cells.disk(HOME, 6000.0)[0]][::5]
USERS = st.sampled_from(["ann", "bob", "carl", "dora", "eve"])

REPORT = st.tuples(USERS, st.sampled_from(CELLS8), st.just(0) | st.integers(1, 40_000_000), st.booleans())
ACT = st.one_of(
    st.tuples(st.just("reports"), st.lists(REPORT, max_size=6)),
    st.tuples(st.just("clear"), USERS),
    st.tuples(st.just("wait"), st.sampled_from([1, 60_000, EPOCH_MS, 2 * EPOCH_MS, STRANGER_EPOCH_MS, 20 * EPOCH_MS])),
    st.tuples(st.just("wait"), st.integers(0, 3 * STRANGER_EPOCH_MS)),
    st.tuples(st.just("epoch"), st.sampled_from([30_000, 300_000, EPOCH_MS, 1_000_000])),
)


class Both:
    """Presence and its twin, told the same."""

    def __init__(self) -> None:
        self.people = People(SEALER, require_age=True)
        self.real = Presence(self.people, SEALER.epoch_key)
        self.real.keep_digests()
        self.twin = naive.NaivePresence()
        self.now_ms, self.epoch_ms = START_MS, EPOCH_MS
        self.wait(0)

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.real.on_time(self.now_ms, self.epoch_ms)
        self.twin.on_time(self.now_ms, self.epoch_ms)

    def reports(self, rows: list[tuple[str, int, int, bool]]) -> None:
        batch = []
        for user, cell, ttl_ms, own in rows:
            own_flag = OWN if own and ttl_ms else 0  # a shake ends no clear
            batch.append(Report(user, cell, self.now_ms + ttl_ms if ttl_ms else 0, ADULT | own_flag))
        self.real.fold_reports(unpack(pack(batch)), self.now_ms)
        ended = {user for user, _, ttl_ms, own in rows if own and ttl_ms}
        self.twin.cleared -= ended  # the own report of a batch speaks for all of it
        for user, cell, ttl_ms, own in rows:
            self.twin.report(user, cell, self.now_ms + ttl_ms if ttl_ms else 0, self.now_ms, own=own)

    def clear(self, user: str) -> None:
        self.real.fold_clear(user, self.now_ms)
        self.twin.clear(user, self.now_ms)

    def epoch(self, epoch_ms: int) -> None:
        self.epoch_ms = epoch_ms
        self.wait(0)

    def show(self, user: str) -> None:
        change = {"u": user, "visibility": "everyone", "until": 0}
        self.real.refresh_one(self.people.fold_settings(change, self.now_ms), self.now_ms)

    def check(self) -> None:
        assert (self.real.edge_ms, self.real.stranger_edge_ms) == (self.twin.edge_ms, self.twin.stranger_edge_ms)
        for user, person in self.twin.people.items():
            slot = self.people.slot(user)
            assert slot is not None
            assert self.row(slot) == person, user
            assert self.real.is_live(slot, self.now_ms) == (user in self.twin.live(self.now_ms))
            if person.published:
                assert self.real.cell_at(slot, "near") == person.published
                assert self.real.stranger_cell(slot) == cells.parent(person.stranger, 7)
                assert self.real.cell_at(slot, "area") == cells.parent(person.stranger, 7)
                assert self.real.cell_at(slot, "city") == cells.parent(person.stranger, 5)
        assert self.real.count_live(self.now_ms) == len(self.twin.live(self.now_ms))

    def row(self, slot: int) -> naive.Person:
        real = self.real
        return naive.Person(
            published=int(real.published[slot]),
            stranger=int(real.stranger[slot]),
            pending=int(real.pending[slot]),
            live_until_ms=int(real.live_until_ms[slot]),
            seen_ms=int(real.seen_ms[slot]),
        )

    def digest(self) -> int:
        """The twin's, of everybody known."""
        rows = []
        for user in self.people.ids:
            person = self.twin.people.get(user, naive.Person())
            rows.append((self.people.hash_of(user), person.published, person.pending, person.live_until_ms))
        return naive.digest(rows)

    def listed(self) -> set[tuple[str, int]]:
        """Whom somebody at HOME would be listed, each with the cell of their band's search."""
        crowd, bands = self.real.crowd(self.now_ms), BandsAround(cells.parent(HOME, 7), 5)
        nobody = np.array([], np.int32)
        found = crowd.page(bands, 0, None, 1000, self.real.shown_until_ms, self.now_ms, nobody)
        return {(self.people.ids[slot], band) for slot, band in zip(found[0].tolist(), found[1].tolist(), strict=True)}

    def expected_listed(self) -> set[tuple[str, int]]:
        home = cells.parent(HOME, 7)
        found = set()
        for user in self.twin.live(self.now_ms):
            slot = self.people.slot(user)
            assert slot is not None
            if self.people.visibility[slot] == EVERYONE:
                distance_m = cells.distance_m(home, cells.parent(self.twin.people[user].stranger, 7))
                found.add((user, sum(distance_m >= border for border in (3000, 5000, 10_000, 20_000))))
        return found


@given(st.lists(ACT, max_size=30))
def test_any_history_gives_the_state_of_the_twin(history: list[tuple[str, Any]]) -> None:
    both = Both()
    for act, argument in history:
        edge_ms = both.real.edge_ms
        getattr(both, act)(argument)
        both.check()
        if both.real.edge_ms > edge_ms:
            assert both.real.digests[both.real.edge_ms] == both.digest()


@given(st.lists(ACT | st.tuples(st.just("show"), USERS), max_size=25), st.sets(st.integers(0, 24)))
def test_strangers_are_listed_the_same_however_often_somebody_looks(
    history: list[tuple[str, Any]], looks: set[int]
) -> None:
    """The index is built at the first look of an epoch and then kept up: when that was must not show."""
    both = Both()
    for step, (act, argument) in enumerate(history):
        getattr(both, act)(argument)
        if step in looks:
            assert both.listed() == both.expected_listed()
    assert both.listed() == both.expected_listed()


def test_a_jump_over_many_edges_equals_crossing_each() -> None:
    at_once, one_by_one = Both(), Both()
    for both in (at_once, one_by_one):
        both.reports([("ann", CELLS8[0], 9_000_000, True)])
        both.reports([("ann", CELLS8[1], 9_000_000, True)])
    at_once.wait(7 * EPOCH_MS)
    for _ in range(7):
        one_by_one.wait(EPOCH_MS)
    assert at_once.row(0) == one_by_one.row(0)
    assert at_once.real.edge_ms == one_by_one.real.edge_ms
    assert at_once.real.digests[at_once.real.edge_ms] == one_by_one.real.digests[at_once.real.edge_ms]


def test_a_shorter_epoch_moves_strangers_at_its_own_stranger_edges_only() -> None:
    both = Both()
    both.wait(EPOCH_MS)  # an edge, which the epoch to come would have called a stranger edge
    both.reports([("ann", CELLS8[0], 9_000_000, True)])
    both.reports([("ann", CELLS8[-1], 9_000_000, True)])
    both.epoch(EPOCH_MS // 3)
    both.wait(EPOCH_MS // 3)
    both.check()
    assert (both.row(0).published, both.row(0).stranger) == (CELLS8[-1], CELLS8[0])
    both.wait(2 * EPOCH_MS // 3)
    assert both.row(0).stranger == CELLS8[-1]


def test_the_app_cannot_bring_back_who_cleared_not_even_by_a_report_on_its_way() -> None:
    """The app's report passed the check before the clear was there, and came into the feed behind it."""
    both = Both()
    both.reports([("ann", CELLS8[0], 9_000_000, True)])
    both.clear("ann")
    both.reports([("ann", CELLS8[1], 9_000_000, False), ("bob", CELLS8[1], 9_000_000, False)])
    both.check()
    assert not both.real.is_live(0, both.now_ms)
    assert both.real.is_live(1, both.now_ms)
    both.reports([("ann", CELLS8[1], 0, False)])  # a shake brings nobody back either
    assert not both.real.is_live(0, both.now_ms)
    both.reports([("ann", CELLS8[1], 9_000_000, True)])
    assert both.real.is_live(0, both.now_ms)


def test_an_age_claimed_by_a_shake_counts_at_once_in_a_standing_index() -> None:
    """A worker that builds its index later would know of it."""
    both = Both()
    both.show("ann")
    both.reports([("ann", CELLS8[0], 9_000_000, True)])
    both.real.fold_reports(
        unpack(pack([Report("ann", CELLS8[0], both.now_ms + 9_000_000, CLAIM_TOLD | CLAIM_KNOWN)])), both.now_ms
    )
    assert both.listed() == set()
    both.reports([("ann", CELLS8[0], 0, False)])
    assert {user for user, _ in both.listed()} == {"ann"}


def test_a_suspension_ends_in_every_index_at_the_same_stranger_edge() -> None:
    early, late = Both(), Both()
    for both in (early, late):
        both.show("ann")
        both.reports([("ann", CELLS8[0], 9_000_000, True)])
        both.people.fold_settings({"u": "ann", "suspended": {"nearby": both.now_ms + 1000}}, both.now_ms)
    assert early.listed() == set()
    for both in (early, late):
        both.wait(2000)
        assert both.listed() == set()
        both.wait(STRANGER_EPOCH_MS)
        assert {user for user, _ in both.listed()} == {"ann"}


@pytest.mark.parametrize("count", [1024, 1025, 2100])
def test_more_people_than_the_first_columns_hold(count: int) -> None:
    both = Both()
    both.reports([(f"u{n}", CELLS8[n % len(CELLS8)], 9_000_000, True) for n in range(count)])
    both.reports([(f"u{n}", CELLS8[n % 7], 9_000_000, True) for n in range(0, count, 3)])
    both.check()
    both.wait(EPOCH_MS)
    both.check()
    assert len(both.people) == both.real.count_live(both.now_ms) == count


def test_digest_of_people_without_a_position_beyond_the_first_columns() -> None:
    """They come by settings, friendships and blocks: no report has made room for them."""
    both = Both()
    for n in range(1500):
        both.people.slot_or_new(f"u{n}")
    both.wait(EPOCH_MS)
    assert both.real.digests[both.real.edge_ms] == both.digest()


def test_an_empty_batch_changes_nothing() -> None:
    both = Both()
    both.reports([])
    both.check()
    assert len(both.people) == 0


def test_only_the_last_digests_are_kept_and_none_before_they_are_asked_for() -> None:
    both = Both()
    for _ in range(40):
        both.wait(EPOCH_MS)
    assert len(both.real.digests) == 16
    assert next(reversed(both.real.digests)) == both.real.edge_ms
    silent = Presence(both.people, SEALER.epoch_key)
    silent.on_time(both.now_ms, EPOCH_MS)
    assert not silent.digests


def test_no_epoch_yet_means_no_edge() -> None:
    people = People(SEALER, require_age=True)
    real = Presence(people, SEALER.epoch_key)
    real.on_time(START_MS, 0)
    assert real.edge_ms == 0


def test_the_kernels_are_what_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str) -> Any:
        kernel = getattr(kernels, name)
        assert kernel.nopython_signatures

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return kernel(*arguments)

        return call

    for name in ("fold_reports", "adopt", "digest"):
        monkeypatch.setattr(kernels, name, counted(name))
    both = Both()
    both.reports([("ann", CELLS8[0], 9_000_000, True)])
    both.wait(STRANGER_EPOCH_MS)
    assert calls[-4:] == ["fold_reports", "adopt", "adopt", "digest"]
