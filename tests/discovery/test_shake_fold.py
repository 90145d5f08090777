"""The shake fold: its rules one by one, and equality with the slow twin that replays the same stream."""

import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery import shake_table
from discovery.shake_entries import ANYWHERE, NEARBY, Shake, pack_shakes, unpack_shakes
from discovery.shake_fold import Match, ShakeFold, ShakeView
from geo import cells
from geo.kernels.matching import fold_newcomers
from tests.naive_shake import NaiveShake, pair_band, replay_shakes, shown_matches

Entries = list[tuple[bytes, int]]

T0 = 1_790_000_000_000
EPOCH_MS = 900_000
HERE = cells.cell_of(48.8584, 2.2945, 7)
AROUND = cells.disk(HERE, 20_000.0)[0].tolist()
DISTANCES_M = cells.disk(HERE, 20_000.0)[1].tolist()
NEAR = next(cell for cell, distance_m in zip(AROUND, DISTANCES_M, strict=True) if 0 < distance_m < 3000)
MIDDLE = next(cell for cell, distance_m in zip(AROUND, DISTANCES_M, strict=True) if 3000 <= distance_m < 5000)
FAR = next(cell for cell, distance_m in zip(AROUND, DISTANCES_M, strict=True) if distance_m >= 5000)


def epoch_key(epoch: int) -> tuple[int, int]:
    digest = hashlib.sha256(b"test epoch %d" % epoch).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


@cache
def person_hash(person: str) -> int:
    return int.from_bytes(hashlib.sha256(person.encode()).digest()[:8], "little")


@dataclass
class Feed:
    """Writes one shake an entry and keeps the stream, so that the twin can replay it."""

    fold: ShakeFold
    entries: Entries
    now_ms: int = T0
    written: int = 0

    def shake(
        self,
        person: str,
        after_ms: int = 0,
        *,
        cell: int = HERE,
        reach: int = NEARBY,
        limit: int = 10,
        adult: bool = True,
        window_ms: int = 5000,
        excluded: Iterable[str] = (),
    ) -> int:
        self.now_ms += after_ms
        self.written += 1
        hashes = tuple(sorted(person_hash(one) for one in excluded))
        one = Shake(self.written, person, person_hash(person), cell, reach, limit, adult, window_ms, hashes)
        self.write([one])
        return self.written

    def write(self, shakes: list[Shake]) -> list[int]:
        payload = pack_shakes(shakes)
        self.entries.append((payload, self.now_ms))
        return self.fold.fold(payload, self.now_ms)

    def names(self, shake_hash: int) -> set[str]:
        return {match.person for match in self.fold.matches(shake_hash)}


@pytest.fixture
def feed() -> Iterable[Feed]:
    feed = Feed(ShakeFold(epoch_key, EPOCH_MS), [])
    yield feed
    assert_equal_to_twin(feed.fold, feed.entries, EPOCH_MS)


def assert_equal_to_twin(fold: ShakeFold, entries: Entries, epoch_ms: int, keep_ms: int = 600_000) -> None:
    known = replay_shakes(entries, epoch_key, epoch_ms, keep_ms)
    for shake_hash, twin in known.items():
        if twin.hive_ms + keep_ms >= fold.now_ms:
            assert fold.matches(shake_hash) == shown_matches(twin)
            assert fold.shake(shake_hash) is not None
        else:
            assert fold.matches(shake_hash) == []
            assert fold.shake(shake_hash) is None


# -- the rules


@pytest.mark.parametrize(
    ("cell", "band"), [(HERE, 0), (NEAR, 0), (MIDDLE, 1), (FAR, None)], ids=["same", "near", "middle", "far"]
)
def test_bands_of_nearby_shakes(feed: Feed, cell: int, band: int | None) -> None:
    first, second = feed.shake("ada"), feed.shake("bob", 100, cell=cell)
    assert feed.fold.matches(first) == ([] if band is None else [Match("bob", band)])
    assert feed.fold.matches(second) == ([] if band is None else [Match("ada", band)])


