"""``docs/reliability.md``: its table of results, made from every kept run.

``python -m tests.faults.page [--since 2026-11-22T13:30]`` takes the runs of ``reports/faults.jsonl`` into
``docs/fault-runs.jsonl``, which is committed, so that runs add up over machines and months, and writes the block of the
page between its two marks anew. Runs of a working tree that differed from its commit are left out, and with ``--since``
those that began to be reported before.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.report import LINES, ROOT

PAGE = ROOT / "docs" / "reliability.md"
KEPT = ROOT / "docs" / "fault-runs.jsonl"
BEGINS = "<!-- results: written by python -m tests.faults.page -->"
ENDS = "<!-- end of results -->"
LOSSES = ("lost", "phantom", "back", "double", "half", "twice", "moved", "divergences", "shown", "revived")
"""What must be 0."""
_LEVELS = (
    "writers",
    "lanes",
    "connections",
    "descriptors",
    "headroom_mb",
    "bytes",
    "bodies",
    "acts",
    "steps",
    "shards",
)
"""Sizes that do not add up: the largest is shown."""
_SEEDS = 3
_HEADS = (
    "test",
    "footing",
    "runs",
    "passed",
    "sizes, added up",
    "writes acknowledged",
    "losses",
    "back after",
    "seeds",
)

Run = dict[str, Any]


@dataclass
class Row:
    """All runs of one test on one footing."""

    runs: int = 0
    passed: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    back_s: float = 0.0
    seeds: list[str] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """In the order in which they ran."""
        self.runs += 1
        self.passed += bool(run["passed"])
        for name, size in run["size"].items():
            number = _number(size)
            if number is not None:
                self.sizes[name] = max(self.sizes[name], number) if name in _LEVELS else self.sizes[name] + number
        for name in ("ok", *LOSSES):
            self.counts[name] += run["counts"].get(name) or 0
        self.back_s = max([self.back_s, *_seconds(run["counts"].get("back_s"))])
        self.seeds.append(f"{run['seed']} at {run['commit']}")

    def cells(self) -> list[str]:
        """As in the table, from ``runs`` on."""
        sizes = [f"{number:,} {_plain(name)}" for name, number in self.sizes.items()]
        losses = [f"{self.counts[name]} {name}" for name in LOSSES if self.counts[name]]
        back = f"{self.back_s:.1f} s" if self.back_s else ""
        passed = str(self.passed) if self.passed == self.runs else f"**{self.passed}**"
        acknowledged = f"{self.counts['ok']:,}" if self.counts["ok"] else ""
        shown = [", ".join(sizes), acknowledged, ", ".join(losses) or "0", back, ", ".join(self.seeds[-_SEEDS:])]
        return [str(self.runs), passed, *shown]


def merged(kept: Iterable[str], new: Iterable[str], since: str = "") -> list[Run]:
    """Every run once, in order of time. ``since``: the first moment (UTC, ISO) of new runs that count."""
    runs = {_identity(run): run for run in map(json.loads, kept)}
    for run in map(json.loads, new):
        if run["commit"] and not run["commit"].endswith("+") and run["at"] >= since:
            runs.setdefault(_identity(run), run)
    return sorted(runs.values(), key=lambda run: str(run["at"]))


def table(runs: Iterable[Run]) -> str:
    """The block of the page."""
    rows: dict[tuple[str, str], Row] = {}
    for run in runs:
        rows.setdefault((run["test"], run["footing"]), Row()).add(run)
    if not rows:
        return "No run is kept yet."
    ordered = sorted(rows.items(), key=lambda item: _natural(item[0][0]))
    body = [[_title(test), footing, *row.cells()] for (test, footing), row in ordered]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [_HEADS, ["---"] * len(_HEADS), *body])


def with_results(page: str, block: str) -> str:
    """The page with ``block`` between its marks. Raises ValueError when it has none."""
    before, begins, rest = page.partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise ValueError(f"{PAGE} lacks its marks {BEGINS} and {ENDS}")
    return f"{before}{begins}\n{block}\n{ends}{after}"


def _identity(run: Run) -> tuple[str, ...]:
    return tuple(str(run[name]) for name in ("test", "footing", "seed", "at"))


def _number(size: Any) -> int | None:
    """A size that can be added up: a number, or how many a list names."""
    if isinstance(size, list):
        return len(size)
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _seconds(back: Any) -> list[float]:
    """``back_s`` of a run: one number, or several by name."""
    found = back.values() if isinstance(back, dict) else back if isinstance(back, list) else [back]
    return [float(one) for one in found if isinstance(one, int | float)]


def _natural(name: str) -> list[str]:
    return [f"{int(part):03}" if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _title(test: str) -> str:
    """q4_master_kills -> Q4 master kills."""
    return _plain(re.sub(r"^q(\d+)", r"Q\1", test))


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", default="", help="first moment (UTC, ISO) of new runs that count")
    runs = merged(_lines(KEPT), _lines(LINES), parser.parse_args().since)
    page = with_results(PAGE.read_text("utf-8"), table(runs))
    KEPT.write_text("".join(json.dumps(run) + "\n" for run in runs), "utf-8")
    PAGE.write_text(page, "utf-8")
    print(f"{len(runs)} runs in {KEPT.relative_to(ROOT)}, {PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
