"""A worker that was stopped (SIGSTOP) and wakes up never shows a person who went out of sight meanwhile.

Its sockets go on taking requests while it sleeps, and it wakes with arrays of before: only the lease keeps it silent.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject, stopped, subject
from tests.service import Answer, Connection, _head

SLEEPS_S, SLEEPS_NIGHTLY_S = (0.7, 2.5, 5.0), (0.7, 1.0, 1.4, 1.6, 2.0, 2.5, 3.5, 10.0)  # leases last 2 s
_LONG_S = 3.5  # who leaves is answered before a worker that sleeps longer wakes up
_WRITE_S = 3.0 + within(0.5)
_BACK_S = within(5.0)
_AWAKE_S = 1.5
_ASKERS = 4  # of each kind
_GONE = ("hides", "blocks", "clears", "unfriends")
_STAYS = "stays"


async def test_a_worker_that_slept_shows_nobody_who_left_meanwhile(tmp_path: Path, seed: int, scale: int) -> None:
    sleeps_s = SLEEPS_S if scale == 1 else SLEEPS_NIGHTLY_S
    with (
        reported("stopped_worker", seed, "embedded", sleeps_s=sleeps_s) as run,
        subject(tmp_path, shake_window_s="60") as service,  # a shake stays open for longer than a worker sleeps
    ):
        for number, seconds in enumerate(sleeps_s):
            run.counts[str(seconds)] = await _sleep_once(World(service, number), seconds)


async def _sleep_once(world: "World", seconds: float) -> dict[str, Any]:
    async with world.service.by_worker(2 * _ASKERS) as (sleepers, others):
        await world.prepare(others[-1])
        await asyncio.sleep(1.0)
        for connection in (sleepers[0], others[0]):
            assert await world.seen(connection) == {*_GONE, _STAYS}, "all are shown before"
        async with world.asking(sleepers[:_ASKERS], sleepers[_ASKERS:], seconds):
            await asyncio.sleep(0.2)
            with stopped([world.service.worker_pids()[0]]):
                slept_s = time.monotonic()
                leaving = asyncio.create_task(world.leave_all(others))
                await asyncio.sleep(seconds)
                woke_s = time.monotonic()
            answered_s = await leaving
            await asyncio.sleep(_AWAKE_S)
        back_s = await world.back(sleepers[-1])
    # Who asks while somebody leaves may be told either: that answer may be written before the worker sleeps, and sent
    # when it wakes. Who asks after it was answered may not.
    before = [answer for sent_s, got_s, answer in world.heard if sent_s < world.left_s < got_s]
    after = [(sent_s, answer) for sent_s, _, answer in world.heard if sent_s >= world.left_s]
    asleep = sum(slept_s < sent_s < woke_s for sent_s, _ in after)
    assert max(answered_s) <= _WRITE_S
    assert asleep >= _ASKERS or seconds < _LONG_S, "requests must have waited for it to wake up"
    assert {answer.status for _, answer in after} <= {200, 503}
    assert {user for _, answer in after for user in world.users(answer)} == {_STAYS}, "somebody who left was shown"
    return {
        "answers": len(after),
        "refused": sum(answer.status == 503 for _, answer in after),
        "sent_while_asleep": asleep,
        "shown_to_who_asked_before": sum(not set(world.users(answer)) <= {_STAYS} for answer in before),
        "slowest_write_s": max(answered_s),
        "back_s": back_s,
    }


async def test_writes_are_answered_when_a_worker_was_killed(tmp_path: Path, seed: int) -> None:
    """Its lease stands until it is seen to be dead: class A waits for that, and no longer than its deadline."""
    with reported("killed_worker", seed, "embedded") as run, subject(tmp_path) as service:
        world = World(service, 0)
        async with service.by_worker(len(_GONE)) as (_, others):
            await world.prepare(others[0])
            os.kill(service.worker_pids()[0], signal.SIGKILL)
            run.counts = {"slowest_write_s": max(await world.leave_all(others))}
        assert run.counts["slowest_write_s"] <= _WRITE_S


class World:
    """One who looks, on lists of strangers and of friends, and five who can be seen by that one."""

    def __init__(self, service: Subject, number: int) -> None:
        """``number``: of the world, far from the others."""
        self.service = service
        self.heard: list[tuple[float, float, Answer]] = []  # sent at, got at
        self.left_s = float("inf")  # when all who leave were answered
        self._here = {"lat": 40.0 + number, "lon": 2.3522}
        self._number = number
        self._all_left = asyncio.Event()
        self._ended = asyncio.Event()
        self._me = self._headers("me")

    def _id(self, name: str) -> str:
        return f"{name}.{self._number}"

    def _headers(self, name: str) -> dict[str, str]:
        return self.service.person(self._id(name))

    async def prepare(self, one: Connection) -> None:
        """Everybody is here; one shows to friends only and is a friend, the others show to everyone."""
        for name in ("me", *_GONE, _STAYS):
            shown = {"visibility": "friends" if name == "unfriends" else "everyone"}
            (await one.ask("PATCH", "/v1/me/settings", shown, self._headers(name))).ok()
            (await one.ask("PUT", "/v1/me/position", self._here, self._headers(name))).ok()
        (await one.ask("PUT", f"/v1/me/friends/{self._id('unfriends')}", None, self._me)).ok()
        (await one.ask("PUT", f"/v1/me/friends/{self._id('me')}", None, self._headers("unfriends"))).ok()

    async def leave_all(self, connections: list[Connection]) -> list[float]:
        """All go out of sight, each in their own way: seconds until each was answered."""
        leaving = [self._leave(one, name) for one, name in zip(connections, _GONE, strict=False)]
        answered_s = await asyncio.gather(*leaving)
        self.left_s = time.monotonic()
        self._all_left.set()
        return answered_s

    async def _leave(self, one: Connection, name: str) -> float:
        method, path, body = {
            "hides": ("PATCH", "/v1/me/settings", {"visibility": "nobody"}),
            "blocks": ("PUT", f"/v1/me/blocks/{self._id('me')}", None),
            "clears": ("DELETE", "/v1/me/position", None),
            "unfriends": ("DELETE", f"/v1/me/friends/{self._id('me')}", None),
        }[name]
        started_s = time.monotonic()
        answer = await one.ask(method, path, body, self._headers(name))
        assert answer.status in {200, 204}, answer.body
        return round(time.monotonic() - started_s, 2)

    async def seen(self, one: Connection) -> set[str]:
        """Everybody on both lists."""
        return {user for path in _LISTS for user in self.users(await one.ask("GET", path, None, self._me))}

    @contextlib.asynccontextmanager
    async def asking(self, now: list[Connection], later: list[Connection], sleep_s: float) -> AsyncIterator[None]:
        """Each connection asks without a pause, ``later`` ones once all have left; what they hear is kept."""
        headers = self._me | {"Idempotency-Key": f"shake{self._number}"}
        shake = (await now[0].ask("POST", "/v1/shakes", self._here, headers)).ok(201)
        asking = [self._ask(one, _LISTS[at % 2]) for at, one in enumerate(now)]
        poll = f"/v1/shakes/{shake['shake_id']}?wait_s={sleep_s}"
        asking += [self._ask_later(one, _LISTS[at % 2], poll) for at, one in enumerate(later)]
        tasks = [asyncio.create_task(ask) for ask in asking]
        try:
            yield
        finally:
            self._ended.set()
            await asyncio.gather(*tasks)

    async def _ask(self, one: Connection, path: str) -> None:
        with contextlib.suppress(ConnectionError):  # one that was idle while the worker slept is closed as too old
            while not self._ended.is_set():
                sent_s = time.monotonic()
                answer = await one.ask("GET", path, None, self._me)
                self.heard.append((sent_s, time.monotonic(), answer))
                await asyncio.sleep(0)

    async def _ask_later(self, one: Connection, path: str, poll: str) -> None:
        """Behind a long poll that ends while the worker sleeps: a connection that is idle then is closed."""
        async with one._lock:
            one._writer.write(_head("GET", poll, self._me, None))
            await self._all_left.wait()
            sent_s = time.monotonic()
            one._writer.write(_head("GET", path, self._me, None))
            await one._read()
            self.heard.append((sent_s, time.monotonic(), await one._read()))
        await self._ask(one, path)

    async def back(self, one: Connection) -> float:
        """Seconds until the worker shows who is still there, and nobody else."""
        started_s = time.monotonic()
        while await self.seen(one) != {_STAYS}:
            assert time.monotonic() < started_s + _BACK_S
            await asyncio.sleep(0.05)
        return round(time.monotonic() - started_s, 2)

    def users(self, answer: Answer) -> list[str]:
        """Who is on a list; nobody on a refusal."""
        body = answer.json() if answer.status == 200 else {}
        rows = body.get("people", []) + body.get("friends", [])
        return [row["user"].removesuffix(f".{self._number}") for row in rows]


_LISTS = ("/v1/nearby?radius_m=3000", "/v1/radar?radius_m=1000")
