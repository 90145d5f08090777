"""All attacks on the place of somebody who stands still, by name, and one run of one of them on many victims."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from api.audit import cover, order, ranging, rays
from api.audit.bayes import infer
from api.audit.endpoints import ask_everything
from api.audit.oracle import Counting, Guess, Oracle, Prior
from api.audit.scoring import Score, score
from api.audit.sites import Victim

Run = Callable[[Oracle, Prior], Awaitable[Guess]]
OracleOf = Callable[[Victim], Awaitable[Oracle]]


@dataclass(frozen=True, slots=True)
class Attack:
    """``near``: made by a friend who is shown cells of resolution 8, so that those are the bound. ``share``: of the
    victims that are enough, for attacks that take long. ``shakes``: the victim must shake for it."""

    name: str
    run: Run
    near: bool = False
    share: float = 1.0
    shakes: bool = False


async def _white_box(oracle: Oracle, prior: Prior) -> Guess:
    return (await infer(oracle, prior)).guess()


async def _everything(oracle: Oracle, prior: Prior) -> Guess:
    return (await ask_everything(oracle, prior)).radar.guess(prior)


_RADAR = partial(ranging.trilaterate, ask=ranging.by_radar)

ATTACKS = (
    Attack("A1 trilateration, 3 places", ranging.trilaterate),
    Attack("A1 trilateration, 6 places", partial(ranging.trilaterate, places=6), share=0.5),
    Attack("A1 trilateration by radar, area friends", partial(_RADAR, precision="area")),
    Attack("A1 trilateration by radar, near friends", partial(_RADAR, precision="near"), near=True),
    Attack("A2 flip of the shown distance", rays.flip_number, share=0.5),
    Attack("A3 in the list of 20 km or not", rays.flip_list),
    Attack("A3 listed at all or not", partial(rays.flip_list, radius_m=50_000), share=0.05),
    Attack("A3 on the radar or not", rays.flip_radar, share=0.5),
    Attack("A3 shake matched or not", rays.flip_shake, share=0.2, shakes=True),
    Attack("A4 discs over 50 km, then A3", cover.search_and_flip, share=0.5),
    Attack("A5 order of two", order.compare_in_list, share=0.25),
    Attack("A5 order by cursor", order.compare_by_cursor, share=0.25),
    Attack("A6 cut after K", order.compare_by_cut, share=0.25),
    Attack("A7 averaging 300", partial(ranging.trilaterate, repeats=100), share=0.1),
    Attack("A7 averaging 3,000", partial(ranging.trilaterate, repeats=1000), share=0.02),
    Attack("A16 all features together", _everything, near=True, share=0.2, shakes=True),
    Attack("AX white box, Bayesian", _white_box),
)


async def attack_victims(attack: Attack, victims: Iterable[Victim], oracle_of: OracleOf) -> list[Score]:
    """Scores of one attack, in the victims' order."""
    scores = []
    for victim in victims:
        oracle = Counting(await oracle_of(victim))
        guess = await attack.run(oracle, victim.site.prior)
        shown = victim.cell if attack.near else victim.stranger_cell
        scores.append(score(attack.name, victim.site.name, victim.point, shown, guess, oracle.queries))
    return scores


def spread(victims: list[Victim], share: float) -> list[Victim]:
    """A share of the victims, evenly from front to back, so that every site keeps its part."""
    step = max(1, round(1 / share))
    return victims[::step]
