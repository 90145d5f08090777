"""The kept results of fault tests: one JSON line a run in ``reports/faults.jsonl``, and the ledgers beside it.

``python -m tests.faults.report`` adds them up.
"""

import contextlib
import json
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.faults.ledger import Ledger

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
LINES = REPORTS / "faults.jsonl"
LEDGERS = REPORTS / "ledgers"
ADDED = ("ok", "fail", "unknown", "lost", "phantom", "back", "late", "double", "kills")  # counts that add up over runs
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


def table(lines: Iterable[str]) -> str:
    """All kept runs as a Markdown table: one row for a test on a footing, its counts added up."""
    rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for line in lines:
        run = json.loads(line)
        row = rows[run["test"], run["footing"]]
        row.update({"runs": 1, "passed": int(run["passed"])})
        row.update({name: count for name, count in run["counts"].items() if name in ADDED and isinstance(count, int)})
    heads = ["test", "footing", "runs", "passed", *ADDED]
    body = [[*key, *(str(row[name]) for name in heads[2:])] for key, row in sorted(rows.items())]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *body])


def _forget_old_ledgers() -> None:
    """A ledger may have megabytes: the newest ones are kept."""
    if LEDGERS.is_dir():
        for old in sorted(LEDGERS.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)[:-_LEDGERS_KEPT]:
            old.unlink(missing_ok=True)


if __name__ == "__main__":
    print(table(LINES.read_text().splitlines()))
