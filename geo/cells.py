"""H3 cells: points to cells, parents, shapes, distances between centres and disks with a proven bound.

A cell is a Python ``int``, or ``uint64`` in an array; its hexadecimal text exists only at the API. Every function that
takes a cell raises ``ValueError`` if it is not a valid H3 cell, except the array functions, which say so where they
differ.
"""

import math
from functools import lru_cache
from typing import Any

import h3
import h3.api.basic_int as h3_int
import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo import sphere
from geo.kernels import h3_capi
from geo.kernels import sphere as kernels

Cells = NDArray[np.uint64]
Floats = NDArray[np.float64]

MAX_RESOLUTION = 15
MAX_DISK_RINGS = 256
"""``disk`` refuses more: about 200,000 cells."""

# Layout of an index (H3 documentation, "Bit layout of H3Index"): bits 52-55 the resolution, then 15 digits of 3 bits,
# that of resolution r at bit 3 * (15 - r); digits finer than the resolution are 7.
_RESOLUTION_SHIFT = 52
_RESOLUTION_MASK = 0xF << _RESOLUTION_SHIFT
_DIGIT_BITS = 3

# Centre to farthest vertex, over the average edge length of the resolution: the largest of all cells is 1.0998 at each
# of the resolutions 2, 3 and 4 (1.079 and 1.097 at 0 and 1); the shapes repeat from there on.
_CIRCUMRADIUS_PER_EDGE = 1.15


def _checked_resolution(resolution: int) -> int:
    if not 0 <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution must be from 0 to {MAX_RESOLUTION}, not {resolution}")
    return resolution


def _checked_cell(cell: int) -> int:
    if not is_cell(cell):
        raise ValueError(f"{cell!r} is not an H3 cell")
    return int(cell)


def is_cell(value: int) -> bool:
    """Whether a number is the index of an H3 cell (not of an edge or vertex)."""
    return 0 <= value < 1 << 64 and bool(h3_int.is_valid_cell(int(value)))


def cell_of(lat: float, lon: float, resolution: int) -> int:
    """Cell that holds a point in degrees. ``ValueError`` if a number is not finite or out of range."""
    # Written so that NaN fails; no value in the message, since it may be where somebody is.
    if not -90.0 <= lat <= 90.0:
        raise ValueError("lat must be a finite number from -90 to 90")
    if not -180.0 <= lon <= 180.0:
        raise ValueError("lon must be a finite number from -180 to 180")
    return int(h3_int.latlng_to_cell(lat, lon, _checked_resolution(resolution)))


def cells_of(lats: ArrayLike, lons: ArrayLike, resolution: int) -> Cells:
    """``cell_of`` of n points: uint64[n]. ``ValueError`` if any number is not finite or out of range."""
    lat_array, lon_array = sphere.as_points(lats, lons)
    cells: Cells
    if h3_capi.latlng_to_cells is not None:
        cells = h3_capi.latlng_to_cells(lat_array, lon_array, np.int32(_checked_resolution(resolution)))
        return cells
    _checked_resolution(resolution)
    points = zip(lat_array.tolist(), lon_array.tolist(), strict=True)
    return np.fromiter((h3_int.latlng_to_cell(*p, resolution) for p in points), np.uint64, lat_array.size)


def resolution_of(cell: int) -> int:
    """Resolution of a cell, 0 to 15."""
    return _checked_cell(cell) >> _RESOLUTION_SHIFT & 0xF


def parent(cell: int, resolution: int) -> int:
    """Ancestor of a cell at a resolution; the cell itself at its own; ``ValueError`` for a finer one."""
    if _checked_resolution(resolution) > resolution_of(cell):
        raise ValueError(f"a cell of resolution {resolution_of(cell)} has no parent of resolution {resolution}")
    return int(cell) & ~_RESOLUTION_MASK | resolution << _RESOLUTION_SHIFT | _unused_digits(resolution)


def parents(cells: ArrayLike, resolution: int) -> Cells:
    """``parent`` of n valid cells: uint64[n]. ``ValueError`` if any is coarser than ``resolution``; other validity is
    not checked."""
    array = np.asarray(cells, dtype=np.uint64)
    own = array >> np.uint64(_RESOLUTION_SHIFT) & np.uint64(0xF)
    if (own < _checked_resolution(resolution)).any():
        raise ValueError(f"some cells are coarser than resolution {resolution}")
    kept = array & np.uint64(~_RESOLUTION_MASK & 0xFFFF_FFFF_FFFF_FFFF)
    return kept | np.uint64(resolution << _RESOLUTION_SHIFT | _unused_digits(resolution))