@pytest.mark.parametrize(("after_ms", "met"), [(0, True), (5000, True), (5001, False)])
def test_the_window_ends_after_five_seconds(feed: Feed, after_ms: int, met: bool) -> None:
    first, second = feed.shake("ada"), feed.shake("bob", after_ms)
    assert feed.names(first) == ({"bob"} if met else set())
    assert feed.names(second) == ({"ada"} if met else set())


@pytest.mark.parametrize(("older_ms", "newer_ms"), [(5000, 1000), (1000, 5000)])
def test_both_windows_must_hold(feed: Feed, older_ms: int, newer_ms: int) -> None:
    first = feed.shake("ada", window_ms=older_ms)
    feed.shake("bob", 1001, window_ms=newer_ms)
    assert feed.names(first) == set()
    feed.shake("cem", 0, window_ms=5000)
    assert feed.names(first) == ({"cem"} if older_ms == 5000 else set())


def test_one_anywhere_still_needs_the_radius_and_two_do_not(feed: Feed) -> None:
    first = feed.shake("ada", reach=ANYWHERE)
    feed.shake("bob", 10, cell=FAR)
    last = feed.shake("cem", 10, cell=FAR, reach=ANYWHERE)
    assert feed.fold.matches(first) == [Match("cem", 2)]
    assert feed.fold.matches(last) == [Match("bob", 0), Match("ada", 2)]


def test_two_anywhere_in_one_cell_show_no_distance(feed: Feed) -> None:
    first = feed.shake("ada", reach=ANYWHERE)
    feed.shake("bob", 10, reach=ANYWHERE)
    assert feed.fold.matches(first) == [Match("bob", 2)]


def test_anywhere_pairs_oldest_first(feed: Feed) -> None:
    cells_7 = [cells.cell_of(lat, 10.0, 7) for lat in range(-60, 60, 10)]
    for number, cell in enumerate(cells_7):
        feed.shake(f"p{number}", 1, cell=cell, reach=ANYWHERE, adult=number % 2 == 0, excluded=[f"p{number - 2}"])
    last = feed.shake("zoe", 1, cell=FAR, reach=ANYWHERE, limit=3)
    names = [match.person for match in feed.fold.matches(last)]
    assert names == sorted(names, key=lambda name: int(name[1:]))
    assert names == ["p0", "p2", "p4"]


@pytest.mark.parametrize("excluder", ["older", "newer", "both"])
def test_excluded_people_never_meet_and_cost_no_slot(feed: Feed, excluder: str) -> None:
    older = feed.shake("ada", limit=1, excluded=["bob"] if excluder != "newer" else [])
    newer = feed.shake("bob", 10, limit=1, excluded=["ada"] if excluder != "older" else [])
    assert feed.names(older) == feed.names(newer) == set()
    feed.shake("cem", 10, limit=2)
    assert feed.names(older) == feed.names(newer) == {"cem"}


def test_age_bands_never_meet(feed: Feed) -> None:
    adult = feed.shake("ada", reach=ANYWHERE)
    minor = feed.shake("bob", 10, adult=False, reach=ANYWHERE)
    assert feed.names(adult) == feed.names(minor) == set()


def test_two_accounts_of_one_human_never_meet(feed: Feed) -> None:
    shake = Shake(1, "ada", 5, HERE, NEARBY, 10, True, 5000, ())
    assert feed.write([shake, shake._replace(shake_hash=2, person="ada-2")]) == [1]
    assert feed.fold.matches(1) == feed.fold.matches(2) == []


def test_nobody_has_more_than_the_limit(feed: Feed) -> None:
    shakes = [feed.shake(f"p{number}", 1, limit=3) for number in range(20)]
    assert all(len(feed.names(shake)) <= 3 for shake in shakes)
    assert sum(len(feed.names(shake)) for shake in shakes) == 60  # five full groups of four


def test_a_match_wakes_both_sides_and_nobody_else(feed: Feed) -> None:
    one = Shake(1, "ada", 11, HERE, NEARBY, 10, True, 5000, ())
    assert feed.write([one]) == []
    assert feed.write([one._replace(shake_hash=2, person_hash=12, cell7=FAR)]) == []
    assert sorted(feed.write([one._replace(shake_hash=3, person_hash=13)])) == [1, 3]


