"""Q13: a thousand shake in one cell at the same moment, some of them twice: matches are mutual, nobody meets himself."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

from tests.faults.report import reported
from tests.faults.subject import Subject, subject
from tests.service import Connection, for_all

PEOPLE, LATE = 1000, 40
WINDOW_S = 5.0
LIMIT = 10
_CONNECTIONS = 64
_TWICE = 0.1  # share who send theirs again at the same moment
_P99_S = 0.2
_HERE = {"lat": 48.8566, "lon": 2.3522, "reach": "nearby", "limit": LIMIT}


async def test_a_thousand_shakes_at_once(tmp_path: Path, seed: int) -> None:
    draws = random.Random(seed)
    with (
        reported("q13_shakes", seed, "embedded", shakes=PEOPLE, late=LATE) as run,
        subject(tmp_path, shake_window_s=str(WINDOW_S)) as service,
    ):
        crowd = Crowd(service, f"{seed:x}")
        early = [f"e{number}" for number in range(PEOPLE)]
        senders = early + [user for user in early if draws.random() < _TWICE]
        draws.shuffle(senders)
        async with service.connections(_CONNECTIONS) as connections:
            await for_all(connections, early, crowd.known)
            started_s = time.monotonic()
            await for_all(connections, senders, crowd.shake)
            all_s = time.monotonic() - started_s
            assert all_s < WINDOW_S, "they were not at the same moment"
            await asyncio.sleep(WINDOW_S + 0.5)
            late = [f"l{number}" for number in range(LATE)]
            await for_all(connections, late, crowd.shake)
            await asyncio.sleep(WINDOW_S + 0.5)
            found = dict(zip(early + late, await for_all(connections, early + late, crowd.look), strict=True))
        times_s = sorted(crowd.seconds)
        p99_s = times_s[int(0.99 * len(times_s))]
        matched = sum(bool(matches) for matches in found.values())
        run.counts = {"matched": matched, "p99_ms": round(1000 * p99_s), "all_s": round(all_s, 2)}
        _check(found, set(early), set(late))
        assert p99_s <= _P99_S


class Crowd:
    """Who shook, and what they were told."""

    def __init__(self, service: Subject, label: str) -> None:
        self._service = service
        self._label = label
        self.seconds: list[float] = []
        self._ids: dict[str, str] = {}

    async def known(self, connection: Connection, user: str) -> None:
        """So that shaking does not first make a person known."""
        (await connection.ask("PATCH", "/v1/me/settings", {"visibility": "nobody"}, self._headers(user))).ok()

    async def shake(self, connection: Connection, user: str) -> None:
        headers = self._headers(user) | {"Idempotency-Key": "shake"}
        started_s = time.monotonic()
        answer = await connection.ask("POST", "/v1/shakes", _HERE, headers)
        self.seconds.append(time.monotonic() - started_s)
        shake_id: str = answer.ok(201)["shake_id"]
        assert self._ids.setdefault(user, shake_id) == shake_id, "one key, one shake"

    async def look(self, connection: Connection, user: str) -> list[str]:
        """With whom, in the end."""
        answer = (await connection.ask("GET", f"/v1/shakes/{self._ids[user]}", None, self._headers(user))).ok()
        assert answer["state"] == ("matched" if answer["matches"] else "nobody")
        return [match["user"].removesuffix(f".{self._label}") for match in answer["matches"]]

    def _headers(self, user: str) -> dict[str, str]:
        return self._service.person(f"{user}.{self._label}")


def _check(found: dict[str, list[str]], early: set[str], late: set[str]) -> None:
    for user, matches in found.items():
        assert max(Counter(matches).values(), default=1) == 1, f"{user} has somebody twice"
        assert user not in matches
        assert len(matches) <= LIMIT
        assert set(matches) <= (early if user in early else late), "beyond the window"
        assert all(user in found[other] for other in matches), "not mutual"
    full = [user for user, matches in found.items() if len(matches) == LIMIT]
    assert len(full) >= len(found) - 2 * LIMIT, "nearly all can be full: everybody was there at once"
