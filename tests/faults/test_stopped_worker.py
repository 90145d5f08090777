"""A worker that was stopped (SIGSTOP) and wakes up never shows a person who went out of sight meanwhile.

Its sockets go on taking requests while it sleeps, and it wakes with arrays of before: only the lease keeps it silent.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.faults.report import reported
from tests.faults.subject import Subject, stopped, subject
from tests.service import Answer, Connection

STOPPED_S, STOPPED_NIGHTLY_S = 5.0, 10.0
_WRITE_S = 3.0 + 0.5
_BACK_S = 5.0
_AWAKE_S = 3.0
_ASKERS = 4  # of each list
_HERE = {"lat": 48.8566, "lon": 2.3522}
_GONE = ("hides", "blocks", "clears", "unfriends")
_STAYS = "stays"


async def test_a_worker_that_slept_shows_nobody_who_left_meanwhile(tmp_path: Path, seed: int, scale: int) -> None:
    seconds = STOPPED_S if scale == 1 else STOPPED_NIGHTLY_S
    with reported("stopped_worker", seed, "embedded", stopped_s=seconds) as run, subject(tmp_path) as service:
        world = World(service)
        async with service.by_worker(2 * _ASKERS) as (sleepers, (other, *_)):
            await world.prepare(other)
            await asyncio.sleep(1.0)
            for connection in (sleepers[0], other):
                assert await world.seen(connection) == {*_GONE, _STAYS}, "all are shown before"
            victim = service.worker_pids()[0]
            async with world.asking(sleepers):
                await asyncio.sleep(0.2)
                with stopped([victim]):
                    slept_s = time.monotonic()
                    answered_s = [await world.leave(other, name) for name in _GONE]
                    left_s = time.monotonic()
                    await asyncio.sleep(max(0.0, slept_s + seconds - time.monotonic()))
                await asyncio.sleep(_AWAKE_S)
            late = [(sent_s, answer) for sent_s, got_s, answer in world.heard if got_s > left_s]
            back_s = await world.back(sleepers[0])
        asleep = sum(sent_s < slept_s + seconds for sent_s, _ in late)
        run.counts = {"answers": len(late), "sent_while_asleep": asleep, "back_s": back_s}
        run.counts |= {"refused": sum(answer.status == 503 for _, answer in late), "slowest_write_s": max(answered_s)}
        assert max(answered_s) <= _WRITE_S
        assert asleep >= _ASKERS, "requests must have waited for it to wake up"
        assert {answer.status for _, answer in late} <= {200, 503}
        shown = [user for _, answer in late if answer.status == 200 for user in _users(answer)]
        assert set(shown) <= {_STAYS}, "somebody who had left was shown"


async def test_writes_are_answered_when_a_worker_was_killed(tmp_path: Path, seed: int) -> None:
    """Its lease stands until it is seen to be dead: class A waits for that, and no longer than its deadline."""
    with reported("killed_worker", seed, "embedded") as run, subject(tmp_path) as service:
        world = World(service)
        async with service.by_worker(1) as (_, (other,)):
            await world.prepare(other)
            os.kill(service.worker_pids()[0], signal.SIGKILL)
            run.counts = {"slowest_write_s": max([await world.leave(other, name) for name in _GONE])}
        assert run.counts["slowest_write_s"] <= _WRITE_S


class World:
    """One who looks, on lists of strangers and of friends, and five who can be seen by that one."""

    def __init__(self, service: Subject) -> None:
        self.service = service
        self.me = service.person("me")
        self.heard: list[tuple[float, float, Answer]] = []  # sent at, got at
        self._asking = False

    async def prepare(self, one: Connection) -> None:
        """Everybody is here; one shows to friends only and is a friend, the others show to everyone."""
        for user in ("me", *_GONE, _STAYS):
            headers = self.service.person(user)
            shown = {"visibility": "friends" if user == "unfriends" else "everyone"}
            (await one.ask("PATCH", "/v1/me/settings", shown, headers)).ok()
            (await one.ask("PUT", "/v1/me/position", _HERE, headers)).ok()
        (await one.ask("PUT", "/v1/me/friends/unfriends", None, self.me)).ok()
        (await one.ask("PUT", "/v1/me/friends/me", None, self.service.person("unfriends"))).ok()

    async def leave(self, one: Connection, name: str) -> float:
        """``name`` goes out of sight in their own way: seconds until that was answered."""
        method, path, body = {
            "hides": ("PATCH", "/v1/me/settings", {"visibility": "nobody"}),
            "blocks": ("PUT", "/v1/me/blocks/me", None),
            "clears": ("DELETE", "/v1/me/position", None),
            "unfriends": ("DELETE", "/v1/me/friends/me", None),
        }[name]
        headers = self.service.person(name)
        started_s = time.monotonic()
        answer = await one.ask(method, path, body, headers)
        assert answer.status in {200, 204}, answer.body
        return round(time.monotonic() - started_s, 2)

    async def seen(self, one: Connection) -> set[str]:
        """Everybody on both lists."""
        return {user for path in _LISTS for user in _users(await one.ask("GET", path, None, self.me))}

    @asynccontextmanager
    async def asking(self, connections: list[Connection]) -> AsyncIterator[None]:
        """Each connection asks without a pause; what it hears is kept."""
        self._asking = True
        asking = [asyncio.create_task(self._ask(one, _LISTS[at % 2])) for at, one in enumerate(connections)]
        try:
            yield
        finally:
            self._asking = False
            await asyncio.gather(*asking)

    async def _ask(self, one: Connection, path: str) -> None:
        while self._asking:
            sent_s = time.monotonic()
            answer = await one.ask("GET", path, None, self.me)
            self.heard.append((sent_s, time.monotonic(), answer))
            await asyncio.sleep(0)

    async def back(self, one: Connection) -> float:
        """Seconds until the worker shows who is still there, and nobody else."""
        started_s = time.monotonic()
        while await self.seen(one) != {_STAYS}:
            assert time.monotonic() < started_s + _BACK_S
            await asyncio.sleep(0.05)
        return round(time.monotonic() - started_s, 2)


_LISTS = ("/v1/nearby?radius_m=3000", "/v1/radar?radius_m=1000")


def _users(answer: Answer) -> list[Any]:
    if answer.status != 200:
        return []
    body = answer.json()
    return [row["user"] for row in body.get("people", body.get("friends"))]