def test_the_view_of_a_shake(feed: Feed) -> None:
    first = feed.shake("ada", cell=FAR, reach=ANYWHERE)
    assert feed.fold.shake(first) == ShakeView("ada", FAR, ANYWHERE, T0 + 5000, 5000, T0)
    assert feed.fold.shake(999) is None
    assert feed.fold.matches(999) == []


# -- one person shaking again


def test_a_new_shake_ends_the_earlier_one_which_keeps_its_matches(feed: Feed) -> None:
    first = feed.shake("ada", limit=2)
    feed.shake("bob", 100)
    second = feed.shake("ada", 100, cell=FAR)
    feed.shake("cem", 100)
    assert feed.names(first) == {"bob"}
    assert feed.names(second) == set()
    view = feed.fold.shake(first)
    assert view is not None
    assert view.closes_at_ms == T0 + 200


def test_the_ended_shake_is_woken(feed: Feed) -> None:
    one = Shake(1, "ada", 11, HERE, NEARBY, 10, True, 5000, ())
    feed.write([one])
    assert feed.write([one._replace(shake_hash=2)]) == [1]
    feed.now_ms += 6000
    assert feed.write([one._replace(shake_hash=3)]) == []


def test_a_full_partner_is_met_again_without_using_capacity(feed: Feed) -> None:
    partner = feed.shake("bob", limit=1)
    first = feed.shake("ada", 100)
    assert feed.fold.matches(partner) == [Match("ada", 0)]
    second = feed.shake("ada", 100, cell=MIDDLE)
    assert feed.fold.matches(partner) == [Match("ada", 1)]
    assert feed.fold.matches(second) == [Match("bob", 1)]
    assert feed.fold.matches(first) == [Match("bob", 0)]


def test_a_partner_with_room_is_met_again_only_once(feed: Feed) -> None:
    partner = feed.shake("bob", limit=5)
    for _ in range(4):
        feed.shake("ada", 100)
    assert feed.fold.matches(partner) == [Match("ada", 0)]
    feed.shake("cem", 100)
    assert feed.names(partner) == {"ada", "cem"}


@pytest.mark.parametrize("reach", [NEARBY, ANYWHERE])
def test_a_partner_with_room_takes_one_place_of_the_newcomer(feed: Feed, reach: int) -> None:
    feed.shake("bob", reach=reach, excluded=["cem"])
    feed.shake("ada", 100, reach=reach)
    feed.shake("cem", 100, reach=reach, excluded=["bob"])
    assert feed.names(feed.shake("ada", 100, reach=reach, limit=2)) == {"bob", "cem"}


def test_an_older_anywhere_shake_goes_before_a_full_partner(feed: Feed) -> None:
    feed.shake("zed", reach=ANYWHERE)
    feed.shake("ada", 100, reach=ANYWHERE, excluded=["zed"])
    feed.shake("bob", 100, reach=ANYWHERE, excluded=["zed"], limit=1)
    assert feed.names(feed.shake("ada", 100, reach=ANYWHERE, limit=1)) == {"zed"}


def test_a_partner_of_the_shake_before_the_last_is_found(feed: Feed) -> None:
    partner = feed.shake("bob", limit=1)
    feed.shake("ada", 100)
    feed.shake("ada", 100, cell=FAR)
    third = feed.shake("ada", 100)
    assert feed.names(third) == {"bob"}
    assert feed.names(partner) == {"ada"}


def test_an_expired_shake_still_counts_as_the_same_person(feed: Feed) -> None:
    feed.shake("ada")
    partner = feed.shake("bob", 4000, limit=1)
    second = feed.shake("ada", 2000)
    assert feed.fold.matches(partner) == [Match("ada", 0)]
    assert feed.fold.matches(second) == [Match("bob", 0)]


def test_a_met_person_who_moved_out_of_reach_stays_in_the_list(feed: Feed) -> None:
    partner = feed.shake("bob", limit=1)
    feed.shake("ada", 100)
    second = feed.shake("ada", 100, cell=FAR)
    assert feed.names(partner) == {"ada"}
    assert feed.names(second) == set()


