"""How well attacks did: errors in metres and as a share of the cell shown, and the lines they must stay behind.

A = area of the cell shown. Who knows the cell and guesses its centre is wrong by 0.399 sqrt(A) in the median (a
hexagon; 0.396 for the union of the seven children of a resolution-7 cell), and lies within 0.126 sqrt(A) in 5.0 % of
cases: the area of that circle over A. All lines below come from these and a number of standard errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from api.audit.oracle import Guess, Point
from api.audit.plane import offset_m
from geo import cells
from geo.sphere import great_circle_m

NEAR_SHARE_OF_ROOT = 0.126
_IDEAL_NEAR_SHARE = math.pi * NEAR_SHARE_OF_ROOT**2
_SITE_N = 200
_POOLED_N = 2400
_TRIVIAL = 1e-6  # of sqrt(A): a guess that is the centre but for rounding varies by nothing


@dataclass(frozen=True, slots=True)
class Score:
    """One attack on one victim. ``east``, ``north``: truth minus the shown cell's centre; ``guess_east``,
    ``guess_north``: guess minus that centre; all four over sqrt(A)."""

    attack: str
    site: str
    queries: int
    error_m: float
    center_error_m: float
    uncertainty_m: float
    error: float
    east: float
    north: float
    guess_east: float
    guess_north: float


def score(attack: str, site: str, truth: Point, shown_cell: int, guess: Guess, queries: int) -> Score:
    """The score of a guess about somebody of whom ``shown_cell`` is shown."""
    root_m = math.sqrt(cells.area_m2(shown_cell))
    center = cells.center(shown_cell)
    east, north = offset_m(center, truth)
    guess_east, guess_north = offset_m(center, guess.point)
    error_m = great_circle_m(*truth, *guess.point)
    return Score(
        attack,
        site,
        queries,
        error_m,
        great_circle_m(*truth, *center),
        0.399 * root_m,
        error_m / root_m,
        east / root_m,
        north / root_m,
        guess_east / root_m,
        guess_north / root_m,
    )


@dataclass(frozen=True, slots=True)
class Result:
    """Scores of one attack, pooled: medians and shares; ``rho`` the larger of the two axes' absolute correlations."""

    attack: str
    n: int
    median_m: float
    median: float  # of error / sqrt(A)
    near_share: float
    rho: float
    queries: float  # median
    worst_site: str
    worst_site_n: int
    worst_site_median: float
    declared_m: float  # median of 0.399 sqrt(A)


def pooled(scores: Sequence[Score]) -> Result:
    """The result of one attack's scores."""
    errors = np.array([one.error for one in scores])
    sites = {site: [one.error for one in scores if one.site == site] for site in {one.site for one in scores}}
    worst = min(sites, key=lambda site: (float(np.median(sites[site])), site))
    return Result(
        attack=scores[0].attack,
        n=len(scores),
        median_m=float(np.median([one.error_m for one in scores])),
        median=float(np.median(errors)),
        near_share=float(np.mean(errors < NEAR_SHARE_OF_ROOT)),
        rho=max(
            correlation([one.east for one in scores], [one.guess_east for one in scores]),
            correlation([one.north for one in scores], [one.guess_north for one in scores]),
        ),
        queries=float(np.median([one.queries for one in scores])),
        worst_site=worst,
        worst_site_n=len(sites[worst]),
        worst_site_median=float(np.median(sites[worst])),
        declared_m=float(np.median([one.uncertainty_m for one in scores])),
    )


def correlation(truths: Sequence[float], guesses: Sequence[float]) -> float:
    """|Pearson's rho| of offsets over sqrt(A); 0 where all guesses are the cell's centre."""
    a, b = np.asarray(truths), np.asarray(guesses)
    if float(np.max(np.abs(b - b.mean()))) < _TRIVIAL:
        return 0.0
    return abs(float(np.corrcoef(a, b)[0, 1]))


# --- lines ---


def least_median(n: int) -> float:
    """T1: what the pooled median of error / sqrt(A) must reach: 0.379 from n = 2,400, 0.345 at n = 240.

    That is 0.396 less 4 standard errors of the median (0.0141 at n = 200), and 0.95 times 0.399 at most; a few
    victims prove little.
    """
    return max(0.0, min(0.379, 0.396 - 0.051 * math.sqrt(240 / n)))


def least_site_median(n: int) -> float | None:
    """T1 for one site: 0.343 at n = 200; None where a site has too few victims to say anything."""
    return min(0.379, 0.399 - 0.056 * math.sqrt(_SITE_N / n)) if n >= _SITE_N else None


def most_near_share(n: int) -> float:
    """T1: the share of guesses within 0.126 sqrt(A) must stay at or below 0.068 at n = 2,400 (4 standard errors)."""
    deviation = math.sqrt(_IDEAL_NEAR_SHARE * (1 - _IDEAL_NEAR_SHARE) / n)
    return max(0.068, _IDEAL_NEAR_SHARE + 4 * deviation) if n < _POOLED_N else 0.068


def most_rho(n: int) -> float:
    """T2: |rho| of an axis must stay below 0.09 at n = 2,400: 4.4 standard errors, 1 / sqrt(n) each."""
    return 0.09 * math.sqrt(_POOLED_N / min(n, _POOLED_N))


def failures(result: Result) -> list[str]:
    """T1 and T2 in words, one for each line that an attack crossed; empty when the bound held."""
    n = result.n
    found = []
    if result.median < least_median(n):
        found.append(f"{result.attack}: median error {result.median:.3f} sqrt(A) < {least_median(n):.3f}, n = {n}")
    if result.near_share > most_near_share(n):
        found.append(f"{result.attack}: {result.near_share:.1%} within {NEAR_SHARE_OF_ROOT} sqrt(A), n = {n}")
    if result.rho >= most_rho(n):
        found.append(f"{result.attack}: |rho| {result.rho:.3f} >= {most_rho(n):.3f}, n = {n}")
    site_line = least_site_median(result.worst_site_n)
    if site_line is not None and result.worst_site_median < site_line:
        found.append(f"{result.attack} at {result.worst_site}: median {result.worst_site_median:.3f} < {site_line:.3f}")
    return found
