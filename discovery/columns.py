"""Columns of facts about people by slot. Most people have few of all the facts there are: zeros that were never written
take no memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAGE_ROWS = 4096  # looked through at once for a fact: one page of memory of the narrowest columns


def grown(column: NDArray[Any], capacity: int) -> NDArray[Any]:
    """A copy of ``column`` with ``capacity`` rows, the new ones zero.

    Where nobody has a fact, nothing is written: zeros that were never written take no memory, and most people have few
    of all the facts there are.
    """
    larger = np.zeros(capacity, dtype=column.dtype)
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
