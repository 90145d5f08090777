"""AX: the attacker who knows the algorithm. It keeps every cell that explains all answers, and asks what splits them
best; it subsumes A1 to A7 on a service that answers from cells, as no answer depends on more than the cell.

What is left at the end is the posterior: particles some 130 m apart in the cells that explain everything, each as
likely as the next. If a service answers from anything finer, its answers contradict the model, and cells run out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from api.audit.oracle import Guess, Observer, Oracle, Prior, Sighting
from api.audit.plane import Floats, distances_from, moved, moved_each, offset_m
from api.audit.ranging import WIDEST_NEARBY_M
from geo import cells
from geo.privacy import FRIEND_RESOLUTION, STRANGER_BANDS_M, STRANGER_RESOLUTION

Cells = NDArray[np.uint64]

_OUTSIDE = len(STRANGER_BANDS_M) - 1
_MARGIN_M = 3000.0  # the cell of somebody at the prior's border may have its centre beyond it
_OBSERVERS_BEYOND_M = 6000.0
_ENOUGH_BITS = 1e-9
_PARTICLES_A_SIDE = 36
_SHAKERS = 19


@dataclass(frozen=True, slots=True)
class Model:
    """The public algorithm around a prior: ``bands[o, c]`` is the band that an observer in cell ``observers[o]`` is
    shown of somebody in ``candidates[c]`` (5: not listed), all of resolution 7."""

    observers: Cells
    candidates: Cells
    bands: NDArray[np.int8]
    first: tuple[int, float]  # the best observer to begin with, and how many bits it is expected to tell


@lru_cache(maxsize=16)
def model_of(prior: Prior) -> Model:
    """Computed once a city."""
    center = cells.cell_of(*prior.point, STRANGER_RESOLUTION)
    candidates, _ = cells.disk(center, prior.radius_m + _MARGIN_M)
    observers, _ = cells.disk(center, prior.radius_m + _OBSERVERS_BEYOND_M)
    lats, lons = cells.centers(candidates)
    bands = np.stack([shown_bands(one, lats, lons) for one in zip(*cells.centers(observers), strict=True)])
    return Model(observers, candidates, bands, _best_observer(bands))


def shown_bands(observer: tuple[float, float], lats: Floats, lons: Floats) -> NDArray[np.int8]:
    """Band from an observer's place to the centres of n cells, int8[n]."""
    distances_m = distances_from(observer, lats, lons)
    return (np.searchsorted(np.array(STRANGER_BANDS_M[1:]), distances_m, side="right")).astype(np.int8)


def band_shown(sighting: Sighting | None) -> int:
    """The band of an answer; -1 for a range that is none."""
    if sighting is None:
        return _OUTSIDE
    ranges = list(pairwise(STRANGER_BANDS_M))
    shown = (sighting.near_m, sighting.far_m)
    return next((band for band, ends in enumerate(ranges) if ends == shown), -1)


@dataclass(frozen=True, slots=True)
class Posterior:
    """The cells (resolution 7) that explain every answer; none when the service does not do what it says."""

    cells: Cells
    prior: Prior

    def guess(self) -> Guess:
        """The mean of the particles left."""
        if not self.cells.size:
            return Guess(*self.prior.point)
        particles = Particles.around(self.cells)
        return particles.middle(np.isin(particles.stranger_cells, self.cells))

    def share_of(self, stranger_cell: int) -> float:
        """How much of a cell's declared region explains every answer, by particles: 1.0 or something leaked."""
        particles = Particles.around(np.array([stranger_cell], np.uint64))
        inside = particles.stranger_cells == np.uint64(stranger_cell)
        return float(np.mean(np.isin(particles.stranger_cells[inside], self.cells)))

    def credible_share(self, stranger_cell: int, level: float = 0.9) -> float:
        """Area of the smallest region that holds ``level`` of the posterior, over that of the declared region."""
        if not self.cells.size:
            return 0.0
        particles = Particles.around(np.append(self.cells, np.uint64(stranger_cell)))
        left = int(np.count_nonzero(np.isin(particles.stranger_cells, self.cells)))
        declared = int(np.count_nonzero(particles.stranger_cells == np.uint64(stranger_cell)))
        return float(np.ceil(level * left)) / declared


