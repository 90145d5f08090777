"""Kept results of the privacy tests: ``reports/privacy_report.json``, one run after the other, each with its seed."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.report import REPORTS, commit

FILE = REPORTS / "privacy_report.json"
_KEPT = 400

Row = dict[str, Any]


@dataclass
class Run:
    """One run of one test. ``rows``: what was measured, filled by the test; all rows have the same columns."""

    test: str
    seed: int
    n: int
    rows: list[Row] = field(default_factory=list)


@contextlib.contextmanager
def reported(test: str, seed: int, n: int) -> Iterator[Run]:
    """Append the run to the report, passed or not. ``n``: how many victims, histories, users; the largest run of a test
    is the one that the page shows."""
    run, started_s, passed = Run(test, seed, n), time.monotonic(), False
    try:
        yield run
        passed = True
    finally:
        seconds = round(time.monotonic() - started_s, 1)
        print(f"{test}: n = {n}, seed {seed}, {seconds} s")
        for row in run.rows:
            print("   ", ", ".join(f"{name} {value}" for name, value in row.items()))
        _append(FILE, run, passed, seconds)


def _append(file: Path, run: Run, passed: bool, seconds: float) -> None:
    line = {
        "test": run.test,
        "seed": run.seed,
        "n": run.n,
        "passed": passed,
        "seconds": seconds,
        "commit": commit(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": run.rows,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(f".{os.getpid()}.part")
    written.write_text(json.dumps({"runs": [*kept(file), line][-_KEPT:]}, indent=1) + "\n", "utf-8")
    written.replace(file)


def kept(file: Path = FILE) -> list[Row]:
    """All runs kept, oldest first."""
    return list(json.loads(file.read_text("utf-8"))["runs"]) if file.exists() else []
