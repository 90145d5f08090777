"""One world of one size with everybody who competes in it: the same points for all."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from loadtest.engine import worlds
from loadtest.engine.exact import Exact, check_nearest
from loadtest.engine.ours import OurPeople, OurPlaces
from loadtest.engine.peers import Contender
from loadtest.engine.peers.balltree import HaversineBallTree
from loadtest.engine.peers.brute import BruteForce
from loadtest.engine.peers.child import NotStarted
from loadtest.engine.peers.ckdtree import CKDTree
from loadtest.engine.peers.geosearch import GeoSearch, Server
from loadtest.engine.peers.postgis import Cluster, PostGIS
from loadtest.engine.peers.pykd import PyKDTree
from loadtest.engine.peers.strtree import BoxesSTRtree
from loadtest.engine.worlds import Points

AnyServer = TypeVar("AnyServer", Server, Cluster)
IN_PROCESS = (OurPlaces, CKDTree, PyKDTree, HaversineBallTree, BoxesSTRtree, BruteForce)
_PLACES, _QUESTIONS, _KEYS = 1, 2, 3  # streams of chance
_CHECKING_S, _LEAST_CHECKED = 2.0, 3


@dataclass(slots=True)
class Servers:
    """Those peers that are servers; ``missing`` says why one is not there."""

    redis: Server | None = None
    postgis: Cluster | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, str]:
        found = {GeoSearch.name: self.redis, PostGIS.name: self.postgis}
        return {name: server.version for name, server in found.items() if server is not None}


@contextlib.contextmanager
def servers(without: frozenset[str]) -> Iterator[Servers]:
    """Install and start them, but those named in ``without``; who does not start is missing."""
    found = Servers(missing=dict.fromkeys(without, "left out by --without"))
    try:
        found.redis = _started(Server, GeoSearch.name, found)
        found.postgis = _started(Cluster, PostGIS.name, found)
        yield found
    finally:
        for server in (found.redis, found.postgis):
            if server is not None:
                server.end()


def _started(start: Callable[[], AnyServer], name: str, found: Servers) -> AnyServer | None:
    if name in found.missing:
        return None
    try:
        return start()
    except NotStarted as error:
        found.missing[name] = str(error)
        print(f"NOT MEASURED: {name}: {error}", flush=True)
        return None


class Field:
    """The points of a world, the exact answers about them, and the contenders that reach this size."""

    def __init__(self, world: str, size: int, seed: int, found: Servers) -> None:
        stream = (worlds.WORLDS.index(world), size)
        self.world, self.size = world, size
        self.points = worlds.points(world, size, worlds.generator(seed, *stream, _PLACES))
        self.exact = Exact(self.points)
        self._asking = (seed, *stream, _QUESTIONS)
        self.people = OurPeople(self.points, worlds.generator(seed, *stream, _KEYS))
        self.contenders: dict[str, Contender] = {
            kind.name: kind(self.points) for kind in IN_PROCESS if size <= kind.largest
        }
        if found.redis is not None and size <= GeoSearch.largest:
            self.contenders[GeoSearch.name] = GeoSearch(self.points, found.redis)
        if found.postgis is not None and size <= PostGIS.largest:
            self.contenders[PostGIS.name] = PostGIS(self.points, found.postgis)

    def questions(self, count: int) -> Points:
        """Other points of the world, always the same, clear of where a plane map ends (STRtree has no antimeridian)."""
        lats, lons = worlds.points(self.world, count + count // 2, worlds.generator(*self._asking))
        fit = (abs(lats) < 80.0) & (abs(lons) < 175.0)
        return lats[fit][:count], lons[fit][:count]

    def check(self, questions: Points, k: int, radius_m: float, sample: int) -> None:
        """Every contender against brute force, a slow one at three questions at least. Raises Unequal."""
        asked = list(zip(*(axis[:sample].tolist() for axis in questions), strict=True))
        exact = {place: self.exact.distances_m(*place) for place in asked[: self._most_checked()]}
        for name, one in self.contenders.items():
            ends_s = time.perf_counter() + _CHECKING_S
            for done, ((lat, lon), distances_m) in enumerate(exact.items()):
                if done >= _LEAST_CHECKED and time.perf_counter() > ends_s:
                    break
                ids = one.ids(one.asked(lat, lon, k, radius_m)())
                check_nearest(name, ids, distances_m, k, radius_m, one.off_m)

    def _most_checked(self) -> int:
        """So that the exact distances of all points take at most a gigabyte."""
        return max(_LEAST_CHECKED, 125_000_000 // self.size)
