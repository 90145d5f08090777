"""Rows of shake cells of several resolutions: links against every pair, whatever comes first."""

import random

import numpy as np
import pytest

from discovery.shake_cells import NEAR_M, ShakeCells
from geo import cells
from geo.kernels.matching import MAX_NEAR, NONE
from geo.mixed_bands import first_band_m, pair
from geo.privacy import band_of


def band_between(a: int, b: int) -> int | None:
    here, there = pair(a, b)
    distance_m, resolution = cells.distance_m(here, there), cells.resolution_of(here)
    if resolution == 7:
        return band_of(distance_m) if distance_m < NEAR_M else None
    return 0 if distance_m < first_band_m(resolution) else None


def drawn(draws: random.Random, resolutions: list[int]) -> list[int]:
    found = {
        cells.cell_of(48.85 + draws.gauss(0, 0.1), 2.35 + draws.gauss(0, 0.15), draws.choice(resolutions))
        for _ in range(250)
    }
    return draws.sample(sorted(found), len(found))


@pytest.mark.parametrize("resolutions", [[7], [5, 6, 7], [6], [5, 7, 7, 7, 7]])
def test_links_are_those_of_every_pair(seed: int, resolutions: list[int]) -> None:
    draws = random.Random(seed)
    table, added = ShakeCells(), drawn(draws, resolutions)
    rows = {cell: table.row(cell) for cell in added}
    if draws.random() < 0.5:
        used = sorted(rows.values())[::2]
        renumbered = table.keep(np.array(used, np.int32))
        rows = {cell: int(renumbered[row]) for cell, row in rows.items() if renumbered[row] != NONE}
    for cell in draws.sample(added, 40):
        rows[cell] = table.row(cell)
    for a, row in rows.items():
        links = {
            int(other): int(band)
            for other, band in zip(table.near_row[row], table.near_band[row], strict=True)
            if other != NONE
        }
        assert links == {other: band for b, other in rows.items() if (band := band_between(a, b)) is not None}
    if resolutions == [7]:
        assert table.near_row.shape[1] == MAX_NEAR, "where no area is sparse nothing is wider"
