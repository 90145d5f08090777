"""``Places.nearest`` among a set of rows."""

import numpy as np
from numpy.typing import NDArray

from geo.kernels.knn_in_set import nearest_in_set as _kernel
from geo.places import Floats, Places, Rows


def nearest_in_set(
    places: Places,
    lat: float,
    lon: float,
    k: int,
    words: NDArray[np.uint64],
    max_distance_m: float,
    min_distance_m: float,
    required_mask: int,
) -> tuple[Rows, Floats]:
    """The at most ``k`` nearest of the rows whose bit is set in ``words`` (row r is bit r % 64 of word r // 64), with
    the bounds and the mask of ``Places.nearest``. The caller has checked the point, ``k`` and the bounds."""
    found: tuple[Rows, Floats] = _kernel(
        places._points,
        places._tags,
        places._boxes,
        places._node_masks,
        lat,
        lon,
        k,
        max_distance_m,
        min_distance_m,
        required_mask,
        words,
    )
    return found
