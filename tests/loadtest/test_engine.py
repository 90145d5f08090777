"""The benchmark of the engine: all of it runs, its checks find wrong answers, and its files say what was found."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from loadtest import missed, report
from loadtest.engine import lookups, memory, nearby, points, rebuild, shakes, start, stores, worlds
from loadtest.engine.exact import Exact, Unequal, check_nearest
from loadtest.engine.field import IN_PROCESS, Field, Servers
from loadtest.engine.scale import TINY
from loadtest.engine.timing import single_calls

# The run takes half a minute on a quiet machine.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"work", "size", "ours", "peer", "peer_name", "unit", "ratio", "goal", "met"}
STARTS_OF_WORKS = {
    nearby.WORK,
    nearby.FLAT_WORK,
    nearby.OCEAN_WORK,
    *(lookups.work(radius_m) for radius_m in (200.0, 1_000.0, 5_000.0)),
    stores.ONE_WORK,
    stores.PREDICATE_WORK,
    *(stores.batch_work(k, TINY.batch) for k in stores.BATCH_OF),
    rebuild.WORK,
    rebuild.TICKS_WORK.format(TINY.rebuilds),
    shakes.work("uniform"),
    shakes.work("stadium"),
    memory.PEOPLE_WORK,
    memory.WORKER_WORK,
    memory.PLACE_WORK,
    start.WORK,
    points.WORK,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one tiny run writes: with the server that Nearhive embeds, without PostGIS, which it would install."""
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "loadtest.engine", "--tiny", "--without", "PostGIS", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stderr
    return out


def told(written: Path) -> Any:
    return orjson.loads((written / "benchmarks.json").read_bytes())


def test_every_row_has_its_goal_and_a_missed_one_its_profile(written: Path) -> None:
    found = told(written)
    assert set(found) >= {"machine", "versions", "commit", "seed", "rows"}
    assert {row["work"] for row in found["rows"]} == STARTS_OF_WORKS
    for row in found["rows"]:
        assert set(row) >= FIELDS
        if row["peer_name"] == "PostGIS":
            assert (row["ours"], row["met"]) == (None, False)
            assert row["profile"].startswith("NOT MEASURED")
        else:
            assert row["ours"] > 0
            assert row["peer"] > 0
        assert ("profile" in row) == (not row["met"]), row["work"]


def test_peers_are_all_there_or_named_as_not_measured(written: Path) -> None:
    engine = told(written)["engine"]
    names = {name for one in engine["comparisons"] for name in one["times"]}
    assert names >= {kind.name for kind in IN_PROCESS} | {"GEOSEARCH", "h3-py"}
    assert "PostGIS" not in names
    page = (written / "benchmarks.md").read_text("utf-8")
    assert "NOT MEASURED in this run: PostGIS" in page
    assert "**not measured**" in page


def test_the_page_shows_rows_and_plots(written: Path) -> None:
    page = (written / "benchmarks.md").read_text("utf-8")
    assert all(f"| {row['work']} |" in page for row in told(written)["rows"])
    for plot in told(written)["engine"]["plots"]:
        assert f"]({plot['file']})" in page
        assert (written / plot["file"]).read_bytes().startswith(b"\x89PNG")


def test_a_part_replaces_its_own_rows_only(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "benchmarks.json"
    out.write_bytes((written / "benchmarks.json").read_bytes())
    row = report.row("updates", 10, 1.0, 2.0, "another way", "ms", "ratio >= 3")
    for _ in range(2):
        report.write([row], 3, out=out)
    found = orjson.loads(out.read_bytes())
    assert found["rows"] == [*told(written)["rows"], row | {"part": report.STATE, "profile": missed.NOT_LOOKED_INTO}]
    assert found["engine"] == told(written)["engine"]
    assert "| updates |" in out.with_suffix(".md").read_text("utf-8")


def test_the_committed_page_says_why_of_each_row_missed() -> None:
    rows = orjson.loads(report.OUT.read_bytes())["rows"]
    assert set(missed.PROFILES) <= {row["work"] for row in rows}
    assert [row["work"] for row in rows if row.get("profile") == missed.NOT_LOOKED_INTO] == []
    assert report.OUT.with_suffix(".md").is_file()


@pytest.fixture(scope="module")
def field() -> Field:
    return Field("clustered", 2_000, 5, Servers())


def test_brute_force_finds_wrong_answers(field: Field) -> None:
    lat, lon = (float(axis[0]) for axis in field.questions(1))
    distances_m = field.exact.distances_m(lat, lon)
    right = np.argsort(distances_m)[:10]
    far_m = float(distances_m[right[-1]])
    check_nearest("right", right, distances_m, 10, far_m, 1e-6)
    missing, swapped, twice = right[1:], right[::-1], right[[0, *range(9)]]
    other = np.append(right[:-1], np.argsort(distances_m)[10])
    for wrong in (missing, swapped, twice, other):
        with pytest.raises(Unequal):
            check_nearest("wrong", wrong, distances_m, 10, far_m, 1e-6)


def test_a_page_with_another_member_is_found(field: Field) -> None:
    who = nearby.viewers((field.points[0][:20], field.points[1][:20]), np.random.default_rng(1))
    nearby.check(field, who, nearby.RADIUS_M)
    field.people.keys[:] = field.people.keys[::-1].copy()  # the index knows other keys now than brute force
    with pytest.raises(Unequal):
        nearby.check(field, who, nearby.RADIUS_M)


def test_exact_distances_are_great_circles() -> None:
    quarter_m = Exact((np.array([0.0, 90.0, -90.0]), np.array([90.0, 0.0, 0.0]))).distances_m(0.0, 0.0)
    np.testing.assert_allclose(quarter_m, np.pi / 2 * 6_371_008.8, rtol=1e-12)


def test_worlds_are_the_same_for_a_seed_and_differ_between_seeds(seed: int) -> None:
    for world in worlds.WORLDS:
        first, again, other = (worlds.points(world, 50, worlds.generator(given)) for given in (seed, seed, seed + 1))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_a_slow_contender_is_asked_less_and_compared_by_what_it_was_asked() -> None:
    asked: list[int] = []

    def slow(number: int) -> int:
        asked.append(number)
        return sum(range(200_000))

    timed = single_calls({"quick": [int] * 50, "slow": [partial(slow, number) for number in range(50)]}, 2, 0.05)
    assert timed.calls("quick") == 50
    assert 3 <= timed.calls("slow") < 50
    assert set(asked) == set(range(timed.calls("slow")))
    assert timed.spread("slow").median > timed.spread("quick").median
