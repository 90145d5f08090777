"""Q11: the state server's wall clock jumps by an hour, back again, and stands still: nothing that people see moves."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from api.dependencies import rfc3339
from discovery.store.embedded import find_binary
from tests.faults import ldfault
from tests.faults.ldfault import FaultyServer
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject, subject
from tests.service import Connection

WINDOW_S = 2.0
_BEYOND_S = WINDOW_S + 1.5
_ROW_S = within(2.5)  # a status row may be a second old, and a jump is noticed within a second
_HERE = {"lat": 48.8566, "lon": 2.3522, "reach": "nearby"}
_JUMPS = ["+1 h", "-1 h", "frozen", "runs"]
_NIGHTLY = ["-1 h", "+1 h", "+1 day", "-1 day", "+0.5 s", "-0.5 s", "frozen", "+1 h", "-1 h"]
_SECONDS = {"h": 3600.0, "day": 86_400.0, "s": 1.0}


@pytest.mark.skipif(not ldfault.available(), reason="needs Linux and gcc")
async def test_nothing_expires_lapses_or_lengthens(tmp_path: Path, seed: int, scale: int) -> None:
    faulty = FaultyServer(tmp_path, find_binary(), tmp_path / "data" / "appendonlydir")
    jumps = _JUMPS if scale == 1 else [*_JUMPS, *_NIGHTLY]
    settings = {"shake_window_s": str(WINDOW_S), "epoch_s": "1", "valkey_bin": str(faulty.binary)}
    with reported("q11_clock_jumps", seed, "embedded", jumps=jumps) as run, subject(tmp_path, **settings) as service:
        async with service.connections(1) as (one,):
            life = Life(service, one, seed)
            await life.prepare()
            ahead_s = 0.0
            for number, jump in enumerate(jumps):
                await life.before(number)
                ahead_s = _jump(faulty, jump, ahead_s)
                await life.after(number, jump)
        run.counts = {"jumps": len(jumps), "largest_drift_s": round(life.drift_s, 2), "moved": 0}


def _jump(faulty: FaultyServer, jump: str, ahead_s: float) -> float:
    """How far the clock is ahead now."""
    if jump == "frozen":
        faulty.freeze_clock()
        return ahead_s
    if jump != "runs":
        amount, unit = jump.split()
        ahead_s += float(amount) * _SECONDS[unit]
    faulty.clock_ahead(ahead_s)
    return ahead_s


class Life:
    """People who stay where and how they are while the clock jumps."""

    def __init__(self, service: Subject, one: Connection, seed: int) -> None:
        self.service = service
        self.one = one
        self.label = f"{seed:x}"
        self.me = service.person(f"still.{self.label}")
        self.drift_s = 0.0
        self.kept: list[Any] = []
        self._shaken: dict[str, dict[str, Any]] = {}
        self._hive: tuple[float, float] = (0.0, 0.0)

    async def prepare(self) -> None:
        """A position for an hour, a visibility for half an hour, a bottle that somebody holds."""
        until = rfc3339((int(time.time()) + 1800) * 1000)
        body = {"visibility": "friends", "visible_until": until, "bottles": "on"}
        (await self.one.ask("PATCH", "/v1/me/settings", body, self.me)).ok()
        point = {"lat": _HERE["lat"], "lon": _HERE["lon"], "ttl_s": 3600}
        (await self.one.ask("PUT", "/v1/me/position", point, self.me)).ok()
        thrower = self.service.person(f"thrower.{self.label}")
        (await self.one.ask("PATCH", "/v1/me/settings", {"bottles": "on"}, thrower)).ok()
        (await self.one.ask("POST", "/v1/bottles", {"text": "hello"}, thrower | {"Idempotency-Key": "t"})).ok(201)
        picked = (await self.one.ask("POST", "/v1/bottles/pick", None, self.me | {"Idempotency-Key": "p"})).ok()
        assert picked["bottle"] is not None
        self.kept = await self._look()
        await asyncio.sleep(1.5)  # a first status row

    async def _look(self) -> list[Any]:
        settings = (await self.one.ask("GET", "/v1/me/settings", None, self.me)).ok()
        place = (await self.one.ask("GET", "/v1/me/position", None, self.me)).ok()
        bottles = (await self.one.ask("GET", "/v1/me/bottles", None, self.me)).ok()["bottles"]
        held = [(row["bottle_id"], row["role"], row["state"]) for row in bottles if row["role"] == "picked"]
        return [settings, place["expires_at"], place["published"], held]

    async def before(self, number: int) -> None:
        """Two shakes that are open when the clock jumps, and the time as the workers have it."""
        self._hive = await self._hive_time()
        for name, lat in (("soon", 10.0), ("late", 20.0)):
            self._shaken[name] = await self._shake(f"{name}.before.{number}", lat)

    async def after(self, number: int, jump: str) -> None:
        """Who shakes within the window is found, who shakes beyond it is not; all else is as it was."""
        jumped_s = time.monotonic()
        await asyncio.sleep(0.3)
        found = await self._shake(f"soon.after.{number}", 10.0)
        assert [match["user"] for match in await self._matches(f"soon.after.{number}", found)] == [
            f"soon.before.{number}.{self.label}"
        ], jump
        await asyncio.sleep(max(0.0, jumped_s + _BEYOND_S - time.monotonic()))
        missed = await self._shake(f"late.after.{number}", 20.0)
        assert await self._matches(f"late.after.{number}", missed) == [], jump
        look = await self._look()
        if "day" in jump:  # a bottle's hold of a day goes by the server's clock, and by no other rule of ours
            self.kept[-1] = look[-1]
        assert look == self.kept, jump
        (await self.one.ask("PUT", f"/v1/me/blocks/b{number}", None, self.me)).ok(204)
        hive_s, true_s = await self._hive_time()
        drift_s = (hive_s - self._hive[0]) - (true_s - self._hive[1])
        assert abs(drift_s) < _ROW_S, f"hive time ran {drift_s:+.1f} s away at {jump}"
        self.drift_s = max(self.drift_s, abs(drift_s))

    async def _shake(self, user: str, lat: float) -> dict[str, Any]:
        headers = self.service.person(f"{user}.{self.label}") | {"Idempotency-Key": "shake"}
        answer: dict[str, Any] = (await self.one.ask("POST", "/v1/shakes", _HERE | {"lat": lat}, headers)).ok(201)
        return answer

    async def _matches(self, user: str, shake: dict[str, Any]) -> list[dict[str, Any]]:
        headers = self.service.person(f"{user}.{self.label}")
        answer = (await self.one.ask("GET", f"/v1/shakes/{shake['shake_id']}", None, headers)).ok()
        matches: list[dict[str, Any]] = answer["matches"]
        return matches

    async def _hive_time(self) -> tuple[float, float]:
        """Newest hive time of a worker's row, and true time."""
        status = await asyncio.to_thread(self.service.status)
        return max(row["hive_ms"] for row in status["workers"]) / 1000, time.monotonic()
