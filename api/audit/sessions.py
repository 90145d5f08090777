"""A8: who sees one place through a lattice that is laid anew each session intersects the squares."""

from collections.abc import Sequence

from api.audit.oracle import Point
from api.audit.plane import moved, offset_m


def intersect_squares(centers: Sequence[Point], side_m: float) -> Point:
    """The middle of the intersection of squares of ``side_m``, sides to the north and east, around ``centers``."""
    origin = centers[0]
    offsets = [offset_m(origin, center) for center in centers]
    east, north = ([offset[axis] for offset in offsets] for axis in (0, 1))
    return moved(origin, (max(east) + min(east)) / 2, (max(north) + min(north)) / 2)
