"""The kept results of fault tests: one JSON line a run in ``reports/faults.jsonl``, and the ledgers beside it."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.faults.ledger import Ledger

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
LINES = REPORTS / "faults.jsonl"
LEDGERS = REPORTS / "ledgers"
_LEDGERS_KEPT = 40


@dataclass
class Run:
    """One run of one fault test; ``size`` and ``counts`` are filled by the test."""

    test: str
    seed: int
    footing: str
    size: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def ledger(self) -> Ledger:
        """Of this run, in a file that is kept."""
        ledger = Ledger(LEDGERS / f"{self.test}-{self.footing.replace(' ', '_')}-{self.seed}.jsonl")
        print(f"{self.test}: ledger {ledger.path}")
        return ledger


@contextlib.contextmanager
def reported(test: str, seed: int, footing: str, **size: Any) -> Iterator[Run]:
    """Print seed and sizes, and append the run to the report, passed or not."""
    run = Run(test, seed, footing, size)
    _forget_old_ledgers()
    started_s, passed = time.monotonic(), False
    print(f"{test} on {footing}: seed {seed}, {size}")
    try:
        yield run
        passed = True
    finally:
        if "ledger" in run.__dict__:
            run.ledger.close()
        seconds = round(time.monotonic() - started_s, 1)
        print(f"{test} on {footing}: {run.counts} in {seconds} s")
        _append(run, passed, seconds)


def _append(run: Run, passed: bool, seconds: float) -> None:
    line = {
        "test": run.test,
        "seed": run.seed,
        "size": run.size,
        "counts": run.counts,
        "footing": run.footing,
        "passed": passed,
        "commit": commit(),
        "seconds": seconds,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    LINES.parent.mkdir(parents=True, exist_ok=True)
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")


def commit() -> str:
    """The commit that is tested, with ``+`` when files differ from it; "" outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _forget_old_ledgers() -> None:
    """A ledger may have megabytes: the newest ones are kept."""
    if LEDGERS.is_dir():
        for old in sorted(LEDGERS.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)[:-_LEDGERS_KEPT]:
            old.unlink(missing_ok=True)
