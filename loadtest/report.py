"""What the benchmarks share: rows, the table, and ``docs/benchmarks.json``."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

OUT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.json"
_PACKAGES = ("nearhive", "numpy", "numba", "h3", "scipy", "redis")

Row = dict[str, Any]


def row(work: str, size: int, ours: float, peer: float, peer_name: str, unit: str, goal: str) -> Row:
    """One row of the file; ``goal`` is ``ratio >= x`` or ``ours <= x`` in the row's unit. ``ratio`` = peer / ours."""
    found = {"ratio": peer / ours, "ours": round(ours, 3)}
    what, sign, limit = goal.split()
    met = found[what] >= float(limit) if sign == ">=" else found[what] <= float(limit)
    return {
        "work": work,
        "size": size,
        "ours": found["ours"],
        "peer": round(peer, 3),
        "peer_name": peer_name,
        "unit": unit,
        "ratio": round(found["ratio"], 2),
        "goal": goal,
        "met": met,
    }


def show(rows: Sequence[Row]) -> None:
    """The table, for people."""
    wide = max(len(one["work"]) for one in rows)
    print(f"{'work':{wide}} {'size':>9} {'ours':>10} {'peer':>10}  {'':8} {'ratio':>6}  goal")
    for one in rows:
        verdict = f"{one['goal']}: {'met' if one['met'] else 'NOT met'}; peer: {one['peer_name']}"
        print(
            f"{one['work']:{wide}} {one['size']:9,} {one['ours']:10.3f} {one['peer']:10.3f}  {one['unit']:8} "
            f"{one['ratio']:6.2f}  {verdict}"
        )


def write(rows: list[Row], seed: int) -> None:
    """Put ``rows`` in place of those with the same peers; rows of other benchmarks stay."""
    peers = {one["peer_name"] for one in rows}
    before = orjson.loads(OUT.read_bytes())["rows"] if OUT.exists() else []
    report = {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "commit": commit(),
        "seed": seed,
        "rows": [*(one for one in before if one["peer_name"] not in peers), *rows],
    }
    OUT.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(f"written: {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load_average_1min": round(os.getloadavg()[0], 2),  # the run itself is 1; more = a busy machine
    }


def commit() -> str:
    """Of the working tree, with ``-dirty`` if it holds more; empty outside a clone."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=OUT.parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
