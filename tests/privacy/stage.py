"""The rules themselves without a server: one real hive whose feeds are folded as they are appended to.

What stands for the state knows appending, and the three scripts that place, set and shake. Everything that decides what
anybody is shown is the product's: snapping, folding, lists, radar, shakes. A world costs a few milliseconds, an account
a tenth of one, so that thousands of victims are attacked in a minute.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson

from api.audit.oracle import Observer, Point, Sighting
from discovery.hive import Hive, Rules
from discovery.positions import AppPosition
from discovery.reports import Report, pack
from discovery.shake import ShakeRequest
from discovery.store.client import State
from discovery.store.feed import Follower
from discovery.store.scripts import Script
from discovery.store.ticker import Tick, pack_tick
from geo import cells
from geo.privacy import ExactPoint
from tests.world import EPOCH_MS, SECRET, START_MS

VICTIM = "victim"
WINDOW_MS = 5000
_TTL_S = 28_800
_FRIENDS_FOR_MS = 20 * 86_400_000
_MOST = 100
_AT_ONCE = 16


class MemoryState:
    """Folds what is appended to a feed at once, at ``now_ms``."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.feeds: dict[str, Follower] = {}
        self._sequence = itertools.count()

    def append(self, feed: str, kind: str, payload: bytes) -> bytes:
        """The new entry's id."""
        entry = self.now_ms, next(self._sequence)
        self.feeds[feed].take([(entry, kind, payload)])
        return b"%d-%d" % entry

    async def call(self, command: str, *args: Any, **_options: Any) -> bytes:
        """XADD key * k kind d payload."""
        assert command == "XADD", command
        feed, _id, _k, kind, _d, payload = args
        return self.append(feed, kind, payload)

    async def run(self, script: Script, names: Sequence[str], args: Sequence[Any], **_options: Any) -> list[Any]:
        """The scripts that change people, without the records that only restarts read."""
        if script.name == "settings":
            return [1, self.append(names[1], "s", args[1])]
        if script.name == "record":
            return [1, self.append(names[1], args[0], args[1])]
        assert script.name == "shake_open", script.name
        return [b"new", self.append(names[1], "r", args[2]), str(args[3]).encode()]


class _Alone:
    """No other worker has to fold anything."""

    async def everyone_folded(self, *_what: object) -> None: ...

    async def everyone_loaded(self, *_what: object) -> None: ...


class _AtOnce:
    """Reports that do not gather."""

    def __init__(self, append: Callable[[str, bytes], None]) -> None:
        self._append = append

    async def add(self, reports: Sequence[Report]) -> None:
        self._append("r", pack(list(reports)))


class Stage:
    """A world with one hive. Hive time stands still but for ``later``."""

    def __init__(self, secret: bytes = SECRET, start_ms: int = START_MS, **more: Any) -> None:
        """``more``: fields of ``Rules``."""
        draws = random.Random(7)
        self.state = MemoryState(start_ms)
        rules = Rules(shake_window_ms=WINDOW_MS, require_age=False, **more)
        state = cast(State, self.state)
        self.hive = Hive(state, secret, rules, lambda: draws.getrandbits(32), draws.randbytes, lambda: 0.0)
        self.hive.feeds.open()
        self._people = self.hive.feeds.followers[0]
        self._shakes = self.hive.shake_feed
        self.state.feeds = {follower.key: follower for follower in (self._people, self._shakes)}
        self.hive.writer.leases = _Alone()
        self.hive.positions.queues = _AtOnce(self.fold)
        self.later(0)

    @property
    def now_ms(self) -> int:
        """Hive time."""
        return self.state.now_ms

    def later(self, ms: int) -> None:
        """Let time pass, over any edges."""
        self.state.now_ms += ms
        tick = pack_tick(Tick(0, EPOCH_MS))
        for feed in self.state.feeds:
            self.state.append(feed, "t", tick)

    def fold(self, kind: str, payload: bytes) -> None:
        """Append one entry to the feed of people."""
        self.state.append(self._people.key, kind, payload)

    async def place(self, users: Sequence[str], points: Sequence[Point]) -> None:
        """One report each, all at once."""
        rows = [AppPosition(user, ExactPoint(*point), _TTL_S) for user, point in zip(users, points, strict=True)]
        refused = await self.hive.positions.report_many(rows)
        assert not any(refused), refused

    def show(self, user: str, visibility: str) -> None:
        """Set a visibility that does not lapse."""
        self.fold("s", orjson.dumps({"u": user, "visibility": visibility, "until": 0}))

    def befriend(self, a: str, b: str, precision: str) -> None:
        """Both ask."""
        until_ms = self.now_ms + _FRIENDS_FOR_MS if precision == "near" else 0
        pairs = ((a, b), (b, a))
        self.fold("f", orjson.dumps([[one, other, precision, until_ms, False] for one, other in pairs]))

    def cell(self, user: str, precision: str | None = None) -> int:
        """What strangers, or friends at a precision, are shown of a person."""
        slot = self.hive.people.slot(user)
        assert slot is not None
        return (
            self.hive.presence.stranger_cell(slot) if precision is None else self.hive.presence.cell_at(slot, precision)
        )


