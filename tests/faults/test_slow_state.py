"""Q6: a slow, silent, stopped or resetting state server: every answer in time, /healthz fast, and soon well again."""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import SCALE
from tests.faults.behind import Behind
from tests.faults.ledger import Ledger
from tests.faults.patience import within
from tests.faults.proxy import Faults
from tests.faults.report import reported
from tests.service import Answer, Connection

READ_S, WRITE_S, SLACK_S = 0.3, 3.0, within(0.5)
HEALTH_P99_S = within(0.05)
BACK_S = within(5.0)
CLOSED_S = 1.5 + 0.5  # a worker that has heard nothing for so long may no longer show people
_ASKING_S = 2.6
_PAUSED_S = 4.5
_PAUSE_S = 0.02


@dataclass(slots=True)
class Heard:
    """All answers of one kind of request: when it was sent (since the fault began), how long it took, and what."""

    within_s: float
    answers: list[tuple[float, float, Answer]] = field(default_factory=list)

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for _, _, answer in self.answers)

    def slowest_s(self) -> float:
        return round(max(seconds for _, seconds, _ in self.answers), 3)

    def check(self) -> None:
        assert self.answers
        assert self.slowest_s() <= self.within_s + SLACK_S
        assert set(self.statuses()) <= {200, 201, 204, 503}
        refused = [answer for _, _, answer in self.answers if answer.status == 503]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


Fault = Callable[[Behind], "contextlib.AbstractAsyncContextManager[None]"]


def _network(**faults: Any) -> Fault:
    @contextlib.asynccontextmanager
    async def fault(behind: Behind) -> AsyncIterator[None]:
        behind.proxy.faults = Faults(**faults)
        yield
        behind.proxy.heal()

    return fault


@contextlib.asynccontextmanager
async def _resets(behind: Behind) -> AsyncIterator[None]:
    """RST on all connections, five times a second."""

    async def reset() -> None:
        while True:
            await asyncio.to_thread(behind.proxy.reset_all)
            await asyncio.sleep(0.2)

    resetting = asyncio.create_task(reset())
    yield
    resetting.cancel()
    await asyncio.gather(resetting, return_exceptions=True)


@contextlib.asynccontextmanager
async def _paused(behind: Behind) -> AsyncIterator[None]:
    """It ends by itself: a paused server does not take the command that would end it."""
    ends_s = time.monotonic() + _PAUSED_S
    behind.server.ask("CLIENT", "PAUSE", round(1000 * _PAUSED_S), "ALL")
    yield
    await asyncio.sleep(max(0.0, ends_s - time.monotonic()))


