"""What Nearhive declares of each resolution: how wrong who knows a cell, and how it moves, still is about a person."""

import math
from functools import lru_cache
from typing import Final

import h3
import h3.api.basic_int as h3_int
import numpy as np

from geo.privacy import (
    CITY_RESOLUTION,
    EDGES_PER_STRANGER_EDGE,
    FRIEND_RESOLUTION,
    STRANGER_RESOLUTION,
    UNCERTAINTY_PER_SQRT_AREA,
)

DECLARED_EPOCH_S: Final = 900
"""The length of an epoch that the promises are made for; below it people who move can be followed more finely."""

SHORT_EPOCH_S: Final = 300
"""Below this only the least factor is promised."""

WALKER_M_PER_S: Final = 1.4

# Who sees the cell of a walker change knows that they crossed the border within the last epoch. Median error of the
# best linear estimator between border and new centre, over that of knowing the cell alone, by x = speed · epoch / edge
# length of the cell (simulated at resolution 8, 10 s to 3,600 s; at 900 s, x = 2.37, the declared 0.85).
_WALKED_EDGES: Final = (0.16, 0.79, 2.37, 4.74)
_MOVING_FACTOR: Final = (0.40, 0.64, 0.85, 0.94)

STEADY_FACTOR: Final = 0.55
"""Who moves straight on at one speed can be followed to about this much of the uncertainty, by a model of the track."""


@lru_cache(maxsize=16)
def least_uncertainty_m(resolution: int) -> float:
    """Declared uncertainty of the smallest cells of a resolution, the twelve pentagons: true all over the globe."""
    areas = [h3_int.cell_area(cell, unit="m^2") for cell in h3_int.get_pentagons(resolution)]
    return UNCERTAINTY_PER_SQRT_AREA * math.sqrt(min(areas))


def typical_uncertainty_m(resolution: int) -> float:
    """Declared uncertainty of a hexagon of average area."""
    return UNCERTAINTY_PER_SQRT_AREA * math.sqrt(h3.average_hexagon_area(resolution, unit="m^2"))


def cell_epoch_s(resolution: int, epoch_s: float) -> float:
    """Seconds between the edges at which cells of a resolution move: every edge at 8, every third where coarser."""
    return epoch_s if resolution == FRIEND_RESOLUTION else EDGES_PER_STRANGER_EDGE * epoch_s


def moving_factor(resolution: int, epoch_s: float) -> float:
    """What is left of the uncertainty in the epoch after a walker's cell changed, for 0.85 at epochs of 900 s.

    Coarser cells take no more than those of resolution 8 do: at 7 the epoch grows a little faster than the edge, at 5
    far slower. ``ValueError`` for a resolution that does not move at edges.
    """
    if resolution not in (CITY_RESOLUTION, CITY_RESOLUTION + 1, STRANGER_RESOLUTION, FRIEND_RESOLUTION):
        raise ValueError(f"cells of resolution {resolution} do not move at edges")
    if epoch_s < SHORT_EPOCH_S:
        return _MOVING_FACTOR[0]
    return min(_factor(FRIEND_RESOLUTION, epoch_s), _factor(resolution, epoch_s))


def _factor(resolution: int, epoch_s: float) -> float:
    walked_m = WALKER_M_PER_S * cell_epoch_s(resolution, epoch_s)
    edges = walked_m / h3.average_hexagon_edge_length(resolution, unit="m")
    return float(np.interp(edges, _WALKED_EDGES, _MOVING_FACTOR))


def moving_uncertainty_m(resolution: int, epoch_s: float) -> float:
    """U_moving: the least uncertainty of a resolution in the epoch after one change, for who has no model of the
    track."""
    return moving_factor(resolution, epoch_s) * least_uncertainty_m(resolution)
