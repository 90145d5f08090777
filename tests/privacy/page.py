"""``docs/privacy.md``: its block of measured results.

``python -m tests.privacy.page`` takes the runs of ``reports/privacy_report.json`` into ``docs/privacy-report.json``,
which is committed, and writes the block of the page between its two marks anew: of each test the largest run, of
equally large ones the newest. Runs of a working tree that differed from its commit are left out, unless with
``--dirty``.
"""

import argparse
import itertools
import json
from collections.abc import Iterable
from typing import Any

from tests.faults.report import ROOT
from tests.privacy.report import FILE, Row, kept

PAGE = ROOT / "docs" / "privacy.md"
KEPT = ROOT / "docs" / "privacy-report.json"
_CONTROLS = "T8 "
BEGINS = "<!-- measured: written by python -m tests.privacy.page -->"
ENDS = "<!-- end of measured -->"


def chosen(runs: Iterable[Row]) -> list[Row]:
    """Of each test the largest run, the newest of those; by test."""
    best: dict[str, Row] = {}
    for run in runs:
        standing = best.get(run["test"])
        if standing is None or (run["n"], run["at"]) >= (standing["n"], standing["at"]):
            best[run["test"]] = run
    return sorted(best.values(), key=lambda run: (run["test"].split(" ")[0], *_group(run), run["test"]))


def block(runs: Iterable[Row]) -> str:
    """All chosen runs as Markdown: a line and a table each; positive controls that measure the same share one."""
    parts = []
    for _, alike in itertools.groupby(chosen(runs), _group):
        of_one = list(alike)
        parts.append(_part(of_one[0]) if len(of_one) == 1 else _joined(of_one))
    return "\n\n".join(parts) if parts else "Nothing is measured yet."


def _part(run: Row) -> str:
    verdict = "passed" if run["passed"] else "**failed**"
    head = (
        f"**{run['test']}**: {verdict}, n = {run['n']:,}, seed {run['seed']}, commit {run['commit']}, {run['at'][:10]}"
    )
    return f"{head}\n\n{table(run['rows'])}" if run["rows"] else head


def _group(run: Row) -> tuple[str, ...]:
    """What runs of one table have in common; alone are those of other rows than one."""
    joined = run["test"].startswith(_CONTROLS) and len(run["rows"]) == 1
    return (_CONTROLS, *run["rows"][0]) if joined else (run["test"],)


def _joined(runs: list[Row]) -> str:
    rows = [
        {
            "weak build, attack": run["test"].removeprefix(_CONTROLS),
            "broken": run["passed"],
            "n": run["n"],
            **run["rows"][0],
            "seed": str(run["seed"]),
        }
        for run in runs
    ]
    commits, days = (", ".join(sorted({run[key][:10] for run in runs})) for key in ("commit", "at"))
    return (
        f"**{_CONTROLS.strip()}**: positive controls, which must be broken; commit {commits}, {days}\n\n{table(rows)}"
    )


def table(rows: list[Row]) -> str:
    """Rows with the same columns as a Markdown table."""
    heads = list(rows[0])
    body = [[_cell(row.get(head, "")) for head in heads] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *body])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def with_block(page: str, text: str) -> str:
    """The page with ``text`` between its marks. Raises ValueError when it has none."""
    before, begins, rest = page.partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise ValueError(f"the page lacks its marks {BEGINS} and {ENDS}")
    return f"{before}{begins}\n{text}\n{ends}{after}"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dirty", action="store_true", help="take runs of a changed working tree too")
    dirty = parser.parse_args().dirty
    new = [run for run in kept(FILE) if dirty or (run["commit"] and not run["commit"].endswith("+"))]
    runs = chosen([*kept(KEPT), *new])
    page = with_block(PAGE.read_text("utf-8"), block(runs))
    KEPT.write_text(json.dumps({"runs": runs}, indent=1) + "\n", "utf-8")
    PAGE.write_text(page, "utf-8")
    print(f"{len(runs)} runs in {KEPT.relative_to(ROOT)}, {PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
