"""People nearby, one call a page: bands of cells merged in keyed order, beside GEOSEARCH of the same radius.

Not the same answer: GEOSEARCH gives the nearest points, ours the first of each distance band in the viewer's keyed
order. What is compared is what a service has to pay for a page.
"""

from collections.abc import Mapping, Sequence

import h3.api.basic_int as h3_int
import numpy as np
from numpy.typing import NDArray

from geo import cells
from geo.privacy import STRANGER_BANDS_M, STRANGER_RESOLUTION
from loadtest import report
from loadtest.engine import worlds
from loadtest.engine.comparison import Comparison
from loadtest.engine.exact import Exact, Unequal
from loadtest.engine.field import Field
from loadtest.engine.lookups import told
from loadtest.engine.ours import NAME, OurPeople
from loadtest.engine.peers import Asked
from loadtest.engine.scale import Scale
from loadtest.engine.timing import Timed, first_calls, single_calls
from loadtest.engine.worlds import Points

LIMIT = 50
RADIUS_M, OCEAN_RADIUS_M = 5_000.0, 50_000.0
PEERS = ("GEOSEARCH", "cKDTree")
_FLAT_AT = 10  # the largest cities: at 10,000 people of the clustered world a page is still full there
_OCEAN = ((-50.0, -30.0), (-140.0, -100.0))  # of the South Pacific: latitudes, longitudes
_CELL_REACH_M = 3_000.0  # more than from a cell's centre to any point of it, twice
_VIEWERS = 9  # stream of chance

WORK = f"people nearby: {LIMIT} within {told(RADIUS_M)}, one call"
OCEAN_WORK = f"people nearby: {told(OCEAN_RADIUS_M)} of empty ocean, one call"
FLAT_WORK = f"people nearby: {LIMIT} within {told(RADIUS_M)}, in the {_FLAT_AT} largest cities"

Viewers = list[tuple[int, int]]
"""Cell and key of each."""


def viewers(questions: Points, rng: np.random.Generator) -> Viewers:
    """Who stand at these points."""
    keys = rng.integers(0, 2**64, len(questions[0]), dtype=np.uint64)
    return list(zip(cells.cells_of(*questions, STRANGER_RESOLUTION).tolist(), keys.tolist(), strict=True))


def pages(people: OurPeople, who: Viewers, radius_m: float) -> list[Asked]:
    return [people.asked(cell, key, LIMIT, radius_m) for cell, key in who]


def compare(field: Field, scale: Scale, seed: int) -> list[Comparison]:
    """A page within 5 km in this world; and the very first page of each viewer, before the cells around are known."""
    questions = field.questions(scale.questions)
    who = viewers(questions, worlds.generator(seed, _VIEWERS))
    ours = pages(field.people, who, RADIUS_M)
    first = Comparison(f"{WORK}, first look", field.world, field.size, "us", first_calls({NAME: ours}))
    check(field, who[: scale.sample], RADIUS_M)
    calls = {NAME: ours, **_peers(field, questions, RADIUS_M)}
    again = Comparison(WORK, field.world, field.size, "us", single_calls(calls, scale.turns, scale.budget_s))
    return [again, first]


def _peers(field: Field, questions: Points, radius_m: float) -> dict[str, list[Asked]]:
    asked = list(zip(*(axis.tolist() for axis in questions), strict=True))
    return {
        name: [one.asked(lat, lon, LIMIT, radius_m) for lat, lon in asked]
        for name, one in field.contenders.items()
        if name in PEERS
    }


def ocean(field: Field, scale: Scale, seed: int) -> Comparison:
    """Where nobody is: every cell of every band is looked at."""
    rng = worlds.generator(seed, _VIEWERS)
    questions = rng.uniform(*_OCEAN[0], scale.questions), rng.uniform(*_OCEAN[1], scale.questions)
    who = viewers(questions, rng)
    check(field, who[: scale.sample], OCEAN_RADIUS_M)
    calls = {NAME: pages(field.people, who, OCEAN_RADIUS_M), **_peers(field, questions, OCEAN_RADIUS_M)}
    timed = single_calls(calls, scale.turns, scale.budget_s)
    return Comparison(OCEAN_WORK, field.world, field.size, "us", timed)


def flatness(crowds: dict[int, OurPeople], scale: Scale, seed: int) -> Comparison:
    """The same viewers in the same cities among ever more people, in turns; contenders are the sizes."""
    rng = worlds.generator(seed, _VIEWERS)
    lats, lons = (np.repeat(axis, scale.questions // _FLAT_AT) for axis in worlds.largest_cities(_FLAT_AT))
    who = viewers((lats + rng.normal(0.0, 0.01, lats.size), lons + rng.normal(0.0, 0.01, lats.size)), rng)
    calls = {f"{size:,} people": pages(people, who, RADIUS_M) for size, people in crowds.items()}
    timed = single_calls(calls, scale.turns, scale.budget_s)
    return Comparison(FLAT_WORK, "clustered", max(crowds), "us", timed)


def rows(page: Comparison, at_sea: Comparison, flat: Comparison, missing: Mapping[str, str]) -> list[report.Row]:
    """The goals; those in microseconds beside cKDTree where GEOSEARCH is not there."""
    server, tree = PEERS
    peer = tree if server in missing else server
    ratio = page.row_unless(missing, server, "ratio >= 90")
    return [page.row(peer, "ours <= 8"), ratio, _flat_row(flat), at_sea.row(peer, "ours <= 80")]


def _flat_row(flat: Comparison) -> report.Row:
    sizes = list(flat.timed.seconds)
    timed = Timed({NAME: flat.timed.seconds[sizes[-1]], sizes[0]: flat.timed.seconds[sizes[0]]})
    largest = Comparison(flat.work, flat.world, flat.size, flat.unit, timed)
    return largest.row(sizes[0], "growth <= 1.3")


# --- the same page by brute force ---


def check(field: Field, who: Sequence[tuple[int, int]], radius_m: float) -> None:
    """Pages must hold exactly who belongs there, in order. Raises Unequal."""
    for cell, key in who:
        expected = _page(field, cell, key, radius_m)
        got = field.people.asked(cell, key, LIMIT, radius_m)()
        if not np.array_equal(got, expected):
            raise Unequal(f"page around {cell:x} in {field.world}, {field.size:,}: {got} instead of {expected}")


def _page(field: Field, cell: int, key: int, radius_m: float) -> NDArray[np.int32]:
    """By the distance between cell centres the band, then by (key - viewer's key) mod 2^64."""
    lat, lon = h3_int.cell_to_latlng(cell)
    near = np.flatnonzero(field.exact.distances_m(lat, lon) < radius_m + _CELL_REACH_M)
    if not near.size:
        return np.empty(0, np.int32)
    distinct, which = np.unique(field.people.cells[near], return_inverse=True)
    centres = np.array([h3_int.cell_to_latlng(one) for one in distinct.tolist()])
    distances_m = Exact((centres[:, 0], centres[:, 1])).distances_m(lat, lon)[which]
    near, distances_m = near[distances_m < radius_m], distances_m[distances_m < radius_m]
    bands = np.searchsorted(STRANGER_BANDS_M, distances_m, side="right")
    offsets = field.people.keys[near] - np.uint64(key)
    order = np.lexsort((near, offsets, bands))[:LIMIT]
    return field.people.slots[near[order]]
