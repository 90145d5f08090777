"""Random sequences of every act on the product and on plain dicts; on each footing, 0 divergences.

NEARHIVE_TEST_SEED replays: sequence n of a run is drawn from "<seed>-<n>" alone.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from discovery.people import People
from discovery.safety import Blocks
from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer
from tests.faults.report import Run, reported
from tests.footings import empty, footing_of
from tests.model.acts import draw_acts
from tests.model.machine import run_acts, smaller
from tests.model.product import Product
from tests.model.story import Divergence

STEPS = 50
A_WORLD = 25  # sequences on one pair of workers, one after the other

# name -> footing, shards, sequences; nightly runs 51 times as many: 2,040
FOOTINGS = {
    "embedded": ("embedded", 1, 16),
    "embedded-4": ("embedded", 4, 10),
    "redis-7.0": ("redis-7.0", 1, 8),
    "cluster": ("cluster", 16, 6),
}
NIGHTLY = 51
MET = ("neighbours", "blips", "matches", "picks", "replies", "404", "409", "422", "429")


@pytest.fixture(autouse=True)
def _few_logs() -> Iterator[None]:
    """100,000 requests would log as many lines."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


@contextlib.asynccontextmanager
async def open_product(url: str, data_dir: Path, shards: int, seed: int | str) -> AsyncIterator[Product]:
    state = State(url)
    await state.open()
    await empty(state)
    product = Product(state, data_dir, shards, random.Random(seed))
    try:
        await product.open()
        yield product
    finally:
        await product.close()
        await state.close()


async def run_world(url: str, data_dir: Path, shards: int, seed: int, numbers: range, run: Run) -> None:
    async with open_product(url, data_dir, shards, f"{seed}-{numbers.start}-world") as product:
        for number in numbers:
            acts = draw_acts(random.Random(f"{seed}-{number}"), STEPS)
            try:
                met = await run_acts(product, acts)
            except Divergence as divergence:
                run.counts["divergences"] = 1
                at, text = divergence.args
                few = "\n".join(map(str, await smaller(product, acts, at)))
                pytest.fail(f"seed {seed}, sequence {number}, act {at} {acts[at]}: {text}\nby these alone:\n{few}")
            finally:
                for name in ("repeats", "restarts", "checkpoints"):
                    run.counts[name] = run.counts.get(name, 0) + getattr(product, name)
                    setattr(product, name, 0)
            run.counts["sequences"] += 1
            for what, times in met.items():
                run.counts[what] = run.counts.get(what, 0) + times


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FOOTINGS)
async def test_the_product_does_what_plain_dicts_do(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, seed: int, scale: int
) -> None:
    where, shards, sequences = FOOTINGS[name]
    footing = footing_of(where, request.getfixturevalue)
    total = sequences * (NIGHTLY if scale >= 10 else scale)
    with reported("differential", seed, name, sequences=total, steps=STEPS, shards=shards) as run:
        run.counts |= {"sequences": 0, "divergences": 0}
        for start in range(0, total, A_WORLD):
            numbers = range(start, min(start + A_WORLD, total))
            await run_world(footing.url, tmp_path, shards, seed, numbers, run)
        met = ("200", "409") if total < 100 else MET
        assert all(run.counts.get(what, 0) > 0 for what in met), f"too little of {met} was met to say anything"


def _never_lapses(people: People, slot: int, now_ms: int) -> int:
    return int(people.visibility[slot])


def _one_way(blocks: Blocks, slot: int) -> set[int]:
    return {block.blocked for block in blocks._names.of(slot).values()}


@pytest.mark.parametrize(
    ("of", "name", "wrong"),
    [(People, "visibility_at", _never_lapses), (Blocks, "either_way", _one_way)],
)
async def test_a_wrong_product_is_found(
    of: type, name: str, wrong: Any, state_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positive controls: a rule broken on purpose shows within some sequences."""
    monkeypatch.setattr(of, name, wrong)
    async with open_product(state_server.url, tmp_path, 1, "wrong") as product:

        async def run_some() -> None:
            for number in range(A_WORLD):
                await run_acts(product, draw_acts(random.Random(f"wrong-{number}"), STEPS))

        with pytest.raises(Divergence):
            await run_some()
