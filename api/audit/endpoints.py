"""A16: put together what all features tell, as one coalition of strangers and friends: do they draw one region?"""

from dataclasses import dataclass

import numpy as np

from api.audit.bayes import Cells, Particles, Posterior, infer, infer_by_shake
from api.audit.oracle import Guess, Oracle, Prior
from api.audit.ranging import WIDEST_RADAR_M
from geo import cells
from geo.privacy import CITY_RESOLUTION, FRIEND_RESOLUTION, STRANGER_RESOLUTION

_CHILDREN_M = 2000.0  # the centre child's neighbours lie about 920 m from it, no more than 1,100 m


@dataclass(frozen=True, slots=True)
class Shown:
    """The cells that radar shows friends at `city`, `area` and `near`; 0 = not shown."""

    city: int
    area: int
    near: int

    @property
    def stranger_parent(self) -> int:
        """What strangers may be shown of who is in the finest cell."""
        return cells.parent(self.near, STRANGER_RESOLUTION) if self.near else 0

    def mismatches(self) -> int:
        """How many of the coarser cells are not parents of the finest; both when that is not shown."""
        if not self.near:
            return 2
        return (self.area != self.stranger_parent) + (self.city != cells.parent(self.near, CITY_RESOLUTION))

    def guess(self, prior: Prior) -> Guess:
        """The middle of where the finest cell and that of `area` overlap, each taken as a region of its own: the whole
        finest cell, unless the two were snapped apart."""
        if not self.near:
            return Guess(*prior.point)
        particles = Particles.around(np.array([self.near], np.uint64))
        inside = particles.friend_cells == np.uint64(self.near)
        if self.area != self.stranger_parent:
            inside &= particles.snapped_to(STRANGER_RESOLUTION) == np.uint64(self.area)
        if not inside.any():
            return Guess(*cells.center(self.near))
        return particles.middle(inside)


@dataclass(frozen=True, slots=True)
class Told:
    """What each feature left possible: cells of resolution 8 by nearby and by shake; and what radar showed."""

    nearby: Posterior
    shake: Posterior
    radar: Shown

    def region(self) -> Cells:
        """The cells of resolution 8 that explain nearby, shake, and the radar of friends at `area` and `city`."""
        universe = children(self.nearby.cells)
        parents = cells.parents(universe, STRANGER_RESOLUTION)
        explains = np.isin(parents, self.shake.cells)
        explains &= parents == np.uint64(self.radar.area)
        explains &= cells.parents(universe, CITY_RESOLUTION) == np.uint64(self.radar.city)
        return universe[explains]

    def mismatches(self) -> int:
        """How many of the cells shown are not parents of the finest: each would tell which side of a border one is."""
        strangers = int(self.nearby.cells[0]) if self.nearby.cells.size else 0
        return self.radar.mismatches() + (self.radar.stranger_parent != strangers)


async def ask_everything(oracle: Oracle, prior: Prior) -> Told:
    """Nearby and shake as strangers, radar as friends at each precision."""
    nearby = await infer(oracle, prior)
    shake = await infer_by_shake(oracle, prior, nearby.cells)
    return Told(nearby, shake, await ask_radar(oracle, prior))


async def ask_radar(oracle: Oracle, prior: Prior) -> Shown:
    """A friend at each precision looks at the radar once."""
    shown = []
    for precision in ("city", "area", "near"):
        [friend] = await oracle.observers([prior.point], precision)
        seen = await oracle.radar(friend, WIDEST_RADAR_M)
        shown.append(0 if seen is None else seen.cell)
    return Shown(*shown)


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