def test_a_repeat_of_a_shake_changes_nothing(feed: Feed) -> None:
    first = feed.shake("ada")
    feed.shake("bob", 100)
    before = feed.fold.digest()
    feed.now_ms += 100
    payload, _ = feed.entries[0]
    assert feed.write(unpack_shakes(payload) * 2) == []
    assert feed.fold.digest() == before
    assert feed.names(first) == {"bob"}


# -- time


def test_a_shake_is_forgotten_after_ten_minutes(feed: Feed) -> None:
    first = feed.shake("ada")
    feed.shake("bob", 100)
    feed.fold.tick(T0 + 600_000)
    assert feed.names(first) == {"bob"}
    feed.fold.tick(T0 + 600_001)
    assert feed.fold.now_ms == T0 + 600_001
    assert feed.fold.shake(first) is None
    assert feed.names(first) == set()
    assert feed.names(2) == {"ada"}
    feed.fold.tick(T0 + 2_000_000)
    assert feed.fold.digest() == 0


def test_exclusions_hold_while_old_ones_are_forgotten(feed: Feed) -> None:
    others = [f"nobody{number}" for number in range(250)]
    for number in range(600):
        feed.shake(f"p{number}", 700, excluded=[*others, f"p{number - 1}", f"p{number + 2}", f"p{number + 3}"])
    last = [feed.names(number + 1) for number in (200, 590)]
    assert last == [{f"p{number + apart}" for apart in (-7, -6, -5, -4, 4, 5, 6, 7)} for number in (200, 590)]


def test_time_never_runs_back(feed: Feed) -> None:
    first = feed.shake("ada")
    second = feed.shake("bob", -60_000)
    assert feed.names(first) == {"bob"}
    view = feed.fold.shake(second)
    assert view is not None
    assert view.hive_ms == T0


def test_memory_is_given_back(feed: Feed) -> None:
    everywhere = [cells.cell_of(lat / 10, lon, 7) for lat in range(-600, 600, 8) for lon in range(-170, 170, 17)]
    for start in range(0, 1500, 500):
        feed.now_ms += 1000
        feed.write(
            [
                Shake(number, f"p{number}", number, everywhere[number], NEARBY, 10, True, 5000, (1, number + 5000))
                for number in range(start, start + 500)
            ]
        )
    table = feed.fold._table
    assert len(table) == len(table.cells) == 1500
    feed.now_ms += 1_000_000
    feed.written = 10_000
    feed.shake("ada")
    assert len(table) == len(table.cells) == 1
    assert feed.names(feed.shake("bob", 10, cell=MIDDLE)) == {"ada"}


# -- refusals


def test_a_refused_payload_changes_nothing(feed: Feed) -> None:
    feed.shake("ada")
    before = feed.fold.digest()
    good = pack_shakes([Shake(9, "bob", 12, HERE, NEARBY, 10, True, 5000, ())] * 2)
    with pytest.raises(ValueError, match="cut short"):
        feed.fold.fold(good[:-1], T0 + 1000)
    assert feed.fold.digest() == before
    assert feed.fold.now_ms == T0
    assert feed.fold.shake(9) is None


@pytest.mark.parametrize("epoch_ms", [0, -1])
def test_an_epoch_must_have_a_length(epoch_ms: int) -> None:
    with pytest.raises(ValueError, match="epoch_ms"):
        ShakeFold(epoch_key, epoch_ms)
    with pytest.raises(ValueError, match="epoch_ms"):
        ShakeFold(epoch_key, 1).set_epoch(epoch_ms)
    with pytest.raises(ValueError, match="keep_ms"):
        ShakeFold(epoch_key, 1, epoch_ms)


