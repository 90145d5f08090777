"""Q1: kill -9 of a worker, of the state server and of the supervisor at random points, under 64 writers."""

import asyncio
import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject, subject
from tests.faults.writers import Writers

KILLS, KILLS_NIGHTLY = 6, 200
_BETWEEN_S, _BETWEEN_NIGHTLY_S = (0.05, 1.5), (0.05, 3.0)
_BACK_S = within(5.0)  # the promise: ready again
WHO = ("worker", "server", "worker", "server", "all", "supervisor")


async def test_no_acknowledged_write_is_lost_by_kills(tmp_path: Path, seed: int, scale: int) -> None:
    kills = KILLS if scale == 1 else KILLS_NIGHTLY
    draws = random.Random(seed)
    with reported("q1_kills", seed, "embedded", kills=kills, writers=64) as run, subject(tmp_path) as service:
        ledger = run.ledger
        writers = Writers(service, ledger, seed)
        await writers.prepare()
        running = asyncio.create_task(writers.run())
        try:
            pauses = (draws.uniform(*(_BETWEEN_S if scale == 1 else _BETWEEN_NIGHTLY_S)) for _ in range(kills))
            await _kill(service, draws, pauses, running, run.counts)
        finally:
            writers.stop()
            await running
            writers.close()
        await service.ready(_BACK_S)
        await writers.verify()
        run.counts |= ledger.counts() | {"statuses": dict(writers.statuses)}
        assert ledger.counts()["ok"] > 30 * kills, "the kills must meet people who write"
        ledger.require_clean()


async def _kill(
    service: Subject,
    draws: random.Random,
    pauses_s: Iterable[float],
    running: asyncio.Task[None],
    counts: dict[str, Any],
) -> None:
    """Kills one after the other, each when all is well again. Counts them, and the longest time until then by who was
    killed."""
    order = (who for _ in itertools.count() for who in draws.sample(WHO, len(WHO)))
    counts |= {"kills": 0, "back_s": dict.fromkeys(WHO, 0.0)}
    for pause_s, who in zip(pauses_s, order, strict=False):
        await asyncio.sleep(pause_s)
        assert not running.done()
        back_s = round(await service.kill_one(who, draws, _BACK_S), 2)
        counts["back_s"][who] = max(counts["back_s"][who], back_s)
        counts["kills"] += 1
