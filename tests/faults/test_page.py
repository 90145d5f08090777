"""The page of results: every run once, sizes and losses added up, the block alone is rewritten."""

import json
from typing import Any

import pytest

from tests.faults import page

RUN: dict[str, Any] = {
    "test": "q4_master_kills",
    "seed": 7,
    "size": {"kills": 100, "writers": 24},
    "counts": {"ok": 4000, "lost": 0, "back_s": {"read": 3.1, "lasting": 4.4}},
    "footing": "cluster",
    "passed": True,
    "commit": "abc1234",
    "seconds": 900.0,
    "at": "2026-11-22T14:00:00Z",
}


def _line(**changes: Any) -> str:
    return json.dumps(RUN | changes)


def test_runs_add_up_and_none_counts_twice() -> None:
    later = _line(seed=8, at="2026-11-22T15:00:00Z", counts={"ok": 3000, "lost": 2, "back_s": 1.0}, passed=False)
    runs = page.merged([_line()], [_line(), later, _line(seed=9, commit="abc1234+"), _line(seed=10, commit="")])
    assert [run["seed"] for run in runs] == [7, 8]
    head, _, row = page.table(runs).splitlines()
    assert head.startswith("| test | footing | runs |")
    cells = "Q4 master kills | cluster | 2 | **1** | 200 kills, 24 writers | 7,000 | 2 lost | 4.4 s"
    assert row == f"| {cells} | 7 at abc1234, 8 at abc1234 |"


def test_new_runs_before_a_moment_do_not_count_and_kept_ones_stay() -> None:
    runs = page.merged([_line(at="2026-01-01T00:00:00Z")], [_line(seed=8)], since="2026-11-22T14:30")
    assert [run["at"] for run in runs] == ["2026-01-01T00:00:00Z"]


def test_tests_are_in_the_order_of_their_numbers() -> None:
    names = ["q10_lost_replies", "q2_cuts", "stopped_worker", "q22_copy"]
    shown = page.table(page.merged([], [_line(test=name) for name in names])).splitlines()[2:]
    assert [row.split(" | ")[0] for row in shown] == [
        "| Q2 cuts",
        "| Q10 lost replies",
        "| Q22 copy",
        "| stopped worker",
    ]


def test_only_the_block_is_rewritten() -> None:
    around = f"before\n{page.BEGINS}\nold\n{page.ENDS}\nafter\n"
    assert page.with_results(around, "new") == around.replace("old", "new")
    with pytest.raises(ValueError, match="marks"):
        page.with_results("no marks", "new")


def test_the_page_shows_the_kept_runs() -> None:
    shown = page.PAGE.read_text("utf-8")
    kept = page.KEPT.read_text("utf-8").splitlines() if page.KEPT.exists() else []
    assert page.with_results(shown, page.table(map(json.loads, kept))) == shown, "run: python -m tests.faults.page"