def children(cell: int, resolution: int) -> Cells:
    """All cells of a resolution, the cell's own or finer, that lie in a cell: uint64[n]."""
    return np.array(h3_int.cell_to_children(_checked_cell(cell), _checked_resolution(resolution)), np.uint64)


def _unused_digits(resolution: int) -> int:
    """All digits finer than a resolution, set to 7."""
    return (1 << _DIGIT_BITS * (MAX_RESOLUTION - resolution)) - 1


def to_hex(cell: int) -> str:
    """Text of a cell as H3 writes it: 15 lower-case hexadecimal digits."""
    return f"{_checked_cell(cell):x}"


def from_hex(text: str) -> int:
    """Cell of its text. ``ValueError`` unless it is exactly what ``to_hex`` writes for a valid cell."""
    try:
        cell = int(text, 16)
    except ValueError:
        cell = 0
    if not is_cell(cell) or f"{cell:x}" != text:
        raise ValueError("not the text of an H3 cell")
    return cell


def center(cell: int) -> tuple[float, float]:
    """``(lat, lon)`` of a cell's centre in degrees."""
    lat, lon = h3_int.cell_to_latlng(_checked_cell(cell))
    return lat, lon


def centers(cells: ArrayLike) -> tuple[Floats, Floats]:
    """Centres of n cells: latitudes f64[n] and longitudes f64[n]. ``ValueError`` if any is not a cell."""
    array = np.ascontiguousarray(cells, dtype=np.uint64)
    if not all(map(h3_int.is_valid_cell, array.tolist())):
        raise ValueError("some values are not H3 cells")
    return _centers(array)


def _centers(cells: Cells) -> tuple[Floats, Floats]:
    """``centers`` of what are cells."""
    if h3_capi.cells_to_latlngs is not None:
        lats, lons = h3_capi.cells_to_latlngs(cells)
        return lats, lons
    points = np.array([h3_int.cell_to_latlng(cell) for cell in cells.tolist()], dtype=np.float64).reshape(-1, 2)
    return np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])


@lru_cache(maxsize=8192)
def _boundary(cell: int) -> Floats:
    vertices = np.array(h3_int.cell_to_boundary(_checked_cell(cell)), dtype=np.float64)
    vertices.flags.writeable = False
    return vertices


def boundary(cell: int) -> Floats:
    """Vertices of a cell, f64[m, 2] of lat, lon, counter-clockwise, not closed; shared and read-only."""
    return _boundary(int(cell))


@lru_cache(maxsize=8192)
def polygon(cell: int) -> dict[str, Any]:
    """GeoJSON Polygon of a cell: one closed counter-clockwise ring of ``[lon, lat]``. Shared: do not change it.

    Longitudes are continuous along the ring, so that a cell on the antimeridian reaches beyond 180 (never beyond 540)
    instead of jumping around the globe. The ring of a cell that holds a pole runs once around it and closes along the
    pole's line.
    """
    vertices = boundary(cell)
    # Each vertex lies less than half a turn from the one before; the closing vertex is the first one again, perhaps a
    # turn on.
    steps = np.diff(vertices[:, 1], append=vertices[0, 1])
    lons = np.concatenate(([vertices[0, 1]], vertices[0, 1] + np.cumsum((steps + 180.0) % 360.0 - 180.0)))
    ring = [[float(lon), float(lat)] for lon, (lat, _) in zip(lons[:-1], vertices, strict=True)]
    turn = lons[-1] - lons[0]
    if abs(turn) > 180.0:
        pole = math.copysign(90.0, vertices[0, 0])
        end = ring[0][0] + math.copysign(360.0, turn)
        ring += [[end, ring[0][1]], [end, pole], [ring[0][0], pole]]
    west = min(lon for lon, _ in ring)
    shift = 360.0 * math.floor((west + 180.0) / 360.0)
    ring = [[lon - shift, lat] for lon, lat in ring]
    return {"type": "Polygon", "coordinates": [[*ring, list(ring[0])]]}


@lru_cache(maxsize=8192)
def area_m2(cell: int) -> float:
    """Area of a cell in square metres."""
    return float(h3_int.cell_area(_checked_cell(cell), unit="m^2"))


