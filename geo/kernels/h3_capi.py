"""h3's own compiled C functions, called from Numba loops: half a microsecond a point, no Python and no GIL in between.

The wheel of h3 holds the C library, whose public functions (``h3api.h``) its extension module exports. That module is
private to h3 (hence the pin ``h3==4.5.*``), so names and version of the C library are looked up at import; where they
are not the expected ones, the three kernels are ``None`` and ``geo.cells`` uses loops over h3's Python functions.
"""

import ctypes
from typing import Any, NamedTuple

import h3
import numpy as np
from h3._cy import latlng as h3_latlng
from llvmlite import binding
from numba import config, njit, types

C_VERSION = "4."
"""What the C library's version starts with: the signatures below are those of ``h3api.h`` of H3 4."""

_pointer: Any = types.CPointer
_DOUBLES = _pointer(types.float64)  # struct LatLng { double lat; double lng; }, radians
_INDEXES = _pointer(types.uint64)
_INTS = _pointer(types.int32)
SIGNATURES = {
    "latLngToCell": types.uint32(_DOUBLES, types.int32, _INDEXES),
    "cellToLatLng": types.uint32(types.uint64, _DOUBLES),
    "gridDiskDistances": types.uint32(types.uint64, types.int32, _INDEXES, _INTS),
    "degsToRads": types.float64(types.float64),
    "radsToDegs": types.float64(types.float64),
}

# Accepts writable arrays too.
_FLOATS = types.Array(types.float64, 1, "C", readonly=True)
_CELLS = types.Array(types.uint64, 1, "C", readonly=True)


class Functions(NamedTuple):
    """External functions for Numba, in the order of ``SIGNATURES``."""

    latlng_to_cell: Any
    cell_to_latlng: Any
    grid_disk: Any
    radians: Any
    degrees: Any


def bind(library: Any, version: str) -> Functions | None:
    """The functions of a loaded C library, or ``None`` where it lacks one, is another version, or Numba is switched
    off."""
    known = version.startswith(C_VERSION) and all(hasattr(library, name) for name in SIGNATURES)
    if not known or getattr(config, "DISABLE_JIT", False):
        return None
    return Functions(*(_external(library, name, signature) for name, signature in SIGNATURES.items()))


def _external(library: Any, name: str, signature: Any) -> Any:
    # Machine code in Numba's cache refers to the function by this name, which every process maps to its own address.
    symbol = f"nearhive_h3_{name}"
    binding.add_symbol(symbol, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    return types.ExternalFunction(symbol, signature)


_bound = bind(ctypes.CDLL(h3_latlng.__file__), h3.versions()["c"])
latlng_to_cells: Any | None = None
cells_to_latlngs: Any | None = None
disk_rings: Any | None = None

if _bound is not None:
    _latlng_to_cell, _cell_to_latlng, _grid_disk, _radians, _degrees = _bound

    @njit(types.uint64[::1](_FLOATS, _FLOATS, types.int32), cache=True, nogil=True)
    def _latlng_to_cells(lats, lons, resolution):  # type: ignore[no-untyped-def]
        """Cells of n points in degrees. The caller has made sure that every number is finite and in range."""
        out = np.empty(lats.size, np.uint64)
        point, cell = np.empty(2, np.float64), np.empty(1, np.uint64)
        for i in range(lats.size):
            point[0], point[1] = _radians(lats[i]), _radians(lons[i])
            _latlng_to_cell(point.ctypes, resolution, cell.ctypes)
            out[i] = cell[0]
        return out

    @njit(types.float64[:, ::1](_CELLS), cache=True, nogil=True)
    def _cells_to_latlngs(cells):  # type: ignore[no-untyped-def]
        """Centres of n valid cells: f64[2, n] of latitudes and longitudes in degrees."""
        out = np.empty((2, cells.size), np.float64)
        point = np.empty(2, np.float64)
        for i in range(cells.size):
            _cell_to_latlng(cells[i], point.ctypes)
            out[0, i], out[1, i] = _degrees(point[0]), _degrees(point[1])
        return out

    @njit("Tuple((u8[::1], i4[::1]))(u8, i4)", cache=True, nogil=True)
    def _disk_rings(cell, rings):  # type: ignore[no-untyped-def]
        """The cells at most ``rings`` steps from a valid cell, and the steps to each; in no order."""
        room = 3 * rings * (rings + 1) + 1
        cells, steps = np.zeros(room, np.uint64), np.zeros(room, np.int32)
        _grid_disk(cell, rings, cells.ctypes, steps.ctypes)
        # A pentagon lacks a sixth of each ring: those places stay 0.
        found = cells != 0
        return cells[found], steps[found]

    latlng_to_cells = _latlng_to_cells
    cells_to_latlngs = _cells_to_latlngs
    disk_rings = _disk_rings
