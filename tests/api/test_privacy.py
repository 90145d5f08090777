"""`GET /v1/privacy`: the figures are those of the design, follow the length of an epoch, and are said in words."""

import math
from pathlib import Path
from typing import Any

import h3
import pytest

from api.privacy_words import epoch_warning
from discovery.store.hive_time import Tick, pack_tick
from geo import declared
from tests.world import World

NAMES = [
    "strangers",
    "friends_city",
    "friends_area",
    "friends_near",
    "friends_precise",
    "shake",
    "bottles",
    "store_finder",
]


async def page(world: World) -> dict[str, Any]:
    async with world._client({}) as anybody:
        answer = await anybody.get("/v1/privacy")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_each_audience_learns(world: World) -> None:
    found = await page(world)
    audiences = {row["audience"]: row for row in found["audiences"]}
    assert list(audiences) == NAMES
    assert (found["epoch_s"], found["stranger_epoch_s"], found["warning"]) == (900, 2700, None)
    strangers, near = audiences["strangers"], audiences["friends_near"]
    assert (strangers["resolution"], strangers["uncertainty_m"], strangers["epoch_s"]) == (7, 643.9, 2700)
    assert strangers["uncertainty_typical_m"] == 906.5
    assert strangers["uncertainty_moving_m"] == pytest.approx(0.85 * 643.9, abs=0.5)
    assert (near["resolution"], near["uncertainty_m"], near["epoch_s"]) == (8, 243.4, 900)
    assert near["uncertainty_moving_m"] == pytest.approx(0.85 * 243.4, abs=0.5)
    assert [audiences[name]["resolution"] for name in NAMES] == [7, 5, 7, 8, 11, 7, None, None]
    assert audiences["friends_precise"]["uncertainty_moving_m"] is None
    assert len(found["not_claimed"]) >= 5
    assert all(len(row["in_words"]) > 40 for row in found["audiences"])


async def test_the_announced_epoch_counts(world: World) -> None:
    """Not the setting of this worker: the leader of the first feed decides for all."""
    (feed,) = world.hive.feeds.followers
    await world.state.call("XADD", feed.key, "*", "k", "t", "d", pack_tick(Tick(-(10**13), 30_000)))
    await feed.fold_to_tail(3.0)
    found = await page(world)
    strangers = found["audiences"][0]
    assert (found["epoch_s"], strangers["epoch_s"]) == (30, 90)
    assert strangers["uncertainty_moving_m"] == pytest.approx(0.40 * 643.9, abs=0.1)
    assert "0.40" in found["warning"]


def test_least_is_the_least_of_the_globe() -> None:
    """The pentagons are the smallest; against every cell at the resolutions that can be counted out."""
    for resolution in (1, 2, 3):
        everywhere = [cell for base in h3.get_res0_cells() for cell in h3.cell_to_children(base, resolution)]
        least_m2 = min(h3.cell_area(cell, unit="m^2") for cell in everywhere)
        assert declared.least_uncertainty_m(resolution) == pytest.approx(0.399 * math.sqrt(least_m2))


def test_shorter_epochs_never_promise_more() -> None:
    for resolution in (5, 6, 7, 8):
        factors = [declared.moving_factor(resolution, epoch_s) for epoch_s in range(1, 4000, 7)]
        assert factors == sorted(factors)
        assert factors[0] == 0.40
        assert factors[-1] <= 0.94
    assert declared.moving_factor(8, 900) == pytest.approx(0.85, abs=0.001)
    assert declared.moving_factor(7, 900) == pytest.approx(0.85, abs=0.001)
    assert declared.moving_factor(5, 900) < 0.5, "three epochs of walking are little beside a cell of 10 km"
    with pytest.raises(ValueError, match="edges"):
        declared.moving_factor(11, 900)


@pytest.mark.parametrize(("epoch_s", "said"), [(900, None), (3600, None), (899, "899 s"), (30, "0.40")])
def test_short_epochs_are_warned_of(epoch_s: int, said: str | None) -> None:
    warning = epoch_warning(epoch_s)
    assert warning is None if said is None else said in str(warning)


async def test_the_page_gives_the_same_figures(world: World) -> None:
    """docs/privacy.md, for the epochs that the promises are made for."""
    text = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text("utf-8")
    who_learns_what = text.partition("\n## Who learns what\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[2:6] for row in who_learns_what.splitlines() if row.startswith("| ") and row.count("|") == 7]
    told = [[cell.replace(",", "").strip() for cell in row] for row in rows[1:]]
    expected = []
    for one in (await page(world))["audiences"]:
        figures = [one[name] for name in ("uncertainty_m", "uncertainty_typical_m", "uncertainty_moving_m")]
        metres = ["live" if figure is None else f"{figure:.0f} m" for figure in figures]
        resolution = one["resolution"]
        expected.append(["none", "", "", ""] if resolution is None else [str(resolution), *metres])
    assert [[row[0].split(",")[0].split(" ")[0], *row[1:]] for row in told] == expected
