"""What is published of a day's demand: nothing below five, and one more search changes nothing but at a band's edge."""

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from discovery.stores.demand_answers import put_together, unserved_share, where_next
from discovery.stores.demand_rows import RESOLUTIONS, DayOfDemand, Tally, band_of, bounds_of, published
from discovery.stores.packing import empty_set
from discovery.stores.store_set import StoreSet
from geo import cells

PARIS = cells.cell_of(48.8566, 2.3522, 5)


def day_of(searches: list[tuple[int, str]]) -> DayOfDemand:
    """Of (cell of resolution 7, searcher)."""
    day = DayOfDemand()
    for cell, searcher in searches:
        tally = day.by_cell.setdefault(cell, Tally())
        tally.searches += 1
        tally.searchers.add(searcher.encode())
    return day


def bands(searches: list[tuple[int, str]]) -> dict[Any, Any]:
    """Bands of searches and searchers of every cell that has any above the lowest, told by plain counting."""
    counts: dict[Any, list[str]] = defaultdict(list)
    for cell, searcher in searches:
        for resolution in RESOLUTIONS:
            counts[cells.parent(cell, resolution)].append(searcher)
    found = {cell: (len(names), len(set(names))) for cell, names in counts.items()}
    return {cell: (band_of(n) if m >= 5 else 0, band_of(m)) for cell, (n, m) in found.items() if m >= 5}


def drawn(draw: random.Random) -> list[tuple[int, str]]:
    inside = cells.children(PARIS, 7).tolist() + cells.children(cells.cell_of(45.76, 4.83, 5), 7).tolist()
    places = draw.sample(inside, draw.randint(1, 30))
    return [(draw.choice(places), f"p{draw.randint(0, 60)}") for _ in range(draw.randint(0, 600))]


def test_bands_double() -> None:
    assert [bounds_of(band) for band in range(5)] == [(0, 4), (5, 9), (10, 19), (20, 39), (40, 79)]
    for count in range(3000):
        least, most = bounds_of(band_of(count))
        assert least <= count <= most


@pytest.mark.parametrize("index", range(6))
def test_one_more_search_changes_nothing_but_at_an_edge(seed: int, scale: int, index: int) -> None:
    """The rows with and without one other person's search, in any cell, an empty one included."""
    draw = random.Random(f"{seed}-{index}")
    stores, changed = empty_set(), 0
    for _ in range(15 * scale):
        searches = drawn(draw)
        more = [*searches, (draw.choice(cells.children(PARIS, 7).tolist()), "the other one")]
        without, with_one = (published(day_of(each), stores) for each in (searches, more))
        if bands(searches) != bands(more):
            changed += 1
            continue
        for resolution in map(str, RESOLUTIONS):
            assert without[resolution]["cells"] == with_one[resolution]["cells"]
            before, after = without[resolution]["other"], with_one[resolution]["other"]
            assert before == after or is_next(before, after)


def is_next(before: list[int] | None, after: list[int] | None) -> bool:
    """Whether the one row crossed an edge: of each count at most one."""
    if before is None or after is None:
        return before is None and after is not None and after[1] == 1
    return all(0 <= b - a <= 1 for a, b in zip(before, after, strict=True))


def test_nothing_below_five_is_shown_and_all_is_withheld_or_shown(seed: int, scale: int) -> None:
    draw = random.Random(seed)
    for _ in range(20 * scale):
        searches = drawn(draw)
        rows = published(day_of(searches), empty_set())
        for resolution in RESOLUTIONS:
            names: dict[int, list[str]] = defaultdict(list)
            for cell, searcher in searches:
                names[cells.parent(cell, resolution)].append(searcher)
            shown = {cells.from_hex(row[0]): row[1:3] for row in rows[str(resolution)]["cells"]}
            for cell, (n_band, m_band) in shown.items():
                assert len(set(names[cell])) >= 5
                assert (n_band, m_band) == (band_of(len(names[cell])), band_of(len(set(names[cell]))))
            hidden = [name for cell, found in names.items() if cell not in shown for name in found]
            expected = [band_of(len(hidden)), band_of(len(set(hidden)))] if len(set(hidden)) >= 5 else None
            assert rows[str(resolution)]["other"] == expected
            assert_one_more_is_withheld(names, set(shown), resolution)


def assert_one_more_is_withheld(names: dict[int, list[str]], shown: set[int], resolution: int) -> None:
    """In each group of siblings with a cell of five or more, the smallest of those is not shown, and no other."""
    groups: dict[int, list[int]] = defaultdict(list)
    for cell, found in names.items():
        if len(set(found)) >= 5:
            groups[cells.parent(cell, resolution - 1) if resolution > 5 else 0].append(cell)
    for group in groups.values():
        withheld = [cell for cell in group if cell not in shown]
        assert len(withheld) == 1
        size = {cell: (band_of(len(set(names[cell]))), band_of(len(names[cell]))) for cell in group}
        assert size[withheld[0]] == min(size.values())


def test_days_are_put_together_and_the_best_place_comes_first(seed: int) -> None:
    siblings = cells.children(cells.cell_of(48.8566, 2.3522, 6), 7).tolist()
    sizes = [40, 10, 20, 5, 12]
    day = day_of([(cell, f"{cell}-{n}") for cell, size in zip(siblings, sizes, strict=False) for n in range(size)])
    rows = published(day, empty_set())
    found = put_together([rows, {}, rows], 7)
    assert [row.searches_min for row in found.rows.values()] == [80, 20, 40, 20]
    assert found.other is not None
    assert (found.other.days, found.other.searchers_min) == (2, 10)
    assert unserved_share(found.rows.values()) == 1.0
    best = where_next(found, empty_set(), 10)
    assert [place["properties"]["rank"] for place in best] == list(range(1, len(best) + 1))
    lats, lons = cells.centers(np.array([cells.from_hex(cell) for cell in found.rows], dtype=np.uint64))
    weights = [row.searches_min for row in found.rows.values()]
    costs = {
        cell: sum(
            w * cells.distance_m(cells.from_hex(cell), cells.from_hex(other))
            for other, w in zip(found.rows, weights, strict=True)
        )
        for cell in found.rows
    }
    assert best[0]["id"] == min(costs, key=lambda cell: costs[cell])
    assert len(lats) == len(lons) == 4


def test_of_no_day_there_is_nothing() -> None:
    found = put_together([{}], 6)
    assert (found.rows, found.other, found.missing, unserved_share([])) == ({}, None, [], None)
    nowhere: StoreSet = empty_set()
    assert where_next(found, nowhere, 3) == []
