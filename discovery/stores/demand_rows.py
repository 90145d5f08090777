"""What is published of one day's demand: bands by cell, never a count, never a cell that fewer than five searched in.

Rules, and why they hold against a brand that searches itself and moves its stores:

- Counts are shown as bands, and every decision here is taken by bands, with 0 to 4 as one of them. So one more search
  changes nothing unless it carries a count over the edge of a band.
- A cell below five searchers is withheld, and in its group (the cells of one parent; at resolution 5 the whole brand)
  the smallest of the others with it, always: else what a parent or the brand's own total says less what is shown would
  be one cell. It is withheld even where no cell is below five, for an empty cell is one: else a first search in an
  empty cell would show by another cell's going.
- What is withheld is one ``other`` row, if five different people searched there, or is dropped.
- Distances are those of cell centres and of the stores as they are when the day is published: no search is in them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from discovery.stores.store_set import StoreSet
from geo import cells
from geo.sphere import great_circle_m

K = 5
RESOLUTIONS = (5, 6, 7)
FINEST = 7
FAR_M = 10_000.0
"""Beyond this a search is unserved."""
DISTANCE_EDGES_M = (0, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
MOST_MISSING = 50

_TOP_BAND = 24  # from 41,943,040 on
_WHOLE_BRAND = 0


@dataclass(slots=True)
class Tally:
    """Searches, and keyed hashes of those who searched."""

    searches: int = 0
    searchers: set[bytes] = field(default_factory=set)

    def add(self, other: "Tally") -> None:
        """Add another's."""
        self.searches += other.searches
        self.searchers |= other.searchers


@dataclass(slots=True)
class DayOfDemand:
    """What was counted in one day: by cell of resolution 7, and who asked for a service, by cell and service."""

    by_cell: dict[int, Tally] = field(default_factory=dict)
    by_service: dict[tuple[int, str], set[bytes]] = field(default_factory=dict)


def band_of(count: int) -> int:
    """0 below 5, then 1 for 5-9, 2 for 10-19, 3 for 20-39 and so on, each twice as wide as the one before."""
    return min((count // K).bit_length(), _TOP_BAND)


def bounds_of(band: int) -> tuple[int, int]:
    """The least and the most of a band."""
    return (0, K - 1) if band == 0 else (K << (band - 1), (K << band) - 1)


def published(day: DayOfDemand, stores: StoreSet) -> dict[str, Any]:
    """The rows of a day, as JSON values: by resolution {"cells": [[hex, searches, searchers, distance, beyond]…],
    "other": [searches, searchers] or None}, and "missing": [[service, searchers]…]. Counts are bands (``band_of``);
    ``distance`` an index of ``DISTANCE_EDGES_M``, -1 without stores; ``beyond`` tenths of the cell that lie beyond
    10 km of every store."""
    rows: dict[str, Any] = {}
    finer = day.by_cell
    for resolution in reversed(RESOLUTIONS):
        tallies = finer if resolution == FINEST else _parents(finer, resolution)
        rows[str(resolution)] = _level(tallies, resolution, stores)
        finer = tallies
    rows["missing"] = _missing(day, stores)
    return rows


def _parents(finer: Mapping[int, Tally], resolution: int) -> dict[int, Tally]:
    found: dict[int, Tally] = defaultdict(Tally)
    for cell, tally in finer.items():
        found[cells.parent(cell, resolution)].add(tally)
    return dict(found)


def _level(tallies: Mapping[int, Tally], resolution: int, stores: StoreSet) -> dict[str, Any]:
    withheld = _withheld(tallies, resolution)
    other = Tally()
    for cell in withheld:
        other.add(tallies[cell])
    shown = sorted(tallies.keys() - withheld)
    distances, beyond = _distances(shown, stores), _beyond(shown, stores)
    return {
        "cells": [
            [cells.to_hex(cell), band_of(tallies[cell].searches), band_of(len(tallies[cell].searchers)), far, tenths]
            for cell, far, tenths in zip(shown, distances, beyond, strict=True)
        ],
        "other": [band_of(other.searches), band_of(len(other.searchers))] if len(other.searchers) >= K else None,
    }


def _withheld(tallies: Mapping[int, Tally], resolution: int) -> set[int]:
    """Cells below k, and the smallest of the others of each group; by bands, ties by cell."""
    group_of = _group_of(resolution)
    withheld = {cell for cell, tally in tallies.items() if len(tally.searchers) < K}
    groups: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for cell in tallies.keys() - withheld:
        tally = tallies[cell]
        groups[group_of(cell)].append((band_of(len(tally.searchers)), band_of(tally.searches), cell))
    return withheld | {min(group)[2] for group in groups.values()}


def _group_of(resolution: int) -> Callable[[int], int]:
    if resolution == RESOLUTIONS[0]:
        return lambda _: _WHOLE_BRAND
    return lambda cell: cells.parent(cell, resolution - 1)


def _distances(shown: list[int], stores: StoreSet) -> list[int]:
    if not shown or len(stores) == 0:
        return [-1] * len(shown)
    _, distances_m = stores.places.nearest_many(*cells.centers(np.array(shown, dtype=np.uint64)), 1)
    bands: list[int] = (np.searchsorted(DISTANCE_EDGES_M, distances_m[:, 0], side="right") - 1).tolist()
    return bands


def _beyond(shown: list[int], stores: StoreSet) -> list[int]:
    """Of each cell, tenths of its cells of resolution 7 whose centre no store is within 10 km of."""
    found = []
    for cell in shown:
        lats, lons = cells.centers(cells.children(cell, FINEST))
        rows, _ = stores.places.nearest_many(lats, lons, 1, FAR_M)
        found.append(round(10 * float((rows[:, 0] < 0).mean())))
    return found


def _missing(day: DayOfDemand, stores: StoreSet) -> list[list[Any]]:
    """Services that people asked for where no store within 10 km of the cell's centre has them."""
    lacking: dict[str, set[bytes]] = defaultdict(set)
    for (cell, service), searchers in day.by_service.items():
        if not _has_near(stores, cell, service):
            lacking[service] |= searchers
    rows = [(-band_of(len(searchers)), service) for service, searchers in lacking.items() if len(searchers) >= K]
    return [[service, -band] for band, service in sorted(rows)[:MOST_MISSING]]


def _has_near(stores: StoreSet, cell: int, service: str) -> bool:
    split = stores.services.split((service,))
    if split is None:
        return False
    mask, is_rare = split
    lat, lon = cells.center(cell)
    if not is_rare:
        return len(stores.places.nearest(lat, lon, 1, FAR_M, 0.0, mask)[0]) > 0
    rare = stores.services.rows_with(service)
    distances_m = great_circle_m(np.full(len(rare), lat), np.full(len(rare), lon), stores.lats[rare], stores.lons[rare])
    return bool((distances_m <= FAR_M).any())
