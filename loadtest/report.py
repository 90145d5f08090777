"""What the benchmarks share: rows with their goals, the table on the screen, and ``docs/benchmarks.json``.

The file has three parts, ``engine``, ``state`` and ``finder``; a benchmark replaces its own part and keeps the other.
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from loadtest import page
from loadtest.missed import profile_of

OUT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.json"
ENGINE, STATE, FINDER = PARTS = ("engine", "state", "finder")
_PACKAGES = ("nearhive", "numpy", "numba", "h3", "scipy", "redis")

Row = dict[str, Any]


def row(work: str, size: int, ours: float, peer: float, peer_name: str, unit: str, goal: str) -> Row:
    """One row of the file. ``ratio`` = peer / ours.

    ``goal`` is ``ratio >= x``, ``ours <= x`` in the row's unit, or ``growth <= x`` of ours / peer, for a row whose
    peer is ours under another condition.
    """
    found = {"ratio": peer / ours, "ours": round(ours, 3), "growth": ours / peer}
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


def not_measured(work: str, size: int, peer_name: str, unit: str, goal: str, why: str) -> Row:
    """A row of the table of goals whose peer is not there: not met, without figures."""
    missing = dict.fromkeys(("ours", "peer", "ratio"))
    told = {"work": work, "size": size, "peer_name": peer_name, "unit": unit, "goal": goal}
    return told | missing | {"met": False, "profile": f"NOT MEASURED: {why}"}


def show(rows: Sequence[Row]) -> None:
    """The table, for people."""
    wide = max(len(one["work"]) for one in rows)
    for one in rows:
        if one["ours"] is None:
            print(f"{one['work']}, beside {one['peer_name']}: {one['profile']}")
    rows = [one for one in rows if one["ours"] is not None]
    print(f"{'work':{wide}} {'size':>9} {'ours':>10} {'peer':>10}  {'':8} {'ratio':>6}  goal")
    for one in rows:
        verdict = f"{one['goal']}: {'met' if one['met'] else 'NOT met'}; peer: {one['peer_name']}"
        print(
            f"{one['work']:{wide}} {one['size']:9,} {one['ours']:10.3f} {one['peer']:10.3f}  {one['unit']:8} "
            f"{one['ratio']:6.2f}  {verdict}"
        )


def write(rows: list[Row], seed: int, part: str = STATE, more: dict[str, Any] | None = None, out: Path = OUT) -> None:
    """Put a part's rows in place of those it had, and ``more`` (its figures without goals, versions of its peers)
    beside them; then write the page of the same name anew."""
    before = orjson.loads(out.read_bytes()) if out.exists() else {}
    others = [one for one in before.get("rows", []) if one.get("part", part) != part]
    mine = [_with_profile(one | {"part": part}) for one in rows]
    kept = {name: before[name] for name in PARTS if name in before and name != part}
    report = {
        "machine": machine(),
        "versions": _versions(more or {}, *kept.values()),
        "commit": commit(),
        "seed": seed,
        "rows": sorted([*others, *mine], key=lambda one: PARTS.index(one["part"])),
        **kept,
        part: {"machine": machine(), "commit": commit(), "seed": seed} | (more or {}),
    }
    _put(report, out)


def _put(report: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    page.write(report, out.with_suffix(".md"))
    print(f"written: {_told(out)} and {_told(out.with_suffix('.md'))}")


def _with_profile(row: Row) -> Row:
    """A missed row says why; a profile that says NOT MEASURED came with the row."""
    if row["met"]:
        return {name: value for name, value in row.items() if name != "profile"}
    measured = row["ours"] is not None
    return row | {"profile": profile_of(row["work"])} if measured else row


def _versions(*parts: dict[str, Any]) -> dict[str, str]:
    """Of what is shared, and of each part's peers."""
    found = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    for part in parts:
        found |= part.get("versions", {})
    return found


def _told(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_average_1min": round(os.getloadavg()[0], 2),  # the run itself is 1; more = a busy machine
    }


def commit() -> str:
    """Of the working tree, with ``-dirty`` if it holds more; empty outside a clone."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=OUT.parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def explain(out: Path = OUT) -> None:
    """Write JSON and page anew with the profiles as they stand by now."""
    report = orjson.loads(out.read_bytes())
    _put(report | {"rows": [_with_profile(one) for one in report["rows"]]}, out)


if __name__ == "__main__":
    explain()
