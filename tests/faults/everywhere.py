"""Trials of class A: somebody goes out of sight on one worker, and who may see them no more asks the other at once.

A trial makes the people that it needs, waits until the one is shown by the other worker, acts, and asks that worker
right after the answer: lists, cursors, repeats and long polls that were open before among them. Beside the one who
leaves there is always somebody who stays and must be shown, so that an empty answer passes for nothing.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.service import Answer, Connection, Service

LONGEST_S = 60.0  # of anything that is waited for while servers are killed
_VIEWER_TRIALS = 25  # then the lane has a new viewer, so that nobody's lists of blocks and friends grow
_PAUSE_S = 0.02
_REFUSED = 503
_PICKS = 6
_MOST_KEPT = 5  # violations that are told in full

Call = tuple[str, str, Any]  # method, path, body

_NEARBY: Call = ("GET", "/v1/nearby?radius_m=3000&limit=100", None)
_FIRST: Call = ("GET", "/v1/nearby?radius_m=3000&limit=1", None)
_RADAR: Call = ("GET", "/v1/radar?radius_m=1000", None)
_FRIENDS: Call = ("GET", "/v1/me/friends", None)
_BLOCKS: Call = ("GET", "/v1/me/blocks?limit=100", None)
_SETTINGS: Call = ("GET", "/v1/me/settings", None)
_POSITION: Call = ("GET", "/v1/me/position", None)
_PICK: Call = ("POST", "/v1/bottles/pick", None)

SIGHT_ACTS = ("hide", "hide by the app", "clear", "block", "be blocked", "erase", "erase by the app")
PARTING_ACTS = ("block", "be blocked", "erase")


class Done(NamedTuple):
    """An act that was answered, for a look at the end."""

    act: str
    target: str
    viewer: str


@dataclass
class Count:
    """What came of the trials."""

    trials: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)  # by which somebody went out of sight, all answered
    looks: Counter[str] = field(default_factory=Counter)  # answers that could have shown somebody, by kind
    refused: int = 0  # looks that were answered 503 at first
    stayed: Counter[str] = field(default_factory=Counter)  # shake and bottle trials by whether the control came through
    violations: list[str] = field(default_factory=list)
    sea: asyncio.Lock = field(default_factory=asyncio.Lock)  # one trial of bottles at a time: it knows what is afloat
    places: "itertools.count[int]" = field(default_factory=itertools.count)  # where nobody else shakes

    def counts(self) -> dict[str, Any]:
        """As in the report."""
        return {
            "trials": dict(self.trials),
            "by_act": dict(self.acts),
            "looks": sum(self.looks.values()),
            "by_look": dict(self.looks),
            "refused": self.refused,
            "shown": len(self.violations),
            "stayed": dict(self.stayed),
        }

    def asked_for(self) -> int:
        """Trials by a block, a visibility off or an erasure."""
        return sum(count for act, count in self.acts.items() if act.split()[0] in ("block", "be", "hide", "erase"))

    def require_none(self) -> None:
        """Nobody who left was shown."""
        assert not self.violations, self.violations[:_MOST_KEPT]


class ShookTooLate(Exception):
    """The first try was answered 503, and the moment to shake was over before another could be made."""


class Lane:
    """One stream of trials with connections of its own to both workers, at a place of its own."""

    def __init__(
        self, service: Service, groups: list[list[Connection]], seed: int, number: int, count: Count, *, lon: float
    ) -> None:
        """``lon``: where its viewers stand, each in another place, alone. What is answered 503 is asked again, as while
        servers are killed: a refusal shows nobody."""
        self.count = count
        self.done: list[Done] = []
        self._service = service
        self._groups = groups
        self._label = f"{seed:x}.{number}"
        self._draws = random.Random(f"{seed} {number}")
        self._headers: dict[str, dict[str, str]] = {}
        self._place = {"lat": 62.0 + number, "lon": lon}
        self._names = itertools.count()
        self._turns = itertools.count()
        self._viewer = ""

    # --- asking ---

    async def ask(self, side: int, user: str, call: Call, key: str = "") -> Answer:
        """One request on a free connection to one worker; ``user`` "" is the app's backend."""
        method, path, body = call
        headers = dict(self._headers_of(user))
        if method == "POST":
            headers["Idempotency-Key"] = key or f"{user}{path}"
        group = self._groups[side]
        one = next((connection for connection in group if not connection._lock.locked()), group[0])
        return await one.ask(method, path, body, headers)

    def _headers_of(self, user: str) -> dict[str, str]:
        if user not in self._headers:
            self._headers[user] = self._service.person(user) if user else self._service.operator
        return self._headers[user]

    async def do(self, side: int, user: str, call: Call, key: str = "") -> Any:
        """The answer of what must succeed, in the end."""
        answer = await self._settled(side, user, call, key)
        if call[:2] == ("POST", "/v1/shakes") and answer.status == 404:
            raise ShookTooLate
        assert answer.status < 300, (call, answer.status, answer.body)
        return answer.json() if answer.body else None

    async def _settled(self, side: int, user: str, call: Call, key: str = "") -> Answer:
        ends_s = time.monotonic() + LONGEST_S
        while True:
            answer = await self.ask(side, user, call, key)
            if answer.status != _REFUSED:
                return answer
            assert time.monotonic() < ends_s, (call, answer.body)
            await asyncio.sleep(_PAUSE_S)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something is so."""
        ends_s = time.monotonic() + LONGEST_S
        while not await holds():
            assert time.monotonic() < ends_s, "somebody who should be shown never was"
            await asyncio.sleep(_PAUSE_S)

    def _new(self, name: str) -> str:
        return f"{name}{next(self._names)}.{self._label}"

    def _sides(self) -> tuple[int, int]:
        here = self._draws.randrange(len(self._groups))
        return here, 1 - here

    # --- the act ---

    async def act(self, here: int, act: str, target: str, viewer: str) -> None:
        """``target`` goes out of ``viewer``'s sight."""
        user, call = {
            "hide": (target, ("PATCH", "/v1/me/settings", {"visibility": "nobody"})),
            "hide by the app": ("", ("PUT", f"/v1/app/users/{target}", {"visibility": "nobody"})),
            "clear": (target, ("DELETE", "/v1/me/position", None)),
            "block": (target, ("PUT", f"/v1/me/blocks/{viewer}", None)),
            "be blocked": (viewer, ("PUT", f"/v1/me/blocks/{target}", None)),
            "unfriend": (target, ("DELETE", f"/v1/me/friends/{viewer}", None)),
            "erase": (target, ("DELETE", f"/v1/me?confirm={target}", None)),
            "erase by the app": ("", ("DELETE", f"/v1/app/users/{target}", None)),
        }[act]
        answer = await self._settled(here, user, call)
        by_an_earlier_try = act == "erase" and answer.status == 401
        assert answer.status < 300 or by_an_earlier_try, (act, answer.status, answer.body)
        self.done.append(Done(act, target, viewer))
        self.count.acts[act] += 1

    async def look(
        self, there: int, what: str, user: str, call: Call, shown: Callable[[Any], bool], key: str = ""
    ) -> None:
        """Ask at once; ``shown`` says of an answer's JSON whether it shows who left, or hides who stays."""
        answer = await self.ask(there, user, call, key)
        if answer.status == _REFUSED:
            self.count.refused += 1
            answer = await self._settled(there, user, call, key)
        self.count.looks[what] += 1
        if shown(answer.json() if answer.body else None):
            self.count.violations.append(f"{what}: {self.done[-1]}: {answer.status} {answer.body.decode()}")

    # --- lists of strangers and friends ---

    async def trial(self) -> None:
        """One trial of any kind."""
        kind = self._draws.choices(("stranger", "friend", "shake", "bottle"), (35, 30, 20, 15))[0]
        try:
            await getattr(self, f"_{kind}")()
        except ShookTooLate:
            self.count.stayed["shook too late"] += 1
        else:
            self.count.trials[kind] += 1

    async def _appear(self, side: int, user: str, visibility: str) -> None:
        await self.do(side, user, ("PATCH", "/v1/me/settings", {"visibility": visibility}))
        await self.do(side, user, ("PUT", "/v1/me/position", self._place))

    async def _befriend(self, side: int, a: str, b: str) -> None:
        for one, other in ((a, b), (b, a)):
            await self.do(side, one, ("PUT", f"/v1/me/friends/{other}", None))

    async def _viewer_now(self) -> str:
        """Who looks, with a stranger and a friend who stay."""
        if next(self._turns) % _VIEWER_TRIALS == 0:
            self._viewer, side = self._new("viewer"), self._draws.randrange(2)
            self._place["lon"] += 0.3  # whoever left the last viewer's sight may be seen by this one
            for user, visibility in ((self._viewer, "everyone"), (self._stays, "everyone"), (self._pal, "friends")):
                await self._appear(side, user, visibility)
            await self._befriend(side, self._viewer, self._pal)
        return self._viewer

    @property
    def _stays(self) -> str:
        return f"{self._viewer}-stays"

    @property
    def _pal(self) -> str:
        return f"{self._viewer}-pal"

    async def _stranger(self) -> None:
        viewer, target, (here, there) = await self._viewer_now(), self._new("t"), self._sides()
        await self._appear(self._draws.randrange(2), target, "everyone")
        await self.until(lambda: self._lists(there, viewer, _NEARBY, {target, self._stays}))
        first = await self.do(there, viewer, _FIRST)
        act = self._draws.choice(SIGHT_ACTS)
        await self.act(here, act, target, viewer)
        cursor: Call = ("GET", f"{_FIRST[1]}&cursor={first['next_cursor']}", None)
        on_first = {row["user"] for row in first["people"]}
        await asyncio.gather(
            self.look(there, "nearby", viewer, _NEARBY, lambda found: _names(found) != {self._stays}),
            self.look(there, "cursor", viewer, cursor, lambda found: not _names(found) <= {self._stays} - on_first),
            self.look(there, "radar", viewer, _RADAR, lambda found: _names(found) != {self._pal}),
            self._look_back(there, act, target, viewer),
        )

    async def _friend(self) -> None:
        viewer, target, (here, there) = await self._viewer_now(), self._new("t"), self._sides()
        side = self._draws.randrange(2)
        await self._appear(side, target, "friends")
        await self._befriend(side, target, viewer)
        await self.until(lambda: self._lists(there, viewer, _RADAR, {target, self._pal}))
        act = self._draws.choice((*SIGHT_ACTS, "unfriend"))
        await self.act(here, act, target, viewer)
        parted = act not in {"hide", "hide by the app", "clear"}
        await asyncio.gather(
            self.look(there, "radar", viewer, _RADAR, lambda found: _names(found) != {self._pal}),
            self.look(there, "friends", viewer, _FRIENDS, lambda found: (target in _accepted(found)) is parted),
            self.look(there, "nearby", viewer, _NEARBY, lambda found: _names(found) != {self._stays}),
            self._look_back(there, act, target, viewer),
        )

    async def _lists(self, side: int, user: str, call: Call, everybody: set[str]) -> bool:
        return _names((await self._settled(side, user, call)).json()) == everybody

    async def _look_back(self, there: int, act: str, target: str, viewer: str) -> None:
        """The act itself, as the other worker tells it to who made it."""
        if act == "block":
            await self.look(there, "blocks", target, _BLOCKS, lambda found: viewer not in _blocked(found))
        elif act == "be blocked":
            await self.look(there, "blocks", viewer, _BLOCKS, lambda found: target not in _blocked(found))
        elif act.startswith("erase"):
            await self.look(there, "erased", target, _SETTINGS, lambda found: found.get("code") != "erased")
        elif act.startswith("hide"):
            await self.look(there, "settings", target, _SETTINGS, lambda found: found.get("visibility") != "nobody")
        elif act == "clear":
            await self.look(there, "position", target, _POSITION, lambda found: found.get("status") != 404)

    # --- shakes ---

    async def _shake(self) -> None:
        """Those who shook at one place: two who are parted, and one who stays."""
        target, viewer, stays = (self._new(name) for name in ("t", "v", "s"))
        number, (here, there) = next(self.count.places), self._sides()
        place = {"lat": -50.0 + 1.5 * (number // 1200 % 60), "lon": -150.0 + 0.25 * (number % 1200), "limit": 20}
        shake: Call = ("POST", "/v1/shakes", place)
        mine = await self.do(self._draws.randrange(2), viewer, shake)
        act = self._draws.choice(PARTING_ACTS)
        look: Call = ("GET", f"/v1/shakes/{mine['shake_id']}", None)
        await self.until(lambda: self._knows(there, viewer, look))
        if self._draws.random() < 0.5:
            await self._shaken_before(here, there, act, (target, viewer, stays), shake, look)
        else:
            await self._shaken_after(here, there, act, (target, viewer, stays), shake, look)

    async def _knows(self, side: int, user: str, look: Call) -> bool:
        return (await self._settled(side, user, look)).status == 200

    async def _shaken_before(
        self, here: int, there: int, act: str, people: tuple[str, str, str], shake: Call, look: Call
    ) -> None:
        target, viewer, stays = people
        theirs = await self.do(here, target, shake)
        await self.do(here, stays, shake)
        answer = await self.do(there, viewer, (look[0], f"{look[1]}?wait_s=3", None))
        met = target in _met(answer)  # not on a machine so busy that the window was over
        await self.act(here, act, target, viewer)
        back: Call = ("GET", f"/v1/shakes/{theirs['shake_id']}", None)
        await asyncio.gather(
            self.look(there, "shake", viewer, look, lambda found: target in _met(found)),
            self.look(there, "shake repeated", viewer, shake, lambda found: target in _met(found)),
            self.look(there, "their shake", target, back, lambda found: viewer in _met(found)),
        )
        self.count.stayed["met before" if met else "not met"] += 1

    async def _shaken_after(
        self, here: int, there: int, act: str, people: tuple[str, str, str], shake: Call, look: Call
    ) -> None:
        target, viewer, stays = people
        poll = asyncio.create_task(self.do(there, viewer, (look[0], f"{look[1]}?wait_s=10", None)))
        try:
            await asyncio.sleep(_PAUSE_S)
            await self.act(here, act, target, viewer)
            if act != "erase":
                await self.do(here, target, shake)
            await self.do(here, stays, shake)
            answer = await poll
        finally:
            poll.cancel()
        self.count.looks["long poll"] += 1
        if target in _met(answer):
            self.count.violations.append(f"long poll: {self.done[-1]}: {answer}")
        self.count.stayed["polled" if stays in _met(answer) else "poll ended"] += 1

    # --- bottles ---

    async def _bottle(self) -> None:
        target, viewer, stays = (self._new(name) for name in ("t", "v", "s"))
        (here, there), act = self._sides(), self._draws.choice(PARTING_ACTS)
        async with self.count.sea:
            for user in (target, viewer, stays):
                await self.do(there, user, ("PATCH", "/v1/me/settings", {"bottles": "on"}))
            thrown = await self.do(here, target, ("POST", "/v1/bottles", {"text": f"hello from {target}"}))
            bottle = str(thrown["bottle_id"])
            if self._draws.random() < 0.5:
                await self.act(here, act, target, viewer)
                await self.look(there, "pick", viewer, _PICK, lambda found: bottle in str(found))
                if act != "erase":
                    came = await self._pick(there, stays, bottle)
                    self.count.stayed["picked by another" if came else "not picked"] += 1
            elif keys := await self._pick(there, viewer, bottle):
                await self._look_at_held(here, there, Done(act, target, viewer), bottle, keys)

    async def _look_at_held(self, here: int, there: int, act: Done, bottle: str, keys: list[str]) -> None:
        """``keys`` of the picks of who has ``bottle``; to repeat one may pick again, but never that bottle."""
        await self.act(here, *act)
        one: Call = ("GET", f"/v1/bottles/{bottle}", None)
        mine: Call = ("GET", "/v1/me/bottles", None)
        await asyncio.gather(
            self.look(there, "held bottle", act.viewer, one, lambda found: found.get("status") != 404),
            self.look(there, "my bottles", act.viewer, mine, lambda found: bottle in str(found)),
            *(
                self.look(there, "pick repeated", act.viewer, _PICK, lambda found: bottle in str(found), key)
                for key in keys
            ),
        )

    async def _pick(self, side: int, user: str, bottle: str) -> list[str]:
        """The keys of the picks until ``bottle`` came, among what else is in the sea; none when it did not."""
        keys = []
        for number in range(_PICKS):
            keys.append(f"{user}-pick-{number}")
            found = await self.do(side, user, _PICK, keys[-1])
            if found["bottle"] is None:
                return []
            if found["bottle"]["bottle_id"] == bottle:
                return keys
        return []

    # --- at the end ---

    async def revived(self) -> list[str]:
        """Of all acts that were answered those that a worker no longer knows of, each worker asked."""
        found = [await self._undone(side, done) for done in self.done for side in range(len(self._groups))]
        return [one for one in found if one]

    async def _undone(self, side: int, done: Done) -> str:
        """ "" when ``done`` stands."""
        act, target, viewer = done
        if act.startswith("erase"):
            answer = await self._settled(side, target, _SETTINGS)
            return "" if answer.json().get("code") == "erased" else f"{done}: {answer.body.decode()}"
        user, call = (viewer, _BLOCKS) if act == "be blocked" else (target, _LOOKS_BACK[act])
        found = await self._settled(side, user, call)
        return "" if _stands(done, found) else f"{done}: {found.status} {found.body.decode()}"


def _stands(done: Done, found: Answer) -> bool:
    """Whether ``found``, what is asked after such an act, says so."""
    if done.act == "clear":
        return found.status == 404
    if done.act == "unfriend":
        return done.viewer not in _accepted(found.json())
    if done.act.startswith("hide"):
        return bool(found.json()["visibility"] == "nobody")
    return (done.viewer if done.act == "block" else done.target) in _blocked(found.json())


_LOOKS_BACK = {
    "hide": _SETTINGS,
    "hide by the app": _SETTINGS,
    "clear": _POSITION,
    "block": _BLOCKS,
    "unfriend": _FRIENDS,
}


def _names(answer: Any) -> set[str]:
    """Who is on a list of people or of friends on the radar; nobody on a refusal."""
    return {row["user"] for row in [*answer.get("people", []), *answer.get("friends", [])]}


def _accepted(answer: Any) -> set[str]:
    return {row["user"] for row in answer["friends"] if row["state"] == "accepted"}


def _blocked(answer: Any) -> set[str]:
    return {row["user"] for row in answer["blocks"]}


def _met(answer: Any) -> set[str]:
    return {match["user"] for match in answer.get("matches", [])}
