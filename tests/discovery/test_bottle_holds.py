"""Bottles that were reported: what each script does with one on hold, and the invariants of the sea beside it."""

# ruff: noqa: F401, F811 - fixtures come in by import

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from discovery.bottles import Bottles
from discovery.errors import Conflict, NotFound, Refused
from discovery.moderation import Decision, Moderation
from discovery.reporting import Reports, Target
from discovery.sealed import Sealer
from discovery.store import keys
from discovery.store.client import State
from tests.naive_bottles import check_sea
from tests.sea import SECRET, Crowd, bottles, crowd, make, picked, rng, states_of

USERS = [f"u{n}" for n in range(6)]


class Watch:
    """Reports and decisions about bottles alone, without people."""

    def __init__(self, state: State, crowd: Crowd) -> None:
        lives = SimpleNamespace(require=lambda _user: None)
        writer: Any = SimpleNamespace(state=state, shards=keys.Shards(), run=state.run, lives=lives)
        sealer = Sealer(SECRET)
        self.reports = Reports(cast(Any, crowd), cast(Any, None), writer, cast(Any, None), sealer, 10**6)
        self.moderation = Moderation(cast(Any, crowd), cast(Any, None), writer, sealer)
        self._keys = 0

    async def report(self, user: str, bottle_id: str) -> str:
        self._keys += 1
        return await self.reports.report(user, f"k{self._keys}", Target("bottle", bottle_id), "spam", "")

    async def decide(self, report_id: str, action: Any) -> None:
        await self.moderation.decide(Decision("admin", report_id, action))


@pytest_asyncio.fixture
async def watch(state: State, crowd: Crowd) -> AsyncIterator[Watch]:
    yield Watch(state, crowd)
    await check_sea(state)


async def held(bottles: Bottles, watch: Watch) -> tuple[str, str]:
    """A bottle of ``ann`` on hold, and a report of it."""
    bottle_id = (await bottles.throw("ann", "t", "hello", None)).bottle_id
    for user in USERS[:3]:
        assert (await picked(bottles, user)).bottle_id == bottle_id
        report_id = await watch.report(user, bottle_id)
    return bottle_id, report_id


async def test_a_lapsed_hold_of_a_reader_does_not_bring_a_held_bottle_back(
    make: Callable[..., Bottles], watch: Watch
) -> None:
    bottles = make(hold_s=0.2)
    bottle_id = (await bottles.throw("ann", "t", "hello", None)).bottle_id
    for user in USERS[:2]:
        await picked(bottles, user)
        await watch.report(user, bottle_id)
    await picked(bottles, "u2")
    await bottles.throw_back("u2", bottle_id)
    await picked(bottles, "u3")
    await watch.report("u2", bottle_id)  # the third, while u3 has it
    with pytest.raises(NotFound):
        await bottles.get("u3", bottle_id)
    with pytest.raises(Conflict):
        await bottles.reply("u3", "r", bottle_id, "hi")
    await asyncio.sleep(0.3)
    assert (await bottles.pick("u4", "p")).reason == "sea_empty"


async def test_what_the_author_may_do_with_a_held_bottle(bottles: Bottles, watch: Watch) -> None:
    bottle_id, _ = await held(bottles, watch)
    assert (await bottles.get("ann", bottle_id)).text == "hello"
    assert await states_of(bottles, "ann") == [(bottle_id, "thrown", "floating")]
    for refused in (
        bottles.delete("ann", bottle_id),
        bottles.reply("ann", "r", bottle_id, "x"),
        bottles.block_other("ann", bottle_id),
    ):
        with pytest.raises(Conflict):
            await refused
    assert (await bottles.throw("ann", "t", "hello", None)).bottle_id == bottle_id, "a repeat of the throw"


