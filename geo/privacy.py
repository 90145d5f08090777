"""From an exact point to what may be kept and shown: the point itself, snapping with hysteresis, epochs and bands.

An exact point lives only inside the request that brought it. What is kept is its cell of ``FRIEND_RESOLUTION``, chosen
by ``snap``; every coarser cell is ``cells.parent`` of that one, never a second snap of the point, which would tell on
which side of a border that the two resolutions do not share somebody stands.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo import cells, datums
from geo.kernels import polygon as kernels

CITY_RESOLUTION: Final = 5
STRANGER_RESOLUTION: Final = 7
FRIEND_RESOLUTION: Final = 8
"""The finest that is kept."""
PRECISE_RESOLUTION: Final = 11
"""Of the live channel between two friends, which has no hysteresis, no epochs, and feeds no other cell."""
PRECISION_RESOLUTION: Final = {"city": CITY_RESOLUTION, "area": STRANGER_RESOLUTION, "near": FRIEND_RESOLUTION}

# A phone in one place scatters with a standard deviation of about 8 m (up to 20 m): 40 m is five of the usual, and with
# it 0.003 changes a user and day were seen where 7 % of users flapped without. A worse accuracy asks for more, up to
# 100 m.
MIN_MARGIN_M: Final = 40.0
MAX_MARGIN_M: Final = 100.0
MARGIN_PER_ACCURACY: Final = 5.0

# Median distance from the centre of a hexagon of area A to a point of it, over sqrt(A): who knows the cell and nothing
# else, and guesses the centre, is wrong by this much.
UNCERTAINTY_PER_SQRT_AREA: Final = 0.399

EDGES_PER_STRANGER_EDGE: Final = 3

STRANGER_BANDS_M: Final = (0, 3000, 5000, 10000, 20000, 50000)
"""Borders of the distance bands that strangers are shown: band i is [border i, border i + 1)."""

_COORD_TYPES = {"gcj02": datums.gcj02_to_wgs84, "bd09": datums.bd09_to_wgs84}


class ExactPoint:
    """A person's exact WGS 84 position in degrees, with its accuracy in metres or ``None``. Only ``snap`` has a use for
    it.

    It cannot be changed, printed, formatted, pickled, copied or hashed, so that it does not end up in a log, a cache or
    a store by mistake. ``ValueError`` names the field that is not a finite number in range, without its value.
    """

    __slots__ = ("accuracy_m", "lat", "lon")
    __hash__ = None  # type: ignore[assignment]

    lat: float
    lon: float
    accuracy_m: float | None

    def __init__(self, lat: float, lon: float, accuracy_m: float | None = None) -> None:
        object.__setattr__(self, "lat", _checked(lat, "lat", -90.0, 90.0))
        object.__setattr__(self, "lon", _checked(lon, "lon", -180.0, 180.0))
        accuracy = None if accuracy_m is None else _checked(accuracy_m, "accuracy_m", 0.0, sys.float_info.max)
        object.__setattr__(self, "accuracy_m", accuracy)

    @classmethod
    def of(cls, lat: float, lon: float, accuracy_m: float | None = None, coord_type: str = "wgs84") -> Self:
        """Point given in ``wgs84``, ``gcj02`` or ``bd09`` coordinates; the last two are the shifted ones of maps in
        China."""
        point = cls(lat, lon, accuracy_m)
        if coord_type == "wgs84":
            return point
        if coord_type not in _COORD_TYPES:
            raise ValueError("coord_type must be wgs84, gcj02 or bd09")
        return cls(*_COORD_TYPES[coord_type](point.lat, point.lon), accuracy_m)

    def __repr__(self) -> str:
        return "<ExactPoint>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("an exact point cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise TypeError("an exact point cannot be changed")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("an exact point cannot be formatted")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("an exact point cannot be pickled or copied")

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exact point cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("an exact point cannot be pickled or copied")


def _checked(value: float, field: str, low: float, high: float) -> float:
    # bool is an int to Python, and NaN fails the comparison.
    number = isinstance(value, float | int) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        limits = f"from {low:g} to {high:g}" if high < sys.float_info.max else f"of at least {low:g}"
        raise ValueError(f"{field} must be a finite number {limits}")
    return float(value)


def margin_m(accuracy_m: float | None) -> float:
    """How far outside its kept cell a point must lie to leave it: five accuracies, at least 40 m and at most 100 m."""
    if accuracy_m is None:
        return MIN_MARGIN_M
    return max(MIN_MARGIN_M, min(MARGIN_PER_ACCURACY * accuracy_m, MAX_MARGIN_M))


def snap(point: ExactPoint, kept_cell: int) -> int:
    """The cell of ``FRIEND_RESOLUTION`` to keep for a point, given the one kept so far (0: none).

    That is the kept cell, unless the point lies at least ``margin_m`` outside its polygon: then the cell that holds the
    point. ``ValueError`` if ``kept_cell`` is neither 0 nor a cell of that resolution.
    """
    cell = cells.cell_of(point.lat, point.lon, FRIEND_RESOLUTION)
    return cell if kept_cell in (0, cell) or _leaves(point, kept_cell) else int(kept_cell)


def precise_cell(point: ExactPoint) -> int:
    """The cell of ``PRECISE_RESOLUTION`` that holds a point: for who shares it with a friend, and for nothing else."""
    return cells.cell_of(point.lat, point.lon, PRECISE_RESOLUTION)


def snap_many(points: Sequence[ExactPoint], kept_cells: ArrayLike) -> NDArray[np.uint64]:
    """``snap`` of n points against n kept cells, uint64[n]: 1 us each, and 10 us for each that is not in its kept
    cell."""
    kept = np.asarray(kept_cells, dtype=np.uint64)
    if kept.shape != (len(points),):
        raise ValueError("points and kept_cells must be of one length")
    lats = np.fromiter((point.lat for point in points), np.float64, kept.size)
    lons = np.fromiter((point.lon for point in points), np.float64, kept.size)
    found = cells.cells_of(lats, lons, FRIEND_RESOLUTION)
    for i in np.flatnonzero((kept != 0) & (kept != found)).tolist():
        if not _leaves(points[i], int(kept[i])):
            found[i] = kept[i]
    return found


def _leaves(point: ExactPoint, kept_cell: int) -> bool:
    """Whether a point outside a cell lies far enough outside. (Where H3 puts a point on the other side of a border than
    the border's arc says, the two differ by far less than the margin.)"""
    if cells.resolution_of(kept_cell) != FRIEND_RESOLUTION:
        raise ValueError(f"the kept cell must be of resolution {FRIEND_RESOLUTION}")
    outside_m: float = kernels.distance_to_ring_m(point.lat, point.lon, cells.boundary(kept_cell))
    return outside_m >= margin_m(point.accuracy_m)


def uncertainty_m(cell: int) -> float:
    """Declared uncertainty of a cell in metres: 0.399 times the square root of its area."""
    return UNCERTAINTY_PER_SQRT_AREA * math.sqrt(cells.area_m2(cell))


@dataclass(frozen=True, slots=True)
class Epochs:
    """Global edges at whole multiples of ``epoch_ms`` since 1970; every third is a stranger edge.

    An instant exactly on an edge belongs to the epoch that begins there: ``last_edge(edge) == edge``.
    """

    epoch_ms: int

    def __post_init__(self) -> None:
        if self.epoch_ms <= 0:
            raise ValueError("epoch_ms must be positive")

    def last_edge(self, now_ms: int) -> int:
        """The latest edge that is not after an instant, in milliseconds."""
        return now_ms - now_ms % self.epoch_ms

    def next_edge(self, now_ms: int) -> int:
        """The first edge after an instant."""
        return self.last_edge(now_ms) + self.epoch_ms

    def edge_from(self, now_ms: int) -> int:
        """The first edge that is not before an instant."""
        return now_ms + -now_ms % self.epoch_ms

    def last_stranger_edge(self, now_ms: int) -> int:
        """The latest stranger edge that is not after an instant."""
        return now_ms - now_ms % (EDGES_PER_STRANGER_EDGE * self.epoch_ms)

    def next_stranger_edge(self, now_ms: int) -> int:
        """The first stranger edge after an instant."""
        return self.last_stranger_edge(now_ms) + EDGES_PER_STRANGER_EDGE * self.epoch_ms


def band_of(distance_m: float) -> int:
    """Index of the band that holds a distance, -1 beyond the last. ``ValueError`` for a negative distance or NaN."""
    if not distance_m >= 0.0:
        raise ValueError("distance_m must not be negative")
    for band, end_m in enumerate(STRANGER_BANDS_M[1:]):
        if distance_m < end_m:
            return band
    return -1


def bands_within(radius_m: float) -> int:
    """How many bands a radius covers. ``ValueError`` unless it is a border of a band: 3000, 5000, 10000, 20000 or
    50000."""
    if radius_m not in STRANGER_BANDS_M[1:]:
        raise ValueError(f"radius_m must be one of {', '.join(map(str, STRANGER_BANDS_M[1:]))}")
    return STRANGER_BANDS_M.index(int(radius_m))
