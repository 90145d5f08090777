"""Compile every kernel once, so that later starts load machine code from Numba's on-disk cache."""

import importlib
import pkgutil
from collections.abc import Callable

from geo import kernels


def compile_kernels(progress: Callable[[str, int, int], None]) -> None:
    """Import each module of ``geo.kernels``, which compiles what is not in the cache.

    ``progress(module, done, total)`` is called before each module, and once more at the end with an empty name and done
    = total.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(kernels.__path__))
    for done, name in enumerate(names):
        progress(name, done, len(names))
        importlib.import_module(f"{kernels.__name__}.{name}")
    progress("", len(names), len(names))
