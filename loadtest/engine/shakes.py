"""The fold of shakes as one kernel over the ordered feed, beside a Redis that is told and asked about each shake.

Timed is the kernel with all it changes; the table of cells near each cell is ready, as it is in a worker for cells
where somebody has shaken before. Each shake takes up to 10 others, within 15 s.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geo import cells
from geo.kernels.keyed import siphash24_many
from geo.kernels.matching import MAX_MATCHES, MAX_NEAR, NONE, SHAKE, fold_newcomers
from geo.privacy import STRANGER_BANDS_M, STRANGER_RESOLUTION
from loadtest import report
from loadtest.engine import worlds
from loadtest.engine.comparison import Comparison
from loadtest.engine.exact import Exact, Unequal
from loadtest.engine.ours import NAME
from loadtest.engine.peers import chord
from loadtest.engine.peers.geosearch import GeoSearch, Server, packed
from loadtest.engine.scale import Scale
from loadtest.engine.timing import Call, whole_runs

PEER = "GEOADD+GEOSEARCH"
CROWD = 10_000
LIMIT, WINDOW_MS = 10, 15_000
_ENTRIES_MS = 100  # one entry of the feed holds what came within this time
_SPAN_MS = 60_000
_K0, _K1 = np.uint64(11), np.uint64(12)
_NEAR_M = float(STRANGER_BANDS_M[2])
_PEER_SHAKES = 2_000
_TEN_WITHIN_5_KM = ("BYRADIUS", "5", "km", "ASC", "COUNT", str(LIMIT))
_STREAM = 31


def work(world: str) -> str:
    return {
        "uniform": "shakes folded on one core, uniform on the sphere, a shake",
        "clustered": "shakes folded on one core, in the cities, a shake",
        "stadium": f"shakes folded on one core, {CROWD:,} in one stadium and window",
    }[world]


class Feed:
    """Shakes in the order of the feed, and the arrays that the fold works on, made anew for each run."""

    def __init__(self, world: str, count: int, seed: int) -> None:
        rng = worlds.generator(seed, _STREAM, worlds.WORLDS.index(world))
        self.points = worlds.points(world, count, rng)
        seen, self.rows = np.unique(cells.cells_of(*self.points, STRANGER_RESOLUTION), return_inverse=True)
        self.near_row, self.near_band = _near(*cells.centers(seen))
        self.persons = rng.permutation(np.arange(1, count + 1, dtype=np.uint64))
        span_ms = _SPAN_MS if world != "stadium" else _ENTRIES_MS
        self.times_ms = np.sort(rng.integers(0, span_ms, count)) // _ENTRIES_MS * _ENTRIES_MS
        self.starts = np.flatnonzero(np.diff(self.times_ms, prepend=-1)).tolist()
        self.most_at_once = int(np.diff([*self.starts, count]).max())

    def __len__(self) -> int:
        return len(self.persons)

    def fold(self) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """All entries in order: the shakes and their matches. Rows are filled in column by column."""
        count = len(self)
        shakes = np.zeros(count, SHAKE)
        shakes["shake_hash"] = shakes["person_hash"] = self.persons
        shakes["order_key"] = siphash24_many(_K0, _K1, self.persons)
        shakes["hive_ms"], shakes["closed_ms"] = self.times_ms, self.times_ms + WINDOW_MS
        shakes["window_ms"], shakes["limit"], shakes["cell_row"], shakes["adult"] = WINDOW_MS, LIMIT, self.rows, 1
        shakes["earlier"] = shakes["mark"] = NONE
        matches = np.full((count, MAX_MATCHES), NONE, np.int32)
        bands = np.full((count, MAX_MATCHES), NONE, np.int8)
        links, queues = np.full((2, 2, count), NONE, np.int32), np.full((2, 2), NONE, np.int32)
        ends = np.full((len(self.near_row), 2, 2), NONE, np.int32)
        changed = np.empty(self.most_at_once * (MAX_MATCHES + 2), np.int32)
        nobody = np.zeros(1, np.uint64)
        for first, end in zip(self.starts, [*self.starts[1:], count], strict=True):
            fold_newcomers(
                shakes, links, ends, queues, matches, bands, self.near_row, self.near_band, nobody, 0, first, end,
                _K0, _K1, changed,
            )  # fmt: skip
        return shakes, matches


def _near(lats: NDArray[np.float64], lons: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """For each cell the rows of the cells within 5 km and their bands."""
    vectors = Exact((lats, lons)).vectors
    pairs = cKDTree(vectors).query_pairs(chord(_NEAR_M), output_type="ndarray")
    own = np.arange(len(lats))
    a = np.concatenate((own, pairs[:, 0], pairs[:, 1]))
    b = np.concatenate((own, pairs[:, 1], pairs[:, 0]))
    far = np.linalg.norm(vectors[a] - vectors[b], axis=1) >= chord(float(STRANGER_BANDS_M[1]))
    order = np.argsort(a, kind="stable")
    a, b, far = a[order], b[order], far[order]
    column = np.arange(len(a)) - np.searchsorted(a, a)
    near_row = np.full((len(lats), MAX_NEAR), NONE, np.int32)
    near_band = np.full((len(lats), MAX_NEAR), NONE, np.int8)
    near_row[a, column], near_band[a, column] = b, far
    return near_row, near_band


def check(feed: Feed) -> int:
    """Matches must be mutual, among open shakes of near cells, none beyond a limit; pairs that stay unmatched must not
    both have had room. Returns how many pairs there are. Raises Unequal."""
    _, matches = feed.fold()
    held = matches != NONE
    me, other = np.repeat(np.arange(len(feed)), held.sum(axis=1)), matches[held]
    if (held.sum(axis=1) > LIMIT).any():
        raise Unequal("shakes: more matches than the limit")
    forth, back = me * len(feed) + other, other.astype(np.int64) * len(feed) + me
    if not np.array_equal(np.sort(forth), np.sort(back)):
        raise Unequal("shakes: a match that is not mutual")
    if (np.abs(feed.times_ms[me] - feed.times_ms[other]) > WINDOW_MS).any():
        raise Unequal("shakes: matched after the window")
    missing = np.setdiff1d(_could_have_met(feed, held.sum(axis=1)), forth)
    if missing.size:
        raise Unequal(f"shakes: {missing.size} pairs with room on both sides did not meet")
    return len(me) // 2


def _could_have_met(feed: Feed, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs within reach in place and time of which both have room to the end, as ``a * n + b``."""
    room = np.flatnonzero(counts < LIMIT)
    by_row = room[np.argsort(feed.rows[room], kind="stable")]
    rows_of_room = feed.rows[by_row]
    which, column = np.nonzero(feed.near_row[feed.rows[room]] != NONE)
    near = feed.near_row[feed.rows[room[which]], column]
    starts = np.searchsorted(rows_of_room, near)
    many = np.searchsorted(rows_of_room, near, side="right") - starts
    a = np.repeat(room[which], many)
    b = by_row[np.repeat(starts - np.cumsum(many) + many, many) + np.arange(many.sum())]
    met = (a != b) & (np.abs(feed.times_ms[a] - feed.times_ms[b]) <= WINDOW_MS)
    return np.asarray(a[met] * len(feed) + b[met])


