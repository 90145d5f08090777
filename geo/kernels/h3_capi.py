"""h3's own compiled ``latlng_to_cell``, called from a Numba loop: 0.6 us a point, no Python in between.

The wheel of h3 exports the C pointers of its Cython functions (``__pyx_capi__``). The module is private to h3 (hence
the pin ``h3==4.5.*``), so the C signature is compared at import; if it is not the expected one, ``latlng_to_cells`` is
``None`` and ``geo.cells`` uses a scalar loop over h3's public function instead.
"""

import ctypes
from typing import Any

import numpy as np
from h3._cy import latlng as h3_latlng
from llvmlite import binding
from numba import config, njit, types
from numba.extending import get_cython_function_address

FUNCTION = "latlng_to_cell"
SIGNATURE = "H3Index (double, double, int, int __pyx_skip_dispatch)"
# Machine code in Numba's cache refers to h3's function by this name, which every process maps to its own address first.
SYMBOL = "nearhive_h3_latlng_to_cell"

# Accepts writable arrays too.
_FLOATS = types.Array(types.float64, 1, "C", readonly=True)


def exported_signature(capi: dict[str, Any]) -> str | None:
    """C signature that a ``__pyx_capi__`` table declares for ``latlng_to_cell``; ``None`` if it exports none."""
    capsule = capi.get(FUNCTION)
    if capsule is None:
        return None
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    name: bytes | None = name_of(capsule)
    return None if name is None else name.decode()


def bind(capi: dict[str, Any]) -> Any | None:
    """External function for Numba, or ``None`` where the C signature differs or Numba is switched off."""
    if getattr(config, "DISABLE_JIT", False) or exported_signature(capi) != SIGNATURE:
        return None
    binding.add_symbol(SYMBOL, get_cython_function_address(h3_latlng.__name__, FUNCTION))
    return types.ExternalFunction(SYMBOL, types.uint64(types.float64, types.float64, types.int32, types.int32))


_latlng_to_cell: Any = bind(getattr(h3_latlng, "__pyx_capi__", {}))
latlng_to_cells: Any | None = None

if _latlng_to_cell is not None:
    # Keeps the GIL, alone among the kernels: a refused point would raise a Python exception inside h3's function.
    @njit(types.uint64[::1](_FLOATS, _FLOATS, types.int32), cache=True)
    def _latlng_to_cells(lats, lons, resolution):  # type: ignore[no-untyped-def]
        """Cells of n points in degrees. The caller has made sure that every number is finite and in range."""
        out = np.empty(lats.size, np.uint64)
        for i in range(lats.size):
            out[i] = _latlng_to_cell(lats[i], lons[i], resolution, np.int32(0))
        return out

    latlng_to_cells = _latlng_to_cells
