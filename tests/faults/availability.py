"""Whether people are served, looked at all the time through every worker: reads, reports, writes that must last."""

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator

from discovery.store import keys
from tests.faults.subject import Subject
from tests.service import Answer, Connection

READ, REPORT, LASTING = "read", "report", "lasting"
"""A people read; class C; class A, which waits for a replica and for every worker."""

_PAUSE_S = 0.05
_SHOWN = 10
_SHARDS = keys.Shards(keys.CLUSTER_SHARDS)


class Availability:
    """Asks of each kind one after the other; ``label`` makes the people of this test its own. Each turn somebody of
    another shard asks, so that every node is met within 16 turns."""

    def __init__(self, service: Subject, label: str) -> None:
        self.service = service
        candidates = (f"look{number}.{label}" for number in itertools.count())
        people: dict[int, str] = {}
        for user in candidates:
            people.setdefault(_SHARDS.of(user), user)
            if len(people) == _SHARDS.count:
                break
        self.people = [service.person(user) for user in people.values()]
        self.asked: dict[str, int] = defaultdict(int)
        self._served_s: dict[str, float] = defaultdict(float)
        self.failed_s: dict[str, list[float]] = defaultdict(list)  # when those requests were sent
        self.said: dict[str, deque[tuple[float, float, str]]] = defaultdict(lambda: deque(maxlen=_SHOWN))

    async def _ask(self, kind: str, connection: Connection, turn: int) -> Answer:
        """Every turn another person; in every round of all of them another cell and another list."""
        me, round_ = self.people[turn % len(self.people)], turn // len(self.people)
        if kind == READ:
            return await connection.ask("GET", "/v1/nearby", None, me)
        if kind == REPORT:
            point = {"lat": 10.0 + turn % 16, "lon": 0.1 * (round_ % 100)}
            return await connection.ask("PUT", "/v1/me/position", point, me)
        return await connection.ask("PUT" if round_ % 2 else "DELETE", "/v1/me/blocks/somebody", None, me)

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """While the body runs."""
        async with self.service.by_worker(3) as groups:
            await self._prepare(groups[0][0])
            tasks = [
                asyncio.create_task(self._look(kind, connection))
                for group in groups
                for kind, connection in zip((READ, REPORT, LASTING), group, strict=True)
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def _prepare(self, connection: Connection) -> None:
        for number, me in enumerate(self.people):
            point = {"lat": 10.0 + number, "lon": 0.0}
            (await connection.ask("PUT", "/v1/me/position", point, me)).ok()
            (await connection.ask("PATCH", "/v1/me/settings", {"visibility": "everyone"}, me)).ok()

    async def _look(self, kind: str, connection: Connection) -> None:
        for turn in itertools.count():
            sent_s = time.monotonic()
            answer = await self._ask(kind, connection, turn)
            self.asked[kind] += 1
            assert answer.status in {200, 204, 503}, answer
            if answer.status != 503:
                self._served_s[kind] = time.monotonic()
            else:
                self.failed_s[kind].append(sent_s)
                self.said[kind].append((round(sent_s, 2), round(time.monotonic() - sent_s, 2), answer.json()["detail"]))
            await asyncio.sleep(_PAUSE_S)

    def served_until_s(self, kind: str) -> float:
        """When the last good answer came."""
        return self._served_s[kind]

    def back_s(self, kind: str, since_s: float) -> float:
        """Seconds after ``since_s`` of the last failure; 0 when there was none."""
        return max((failed_s - since_s for failed_s in self.failed_s[kind] if failed_s >= since_s), default=0.0)

    async def well(self, within_s: float) -> None:
        """Return when every kind was answered for a second; fails after ``within_s``."""
        ends_s = time.monotonic() + within_s
        while any(failed and time.monotonic() - failed[-1] < 1.0 for failed in self.failed_s.values()):
            assert time.monotonic() < ends_s, f"not served within {within_s} s: {dict(self.said)}"
            await asyncio.sleep(_PAUSE_S)
