"""A catalogue of stores: the nearest five, one call a question; with properties required; and a million in one call."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from geo.places import Places, bitmap
from loadtest import report
from loadtest.engine import worlds
from loadtest.engine.comparison import Comparison
from loadtest.engine.exact import Exact, check_nearest
from loadtest.engine.ours import NAME
from loadtest.engine.peers import vector
from loadtest.engine.peers.ckdtree import CKDTree
from loadtest.engine.peers.pykd import PyKDTree
from loadtest.engine.scale import Scale
from loadtest.engine.timing import Call, Timed, single_calls, whole_runs
from loadtest.engine.worlds import Points

NEAREST = 5
WORLD = "clustered"
BATCH_OF = (1, 5)
ONE_WORK = f"stores: {NEAREST} nearest, one call"
PLAIN = "without predicate"
# Open are 60 of 100 stores, a bitmap that holds until the next opens or closes; each of 8 services, a bit of the mask,
# is offered by 60 of 100. Asked: open, and two services, 22 of 100.
_SERVICES = 8
_SHARE = 0.6
REQUIRED = 0b11
PREDICATE_WORK = f"stores: {NEAREST} nearest that are open with two services ({_SHARE**3:.0%} of all), one call"
_PLACES, _QUESTIONS, _MASKS, _OPEN = 21, 22, 23, 24
_WORKERS = 2
_HALF_GLOBE_M, _OFF_M = 3e7, 1e-3


def batch_work(k: int, count: int) -> str:
    return f"stores: {k} nearest of {count:,} points in one call"


class Catalogue:
    """The stores in every index that competes."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self.points = worlds.points(WORLD, scale.stores, worlds.generator(seed, _PLACES))
        self.masks = _masks(scale.stores, worlds.generator(seed, _MASKS))
        self.open = worlds.generator(seed, _OPEN).uniform(size=scale.stores) < _SHARE
        self.places = Places(*self.points, self.masks)
        self.open_places = self.places.subset(bitmap(self.open))
        self.ckdtree, self.pykdtree = CKDTree(self.points), PyKDTree(self.points)
        self.exact = Exact(self.points)
        self.scale = scale
        self._asking = worlds.generator(seed, _QUESTIONS)

    def questions(self, count: int) -> Points:
        return worlds.points(WORLD, count, self._asking)

    def check(self, who: str, ids: NDArray[np.int64], place: tuple[float, float], k: int = NEAREST) -> None:
        """One answer against brute force. Raises Unequal."""
        check_nearest(who, ids, self.exact.distances_m(*place), k, _HALF_GLOBE_M, _OFF_M)

    def check_open(self, ids: NDArray[np.int64], place: tuple[float, float]) -> None:
        """The same for what is open and has the services."""
        distances_m = self.exact.distances_m(*place)
        distances_m[((self.masks & np.uint64(REQUIRED)) != REQUIRED) | ~self.open] = np.inf
        check_nearest(NAME, ids, distances_m, NEAREST, _HALF_GLOBE_M, _OFF_M)


def _masks(count: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    offered = rng.uniform(size=(count, _SERVICES)) < _SHARE
    return np.asarray(offered @ (1 << np.arange(_SERVICES)), np.uint64)


def one_call(stores: Catalogue) -> tuple[Comparison, Comparison]:
    """Beside cKDTree and pykdtree; and with the predicate beside without."""
    scale = stores.scale
    asked = list(zip(*(axis.tolist() for axis in stores.questions(2 * scale.questions)), strict=True))
    nearest, nearest_open = stores.places.nearest, stores.open_places.nearest
    plain: list[Call] = [partial(nearest, lat, lon, NEAREST) for lat, lon in asked]
    required: list[Call] = [partial(nearest_open, lat, lon, NEAREST, required_mask=REQUIRED) for lat, lon in asked]
    for lat, lon in asked[: scale.sample]:
        stores.check(NAME, nearest(lat, lon, NEAREST)[0], (lat, lon))
        stores.check_open(nearest_open(lat, lon, NEAREST, required_mask=REQUIRED)[0], (lat, lon))
        for peer in (stores.ckdtree, stores.pykdtree):
            stores.check(peer.name, peer.tree.query(vector(lat, lon)[None], k=NEAREST)[1].ravel(), (lat, lon))
    calls: dict[str, list[Call]] = {
        NAME: plain,
        CKDTree.name: [partial(stores.ckdtree.tree.query, vector(lat, lon), k=NEAREST) for lat, lon in asked],
        PyKDTree.name: [partial(stores.pykdtree.tree.query, vector(lat, lon)[None], k=NEAREST) for lat, lon in asked],
        PREDICATE_WORK: required,
    }
    timed = single_calls(calls, scale.turns, scale.budget_s)
    seconds = dict(timed.seconds)
    predicate = {NAME: seconds.pop(PREDICATE_WORK), PLAIN: seconds[NAME]}
    size = len(stores.points[0])
    return (
        Comparison(ONE_WORK, WORLD, size, "us", Timed(seconds)),
        Comparison(PREDICATE_WORK, WORLD, size, "us", Timed(predicate)),
    )


def batch(stores: Catalogue, k: int) -> Comparison:
    """Many points in one call, on both cores."""
    scale = stores.scale
    lats, lons = stores.questions(scale.batch)
    vectors = Exact((lats, lons)).vectors
    runs: dict[str, Call] = {
        NAME: partial(stores.places.nearest_many, lats, lons, k),
        f"{CKDTree.name}(workers={_WORKERS})": partial(stores.ckdtree.tree.query, vectors, k=k, workers=_WORKERS),
        PyKDTree.name: partial(stores.pykdtree.tree.query, vectors, k=k),
    }
    sample = np.linspace(0, scale.batch - 1, 10 * scale.sample).astype(int)
    firsts = {name: np.asarray(run()[0 if name == NAME else 1]).reshape(-1, k) for name, run in runs.items()}  # type: ignore[index]
    for name, found in firsts.items():
        for i in sample.tolist():
            stores.check(name, found[i], (float(lats[i]), float(lons[i])), k)
    timed = whole_runs(runs, scale.runs)
    return Comparison(batch_work(k, scale.batch), WORLD, len(stores.points[0]), "us", timed, calls=scale.batch)


def rows(one: Comparison, predicate: Comparison, batches: list[Comparison]) -> list[report.Row]:
    """The goals; of a batch beside the faster of the two."""
    found = [one.row(CKDTree.name, "ratio >= 6"), predicate.row(PLAIN, "growth <= 1.5")]
    for each in batches:
        faster = min(each.peers, key=lambda name: each.timed.spread(name).median)
        found.append(each.row(faster, "ratio >= 2"))
    return found
