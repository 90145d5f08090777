"""The block of measured results is made of the largest run of each test, and nothing else."""

import pytest

from tests.privacy.page import BEGINS, ENDS, block, chosen, with_block
from tests.privacy.report import Row


def run(test: str, n: int, at: str, **more: object) -> Row:
    return {
        "test": test,
        "n": n,
        "at": at,
        "seed": 7,
        "passed": True,
        "seconds": 1.0,
        "commit": "abc",
        "rows": [],
        **more,
    }


def test_the_largest_run_is_shown_and_of_equal_ones_the_newest() -> None:
    runs = [
        run("T1", 240, "2026-02-01"),
        run("T1", 2400, "2026-01-01"),
        run("T4", 9, "2026-01-01"),
        run("T4", 9, "2026-01-02"),
    ]
    assert [(one["test"], one["n"], one["at"]) for one in chosen(runs)] == [
        ("T1", 2400, "2026-01-01"),
        ("T4", 9, "2026-01-02"),
    ]


def test_the_block_has_a_table_a_test_and_says_what_failed() -> None:
    rows = [{"attack": "A1", "n": 2400, "error": 0.39912, "held": True}]
    text = block([run("T1", 2400, "2026-01-01T00:00:00Z", rows=rows), run("T4", 9, "2026-01-02", passed=False)])
    assert "| A1 | 2,400 | 0.399 | yes |" in text
    assert "**T4**: **failed**, n = 9, seed 7" in text
    assert block([]) == "Nothing is measured yet."


def test_positive_controls_that_measure_the_same_share_a_table() -> None:
    rows = [{"error, m": 0.25}]
    runs = [run("T8 b", 48, "2026-01-01", rows=rows), run("T8 other", 9, "2026-01-01", rows=[{"share": 0.5}])]
    text = block([*runs, run("T8 a", 48, "2026-01-02", rows=rows, passed=False)])
    assert "| a | **no** | 48 | 0.250 | 7 |\n| b | yes | 48 | 0.250 | 7 |" in text
    assert "commit abc, 2026-01-01, 2026-01-02" in text
    assert "**T8 other**: passed, n = 9" in text


def test_only_what_is_between_the_marks_changes() -> None:
    page = f"before\n{BEGINS}\nold\n{ENDS}\nafter\n"
    assert with_block(page, "new") == f"before\n{BEGINS}\nnew\n{ENDS}\nafter\n"
    with pytest.raises(ValueError, match="lacks its marks"):
        with_block("no marks", "new")
