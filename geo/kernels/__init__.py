"""Numba kernels: ``@njit`` functions on arrays and numbers, and nothing else.

Owns: every compiled loop of the project, with explicit eager signatures, so that a wrong dtype or layout fails at the
call and importing a module loads (or, the first time, compiles and stores) machine code.
May raise: nothing; callers validate first. Exception: an error inside h3 would be a Python error, see ``h3_capi``.
Must not know: classes, settings, clocks, anything outside its arguments.

Numba's cache looks at one source file: machine code that contains a kernel of another module is not renewed when that
other module changes (``rm -r geo/kernels/__pycache__`` then). Only ``keyed``, which does not change, is called across
modules; ``knn`` also holds a constant of ``kdtree``.
"""