async def test_a_held_bottle_ends_as_any_other_for_its_author(make: Callable[..., Bottles], watch: Watch) -> None:
    bottles = make(life_s=1.0)
    bottle_id, report_id = await held(bottles, watch)
    await asyncio.sleep(1.1)
    assert await states_of(bottles, "ann") == [(bottle_id, "thrown", "expired")]
    await watch.decide(report_id, "dismiss")
    assert await states_of(bottles, "ann") == [(bottle_id, "thrown", "expired")]
    cases, _ = await watch.moderation.queue(10, None)
    assert cases == []


async def test_a_held_thread_is_gone_at_its_end_and_the_moderator_has_the_text(
    make: Callable[..., Bottles], watch: Watch
) -> None:
    bottles = make(life_s=1.0)
    bottle_id = (await bottles.throw("ann", "t", "hello", None)).bottle_id
    for user in USERS[:2]:
        await picked(bottles, user)
        await watch.report(user, bottle_id)
    await picked(bottles, "u2")
    await bottles.reply("u2", "r", bottle_id, "hi")
    await watch.report("u2", bottle_id)
    await asyncio.sleep(1.1)
    assert await states_of(bottles, "ann") == await states_of(bottles, "u2") == []
    with pytest.raises(NotFound):
        await bottles.get("ann", bottle_id)
    cases, _ = await watch.moderation.queue(10, None)
    assert [case.fields["content"]["text"] for case in cases] == ["hello"]
    assert [reply[14:] for reply in cases[0].fields["content"]["replies"]] == ["hi"]


async def test_removed_for_good(bottles: Bottles, watch: Watch) -> None:
    bottle_id, report_id = await held(bottles, watch)
    await watch.decide(report_id, "remove")
    await watch.decide(report_id, "dismiss")
    assert (await bottles.throw("ann", "t", "hello", None)).bottle_id == bottle_id
    assert (await bottles.pick("u5", "p")).reason == "sea_empty"
    assert await states_of(bottles, "ann") == []


async def test_random_reports_and_decisions_keep_the_sea_whole(
    bottles: Bottles, watch: Watch, state: State, rng: random.Random, scale: int
) -> None:
    """What is on hold nobody gets or reads but its author, and only until somebody answered."""
    thrown: list[tuple[str, str]] = []
    reports: list[str] = []
    for turn in range(150 * scale):
        user, key = rng.choice(USERS), f"key-{turn}"
        act = rng.choice(("throw", "pick", "pick", "reply", "back", "report", "report", "decide", "delete"))
        author, bottle_id = rng.choice(thrown) if thrown else ("", "")
        try:
            if act == "throw":
                thrown.append((user, (await bottles.throw(user, key, "x", None)).bottle_id))
            elif act == "pick":
                got = (await bottles.pick(user, key)).bottle
                assert got is None or await _state_of(state, got.bottle_id) == "p"
            elif act == "decide" and reports:
                await watch.decide(rng.choice(reports), rng.choice(("dismiss", "dismiss", "remove")))
            elif act == "report" and bottle_id:
                reports.append(await watch.report(user, bottle_id))
            elif act == "reply" and bottle_id:
                await bottles.reply(user, key, bottle_id, "y")
                assert await _state_of(state, bottle_id) == "a"
            elif act == "back" and bottle_id:
                await bottles.throw_back(user, bottle_id)
            elif act == "delete" and bottle_id:
                await bottles.delete(author, bottle_id)
        except Refused:
            pass
        if turn % 25 == 0:
            found = await check_sea(state)
            for bottle_id, bottle in found.items():
                if bottle["state"] == "m":
                    await _nobody_reads(bottles, bottle_id, bottle)


async def _state_of(state: State, bottle_id: str) -> str:
    value: bytes = await state.call("HGET", keys.sea_bottle(bottle_id), "state")
    return value.decode()


async def _nobody_reads(bottles: Bottles, bottle_id: str, bottle: dict[str, str]) -> None:
    for user in {bottle["author"], bottle.get("holder", bottle["author"])}:
        if bottle["was"] == "f":
            assert (await bottles.get(user, bottle_id)).mine
        else:
            with pytest.raises(NotFound):
                await bottles.get(user, bottle_id)
            assert bottle_id not in [row[0] for row in await states_of(bottles, user)]