def distance_m(cell_a: int, cell_b: int) -> float:
    """Great-circle distance in metres between the centres of two cells, of any resolutions."""
    return sphere.great_circle_m(*center(cell_a), *center(cell_b))


def distances_m(cell: int, cells: ArrayLike) -> Floats:
    """``distance_m`` from one cell to each of n: f64[n]."""
    return _distances_m(cell, *centers(cells))


def _distances_m(cell: int, lats: Floats, lons: Floats) -> Floats:
    distances: Floats = kernels.distances_from_m(*center(cell), lats, lons)
    return distances


def disk(cell: int, radius_m: float) -> tuple[Cells, Floats]:
    """All cells of a cell's resolution whose centre lies less than ``radius_m`` from its centre, itself included.

    Returns cells uint64[n] and their distances in metres f64[n], ordered by distance, then by cell; read-only and
    cached. ``ValueError`` if the radius is not positive or needs more than ``MAX_DISK_RINGS`` rings.
    """
    if not 0.0 < radius_m < math.inf:
        raise ValueError("radius_m must be a positive finite number")
    resolution = resolution_of(cell)
    rings = _first_guess_rings(radius_m, resolution)
    if rings > MAX_DISK_RINGS:
        raise ValueError(f"radius_m is too large for resolution {resolution}")
    # 8,192 small disks take up to 28 MB, 512 large ones (50 km at resolution 7) up to 20 MB.
    cached = _small_disk if rings <= _SMALL_DISK_RINGS else _large_disk
    return cached(int(cell), float(radius_m))


_SMALL_DISK_RINGS = 8


def _first_guess_rings(radius_m: float, resolution: int) -> int:
    """Rings that a radius needs where cells have the average size, and one more.

    Centres of ring k then lie from 1.5 k edges (at the middle of its sides) to sqrt(3) k edges (at its corners) away.
    """
    edge_m: float = h3.average_hexagon_edge_length(resolution, unit="m")
    return math.ceil(radius_m / (1.5 * edge_m)) + 1


def _disk(cell: int, radius_m: float) -> tuple[Cells, Floats]:
    cells, distances = _enough_rings(cell, radius_m)
    inside = distances < radius_m
    cells, distances = cells[inside], distances[inside]
    order = np.lexsort((cells, distances))
    cells, distances = cells[order], distances[order]
    cells.flags.writeable = distances.flags.writeable = False
    return cells, distances


_small_disk = lru_cache(maxsize=8192)(_disk)
_large_disk = lru_cache(maxsize=512)(_disk)


def _enough_rings(cell: int, radius_m: float) -> tuple[Cells, Floats]:
    """Cells, and the distances of their centres, of rings 0 to some k beyond which no centre lies within ``radius_m``
    of the cell's centre.

    Proof. Let c lie in a ring beyond k with its centre less than the radius away. The geodesic from the middle to that
    centre stays inside the radius and walks through cells of which each touches the next, so it passes through some
    cell r of ring k, at a point less than the radius away. The centre of r is at most a circumradius from that point.
    So if every centre of ring k is at least radius + the largest circumradius away, there is no such c. An empty ring k
    ends the globe.
    """
    resolution = resolution_of(cell)
    reach = radius_m + _CIRCUMRADIUS_PER_EDGE * h3.average_hexagon_edge_length(resolution, unit="m")
    rings = _first_guess_rings(radius_m, resolution)
    while True:
        cells, steps = _grid_disk(cell, rings)
        distances = _distances_m(cell, *_centers(cells))
        if distances[steps == rings].min(initial=math.inf) >= reach:
            return cells, distances
        rings += 1


def _grid_disk(cell: int, rings: int) -> tuple[Cells, NDArray[np.int32]]:
    """Cells up to ``rings`` steps away, uint64[n], and the steps to each, int32[n]; in no order."""
    if h3_capi.disk_rings is not None:
        cells, steps = h3_capi.disk_rings(cell, rings)
        return cells, steps
    by_ring = [h3_int.grid_ring(cell, ring) for ring in range(rings + 1)]
    steps = np.repeat(np.arange(rings + 1, dtype=np.int32), [len(ring) for ring in by_ring])
    return np.concatenate([np.array(ring, np.uint64) for ring in by_ring]), steps
