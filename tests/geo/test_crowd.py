"""The people index against a sorted list: order, bands, pages, late arrivals, hidden and excluded members."""

from collections.abc import Sequence
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo import cells, crowd, privacy
from geo.crowd import BandsAround, Crowd, band_cells
from geo.kernels import ranking
from tests import naive_geo

Member = tuple[int, int, int]
NOW = 1_000
LAST_KEY = 2**64 - 1

CELLS = sorted(h3.grid_disk(h3.latlng_to_cell(52.5, 13.4, 7), 2))
KEYS = st.integers(0, LAST_KEY) | st.sampled_from([0, 1, LAST_KEY, LAST_KEY - 1, 2**63])


def crowd_of(members: Sequence[Member]) -> Crowd:
    columns = list(zip(*members, strict=True)) or [(), (), ()]
    return Crowd(np.array(columns[0], np.uint64), np.array(columns[1], np.uint64), np.array(columns[2], np.int32))


def as_bands(*bands: Sequence[int]) -> list[np.ndarray]:
    return [np.array(band, dtype=np.uint64) for band in bands]


def pages(
    index: Crowd,
    bands: Sequence[np.ndarray],
    viewer_key: int,
    limit: int,
    shown_until_ms: np.ndarray,
    excluded: Sequence[int] = (),
) -> list[Member]:
    """Everything, page by page, as (band, offset, slot)."""
    out: list[Member] = []
    after = None
    while True:
        page = index.page(
            bands, viewer_key, after, limit, shown_until_ms, NOW, np.array(sorted(excluded), dtype=np.int32)
        )
        assert [part.dtype for part in page] == [np.int32, np.int32, np.uint64]
        slots, at, offsets = (part.tolist() for part in page)
        out += zip(at, offsets, slots, strict=True)
        assert len(slots) <= limit
        assert len(out) <= len(index), "somebody came twice"
        if len(slots) < limit:
            return out
        after = (at[-1], offsets[-1])


@st.composite
def members_with_distinct_keys(draw: st.DrawFn) -> list[Member]:
    keys = draw(st.lists(KEYS, unique=True, max_size=40))
    slots = draw(st.permutations(range(len(keys))))
    return [(draw(st.sampled_from(CELLS)), key, slot) for key, slot in zip(keys, slots, strict=True)]


@given(
    members_with_distinct_keys(),
    st.integers(0, 40),
    KEYS,
    st.integers(1, 12),
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 45)),
    st.integers(0, len(CELLS)),
)
def test_paging_to_the_end_gives_every_shown_member_once_and_in_order(
    members: list[Member],
    built: int,
    viewer_key: int,
    limit: int,
    hidden: set[int],
    excluded: set[int],
    border: int,
) -> None:
    index = crowd_of(members[:built])
    for member in members[built:]:
        index.add(*member)
    shown_until_ms = np.array([NOW if slot in hidden else NOW + 1 for slot in range(len(members))], dtype=np.int64)
    bands = [CELLS[:border], CELLS[border:-2]]
    shown = {slot for _, _, slot in members} - hidden - excluded
    expected = naive_geo.crowd_order(members, bands, viewer_key, shown)
    assert pages(index, as_bands(*bands), viewer_key, limit, shown_until_ms, list(excluded)) == expected
    assert len(index) == len(members)


