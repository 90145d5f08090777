"""Columns of facts about people by slot. Most people have few of all the facts there are: zeros that were never written
take no memory."""

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST_MAPPED = 1 << 18
_LEAST_HUGE = 1 << 25  # huge pages spare a look-up a miss; half of one is written in vain in each column
_PAGE_ROWS = 4096  # looked through at once for a fact: one page of memory of the narrowest columns


def zeros(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``np.zeros``, of memory that was never written.

    That of NumPy may be what was freed before, and is written then: of a million people who came one after the other 25
    bytes each were zeros.
    """
    size = count * dtype.itemsize
    if size < _LEAST_MAPPED:
        return np.zeros(count, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _LEAST_HUGE:
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype)


def grown(column: NDArray[Any], capacity: int) -> NDArray[Any]:
    """A copy of ``column`` with ``capacity`` rows, the new ones zero.

    Where nobody has a fact, nothing is written: zeros that were never written take no memory, and most people have few
    of all the facts there are.
    """
    larger = zeros(capacity, column.dtype)
    for start in range(0, len(column), _PAGE_ROWS):
        rows = column[start : start + _PAGE_ROWS]
        if rows.any():
            larger[start : start + len(rows)] = rows
    return larger


def put(column: NDArray[Any], slots: NDArray[Any], values: Any) -> None:
    """``column[slots] = values``, but where both are zero all over, nothing is written: see ``grown``."""
    if np.any(values) or column[slots].any():
        column[slots] = values


def one_row(slot: int) -> NDArray[np.int32]:
    """int32[1], to index a column."""
    return np.array([slot], np.int32)