def test_the_epoch_length_can_change() -> None:
    fold = ShakeFold(epoch_key, 1)
    asked: list[int] = []
    fold._epoch_key = lambda epoch: asked.append(epoch) or epoch_key(epoch)  # type: ignore[func-returns-value]
    for length_ms in (1000, 1000, 30_000):
        fold.set_epoch(length_ms)
        fold.fold(pack_shakes([]), T0)
    assert asked == [T0 // 3000, T0 // 90_000]


# -- against the twin


def test_the_fold_runs_the_kernel(monkeypatch: pytest.MonkeyPatch, feed: Feed) -> None:
    calls = 0
    kernel = fold_newcomers

    def counted(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        return int(kernel(*arguments))

    monkeypatch.setattr(shake_table, "fold_newcomers", counted)
    assert kernel.nopython_signatures
    feed.shake("ada")
    assert feed.names(feed.shake("bob")) == {"ada"}
    assert calls == 2


HASHES = 120


@st.composite
def worlds(draw: st.DrawFn) -> Entries:
    """Few people in a few cells who shake again and again, with repeats, exclusions and several shakes an entry."""
    people = draw(st.integers(2, 12))
    near = AROUND[: draw(st.sampled_from((1, 4, 12, len(AROUND))))]
    hashes = st.integers(0, HASHES - 1)
    one = st.builds(
        lambda shake_hash, person, cell, anywhere, limit, adult, window_ms, excluded: Shake(
            shake_hash, f"p{person}", person, cell, anywhere, limit, adult, window_ms, tuple(sorted(excluded))
        ),
        hashes,
        st.integers(0, people - 1),
        st.sampled_from(near),
        st.sampled_from((NEARBY, NEARBY, ANYWHERE)),
        st.integers(1, 4),
        st.sampled_from((True, True, True, False)),
        st.sampled_from((5000, 5000, 5000, 1000, 0)),
        st.sets(st.integers(0, people - 1), max_size=2),
    )
    steps = st.sampled_from((0, 1, 50, 400, 1000, 2500, 5000, -300, 130_000))
    groups = draw(st.lists(st.tuples(steps, st.lists(one, min_size=1, max_size=4)), min_size=1, max_size=40))
    now_ms, entries = T0, []
    for step_ms, shakes in groups:
        now_ms += step_ms
        entries.append((pack_shakes(shakes), now_ms))
    return entries


@settings(max_examples=200, deadline=None)
@given(worlds(), st.sampled_from((300, 1700, EPOCH_MS)), st.sampled_from((1000, 6000, 600_000)), st.booleans())
def test_small_worlds_equal_the_twin(entries: Entries, epoch_ms: int, keep_ms: int, ticking: bool) -> None:
    fold, other = (ShakeFold(epoch_key, epoch_ms, keep_ms) for _ in range(2))
    before: Lists = {}
    for payload, hive_ms in entries:
        changed = fold.fold(payload, hive_ms)
        assert len(changed) == len(set(changed))
        after = lists_of(fold)
        assert lists_changed(before, after) <= set(changed)
        before = after
        other.fold(payload, hive_ms)
        if ticking:
            other.tick(hive_ms)
    assert_equal_to_twin(fold, entries, epoch_ms, keep_ms)
    assert fold.digest() == other.digest()


Lists = dict[tuple[int, int], list[Match]]


def lists_of(fold: ShakeFold) -> Lists:
    """By hash and time: a hash may come again once it is forgotten."""
    views = {shake_hash: fold.shake(shake_hash) for shake_hash in range(HASHES)}
    return {(shake_hash, view.hive_ms): fold.matches(shake_hash) for shake_hash, view in views.items() if view}


def lists_changed(before: Lists, after: Lists) -> set[int]:
    return {shake[0] for shake, matches in after.items() if matches != before.get(shake, [])}


def test_the_digest_sees_every_match_and_no_slot_numbers() -> None:
    entries: Entries = [
        (pack_shakes([Shake(number, f"p{number}", number, HERE, NEARBY, 3, True, 5000, ())]), T0 + 100 * number)
        for number in range(1, 9)
    ]
    whole, missing, late = (ShakeFold(epoch_key, EPOCH_MS) for _ in range(3))
    late.fold(pack_shakes([Shake(50, "old", 50, HERE, NEARBY, 3, True, 5000, ())]), T0 - 600_000)
    for number, (payload, hive_ms) in enumerate(entries):
        whole.fold(payload, hive_ms)
        late.fold(payload, hive_ms)
        if number != 3:
            missing.fold(payload, hive_ms)
    assert whole.digest() == late.digest() != missing.digest()


CITIES = (
    (48.86, 2.35),
    (35.68, 139.69),
    (40.71, -74.0),
    (-33.87, 151.21),
    (19.08, 72.88),
    (-17.73, 179.98),
    (69.65, 18.96),
)
SHAKES = 10_000
STADIUM_SHARE = 0.4


def crowded_stream(rng: random.Random) -> Entries:
    """10,000 shakes within 10 s: four in ten in one stadium, the others around cities; one in 25 shakes again."""
    people = [rng.getrandbits(64) for _ in range(SHAKES * 24 // 25)]
    stadium = rng.random() < 0.5
    times = sorted(rng.randrange(10_000) for _ in range(SHAKES))
    shakes = [(one_of_crowd(rng, people, number, stadium), T0 + at) for number, at in enumerate(times)]
    entries, start = [], 0
    while start < SHAKES:
        end = start + rng.randint(1, 20)
        group = shakes[start:end]
        entries.append((pack_shakes([shake for shake, _ in group]), group[-1][1]))
        start = end
    return entries


def one_of_crowd(rng: random.Random, people: list[int], number: int, stadium_anywhere: bool) -> Shake:
    person = number if number < len(people) else rng.randrange(len(people))
    excluded = tuple(sorted({rng.choice(people) for _ in range(rng.choice((0, 0, 0, 5, 256)))}))
    if person < SHAKES * STADIUM_SHARE:
        reach = ANYWHERE if stadium_anywhere and person % 3 == 0 else NEARBY
        return Shake(number, f"p{person}", people[person], HERE, reach, 10, True, 5000, excluded)
    lat, lon = CITIES[person % len(CITIES)]
    cell = cells.cell_of(lat + rng.gauss(0, 0.08), (lon + rng.gauss(0, 0.08) + 180) % 360 - 180, 7)
    reach = ANYWHERE if rng.random() < 0.1 else NEARBY
    return Shake(
        number, f"p{person}", people[person], cell, reach, rng.randint(1, 20), rng.random() < 0.9, 5000, excluded
    )


def test_ten_thousand_shakes_within_ten_seconds(seed: int) -> None:
    entries = crowded_stream(random.Random(seed))
    fold = ShakeFold(epoch_key, EPOCH_MS)
    began_s = time.perf_counter()
    for payload, hive_ms in entries:
        fold.fold(payload, hive_ms)
    took_s = time.perf_counter() - began_s
    print(f"{SHAKES} shakes folded in {took_s:.3f} s = {SHAKES / took_s:,.0f} a second")
    known = replay_shakes(entries, epoch_key, EPOCH_MS)
    assert len(known) == SHAKES
    assert {shake_hash: fold.matches(shake_hash) for shake_hash in known} == {
        shake_hash: shown_matches(twin) for shake_hash, twin in known.items()
    }
    assert_lawful(fold, known)


def assert_lawful(fold: ShakeFold, known: dict[int, NaiveShake]) -> None:
    """From the stream and the answers alone: mutual, inside window and bands, none twice, none over the limit."""
    of_person: dict[str, list[NaiveShake]] = defaultdict(list)
    for twin in known.values():
        of_person[twin.shake.person].append(twin)
    shown = {shake_hash: fold.matches(shake_hash) for shake_hash in known}
    names = {shake_hash: {match.person for match in matches} for shake_hash, matches in shown.items()}
    assert sum(map(len, shown.values())) > SHAKES
    for shake_hash, twin in known.items():
        matches = shown[shake_hash]
        assert len(names[shake_hash]) == len(matches) <= twin.shake.limit
        for person, band in matches:
            assert any(
                pair_band(twin.shake, other.shake) == band
                and abs(other.hive_ms - twin.hive_ms) <= 5000
                and other.shake.adult == twin.shake.adult
                and twin.shake.person_hash not in other.shake.excluded
                and other.shake.person_hash not in twin.shake.excluded
                and twin.shake.person in names[other.shake.shake_hash]
                for other in of_person[person]
            )
