"""The lines are the ones decided for full and small runs, and a score says what it says anywhere on the globe."""

import random

import pytest

from api.audit.oracle import Guess
from api.audit.plane import moved
from api.audit.scoring import (
    correlation,
    failures,
    least_median,
    least_site_median,
    most_near_share,
    most_rho,
    pooled,
    score,
)
from api.audit.sites import SITES, draw_victim
from api.audit.suite import spread
from geo import cells


def test_the_lines_are_the_decided_ones() -> None:
    assert (least_median(2400), least_median(10_000)) == (0.379, 0.379)
    assert least_median(240) == pytest.approx(0.345)
    assert least_median(1) == 0.0
    assert least_site_median(200) == pytest.approx(0.343)
    assert least_site_median(199) is None
    assert most_near_share(2400) == 0.068
    assert 0.068 < most_near_share(240) < 0.11
    assert (most_rho(2400), most_rho(9600)) == (0.09, 0.09)
    assert most_rho(600) == pytest.approx(0.18)


def test_a_score_measures_from_the_shown_cell_in_roots_of_its_area(seed: int) -> None:
    draws = random.Random(seed)
    for site in SITES:
        victim = draw_victim(site, draws)
        shown = victim.stranger_cell
        root_m = cells.area_m2(shown) ** 0.5
        truth = moved(cells.center(shown), 0.3 * root_m, -0.2 * root_m)
        one = score("a", site.name, truth, shown, Guess(*moved(cells.center(shown), -0.1 * root_m, 0.1 * root_m)), 9)
        assert (one.east, one.north) == pytest.approx((0.3, -0.2), abs=1e-6)
        assert (one.guess_east, one.guess_north) == pytest.approx((-0.1, 0.1), abs=1e-6)
        assert one.error == pytest.approx(0.5, abs=1e-4)
        assert one.error_m == pytest.approx(0.5 * root_m, rel=1e-3)
        assert one.uncertainty_m == pytest.approx(0.399 * root_m)


def test_correlations_of_a_constant_guess_are_none() -> None:
    assert correlation([0.1, 0.2, -0.3], [1e-9, 2e-9, 0.0]) == 0.0
    assert correlation([0.1, 0.2, -0.3], [0.2, 0.4, -0.6]) == pytest.approx(1.0)


def test_one_bad_site_is_named_from_200_victims_on(seed: int) -> None:
    draws = random.Random(seed)
    victims = [draw_victim(site, draws) for site in SITES[:3] for _ in range(200)]
    scores = []
    for victim in victims:
        center = cells.center(victim.stranger_cell)
        far = victim.site is not SITES[0]
        guess = moved(center, 9000.0, 0.0) if far else center if draws.random() < 0.6 else victim.point
        scores.append(score("a", victim.site.name, victim.point, victim.stranger_cell, Guess(*guess), 1))
    assert pooled(scores).worst_site == "Paris"
    assert any("at Paris" in line for line in failures(pooled(scores)))


def test_a_share_of_the_victims_keeps_every_site(seed: int) -> None:
    draws = random.Random(seed)
    victims = [draw_victim(site, draws) for site in SITES for _ in range(20)]
    assert len(spread(victims, 0.05)) == 12 == len({one.site for one in spread(victims, 0.05)})
    assert spread(victims, 1.0) == victims
