"""T1, T2 and T4: all attacks against the rules themselves, with nothing between them but the attackers' accounts.

Each attack gets a fresh world a victim: fresh accounts, each placed once, all in one epoch, no throttle. The positive
controls of the same attacks and of the same lines are in ``test_weak_builds``.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from api.audit.bayes import infer
from api.audit.endpoints import area_ratio, ask_everything, children
from api.audit.oracle import Observer, Oracle, Point, Sighting
from api.audit.scoring import Result, failures, least_median, most_near_share, most_rho, pooled
from api.audit.sites import SITES, Placement, Victim, draw_in_region, draw_victim
from api.audit.suite import ATTACKS, attack_victims, spread
from geo.declared import least_uncertainty_m
from geo.privacy import FRIEND_RESOLUTION, STRANGER_RESOLUTION
from tests.privacy.report import Row, reported
from tests.privacy.stage import StageOracle

T = TypeVar("T")

_A_SITE = 20  # 240 in all; ten times as many in the nightly run
_FORCED: tuple[Placement, ...] = ("centroid", "edge", "vertex")


async def oracle_of(victim: Victim) -> Oracle:
    return await StageOracle.of(victim.point)


def drawn(a_site: int, draws: random.Random, placement: Placement = "uniform") -> list[Victim]:
    return [draw_victim(site, draws, placement) for site in SITES for _ in range(a_site)]


def as_row(result: Result) -> Row:
    return {
        "attack": result.attack,
        "n": result.n,
        "questions": result.queries,
        "median error, m": result.median_m,
        "over the declared uncertainty": result.median / 0.399,
        "error / √A": result.median,
        "at least": least_median(result.n),
        "within 0.126 √A": result.near_share,
        "at most": most_near_share(result.n),
        "abs rho": result.rho,
        "below": most_rho(result.n),
    }


async def test_no_attack_comes_closer_than_the_cell_allows(seed: int, scale: int) -> None:
    """T1 and T2's correlation for every attack, placement uniform in the cell."""
    victims = drawn(_A_SITE * scale, random.Random(seed))
    crossed: list[str] = []
    with reported("T1 and T2, attacks on the rules", seed, len(victims)) as run:
        for attack in ATTACKS:
            more = 1 if scale == 1 or attack.name.startswith("A7") else 5
            share = min(1.0, more * attack.share)
            result = pooled(await attack_victims(attack, spread(victims, share), oracle_of))
            run.rows.append(as_row(result))
            crossed += failures(result)
            declared_m = least_uncertainty_m(FRIEND_RESOLUTION if attack.near else STRANGER_RESOLUTION)
            if result.median_m < 0.95 * declared_m:
                crossed.append(
                    f"{attack.name}: median {result.median_m:.0f} m, GET /v1/privacy says {declared_m:.0f} m"
                )
        assert crossed == []


async def test_every_point_of_the_cell_explains_the_answers(seed: int, scale: int) -> None:
    """T2: after the white-box attack 100 % of the declared region is left, and 90 % of the belief needs 90 % of it;
    also for people at the centre, an edge or a vertex."""
    draws = random.Random(seed)
    victims = drawn(2 * scale, draws)
    for placement in _FORCED:
        victims += drawn(scale, draws, placement)
    with reported("T2 consistent set of the white box", seed, len(victims)) as run:
        left, credible = [], []
        for victim in victims:
            posterior = await infer(await oracle_of(victim), victim.site.prior)
            left.append(posterior.share_of(victim.stranger_cell))
            credible.append(posterior.credible_share(victim.stranger_cell))
        run.rows.append({"least share left": min(left), "least 90 % area / A": min(credible)})
        assert min(left) == 1.0
        assert min(credible) >= 0.9


async def test_all_features_together_draw_the_declared_region(seed: int, scale: int) -> None:
    """T4: nearby, shake and radar intersect in the union of the cell's children; coarser cells are parents."""
    draws = random.Random(seed)
    victims = drawn(2 * scale, draws)
    for placement in _FORCED:
        victims += drawn(scale, draws, placement)
    with reported("T4 all features together", seed, len(victims)) as run:
        ratios, mismatches = [], 0
        for victim in victims:
            told = await ask_everything(await oracle_of(victim), victim.site.prior)
            declared = children(np.array([victim.stranger_cell], np.uint64))
            assert set(told.region().tolist()) == set(declared.tolist())
            ratios.append(area_ratio(told.region(), declared))
            mismatches += told.mismatches()
        run.rows.append({"least area / declared": min(ratios), "parent mismatches": mismatches})
        assert min(ratios) >= 0.999
        assert mismatches == 0


class Recording:
    """An oracle that writes down all answers of another."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.victim = oracle.victim
        self.answers: list[object] = []

    def _noted(self, answer: T) -> T:
        self.answers.append(answer)
        return answer

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        return self._noted(await self._oracle.observers(points, precision))

    async def retire(self, observers: Sequence[Observer]) -> None:
        await self._oracle.retire(observers)

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        return self._noted(await self._oracle.nearby(observer, radius_m))

    async def listing(self, observer: Observer, radius_m: int, limit: int, pages: int) -> list[str]:
        return self._noted(await self._oracle.listing(observer, radius_m, limit, pages))

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        return self._noted(await self._oracle.radar(observer, radius_m))

    async def shake(self, points: Sequence[Point]) -> list[tuple[Observer, Sighting | None]]:
        return self._noted(await self._oracle.shake(points))


async def test_attacks_see_the_same_wherever_in_the_cell_the_victim_is(seed: int, scale: int) -> None:
    """T2 without a model: every attack's whole transcript is the same for two points of one cell."""
    draws = random.Random(seed)
    attacks = [attack for attack in ATTACKS if not attack.near and not attack.name.startswith("A7")]
    pairs = 0
    with reported("T2 equal transcripts", seed, scale * len(_FORCED) * len(attacks)) as run:
        for placement in _FORCED * scale:
            victim = draw_victim(draws.choice(SITES), draws, placement)
            other = draw_in_region(victim.stranger_cell, draws)
            for attack in attacks:
                transcripts = []
                for point in (victim.point, other):
                    recording = Recording(await StageOracle.of(point))
                    await attack.run(recording, victim.site.prior)
                    transcripts.append(recording.answers)
                assert transcripts[0] == transcripts[1], f"{attack.name} at {victim.site.name}"
                assert transcripts[0]
                pairs += 1
        run.rows.append({"pairs": pairs, "differences": 0})
