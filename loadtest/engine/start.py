"""A new process to its first answer, its kernels in Numba's cache; beside one that imports SciPy.

Bytecode is kept, as a set-up leaves it, also where the bench itself runs without; the first run, which writes it, is
not timed.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from loadtest import report
from loadtest.engine.comparison import Comparison
from loadtest.engine.ours import NAME
from loadtest.engine.scale import Scale
from loadtest.engine.timing import whole_runs

WORK = "process started, geo imported, first answers of stores and people"
PEER = "cKDTree"
_ROOT = Path(__file__).resolve().parents[2]
_OURS = """
import numpy as np
from geo import cells
from geo.crowd import BandsAround, Crowd
from geo.places import Places
lats, lons = np.linspace(48.0, 49.0, 100), np.linspace(2.0, 3.0, 100)
assert len(Places(lats, lons).nearest(48.5, 2.5, 5)[0]) == 5
seen = cells.cells_of(lats, lons, 7)
slots = np.arange(100, dtype=np.int32)
crowd = Crowd(seen, slots.astype(np.uint64), slots)
page = crowd.page(BandsAround(int(seen[50]), 3), 7, None, 50, np.ones(100, np.int64), 0, slots[:1])
assert len(page[0])
"""
_PEERS = """
import numpy as np
from scipy.spatial import cKDTree
vectors = np.linspace(0.0, 1.0, 300).reshape(100, 3)
assert len(cKDTree(vectors).query(vectors[0], k=5)[1]) == 5
"""


def compare(scale: Scale) -> Comparison:
    """Seconds from the start of the process to its end."""
    runs = {name: partial(_run, program) for name, program in ((NAME, _OURS), (PEER, _PEERS))}
    return Comparison(WORK, "", 100, "s", whole_runs(runs, scale.runs))


def _run(program: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", program], cwd=_ROOT, check=True, env=environment)


def rows(found: Comparison) -> list[report.Row]:
    return [found.row(PEER, "ours <= 1.5")]