@contextlib.asynccontextmanager
async def _stopped(behind: Behind) -> AsyncIterator[None]:
    assert behind.server.pid is not None
    os.kill(behind.server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(behind.server.pid, signal.SIGCONT)


# Name -> the fault, and whether nothing of the state reaches the workers while it lasts.
FAULTS: dict[str, tuple[Fault, bool]] = {
    "latency 50 ms": (_network(latency_s=0.05), False),
    "latency 500 ms": (_network(latency_s=0.5), False),
    "latency 5000 ms": (_network(latency_s=5.0), True),
    "resets": (_resets, False),
    "CLIENT PAUSE": (_paused, True),
    "SIGSTOP": (_stopped, True),
}
NIGHTLY: dict[str, tuple[Fault, bool]] = {
    "jitter 0-400 ms": (_network(jitter_s=0.4), False),
    "20 kB/s": (_network(bytes_a_second=20_000), False),
    "slow close": (_network(slow_close_s=3.0, refuse=True), False),
    "requests held": (_network(hold_requests=True), True),
    "replies held": (_network(hold_replies=True), True),
}


@pytest.mark.parametrize("name", [*FAULTS, *(NIGHTLY if SCALE > 1 else ())])
async def test_every_answer_comes_in_time(behind: Behind, seed: int, name: str) -> None:
    fault, silent = (FAULTS | NIGHTLY)[name]
    with reported("q6_slow_state", seed, "one server", fault=name) as run:
        await behind.service.ready(BACK_S)
        asking = Asking(behind, run.ledger, f"{seed:x}")
        await asking.prepare()
        async with fault(behind), asking.connections():
            await asking.ask_for(_ASKING_S)
            assert asking.service.status_of("/healthz") == 200
        back_s = await asking.back()
        await asking.verify()
        run.counts = asking.ledger.counts() | {"back_s": back_s, **asking.summary()}
        asking.check(silent, works=name == "latency 50 ms")


class Asking:
    """One client of each kind; each asks again as soon as it was answered."""

    def __init__(self, behind: Behind, ledger: Ledger, label: str) -> None:
        self.service = behind.service
        self.ledger = ledger
        self._label = label
        self._me = self.service.person(f"asker.{label}")
        self._began_s = self._ends_s = 0.0
        self._opened: list[Connection] = []
        self.heard = {
            "read": Heard(READ_S),
            "report": Heard(READ_S),
            "block": Heard(WRITE_S),
            "throw": Heard(WRITE_S),
            "stores": Heard(READ_S),
            "health": Heard(HEALTH_P99_S),
        }

    async def prepare(self) -> None:
        """Somebody who may use radar and bottles, and a brand with a store."""
        operator = self.service.operator
        stores = b"store_id,name,lat,lon\na,Near,48.86,2.35\n"
        await self._insist("PATCH", "/v1/me/settings", {"visibility": "friends", "bottles": "on"}, self._me)
        await self._insist("PUT", "/v1/me/position", {"lat": 48.85, "lon": 2.35}, self._me)
        await self._insist("PUT", "/v1/brands/shop", {"name": "A shop"}, operator)
        await self._insist("PUT", "/v1/brands/shop/stores", stores, {"Content-Type": "text/csv"} | operator)

    async def _insist(self, method: str, path: str, body: object, headers: dict[str, str]) -> None:
        """What the test before did to the state may still be felt for a moment."""
        ends_s = time.monotonic() + BACK_S
        async with self.service.connections(1) as (one,):
            while (answer := await one.ask(method, path, body, headers)).status == 503:
                assert time.monotonic() < ends_s, answer.body
                await asyncio.sleep(0.05)
            answer.ok()

    @contextlib.asynccontextmanager
    async def connections(self) -> AsyncIterator[None]:
        """Opened while the state is bad already: that needs no state."""
        async with self.service.connections(len(self.heard)) as self._opened:
            yield

    async def ask_for(self, seconds: float) -> None:
        """Ask for so long, and wait for the last answers."""
        self._began_s = time.monotonic()
        self._ends_s = self._began_s + seconds
        asks = (self._read, self._report, self._block, self._throw, self._stores, self._health)
        async with asyncio.TaskGroup() as group:
            for name, ask, connection in zip(self.heard, asks, self._opened, strict=True):
                group.create_task(self._keep_asking(self.heard[name], ask, connection))

    async def _keep_asking(
        self, heard: Heard, ask: Callable[[Connection, int], Awaitable[Answer]], connection: Connection
    ) -> None:
        for turn in itertools.count():
            if (sent_s := time.monotonic()) > self._ends_s:
                return
            answer = await ask(connection, turn)
            heard.answers.append((sent_s - self._began_s, time.monotonic() - sent_s, answer))
            await asyncio.sleep(_PAUSE_S)

    async def _read(self, connection: Connection, _turn: int) -> Answer:
        return await connection.ask("GET", "/v1/radar?radius_m=1000", None, self._me)

    async def _report(self, connection: Connection, turn: int) -> Answer:
        body = {"lat": 48.85 - turn % 30, "lon": 2.35}  # another cell each time: it must be written
        return await connection.ask("PUT", "/v1/me/position", body, self._me)

    async def _block(self, connection: Connection, turn: int) -> Answer:
        return await self._told(connection, f"block:{turn}", "PUT", f"/v1/me/blocks/{self._label}.{turn}", None)

    async def _throw(self, connection: Connection, turn: int) -> Answer:
        text = f"{self._label} {turn}"
        return await self._told(connection, f"bottle:{text}", "POST", "/v1/bottles", {"text": text})

    async def _told(self, connection: Connection, key: str, method: str, path: str, body: object) -> Answer:
        act = self.ledger.begin(key, "done")
        await self.ledger.on_disk()
        answer = await connection.ask(method, path, body, self._me | {"Idempotency-Key": key.replace(" ", "-")})
        self.ledger.end(act, "ok" if answer.status < 300 else "unknown", str(answer.status))
        return answer

    async def _stores(self, connection: Connection, _turn: int) -> Answer:
        return await connection.ask(
            "GET", "/v1/brands/shop/stores/nearest?lat=48.8&lon=2.3", None, self.service.operator
        )

    async def _health(self, connection: Connection, _turn: int) -> Answer:
        return await connection.ask("GET", "/healthz")

    async def back(self) -> float:
        """Seconds until all workers are ready and write again."""
        started_s = time.monotonic()
        await self.service.ready(BACK_S)
        async with self.service.connections(1) as (one,):
            for ask in (self._report, self._throw):
                turn = 10**6  # not among those of the fault
                while (await ask(one, turn)).status == 503:
                    assert time.monotonic() < started_s + BACK_S
                    turn += 1
        return round(time.monotonic() - started_s, 2)

    async def verify(self) -> None:
        """What was acknowledged is there, on every worker."""
        async with self.service.by_worker() as groups:
            for (one,) in groups:
                blocked = await self._listed(one, "/v1/me/blocks?limit=100", "blocks")
                self.ledger.saw_all({f"block:{row['user'].rpartition('.')[2]}": "done" for row in blocked}, "block:")
            bottles = await self._listed(one, "/v1/me/bottles?limit=100", "bottles")
            paths = [f"/v1/bottles/{row['bottle_id']}" for row in bottles]
            texts = [(await self._found(one, path))["text"] for path in paths]
            assert len(set(texts)) == len(texts)
            self.ledger.saw_all({f"bottle:{text}": "done" for text in texts}, "bottle:")

    async def _found(self, one: Connection, path: str) -> Any:
        """What the state says in the end: on a busy machine a read may be late, and 503, without any fault."""
        ends_s = time.monotonic() + BACK_S
        while (answer := await one.ask("GET", path, None, self._me)).status == 503:
            assert time.monotonic() < ends_s, answer
            await asyncio.sleep(0.1)
        return answer.ok()

    async def _listed(self, one: Connection, path: str, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self._found(one, f"{path}{'&cursor=' * bool(cursor)}{cursor}")
            rows += page[name]
            cursor = page["next_cursor"]
        return rows

    def summary(self) -> dict[str, Any]:
        """What was heard."""
        kinds = self.heard.items()
        return {name: {"statuses": dict(heard.statuses()), "slowest_s": heard.slowest_s()} for name, heard in kinds}

    def check(self, silent: bool, works: bool) -> None:
        """The promises."""
        self.ledger.require_clean()
        health = self.heard.pop("health")
        times_s = sorted(seconds for _, seconds, _ in health.answers)
        assert times_s[int(len(times_s) * 0.99) - 1] <= HEALTH_P99_S
        assert set(health.statuses()) == {200}
        for heard in self.heard.values():
            heard.check()
        assert set(self.heard["stores"].statuses()) == {200}
        late = [answer.status for sent_s, _, answer in self.heard["read"].answers if sent_s > CLOSED_S]
        if silent:
            assert set(late) == {503}, "people are shown by a worker that hears nothing"
        if works:
            assert not any(heard.statuses()[503] for heard in self.heard.values())