@dataclass(frozen=True, slots=True)
class Particles:
    """A square grid over some cells: east and north of ``origin`` in metres, f64[n], and what a person at each particle
    is shown as: the cell of resolution 8 and its parent."""

    origin: tuple[float, float]
    east: Floats
    north: Floats
    lats: Floats
    lons: Floats
    friend_cells: Cells
    stranger_cells: Cells

    @classmethod
    def around(cls, some: Cells) -> "Particles":
        """Over the box that holds ``some`` cells (and a fifth more: a cell's children reach beyond it)."""
        origin = cells.center(int(some[0]))
        corners = [corner for cell in some.tolist() for corner in cells.boundary(cell).tolist()]
        reach_m = 1.2 * float(np.max(np.abs([offset_m(origin, (lat, lon)) for lat, lon in corners])))
        line = np.linspace(-reach_m, reach_m, _PARTICLES_A_SIDE)
        east, north = (axis.ravel() for axis in np.meshgrid(line, line))
        lats, lons = moved_each(origin, east, north)
        friend_cells = cells.cells_of(lats, lons, FRIEND_RESOLUTION)
        parents = cells.parents(friend_cells, STRANGER_RESOLUTION)
        return cls(origin, east, north, lats, lons, friend_cells, parents)

    def middle(self, some: NDArray[np.bool_]) -> Guess:
        """The mean of some of them."""
        return Guess(*moved(self.origin, float(self.east[some].mean()), float(self.north[some].mean())))

    def snapped_to(self, resolution: int) -> Cells:
        """The cell of a resolution that holds each particle itself: what a service with several lattices shows."""
        return cells.cells_of(self.lats, self.lons, resolution)


async def infer(oracle: Oracle, prior: Prior) -> Posterior:
    """Ask people nearby from the cell whose answer is expected to tell most, until nothing splits what is left."""
    model = model_of(prior)
    left = np.arange(model.candidates.size)
    while left.size > 1:
        at, bits = model.first if left.size == model.candidates.size else _best_observer(model.bands[:, left])
        if bits < _ENOUGH_BITS:
            break
        [observer] = await oracle.observers([cells.center(int(model.observers[at]))])
        shown = band_shown(await oracle.nearby(observer, WIDEST_NEARBY_M))
        left = left[model.bands[at, left] == shown]
    return Posterior(model.candidates[left], prior)


def _best_observer(bands: NDArray[np.int8]) -> tuple[int, float]:
    """The observer with the largest expected information (bits) about which of the cells left it is."""
    shares = np.stack([(bands == band).mean(axis=1) for band in range(_OUTSIDE + 1)])
    bits = -np.sum(shares * np.log2(np.where(shares > 0, shares, 1.0)), axis=0)
    at = int(np.argmax(bits))
    return at, float(bits[at])


async def infer_by_shake(oracle: Oracle, prior: Prior, around: Cells) -> Posterior:
    """The same by shakes from every cell within 7 km of some cell, which is what the shakes could have been led to."""
    model = model_of(prior)
    if not around.size:
        return Posterior(around, prior)
    spots, _ = cells.disk(int(around[0]), 7000.0)
    answers = await _shakes(oracle, spots)
    lats, lons = cells.centers(model.candidates)
    explains = np.ones(model.candidates.size, np.bool_)
    for observer, seen in answers:
        expected = shown_bands(observer.point, lats, lons)
        shown = band_shown(seen)
        explains &= expected == shown if seen is not None else expected >= 2
    return Posterior(model.candidates[explains], prior)


async def _shakes(oracle: Oracle, spots: Cells) -> list[tuple[Observer, Sighting | None]]:
    points: Sequence[tuple[float, float]] = list(zip(*(axis.tolist() for axis in cells.centers(spots)), strict=True))
    answers = []
    for start in range(0, len(points), _SHAKERS):
        answers += await oracle.shake(points[start : start + _SHAKERS])
    return answers
