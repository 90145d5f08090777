"""Q12: 200 people throw, pick, give back and answer while workers and the server are killed: one owner each."""

import asyncio
import itertools
import random
from pathlib import Path

from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import subject
from tests.faults.writers import BOTTLE_ACTS, Writers

PEOPLE = 200
THROWS, THROWS_NIGHTLY = 500, 10_000
_EVERY_S, _EVERY_NIGHTLY_S = 1.0, 2.0
_BACK_S = within(5.0)
_LONGEST_S = 900.0


async def test_every_bottle_has_exactly_one_owner(tmp_path: Path, seed: int, scale: int) -> None:
    throws = THROWS if scale == 1 else THROWS_NIGHTLY
    draws = random.Random(seed)
    with reported("q12_bottles", seed, "embedded", writers=PEOPLE, throws=throws) as run, subject(tmp_path) as service:
        writers = Writers(service, run.ledger, seed, PEOPLE, BOTTLE_ACTS)
        await writers.prepare()
        running = asyncio.create_task(writers.run())
        kills = 0
        try:
            async with asyncio.timeout(_LONGEST_S):
                for who in itertools.cycle(("server", "worker")):
                    await asyncio.sleep(_EVERY_S if scale == 1 else _EVERY_NIGHTLY_S)
                    await service.kill_one(who, draws, _BACK_S)
                    kills += 1
                    if kills >= 2 and writers.acknowledged("bottle:") >= throws:
                        break
        finally:
            writers.stop()
            await running
            writers.close()
        await service.ready(_BACK_S)
        await writers.verify()
        run.counts = run.ledger.counts() | {"kills": kills, "thrown": writers.acknowledged("bottle:")}
        run.counts |= {"picked": writers.acknowledged("pick:")}
        run.ledger.require_clean()
