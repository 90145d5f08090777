"""Memory of one index: ``python -m loadtest.engine.footprint NAME COUNT SEED`` prints bytes an item.

The growth of the process's resident memory from before the points exist to when only the index is left of them. In a
process of its own, after a small index was built and dropped, so that code and libraries do not count.
"""

import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.engine import worlds
from loadtest.engine.worlds import Points

PEOPLE = "Nearhive people"
_SMALL = 1_000
# Where each is, so that a process imports no library but that of its own index.
_KINDS = {
    "Nearhive": ("ours", "OurPlaces"),
    "cKDTree": ("peers.ckdtree", "CKDTree"),
    "pykdtree": ("peers.pykd", "PyKDTree"),
    "BallTree": ("peers.balltree", "HaversineBallTree"),
    "STRtree": ("peers.strtree", "BoxesSTRtree"),
}


def _people(points: Points) -> Any:
    """What a page is made of: the index, until when each is shown, and each one's id of 12 bytes."""
    from loadtest.engine.ours import OurPeople

    built = OurPeople(points, worlds.generator(0))
    ids = np.array([b"%012d" % i for i in range(len(points[0]))], "S12")
    return built.crowd, built.shown_until_ms, ids


def _index(name: str) -> Callable[[Points], Any]:
    if name == PEOPLE:
        return _people
    module, kind = _KINDS[name]
    found: Callable[[Points], Any] = getattr(importlib.import_module(f"loadtest.engine.{module}"), kind)
    return found


def resident_bytes() -> int:
    """After everything that can be given back was."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(name: str, count: int, seed: int) -> float:
    """Bytes an item."""
    build = _index(name)
    build(worlds.points("clustered", _SMALL, worlds.generator(seed)))
    worlds.points("clustered", count, worlds.generator(seed))  # what making them leaves behind is no part of an index
    before = resident_bytes()
    index = build(worlds.points("clustered", count, worlds.generator(seed)))
    after = resident_bytes()
    assert index is not None
    return (after - before) / count


if __name__ == "__main__":
    print(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
