"""Q10: the state server did it and its reply is lost; the client asks again under its key: done exactly once."""

import asyncio
import time
from typing import Any

from tests.faults.behind import Behind
from tests.faults.report import reported
from tests.service import Answer, Connection

TIMES, TIMES_NIGHTLY = 6, 100  # of each act
_RETRY_S = 5.0


class Sailor:
    """One person whose requests meet a lost reply."""

    def __init__(self, behind: Behind, one: Connection, user: str) -> None:
        self.behind = behind
        self.one = one
        self.user = user
        self.headers = behind.service.person(user)
        self.unknown = 0

    async def prepare(self) -> "Sailor":
        """Takes part in bottles."""
        (await self.one.ask("PATCH", "/v1/me/settings", {"bottles": "on"}, self.headers)).ok()
        return self

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer that must be good."""
        return (await self.one.ask(method, path, body, self.headers)).ok()

    async def insist(self, marker: str, method: str, path: str, body: object, key: str) -> Answer:
        """The answer at last; the first reply of the state to a command with ``marker`` was lost."""
        lost = self.behind.proxy.lost_replies
        self.behind.proxy.lose_replies(marker.encode(), 1)
        ends_s = time.monotonic() + _RETRY_S
        headers = self.headers | {"Idempotency-Key": key}
        while (answer := await self.one.ask(method, path, body, headers)).status == 503:
            self.unknown += answer.json()["code"] == "outcome_unknown"
            assert time.monotonic() < ends_s, answer.body
            await asyncio.sleep(0.05)
        assert self.behind.proxy.lost_replies == lost + 1, "no reply was lost: nothing was tested"
        return answer


async def test_each_act_is_done_once(behind: Behind, seed: int, scale: int) -> None:
    times = TIMES if scale == 1 else TIMES_NIGHTLY
    with reported("q10_lost_replies", seed, "one server", each=times, acts=5) as run:
        await behind.service.ready(_RETRY_S)
        unknown, before = 0, behind.proxy.lost_replies
        for turn in range(times):
            label = f"{seed:x}.{turn}"
            async with behind.service.connections(1) as (one,):
                ann, bob = [await Sailor(behind, one, f"{name}.{label}").prepare() for name in ("ann", "bob")]
                await _throw_once(ann, label)
                await _pick_once(bob)
                await _befriend_once(ann, bob)
                await _block_once(ann, label)
                await _shake_once(ann, bob, turn)
            unknown += ann.unknown + bob.unknown
        run.counts = {"lost_replies": behind.proxy.lost_replies - before, "told_unknown": unknown, "twice": 0}


async def _throw_once(ann: Sailor, label: str) -> None:
    text = f"hello from {label}"
    thrown = (await ann.insist(text, "POST", "/v1/bottles", {"text": text}, "throw")).ok(201)
    assert [row["bottle_id"] for row in (await ann.ask("GET", "/v1/me/bottles"))["bottles"]] == [thrown["bottle_id"]]
    again = await ann.one.ask("POST", "/v1/bottles", {"text": "another"}, ann.headers | {"Idempotency-Key": "other"})
    assert again.ok(201)["throws_left"] == thrown["throws_left"] - 1, "the quota counts it once"
    (await ann.one.ask("DELETE", f"/v1/bottles/{again.json()['bottle_id']}", None, ann.headers)).ok(204)


async def _pick_once(bob: Sailor) -> None:
    """One bottle and one of the day's picks, and an answer to it that is there once."""
    picked = (await bob.insist(bob.user, "POST", "/v1/bottles/pick", None, "pick")).ok()
    bottle = picked["bottle"]["bottle_id"]
    mine = (await bob.ask("GET", "/v1/me/bottles"))["bottles"]
    assert [(row["bottle_id"], row["role"]) for row in mine] == [(bottle, "picked")]
    assert picked["picks_left"] == 100_000 - 1
    text = f"answer of {bob.user}"
    path = f"/v1/bottles/{bottle}/replies"
    (await bob.insist(text, "POST", path, {"text": text}, "reply")).ok(201)
    assert [row["text"] for row in (await bob.ask("GET", f"/v1/bottles/{bottle}"))["replies"]] == [text]


async def _befriend_once(ann: Sailor, bob: Sailor) -> None:
    await ann.insist(bob.user, "PUT", f"/v1/me/friends/{bob.user}", {"precision": "near"}, "friend")
    await bob.insist(ann.user, "PUT", f"/v1/me/friends/{ann.user}", {"precision": "city"}, "friend")
    for one, other, shows in ((ann, bob, "near"), (bob, ann, "city")):
        (row,) = (await one.ask("GET", "/v1/me/friends"))["friends"]
        assert (row["user"], row["state"], row["i_show"]) == (other.user, "accepted", shows)


async def _block_once(ann: Sailor, label: str) -> None:
    (await ann.insist(f"eve.{label}", "PUT", f"/v1/me/blocks/eve.{label}", None, "block")).ok(204)
    assert await ann.ask("GET", "/v1/me/blocks") == {"blocks": [{"user": f"eve.{label}"}], "next_cursor": None}


async def _shake_once(ann: Sailor, bob: Sailor, turn: int) -> None:
    """Sent twice, matched once: neither with oneself nor with the other one twice."""
    point = {"lat": turn % 150 - 75.0, "lon": 2.35}  # far from those of the turns before, who may still be open
    shaken = (await ann.insist(ann.user, "POST", "/v1/shakes", point, "shake")).ok(201)
    answer = (await bob.insist(bob.user, "POST", "/v1/shakes", point, "shake")).ok(201)
    for one, shake, other in ((ann, shaken, bob), (bob, answer, ann)):
        seen = await one.ask("GET", f"/v1/shakes/{shake['shake_id']}?wait_s=2")
        assert [match["user"] for match in seen["matches"]] == [other.user]
