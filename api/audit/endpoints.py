"""A16: put together what all features tell, as one coalition of strangers and friends: do they draw one region?"""

from dataclasses import dataclass

import numpy as np

from api.audit.bayes import Cells, Particles, Posterior, infer, infer_by_shake
from api.audit.oracle import Guess, Oracle, Prior
from api.audit.plane import moved
from api.audit.ranging import WIDEST_RADAR_M
from geo import cells
from geo.privacy import CITY_RESOLUTION, FRIEND_RESOLUTION, PRECISION_RESOLUTION, STRANGER_RESOLUTION

_PRECISIONS = ("city", "area", "near")
_CHILDREN_M = 2000.0  # the centre child's neighbours lie about 920 m from it, no more than 1,100 m


@dataclass(frozen=True, slots=True)
class Told:
    """What each feature left possible: cells of resolution 8 by nearby, by shake, and the cells that radar showed."""

    nearby: Posterior
    shake: Posterior
    radar: dict[str, int]  # by precision; 0 = not shown

    def region(self) -> Cells:
        """The cells of resolution 8 that explain nearby, shake, and the radar of friends at `area` and `city`."""
        universe = children(self.nearby.cells)
        parents = cells.parents(universe, STRANGER_RESOLUTION)
        explains = np.isin(parents, self.shake.cells)
        explains &= parents == np.uint64(self.radar["area"])
        explains &= cells.parents(universe, CITY_RESOLUTION) == np.uint64(self.radar["city"])
        return universe[explains]

    def mismatches(self) -> int:
        """How many of the cells shown are not parents of the finest: each would tell which side of a border one is."""
        finest = self.radar["near"]
        if finest == 0:
            return len(_PRECISIONS)
        shown = [(cell, PRECISION_RESOLUTION[name]) for name, cell in self.radar.items() if name != "near"]
        shown += [(int(cell), STRANGER_RESOLUTION) for cell in self.nearby.cells[:1]]
        return sum(cells.parent(finest, resolution) != cell for cell, resolution in shown)

    def guess(self, prior: Prior) -> Guess:
        """The middle of where the finest cell and the one strangers see overlap, each taken as a region of its own: the
        same as the finest cell, unless the two were snapped apart."""
        finest, area = self.radar["near"], self.radar["area"]
        if finest == 0:
            return Guess(*prior.point)
        particles = Particles.around(np.array([finest], np.uint64))
        inside = particles.friend_cells == np.uint64(finest)
        if cells.parent(finest, STRANGER_RESOLUTION) != area:
            inside &= particles.snapped_to(STRANGER_RESOLUTION) == np.uint64(area)
        if not inside.any():
            return Guess(*cells.center(finest))
        return Guess(
            *moved(particles.origin, float(particles.east[inside].mean()), float(particles.north[inside].mean()))
        )


async def ask_everything(oracle: Oracle, prior: Prior) -> Told:
    """Nearby and shake as strangers, radar as friends at each precision."""
    nearby = await infer(oracle, prior)
    shake = await infer_by_shake(oracle, prior, nearby.cells)
    radar = {}
    for precision in _PRECISIONS:
        [friend] = await oracle.observers([prior.point], precision)
        seen = await oracle.radar(friend, WIDEST_RADAR_M)
        radar[precision] = 0 if seen is None else seen.cell
    return Told(nearby, shake, radar)


def children(stranger_cells: Cells) -> Cells:
    """All cells of resolution 8 below some of resolution 7: uint64[7 n], one fewer for a pentagon."""
    found: list[int] = []
    for cell in stranger_cells.tolist():
        around, _ = cells.disk(cells.cell_of(*cells.center(cell), FRIEND_RESOLUTION), _CHILDREN_M)
        found += [int(one) for one in around if cells.parent(int(one), STRANGER_RESOLUTION) == cell]
    return np.array(found, dtype=np.uint64)


def area_ratio(some: Cells, declared: Cells) -> float:
    """Area of some cells over that of others."""
    return sum(cells.area_m2(int(c)) for c in some) / sum(cells.area_m2(int(c)) for c in declared)