def test_a_large_crowd_with_many_arrivals(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, arrivals = 4000, 3000
    lats, lons = 52.5 + random.normal(0, 0.2, n + arrivals), 13.4 + random.normal(0, 0.3, n + arrivals)
    keys = random.integers(0, 2**64, n + arrivals, dtype=np.uint64)
    slots = random.permutation(n + arrivals).astype(np.int32)
    member_cells = cells.cells_of(lats, lons, 7)
    members = list(zip(member_cells.tolist(), keys.tolist(), slots.tolist(), strict=True))
    index = Crowd(member_cells[:n], keys[:n], slots[:n])
    for member in members[n:]:
        index.add(*member)
    shown_until_ms = np.where(random.random(n + arrivals) < 0.8, NOW + 5, NOW).astype(np.int64)
    excluded = random.choice(n + arrivals, 200, replace=False).tolist()
    viewer_cell, viewer_key = cells.cell_of(52.5, 13.4, 7), members[0][1]  # most are within 50 km of the middle
    bands = BandsAround(viewer_cell, 5)
    shown = set(np.flatnonzero(shown_until_ms > NOW).tolist()) - set(excluded)
    sets: list[Sequence[int]] = [dict.fromkeys(band.tolist()) for band in bands]  # type: ignore[misc]
    expected = naive_geo.crowd_order(members, sets, viewer_key, shown)
    assert len(expected) > 3000
    assert {band for band, _, _ in expected} == {0, 1, 2, 3, 4}
    assert pages(index, bands, viewer_key, 50, shown_until_ms, excluded) == expected
    assert len(index) == n + arrivals
    assert all(slot in index for slot in range(n + arrivals))
    assert n + arrivals not in index


def test_cells_of_a_band_are_merged_by_key() -> None:
    index = crowd_of([(CELLS[0], 10, 0), (CELLS[1], 20, 1), (CELLS[0], 30, 2), (CELLS[1], 5, 3)])
    found = pages(index, as_bands(CELLS[:2]), 15, 10, np.full(4, NOW + 1))
    assert [slot for _, _, slot in found] == [1, 2, 3, 0]
    assert [offset for _, offset, _ in found] == [5, 15, 2**64 - 10, 2**64 - 5]


def test_equal_keys_are_ordered_by_slot() -> None:
    index = crowd_of([(CELLS[0], 7, 5), (CELLS[1], 7, 2), (CELLS[0], 7, 3)])
    index.add(CELLS[0], 7, 4)
    index.add(CELLS[2], 7, 1)
    index.add(CELLS[0], 7, 0)
    found = pages(index, as_bands(CELLS[:3]), 7, 10, np.full(6, NOW + 1))
    assert found == [(0, 0, slot) for slot in range(6)]


def test_resume_at_the_last_place_of_the_circle() -> None:
    index = crowd_of([(CELLS[0], 9, 0), (CELLS[0], 10, 1), (CELLS[1], 3, 2)])
    bands = as_bands(CELLS[:1], CELLS[1:2])
    assert pages(index, bands, 10, 1, np.full(3, NOW + 1)) == [(0, 0, 1), (0, LAST_KEY, 0), (1, LAST_KEY - 6, 2)]


def test_nobody_is_shown_beyond_the_times_or_after_them() -> None:
    index = crowd_of([(CELLS[0], 1, 0), (CELLS[0], 2, 1), (CELLS[0], 3, 900)])
    assert pages(index, as_bands(CELLS), 0, 5, np.array([NOW, NOW + 1])) == [(0, 2, 1)]
    assert pages(index, as_bands(CELLS), 0, 5, np.empty(0, np.int64)) == []


def test_empty_crowds_and_bands() -> None:
    empty = crowd_of([])
    assert len(empty) == 0
    assert 0 not in empty
    assert pages(empty, as_bands(CELLS), 0, 5, np.empty(0, np.int64)) == []
    empty.add(CELLS[0], 5, 3)
    assert len(empty) == 1
    assert 3 in empty
    assert pages(empty, as_bands([], CELLS, []), 0, 5, np.full(4, NOW + 1)) == [(1, 5, 3)]
    assert pages(empty, [], 0, 5, np.full(4, NOW + 1)) == []


def test_misuse_is_refused() -> None:
    index = crowd_of([(CELLS[0], 1, 4)])
    with pytest.raises(ValueError, match="a slot is negative or already"):
        index.add(CELLS[0], 2, 4)
    with pytest.raises(ValueError, match="a slot is negative or already"):
        index.add(CELLS[0], 2, -1)
    assert len(index) == 1
    with pytest.raises(ValueError, match="twice"):
        crowd_of([(CELLS[0], 1, 4), (CELLS[0], 2, 4)])
    with pytest.raises(ValueError, match="negative"):
        crowd_of([(CELLS[0], 1, -4)])
    with pytest.raises(ValueError, match="0 is not a cell"):
        crowd_of([(0, 1, 4)])
    with pytest.raises(ValueError, match="length"):
        Crowd(np.zeros(2, np.uint64), np.zeros(1, np.uint64), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="limit"):
        index.page(as_bands(CELLS), 0, None, 0, np.full(5, 1), 0, np.empty(0, np.int32))
    for other in (-1, 4.0, "4", None):
        assert other not in index


def test_wide_bands_are_computed_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(cell: int, band: int) -> np.ndarray:
        asked.append(band)
        return band_cells(cell, band)

    monkeypatch.setattr(crowd, "band_cells", counted)
    index = crowd_of([(CELLS[0], 1, 0), (CELLS[0], 2, 1)])
    shown, nobody = np.full(2, NOW + 1), np.empty(0, np.int32)
    assert index.page(BandsAround(CELLS[0], 5), 0, None, 2, shown, NOW, nobody)[0].tolist() == [0, 1]
    assert asked == []
    assert index.page(BandsAround(CELLS[0], 5), 0, (0, 1), 2, shown, NOW, nobody)[0].tolist() == [1]
    assert asked == [3, 4]
    far = h3.latlng_to_cell(-30, -120, 7)
    assert index.page(BandsAround(far, 5), 0, None, 2, shown, NOW, nobody)[0].tolist() == []
    assert asked == [3, 4], "nobody is near: no cells are needed to know it"


@pytest.mark.parametrize("resolution", [5, 6, 7, 8])
def test_a_coarse_cover_holds_every_cell_of_its_disk(seed: int, resolution: int) -> None:
    random = np.random.default_rng(seed)
    lats, lons = np.degrees(np.arcsin(random.uniform(-1, 1, 40))), random.uniform(-180, 180, 40)
    pentagons = [h3.cell_to_latlng(cell) for cell in h3.get_pentagons(4)]
    for lat, lon in [*zip(lats.tolist(), lons.tolist(), strict=True), *pentagons, (90.0, 0.0), (0.0, 180.0)]:
        cell = h3.latlng_to_cell(lat, lon, resolution)
        radius_m = float(random.choice([10_000, 20_000, 50_000]))
        within, _ = cells.disk(cell, radius_m)
        cover = set(crowd.coarse_cover(cell, radius_m).tolist())
        assert set(cells.parents(within, ranking.COARSE).tolist()) <= cover


def test_the_reach_of_a_coarse_parent_is_as_declared() -> None:
    """Over whole parents, pentagons and those beside them among them; finer cells lie no farther out than 5 % more."""
    parents = [cell for pentagon in h3.get_pentagons(4) for cell in h3.grid_disk(pentagon, 1)]
    parents += [h3.latlng_to_cell(lat, lon, 4) for lat in range(-80, 90, 20) for lon in range(-170, 180, 40)]
    farthest = max(
        cells.distances_m(parent, np.array(h3.cell_to_children(parent, 7), np.uint64)).max() for parent in parents
    )
    assert farthest * 1.05 < crowd._COARSE_REACH_M


def test_one_call_of_the_kernel_for_all_small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = ranking.rank_bands
    assert len(kernel.signatures) == 1

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return kernel(*arguments)

    monkeypatch.setattr(ranking, "rank_bands", counted)
    index = crowd_of([(CELLS[0], 1, 0)])
    assert pages(index, as_bands(CELLS[:1], CELLS[1:]), 0, 5, np.full(1, NOW + 1)) == [(0, 1, 0)]
    assert len(calls) == 2
    assert pages(index, BandsAround(CELLS[0], 3), 0, 5, np.full(1, NOW + 1)) == [(0, 1, 0)]
    assert len(calls) == 3


def test_who_is_removed_is_in_nobodys_page_and_may_come_back_elsewhere() -> None:
    index = crowd_of([(CELLS[0], 10, 0), (CELLS[0], 10, 1), (CELLS[1], 20, 2)])
    index.add(CELLS[1], 20, 3)
    shown = np.full(5, NOW + 1)
    for cell, key, slot in ((CELLS[0], 10, 0), (CELLS[1], 20, 3)):
        index.remove(cell, key, slot)
        assert slot not in index
        with pytest.raises(ValueError, match="not in the crowd"):
            index.remove(cell, key, slot)
    assert len(index) == 2
    assert pages(index, as_bands(CELLS[:2]), 0, 5, shown) == [(0, 10, 1), (0, 20, 2)]
    index.add(CELLS[1], 5, 0)
    assert pages(index, as_bands(CELLS[:2]), 0, 5, shown) == [(0, 5, 0), (0, 10, 1), (0, 20, 2)]
    assert len(index) == 3


def test_the_removed_are_left_out_when_members_are_folded(seed: int) -> None:
    random = np.random.default_rng(seed)
    members = [(CELLS[int(random.integers(9))], int(random.integers(2**63)), slot) for slot in range(700)]
    index = crowd_of(members[:100])
    left = set(range(700))
    for number, member in enumerate(members[100:]):
        index.add(*member)
        if number % 3 == 0:
            gone = int(random.choice(sorted(slot for slot in left if slot <= member[2])))
            index.remove(*members[gone])
            left.discard(gone)
    assert index.added < 600, "never folded"
    assert len(index) == len(left)
    expected = naive_geo.crowd_order(members, [CELLS[:9]], 77, left)
    assert pages(index, as_bands(CELLS[:9]), 77, 40, np.full(700, NOW + 1)) == expected


@pytest.mark.parametrize("band", range(5))
def test_band_cells(band: int) -> None:
    pentagon = next(iter(h3.get_pentagons(7)))
    for cell in (CELLS[0], pentagon, h3.latlng_to_cell(90, 0, 7), h3.latlng_to_cell(0, 180, 7)):
        found = band_cells(cell, band)
        every, distances = cells.disk(cell, 50_000)
        assert found.tolist() == [
            c for c, d in zip(every.tolist(), distances, strict=True) if privacy.band_of(d) == band
        ]
        assert (cell in found.tolist()) == (band == 0)
        assert band_cells(cell, band) is found
        assert not found.flags.writeable


def test_bands_around_is_a_sequence() -> None:
    bands = BandsAround(CELLS[0], 3)
    assert len(bands) == 3
    assert len(list(bands)) == 3
    assert [len(band) for band in bands[1:]] == [band_cells(CELLS[0], 1).size, band_cells(CELLS[0], 2).size]
    for index in (3, -1):
        with pytest.raises(IndexError):
            bands[index]
    for bad in (5, -1):
        with pytest.raises(ValueError, match="band must be from 0 to 4"):
            band_cells(CELLS[0], bad)
