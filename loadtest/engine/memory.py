"""Bytes of an item in each index, each measured in a process of its own; of servers, what they say themselves."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadtest import report
from loadtest.engine.field import IN_PROCESS, Field
from loadtest.engine.footprint import PEOPLE
from loadtest.engine.ours import NAME
from loadtest.engine.peers.geosearch import GeoSearch
from loadtest.engine.peers.postgis import PostGIS

PEOPLE_WORK = "memory of a person in the index of an epoch: index, expiry and an id of 12 bytes"
WORKER_WORK = "memory of a person in a worker, all in: settings, presence, index and an id of 12 characters"
PLACE_WORK = "memory of a place"
WORKER, PLACES = "Nearhive worker", "Nearhive places"
_ROOT = Path(__file__).resolve().parents[2]
_NOT_HELD = {"NumPy"}  # the points themselves
_LEAST_TELLING = 50_000  # of fewer the pages of a process tell little: only what the rows need
_IN_ROWS = (PEOPLE, NAME, "cKDTree")


def measure(field: Field, seed: int) -> dict[str, float]:
    """By name of the contender; people and places of ours apart."""
    arguments = str(field.size), str(seed)
    names = [PEOPLE, *(kind.name for kind in IN_PROCESS if kind.name not in _NOT_HELD and field.size <= kind.largest)]
    if field.size < _LEAST_TELLING:
        names = [name for name in names if name in _IN_ROWS]
    children: dict[str, tuple[str, ...]] = {name: ("loadtest.engine.footprint", name, *arguments) for name in names}
    children[WORKER] = ("loadtest.state.footprint", *arguments)
    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        told = dict(zip(children, side_by_side.map(_child, children.values()), strict=True))
    found = {PEOPLE: told.pop(PEOPLE), WORKER: told.pop(WORKER), PLACES: told.pop(NAME), **told}
    for name in (GeoSearch.name, PostGIS.name):
        if name in field.contenders:
            held: int = field.contenders[name].bytes_used  # type: ignore[attr-defined]
            found[name] = held / field.size
    return found


def _child(module_and_arguments: Sequence[str]) -> float:
    command = [sys.executable, "-m", *module_and_arguments]
    return float(subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


def rows(size: int, found: dict[str, float]) -> list[report.Row]:
    """People beside GEOSEARCH (members of 12 characters), places beside cKDTree."""
    people_peer = GeoSearch.name if GeoSearch.name in found else "cKDTree"
    peer = found[people_peer]
    return [
        report.row(PEOPLE_WORK, size, found[PEOPLE], peer, people_peer, "bytes", "ours <= 64"),
        report.row(WORKER_WORK, size, found[WORKER], peer, people_peer, "bytes", "ours <= 64"),
        report.row(PLACE_WORK, size, found[PLACES], found["cKDTree"], "cKDTree", "bytes", "ours <= 48"),
    ]
