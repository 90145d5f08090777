"""Class A end to end: once a change that hides is answered by one worker, no other worker shows what it hid.

Two hives of one process on one server, each with a client of its own whose replies come late at random, as to a busy or
distant worker. One event loop: "answered before" has one meaning, and each read is judged in the very step in which it
was made, after the question that ``api/fail_closed.py`` asks.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from discovery.errors import NotVisible, PositionRequired, Refused, StateAway
from discovery.hive import Hive, Rules
from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer
from geo.privacy import ExactPoint
from tests.world import PARIS, SECRET

EPOCH_MS = 1000
VIEWER = "viewer"
RUN_S = 4.0


class LateState(State):
    """Each reply of the feed, and of a lease, comes up to 30 ms late; one in fifty as late as a lease can bear."""

    def __init__(self, url: str, draws: random.Random) -> None:
        super().__init__(url)
        self.draws = draws

    async def pause(self) -> None:
        await asyncio.sleep(self.draws.choices((0.0, 0.03, 0.3), (10, 39, 1))[0] * self.draws.random())

    def blocking(self, **options: Any) -> Any:
        connection = super().blocking(**options)
        execute = connection.execute_command

        async def late(*command: Any) -> Any:
            reply = await execute(*command)
            await self.pause()
            return reply

        connection.execute_command = late  # type: ignore[method-assign]
        return connection

    async def run(self, script: Any, *args: Any, **options: Any) -> Any:
        reply = await super().run(script, *args, **options)
        if script.name == "lease":
            await self.pause()
        return reply


@contextlib.asynccontextmanager
async def worker(server: EmbeddedServer, draws: random.Random, shards: int) -> AsyncIterator[Hive]:
    state = LateState(server.url, draws)
    await state.open()
    rules = Rules(quick_deadline_s=3.0)
    hive = Hive(state, SECRET, rules, lambda: draws.getrandbits(32), draws.randbytes, time.monotonic)
    await hive.start(shards)
    hive.keep_house(EPOCH_MS)
    try:
        yield hive
    finally:
        await hive.stop()
        await state.close()


@dataclass
class Act:
    """A change of class A and what takes it back, both by whichever worker is given."""

    hide: Callable[[Hive, str], Awaitable[Any]]
    show: Callable[[Hive, str], Awaitable[Any]]


async def suspend(hive: Hive, user: str, until_ms: int) -> None:
    suspended = {"nearby": until_ms}
    await hive.settings.change_by_app(user, visibility=None, consent=None, age=None, suspended=suspended)


async def report(hive: Hive, user: str) -> None:
    await hive.positions.report(user, ExactPoint(*PARIS), 7200, "adult")


ACTS = {
    "visibility": Act(
        lambda hive, user: hive.settings.change(user, visibility="nobody", claim="adult"),
        lambda hive, user: hive.settings.change(user, visibility="everyone", claim="adult"),
    ),
    "blocks": Act(
        lambda hive, user: hive.safety.block(user, VIEWER), lambda hive, user: hive.safety.unblock(user, VIEWER)
    ),
    "blocked": Act(
        lambda hive, user: hive.safety.block(VIEWER, user), lambda hive, user: hive.safety.unblock(VIEWER, user)
    ),
    "clear": Act(lambda hive, user: hive.positions.clear(user), report),
    "suspended": Act(
        lambda hive, user: suspend(hive, user, hive.now_ms + 60_000), lambda hive, user: suspend(hive, user, 0)
    ),
    "unfriend": Act(
        lambda hive, user: hive.friends.unfriend(user, VIEWER),
        lambda hive, user: hive.friends.show(user, VIEWER, "area", None, "adult"),
    ),
    "precision": Act(
        lambda hive, user: hive.friends.show(user, VIEWER, "hidden", None, "adult"),
        lambda hive, user: hive.friends.show(user, VIEWER, "area", None, "adult"),
    ),
}
FRIENDS = ("unfriend", "precision")


@dataclass
class Trial:
    """Writers and readers over the same workers."""

    hives: list[Hive]
    draws: random.Random
    hidden: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    hides: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    async def until_answered(self, act: Callable[[Hive, str], Awaitable[Any]], user: str) -> None:
        while True:
            hive = self.draws.choice(self.hives)
            generation = hive.lease_generation()
            try:
                await act(hive, user)
            except StateAway:
                continue
            if generation is not None and hive.lease_generation() == generation:
                return
            await asyncio.sleep(0.01)

    async def toggle(self, name: str, user: str) -> None:
        while True:
            await self.until_answered(ACTS[name].show, user)
            await asyncio.sleep(self.draws.random() * 0.15)
            await self.until_answered(ACTS[name].hide, user)
            self.hidden.add(user)
            self.hides[name] += 1
            await asyncio.sleep(self.draws.random() * 0.15)
            self.hidden.discard(user)

    async def read(self, hive: Hive) -> None:
        """As a request does: it is admitted, may have to wait for something, looks, and is judged by its lease."""
        while True:
            await asyncio.sleep(0)
            generation = hive.lease_generation()
            if not hive.ready()[0] or generation is None:
                self.reads["refused"] += 1
                await asyncio.sleep(0.002)
                continue
            if self.draws.random() < 0.3:
                await asyncio.sleep(self.draws.random() * 0.4)
            try:
                found = {one.user for one in (await hive.nearby.page(VIEWER, 5000, 100, None)).people}
                found |= {one.user for one in (await hive.radar.around(VIEWER, 10_000)).friends}
            except (PositionRequired, NotVisible):
                found = set()
            if hive.lease_generation() != generation:
                self.reads["lapsed"] += 1
                continue
            self.reads["answered"] += 1
            self.seen.update(found)
            self.violations += [f"{user} by {self.hives.index(hive)}" for user in sorted(found & self.hidden)]

    async def disturb(self) -> None:
        """Now and then a worker has to restore a shard."""
        while True:
            await asyncio.sleep(0.2 + 0.4 * self.draws.random())
            hive = self.draws.choice(self.hives)
            hive.feeds.doubt(self.draws.randrange(hive.shards.count))


async def settle(hives: list[Hive]) -> None:
    for hive in hives:
        async with asyncio.timeout(10):
            while not hive.ready()[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def people(hive: Hive) -> dict[str, str]:
    """Name of the act -> who is to be hidden by it; each is shown to the viewer, by radar or by nearby."""
    users = {name: f"{name}-one" for name in ACTS}
    for user in (VIEWER, *users.values()):
        await report(hive, user)
        await hive.settings.change(user, visibility="everyone", claim="adult")
    for name in FRIENDS:
        await hive.friends.show(VIEWER, users[name], "area", None, "adult")
        await hive.settings.change(users[name], visibility="friends", claim="adult")
    return users


@pytest.mark.parametrize(("shards", "restores"), [(1, False), (1, True), (4, False), (4, True)])
async def test_nobody_is_shown_who_has_hidden(
    state: State, state_server: EmbeddedServer, seed: int, scale: int, shards: int, restores: bool
) -> None:
    draws = random.Random(seed)
    async with worker(state_server, draws, shards) as one, worker(state_server, draws, shards) as two:
        trial = Trial([one, two], draws)
        await settle(trial.hives)
        users = await people(one)
        tasks = [asyncio.create_task(trial.toggle(name, user)) for name, user in users.items()]
        tasks += [asyncio.create_task(trial.read(hive)) for hive in trial.hives for _ in range(3)]
        if restores:
            tasks.append(asyncio.create_task(trial.disturb()))
        await asyncio.wait(tasks, timeout=RUN_S * scale, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    print(trial.hides, trial.reads, trial.seen)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError | Refused)] == []
    assert trial.violations == []
    assert all(trial.hides[name] for name in ACTS), "every act was tried"
    assert trial.seen.keys() >= set(users.values()), "and there was something to hide"
    assert trial.reads["answered"] > 200
