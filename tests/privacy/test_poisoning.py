"""T5: a thousand false people in somebody's cell change nothing of what is published of them."""

import random

from api.audit.oracle import Observer, Sighting
from api.audit.sites import SITES, draw_victim
from geo import cells
from tests.privacy.raw_histories import point_in
from tests.privacy.report import reported
from tests.privacy.stage import VICTIM, StageOracle
from tests.world import EPOCH_MS

_SYBILS = 1000
_PRECISIONS = ("city", "area", "near")

Shown = tuple[list[int], list[Sighting | None]]


async def shown(oracle: StageOracle, friends: list[Observer], stranger: Observer) -> Shown:
    """The cells published of the victim, and what friends and a stranger are told."""
    published = [oracle.stage.cell(VICTIM), *(oracle.stage.cell(VICTIM, precision) for precision in _PRECISIONS)]
    told = [await oracle.radar(friend, 100_000) for friend in friends]
    return published, [*told, await oracle.nearby(stranger, 3000)]


async def test_sybils_in_the_cell_change_nothing(seed: int, scale: int) -> None:
    draws = random.Random(seed)
    sites = SITES[:2] if scale == 1 else SITES
    changes = 0
    with reported("T5 poisoning", seed, len(sites)) as run:
        for site in sites:
            victim = draw_victim(site, draws)
            oracle = await StageOracle.of(victim.point)
            friends = [(await oracle.observers([victim.point], precision))[0] for precision in _PRECISIONS]
            stranger = (await oracle.observers([cells.center(victim.cell)]))[0]
            before = await shown(oracle, friends, stranger)
            assert all(seen is not None for seen in before[1])
            for wave in range(2):
                points = [point_in(victim.cell, draws) for _ in range(_SYBILS // 2)]
                await oracle.observers(points, "near" if wave else None)
                for _ in range(4):
                    changes += await shown(oracle, friends, stranger) != before
                    oracle.stage.later(EPOCH_MS)
            await oracle.stage.place([VICTIM], [victim.point])
            oracle.stage.later(3 * EPOCH_MS)
            changes += await shown(oracle, friends, stranger) != before
        run.rows.append({"sybils": _SYBILS, "changes": changes})
        assert changes == 0
