"""The people index built beside the fold: what changed meanwhile is in it, what became void is not used."""

import asyncio
import random
import threading

import numpy as np
import pytest

from discovery.crowd_builder import CrowdBuilder
from discovery.crowd_plan import CrowdPlan
from geo import cells
from geo.crowd import BandsAround
from tests.discovery.test_presence import CELLS8, EPOCH_MS, HOME, STRANGER_EPOCH_MS, Both

NOBODY = np.empty(0, np.int32)
USERS = [f"user{number}" for number in range(60)]
DAY_MS = 86_400_000


def world_of(draws: random.Random, absent: int = 10) -> Both:
    """People around HOME, the last ``absent`` of them long gone."""
    world = Both()
    for user in USERS:
        world.show(user)
    world.reports([(user, draws.choice(CELLS8), 10_000_000, True) for user in USERS[-absent:]])
    world.wait(5 * STRANGER_EPOCH_MS)
    world.reports([(user, draws.choice(CELLS8), DAY_MS, True) for user in USERS[:40]])
    return world


def listed(world: Both) -> list[tuple[int, int, int]]:
    """Everybody around HOME in order: (band, offset, slot)."""
    crowd = world.real.crowd(world.now_ms)
    bands = BandsAround(cells.parent(HOME, 7), 5)
    page = crowd.page(bands, 5, None, 1000, world.real.shown_until_ms, world.now_ms, NOBODY)
    slots, at, offsets = (part.tolist() for part in page)
    return list(zip(at, offsets, slots, strict=True))


def act(world: Both, draws: random.Random) -> None:
    """One change that strangers may see at once."""
    user, kind = draws.choice(USERS), draws.randrange(5)
    if kind == 0:
        world.clear(user)
    elif kind == 1:
        change = {"u": user, "visibility": draws.choice(["nobody", "everyone"]), "until": 0}
        world.real.refresh_one(world.people.fold_settings(change, world.now_ms), world.now_ms)
    elif kind == 2:
        name = world.people.tombstones.name(user)
        slot = world.people.fold_erased(user, name, world.now_ms, 1, world.now_ms)
        world.real.fold_erased(slot, world.now_ms)
    else:
        world.reports([(draws.choice(USERS), draws.choice(CELLS8), DAY_MS, True) for _ in range(3)])


@pytest.mark.parametrize("moment", ["between plan and build", "between build and take", "in the middle of the build"])
def test_what_changes_while_it_is_built_is_in_it(
    seed: int, scale: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = random.Random(seed)
    shown = CrowdPlan._shown_until_ms
    for _ in range(40 * scale):
        world = world_of(draws)
        acts = draws.randrange(12)

        def change(world: Both = world, acts: int = acts) -> None:
            for _ in range(acts):
                act(world, draws)

        def in_the_middle(plan: CrowdPlan, change: object = change) -> object:
            change()  # type: ignore[operator]
            return shown(plan)

        plan = world.real.plan_crowd(world.now_ms)
        if moment == "between plan and build":
            change()
        if moment == "in the middle of the build":
            monkeypatch.setattr(CrowdPlan, "_shown_until_ms", in_the_middle)
        built = plan.build()
        monkeypatch.setattr(CrowdPlan, "_shown_until_ms", shown)
        if moment == "between build and take":
            change()
        assert world.real.take_crowd(plan, built, world.now_ms)
        found = listed(world)
        world.real._drop_crowd()
        assert found == listed(world)
        assert len({slot for _, _, slot in found}) == len(found)


def test_a_plan_is_void_behind_a_stranger_edge(seed: int) -> None:
    world = world_of(random.Random(seed))
    plan = world.real.plan_crowd(world.now_ms)
    built = plan.build()
    world.wait(STRANGER_EPOCH_MS)
    assert not world.real.take_crowd(plan, built, world.now_ms)
    assert not world.real.has_crowd
    other = world.real.plan_crowd(world.now_ms)
    world.wait(1)
    assert world.real.take_crowd(other, other.build(), world.now_ms)
    assert world.real.has_crowd


async def test_the_builder_builds_in_another_thread_and_anew_when_an_edge_passes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(random.Random(seed))
    monkeypatch.setattr("discovery.crowd_builder._FEW", 0)
    threads: list[int] = []
    build = CrowdPlan.build
    loop = asyncio.get_running_loop()

    def watched(plan: CrowdPlan) -> object:
        threads.append(threading.get_ident())
        if len(threads) == 1:
            asyncio.run_coroutine_threadsafe(pass_an_edge(), loop).result(10)
        return build(plan)

    async def pass_an_edge() -> None:
        world.wait(STRANGER_EPOCH_MS)

    monkeypatch.setattr(CrowdPlan, "build", watched)
    builder = CrowdBuilder(world.people, world.real, lambda: world.now_ms)
    await asyncio.gather(builder.ready(), builder.ready(), builder.ready())
    assert world.real.has_crowd
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    found = listed(world)
    world.real._drop_crowd()
    assert found == listed(world)
    await builder.stop()


async def test_many_newcomers_have_another_one_built_behind_the_answers(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(random.Random(seed))
    world.real.crowd(world.now_ms)
    monkeypatch.setattr("discovery.presence._DELTA_LIMIT", 5)
    world.reports([(user, CELLS8[0], DAY_MS, True) for user in USERS[50:]])
    assert world.real.wants_crowd
    builder, before = CrowdBuilder(world.people, world.real, lambda: world.now_ms), listed(world)
    await builder.ready()
    assert listed(world) == before
    await builder.stop()
    assert not world.real.wants_crowd
    assert listed(world) == before


def test_who_is_erased_leaves_the_index_and_may_come_back_elsewhere() -> None:
    world = Both()
    for user in ("ann", "bob"):
        world.show(user)
    world.reports([("ann", CELLS8[0], DAY_MS, True), ("bob", CELLS8[0], DAY_MS, True)])
    crowd = world.real.crowd(world.now_ms)
    slot = world.people.fold_erased("ann", world.people.tombstones.name("ann"), world.now_ms, 1, world.now_ms)
    world.real.fold_erased(slot, world.now_ms)
    assert slot not in crowd
    assert [found for _, _, found in listed(world)] == [world.people.slot("bob")]
    world.wait(EPOCH_MS // 2)
    assert world.real.crowd(world.now_ms) is crowd, "nobody else was worked out anew"
