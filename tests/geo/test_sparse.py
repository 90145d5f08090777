"""Sparse areas: the parts cover the world, each once, and each has residents enough or is as coarse as can be."""

import math
import random
from pathlib import Path

import h3.api.basic_int as h3_int
import numpy as np
import pytest

from api import sparse_areas as table
from geo import cells, privacy
from geo.sparse import LEAST_RESIDENTS, SparseAreas, residents_of, sparse_areas

PARIS5 = cells.cell_of(48.8566, 2.3522, 5)
PENTAGON5 = h3_int.get_pentagons(5)[3]


def children(cell: int, resolution: int = 7) -> list[int]:
    return [int(child) for child in h3_int.cell_to_children(cell, resolution)]


def drawn(draws: random.Random, city: int) -> dict[int, float]:
    """Residents of some of the 49 cells: villages, towns, sea."""
    share = draws.random()
    sizes = [1.0, 400.0, 1499.0, 1500.0, 1501.0, 9000.0]
    return {cell: draws.choice(sizes) for cell in children(city) if draws.random() < share}


@pytest.mark.parametrize("city", [PARIS5, PENTAGON5])
def test_every_part_has_residents_enough(seed: int, scale: int, city: int) -> None:
    for run in range(40 * scale):
        residents = drawn(random.Random(seed + run), city)
        areas = sparse_areas(residents)
        parts: dict[int, float] = {}
        for cell in children(city):
            shown = areas.published(cell)
            assert shown in (cell, cells.parent(cell, 6), city)
            parts[shown] = parts.get(shown, 0.0) + residents.get(cell, 0.0)
        total = sum(residents.values())
        enough = all(count >= LEAST_RESIDENTS for count in parts.values())
        assert enough if total >= LEAST_RESIDENTS else list(parts) == [city], (seed + run, parts)
        for shown in parts:
            assert sorted(areas.part(shown)) == [
                cell for cell in sorted(children(city)) if areas.published(cell) == shown
            ]


def test_where_people_live_everywhere_nothing_is_coarser() -> None:
    areas = sparse_areas(dict.fromkeys(children(PARIS5), float(LEAST_RESIDENTS)))
    assert areas.published_many(children(PARIS5)).tolist() == children(PARIS5)
    with pytest.raises(ValueError, match="nobody"):
        areas.uncertainty_m(PARIS5)


def test_a_park_in_a_city_is_not_told_from_its_neighbour() -> None:
    """Shown as the parent alone it would be known exactly, for all its siblings are shown as themselves."""
    residents = {cell: 9000.0 + number for number, cell in enumerate(children(PARIS5))}
    park = children(PARIS5)[10]
    del residents[park]
    areas = sparse_areas(residents)
    middle = cells.parent(park, 6)
    smallest = min((cell for cell in children(middle) if cell != park), key=residents.__getitem__)
    assert sorted(areas.part(middle)) == sorted([park, smallest])
    assert areas.uncertainty_m(middle) < privacy.uncertainty_m(middle) / 1.8, "two of seven children are not the parent"


def test_the_sea_is_shown_as_coarsely_as_can_be() -> None:
    areas = sparse_areas({})
    sea = cells.cell_of(30.0, -40.0, 7)
    assert areas.published(sea) == cells.parent(sea, 5)
    assert areas.uncertainty_m(cells.parent(sea, 5)) == pytest.approx(
        privacy.uncertainty_m(cells.parent(sea, 5)), rel=0.01
    )


def test_one_and_many_agree(seed: int) -> None:
    draws = random.Random(seed)
    areas = sparse_areas(drawn(draws, PARIS5) | drawn(draws, PENTAGON5))
    asked = [*children(PARIS5), *children(PENTAGON5), cells.cell_of(1.0, 1.0, 7)]
    assert areas.published_many(asked).tolist() == [areas.published(cell) for cell in asked]


def test_residents_are_laid_over_a_disc_and_counted_once() -> None:
    city = residents_of([48.8566], [2.3522], [2_000_000])
    assert sum(city.values()) == pytest.approx(2_000_000)
    assert 100 < len(city) < 160, "667 square kilometres"
    assert max(city, key=city.__getitem__) == cells.cell_of(48.8566, 2.3522, 7)
    assert max(city.values()) < 2.2 * min(city.values())
    district = residents_of([48.8566, 48.8566], [2.3522, 2.3522], [2_000_000, 30_000])
    assert sum(district.values()) < 2_030_000
    assert residents_of([10.0], [10.0], [0]) == {}
    assert residents_of([10.0], [10.0], [700]) == {cells.cell_of(10.0, 10.0, 7): 700.0}


def test_no_two_centres_lie_nearer_than_a_village_reaches() -> None:
    for pentagon in h3_int.get_pentagons(7):
        for cell in h3_int.grid_disk(pentagon, 3):
            assert min(cells.distance_m(cell, other) for other in h3_int.grid_ring(cell, 1)) > 1_700


def test_the_table_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few places here; the whole of GeoNames takes 15 s. The file is made in another process, which is not waited
    for a second time."""
    made = []

    def make(command: list[str], *, check: bool) -> None:
        made.append(command)
        areas = sparse_areas(residents_of([48.8566], [2.3522], [2_000_000]))
        np.savez_compressed(table._path(tmp_path), fine=areas.fine, middle=areas.middle)

    monkeypatch.setattr("api.sparse_areas.subprocess.run", make)
    for _ in range(2):
        table.load_sparse_areas.cache_clear()
        found = table.load_sparse_areas(tmp_path)
        assert found.published(cells.cell_of(48.8566, 2.3522, 7)) == cells.cell_of(48.8566, 2.3522, 7)
        assert isinstance(found, SparseAreas)
    table.load_sparse_areas.cache_clear()
    assert len(made) == 1
    table._path(tmp_path).write_bytes(b"half a file")
    table.load_sparse_areas(tmp_path)
    table.load_sparse_areas.cache_clear()
    assert len(made) == 2


def test_no_shape_is_nearer_than_the_disc(seed: int) -> None:
    """What the declared uncertainty of a part rests on: of any set of area A half lies beyond 0.399 sqrt(A)."""
    draws = np.random.default_rng(seed)
    grid = draws.uniform(-1, 1, (20_000, 2))
    for _ in range(5):
        kept = grid[(np.sin(grid @ draws.uniform(-9, 9, 2)) > draws.uniform(-0.9, 0.5))]
        area = 4.0 * len(kept) / len(grid)
        best = min(float(np.median(np.hypot(*(kept - guess).T))) for guess in draws.uniform(-1, 1, (40, 2)))
        assert best >= 0.3989 * math.sqrt(area) * 0.97