def compare(feed: Feed, world: str, server: Server | None, scale: Scale) -> Comparison:
    """Whole runs; the peer gets the first 2,000 shakes only, so its time of one is scaled to the feed."""
    check(feed)
    runs: dict[str, Call] = {NAME: feed.fold}
    some = min(len(feed), _PEER_SHAKES)
    if server is not None:
        runs[PEER] = partial(_peer, server, _commands(feed, some))
    timed = whole_runs(runs, scale.runs)
    if server is not None:
        timed.seconds[PEER] *= len(feed) / some
        server.call(packed("DEL", "shakes"))
    each = world != "stadium"
    return Comparison(work(world), world, len(feed), "us" if each else "ms", timed, calls=len(feed) if each else 1)


def _commands(feed: Feed, count: int) -> list[bytes]:
    """Put each on the map and ask for the nearest ten, in one write."""
    return [
        packed("GEOADD", "shakes", repr(lon), repr(lat), str(person))
        + packed("GEOSEARCH", "shakes", "FROMLONLAT", repr(lon), repr(lat), *_TEN_WITHIN_5_KM)
        for lat, lon, person in zip(
            *(axis[:count].tolist() for axis in feed.points), feed.persons[:count].tolist(), strict=True
        )
    ]


def _peer(server: Server, commands: list[bytes]) -> None:
    server.call(packed("DEL", "shakes"))
    for both in commands:
        server.call(both)
        server.call(b"")


def rows(found: list[Comparison], missing: Mapping[str, str]) -> list[report.Row]:
    """One million a second is 1 us a shake. The cities have no goal."""
    goals = {"uniform": "ours <= 1", "stadium": "ours <= 50"}
    missing = {PEER: missing[GeoSearch.name]} if GeoSearch.name in missing else {}
    return [one.row_unless(missing, PEER, goals[one.world]) for one in found if one.world in goals]