class StageOracle:
    """The attackers' view of one victim of a stage (``api.audit.oracle.Oracle``)."""

    victim = VICTIM

    def __init__(self, stage: Stage, victim: Point) -> None:
        self.stage = stage
        self._victim = victim
        self._accounts: list[str] = []  # made and visible, not placed yet
        self._made = 0

    @classmethod
    async def of(cls, victim: Point) -> "StageOracle":
        """A fresh world in which the victim has reported once and is visible to everyone."""
        stage = Stage()
        await stage.place([VICTIM], [victim])
        stage.show(VICTIM, "everyone")
        return cls(stage, victim)

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        users = [self._account() for _ in points]
        await self.stage.place(users, points)
        if precision is not None:
            for user in users:
                self.stage.befriend(VICTIM, user, precision)
        return [Observer(user, *cells.center(self.stage.cell(user, precision))) for user in users]

    def _account(self) -> str:
        """Made many at a time: that somebody becomes visible costs more once they are placed among others."""
        if not self._accounts:
            self._accounts = [f"a{number}" for number in range(self._made, self._made + _AT_ONCE)]
            self._made += _AT_ONCE
            for user in self._accounts:
                self.stage.show(user, "everyone")
        return self._accounts.pop(0)

    async def retire(self, observers: Sequence[Observer]) -> None:
        for observer in observers:
            self.stage.show(observer.user, "nobody")

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        cursor: str | None = None
        while True:
            page = await self.stage.hive.nearby.page(observer.user, radius_m, _MOST, cursor)
            for one in page.people:
                if one.user == VICTIM:
                    return Sighting(one.distance_min_m, one.distance_max_m)
            cursor = page.next_cursor
            if cursor is None:
                return None

    async def listing(self, observer: Observer, radius_m: int, limit: int, pages: int) -> list[str]:
        found: list[str] = []
        cursor: str | None = None
        for _ in range(pages):
            page = await self.stage.hive.nearby.page(observer.user, radius_m, limit, cursor)
            found += [one.user for one in page.people]
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        view = await self.stage.hive.radar.around(observer.user, radius_m)
        for blip in view.friends:
            if blip.user == VICTIM:
                shown_m = round(blip.distance_m, 3)  # as the route does
                return Sighting(shown_m, shown_m, blip.cell)
        return None

    async def shake(self, points: Sequence[Point]) -> list[tuple[Observer, Sighting | None]]:
        self.stage.later(2 * WINDOW_MS)
        await self._shake(VICTIM, self._victim)
        return [await self._shake(self._account(), point) for point in points]

    async def _shake(self, user: str, point: Point) -> tuple[Observer, Sighting | None]:
        request = ShakeRequest(ExactPoint(*point), "nearby", 20)
        answer = await self.stage.hive.shakes.shake(user, f"{user} {self.stage.now_ms}", request, None)
        seen = next((match for match in answer.matches if match.user == VICTIM), None)
        observer = Observer(user, *cells.center(self.stage.cell(user)))
        if seen is None or seen.distance_min_m is None or seen.distance_max_m is None:
            return observer, None
        return observer, Sighting(seen.distance_min_m, seen.distance_max_m)
