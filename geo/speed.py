"""Whether somebody can have moved from one cell to another in a time."""

from typing import Final

import h3

from geo import cells
from geo.privacy import FRIEND_RESOLUTION

MAX_SPEED_M_PER_S: Final = 80.0
"""288 km/h, in a straight line: faster than nearly every train, slower than an aeroplane."""

# A point lies at most about an edge from its cell's centre, and at most 100 m more outside its kept cell: of the
# distance between two centres, two edges may be none of the person's movement.
_SLACK_M: Final[float] = 2.0 * h3.average_hexagon_edge_length(FRIEND_RESOLUTION, unit="m")


def implausible(from_cell: int, to_cell: int, elapsed_ms: int) -> bool:
    """Whether moving between two cells of ``FRIEND_RESOLUTION`` in ``elapsed_ms`` (>= 0) needs more than 80 m/s.

    On cells only: (distance of the centres - 2 edge lengths) / time. ``ValueError`` for what is not a cell.
    """
    if from_cell == to_cell:
        return False
    moved_m = cells.distance_m(from_cell, to_cell) - _SLACK_M
    return moved_m > MAX_SPEED_M_PER_S * elapsed_ms / 1000
