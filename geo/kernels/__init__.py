"""Numba kernels: ``@njit`` functions on arrays and numbers, and nothing else.

Owns: every compiled loop of the project, each with an explicit signature, so that a wrong dtype or layout fails at the
call. What Python calls is ``njit`` with eager signatures: importing a module loads (or, the first time, compiles and
stores) its machine code. What only kernels call is ``inner``.
May raise: nothing; callers validate first. Exception: an error inside h3 would be a Python error, see ``h3_capi``.
Must not know: classes, settings, clocks, anything outside its arguments.

Numba's cache looks at one source file: machine code that contains a kernel of another module is not renewed when that
other module changes (``rm -r geo/kernels/__pycache__`` then). Only ``keyed``, which does not change, is called across
modules, and ``kdtree`` by ``knn``; the set-up starts anew whenever one of these files changes.
"""

import importlib
import sys
from typing import Any

_BLAS = "scipy.linalg.cython_blas"


def _load_numba_without_scipy() -> None:
    """Numba imports SciPy's linear algebra, where that is installed, for products of matrices: 0.2 s of every start,
    and no kernel has any. An entry of ``None`` is how Python says that a module cannot be imported."""
    modules: dict[str, Any] = sys.modules
    if _BLAS in modules:
        return
    modules[_BLAS] = None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del modules[_BLAS]


_load_numba_without_scipy()
