"""The mutation check: each of the 12 seeded bugs fails the gate that is there for it; without them all gates pass."""

import io
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from api import logs
from discovery.store.client import State
from tests.canary import plant
from tests.privacy import duel
from tests.privacy.asgi import Ask, Asker
from tests.privacy.existence import SHAKING, STATES, ask_all, prepared
from tests.privacy.mutations import BUGS, T0, T6, T7
from tests.privacy.report import reported
from tests.privacy.scenario import Break, draw_scenario
from tests.privacy.test_existence import Said, told_apart
from tests.privacy.test_non_interference import differs, draw_histories
from tests.world import open_world

_NIGHTLY_TRIES = 10


async def t0_sees(state: State, data_dir: Path, bug: Break | None) -> bool:
    """Whether two raw histories that look the same are told apart."""
    one, other = await duel.transcripts(state, data_dir, bug)
    assert any(b'"victim"' in answer.body for answer in one)
    return one != other


async def t6_sees(state: State, data_dir: Path, bug: Break | None) -> bool:
    """Whether somebody who blocks me, and shakes, is told from nobody."""
    seen: dict[str, Said] = {}
    for name in ("never existed", "blocks me"):
        await state.call("FLUSHALL")
        async with open_world(state, data_dir) as world:
            if bug is not None:
                bug(world)
            seen[name] = await ask_all(world, await prepared(world, STATES[name]), SHAKING.get(name))
    return bool(told_apart(seen))


async def t7_sees(state: State, data_dir: Path, bug: Break | None) -> bool:
    """Whether the log at DEBUG tells where somebody is."""
    canary = plant(random.Random(1), "log")
    point = {"lat": canary.lat, "lon": canary.lon}
    await state.call("FLUSHALL")
    with debug_log() as written:
        async with open_world(state, data_dir) as world:
            if bug is not None:
                bug(world)
            ask = Asker(world)
            await ask.ok(Ask("me", "PUT", "/v1/me/position", point))
            await ask.ok(Ask("me", "POST", "/v1/shakes", point, key="shake"))
            await ask(Ask("me", "PUT", "/v1/me/position", {**point, "accuracy_m": 5000}))
    log = written.getvalue().encode()
    assert b"/v1/me/position" in log
    return bool(canary.found_in(log))


@contextmanager
def debug_log() -> Iterator[io.StringIO]:
    """All that the product logs at DEBUG meanwhile."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    logs.configure("debug", "json")
    root.handlers = [logging.StreamHandler(written)]
    try:
        yield written
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()


GATES = {T0: t0_sees, T6: t6_sees, T7: t7_sees}


@pytest.mark.parametrize("gate", GATES)
async def test_without_a_bug_the_gates_pass(state: State, tmp_path: Path, gate: str) -> None:
    assert not await GATES[gate](state, tmp_path, None)


async def test_each_seeded_bug_is_seen(state: State, tmp_path: Path, seed: int) -> None:
    with reported("mutations", seed, len(BUGS)) as run:
        seen = {name: await GATES[gate](state, tmp_path, bug) for name, (bug, gate) in BUGS.items()}
        run.rows += [{"bug": name, "gate": BUGS[name][1], "killed": killed} for name, killed in seen.items()]
        assert [name for name, killed in seen.items() if not killed] == []
        assert len(seen) == 12


async def test_random_histories_see_the_bugs_too(state: State, tmp_path: Path, seed: int, scale: int) -> None:
    """The whole of T0 has the power of the hand-made pair: one bug now, all of its ten at nightly size."""
    draws = random.Random(seed)
    bugs = {name: bug for name, (bug, gate) in BUGS.items() if gate == T0}
    names = ["push immediate"] if scale == 1 else list(bugs)
    with reported("mutations by random histories", seed, len(names)) as run:
        for name in names:
            tries = 1
            while not await _random_pair_sees(state, tmp_path, draws, bugs[name]):
                tries += 1
                assert tries <= _NIGHTLY_TRIES, name
            run.rows.append({"bug": name, "scenarios": tries})


async def _random_pair_sees(state: State, data_dir: Path, draws: random.Random, bug: Break) -> bool:
    scenario = draw_scenario(draws.getrandbits(32))
    pair = draw_histories(scenario, draws), draw_histories(scenario, draws)
    return await differs(state, data_dir, scenario, pair, bug) is not None
