"""After a failover that lost acknowledged entries: what people forbade in the last seconds is said again.

Every worker remembers what it folded of class A in the last 10 s of hive time. When a shard had to be restored because
its last folded entry was gone, whatever hid or forbade more than what stands now is written anew, by every worker that
remembers it; the scripts make repeats nothing. So is an end of visibility that came nearer, and an age that was
lowered. Only narrowing is said again: a widening that is lost costs its person a tap, a hiding that is lost costs them
their peace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import structlog

from discovery.erasure import Erasure
from discovery.errors import Refused, StateAway
from discovery.friends import DECLINED, PRECISE, PRECISIONS, Friends, Friendships
from discovery.people import AGE_ADULT, AGE_MINOR, AGES, EVERYONE, NOBODY, VISIBILITIES, People
from discovery.positions import Positions
from discovery.presence import Presence
from discovery.quiet_zones import MAX_ZONES
from discovery.safety import Blocks, Safety
from discovery.settings import Settings
from discovery.store.client import StateFault
from discovery.suspensions import of_app

KEPT_MS = 10_000  # a failover takes the node timeout and a second or two: older entries have reached the replica
_TRIES, _RETRY_S = 20, 0.5

Fact = tuple[str, ...]
"""Kind of entry and whom it is about: a later entry of the same fact replaces the earlier one."""

Remembered = dict[Fact, tuple[int, Any]]
"""Fact -> hive time (ms) and what was said."""

log = structlog.get_logger("nearhive.reassert")


class Reassertion:
    """Remembers and says again. ``now_ms`` is hive time of this worker."""

    def __init__(
        self,
        people: People,
        presence: Presence,
        friendships: Friendships,
        blocks: Blocks,
        settings: Settings,
        friends: Friends,
        safety: Safety,
        positions: Positions,
        erasure: Erasure,
    ) -> None:
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._blocks = blocks
        self._settings = settings
        self._friends = friends
        self._safety = safety
        self._positions = positions
        self._erasure = erasure
        self._kept: dict[int, Remembered] = {}
        self._taken: dict[int, Remembered] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, shard: int, kind: str, payload: bytes, now_ms: int) -> None:
        """An entry of class A was folded."""
        kept = self._kept.setdefault(shard, {})
        for fact, said in _facts(kind, payload):
            for ended in [other for other in kept if fact[0] == "e" and other[1] == fact[1]]:
                if ended[0] != "moderated":  # that outlives an erasure
                    del kept[ended]  # what somebody erased had said must not be said again
            kept.pop(fact, None)
            kept[fact] = now_ms, said
        oldest = next(iter(kept), None)
        while oldest is not None and kept[oldest][0] < now_ms - KEPT_MS:
            del kept[oldest]
            oldest = next(iter(kept), None)

    def take(self, shard: int) -> Remembered:
        """All that is remembered of a shard, which is about to be restored and then noted anew.

        The same again until :meth:`say_again`: a restore that fails, as while the state is away, is begun again.
        """
        kept = self._kept.pop(shard, {})
        if shard not in self._taken:
            self._taken[shard] = {fact: said for fact, said in kept.items() if not self._taken_back(fact, *said)}
        return self._taken[shard]

    def _taken_back(self, fact: Fact, said_ms: int, said: Any) -> bool:
        """Whether the person came back after a clear, or showed a token of another age: their report is of class C, and
        not noted."""
        slot = self._people.slot(fact[1])
        if slot is None:
            return False
        if fact[0] == "claim":
            return bool(self._people.age_claim[slot] != AGES.index(said))
        return fact[0] == "c" and self._presence.is_live(slot, said_ms)

    def say_again(self, shard: int, remembered: Remembered, now_ms: int) -> None:
        """The shard is restored: write, in the background, what is stricter than what stands now."""
        self._taken.pop(shard, None)
        noted = self._kept.get(shard, {})
        acts: dict[str, list[Callable[[], Awaitable[Any]]]] = {}  # of one person in order: an erasure goes before
        for fact, (said_ms, said) in remembered.items():
            later = noted.get(fact, (-1, None))[0] >= said_ms
            act = None if later or said_ms < now_ms - KEPT_MS else self._act(fact, said, now_ms)
            if act is not None:
                log.warning("said_again", shard=shard, kind=fact[0])
                acts.setdefault(fact[1], []).append(act)
        for each in acts.values():
            task = asyncio.get_running_loop().create_task(_do_each(each))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what is still being written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _act(self, fact: Fact, said: Any, now_ms: int) -> Callable[[], Awaitable[Any]] | None:
        """How to say it again; None where what stands is as strict."""
        kind, user, *other = fact
        slot = self._people.slot(user)
        if kind == "x":
            stands = slot is not None and other[0] in self._blocks.names(slot)
            return None if said is None or stands else lambda: self._safety.block(user, said, other[0])
        if kind == "e":
            tombstone = self._people.tombstone(user)
            stands = tombstone is not None and tombstone.at_ms >= said
            return None if stands else lambda: self._erasure.erase_again(user, said)
        if kind == "c":
            live = slot is not None and self._presence.is_live(slot, now_ms)
            gone = slot is None or not (live or self._friendships.precise.others(slot))
            return None if gone else lambda: self._positions.clear(user)
        if kind == "s":
            return (lambda: self._narrow(user, *said)) if self._narrowed(slot, now_ms, *said) else None
        if kind in ("age", "claim"):
            return self._age_again(kind, user, said)
        if kind == "quiet":
            return self._quiet_again(user, said)
        if kind == "suspended":
            stands = slot is not None and of_app(self._people.suspensions.get(slot, {})) == said
            return None if stands else lambda: self._suspend(user, said)
        if kind == "moderated":
            stands = slot is not None and self._people.suspensions.get(slot, {}).get(other[0], 0) >= said
            return None if stands else lambda: self._settings.moderate(user, {other[0]: said})
        if kind == "m":
            stands = slot is not None and other[0] in self._people.mutes.of(slot)
            return None if stands or not said else lambda: self._safety.mute(user, other[0])
        return self._coarser_half(user, other[0], said)

    def _quiet_again(self, user: str, said: list[int]) -> Callable[[], Awaitable[Any]] | None:
        """Zones that were lost; those that stand stay, for who dropped one since has only shown more."""
        slot = self._people.slot(user)
        stand = () if slot is None else self._people.quiet_zones.of(slot)
        both = list(dict.fromkeys([*said, *stand]))[:MAX_ZONES]
        if set(said) <= set(stand):
            return None
        return lambda: self._settings.change(user, quiet_zones=both, claim=self._claim(user))

    def _narrowed(self, slot: int | None, now_ms: int, visibility: str, until_ms: int) -> tuple[str, int | None] | None:
        """Visibility and its end, where what was said shows less than what stands, or as much for a shorter time; None
        where it does not. What has lapsed since shows what it lapsed to; the end is None where there is none."""
        shown = NOBODY if slot is None else self._people.visibility_at(slot, now_ms)
        said = VISIBILITIES.index(visibility)
        lapsed = 0 < until_ms <= now_ms
        if slot is None or said > shown:
            return None
        if said < shown:
            return ("nobody", None) if lapsed else (visibility, until_ms or None)
        stands_ms = int(self._people.visible_until_ms[slot])
        if shown == NOBODY or not until_ms or now_ms < stands_ms <= until_ms:
            return None
        if not lapsed:
            return visibility, until_ms
        return (VISIBILITIES[self._people.fallback[slot]] if shown == EVERYONE else "nobody"), None

    async def _narrow(self, user: str, visibility: str, until_ms: int) -> None:
        """Judged when it is written: while the state was away an end may have come."""
        slot = self._people.slot(user)
        narrowed = self._narrowed(slot, self._positions.now_ms, visibility, until_ms)
        if slot is None or narrowed is None:
            return
        shown = VISIBILITIES[self._people.visibility_at(slot, self._positions.now_ms)]
        name, end_ms = narrowed
        chosen = None if name == shown else name
        await self._settings.change(user, visibility=chosen, visible_until_ms=end_ms, claim=self._claim(user))

    def _claim(self, user: str) -> str | None:
        """The age of the last token, as it stands: none is at hand, and what is said again is not to change it."""
        slot = self._people.slot(user)
        return None if slot is None else AGES[self._people.age_claim[slot]]

    def _age_again(self, kind: str, user: str, said: str | None) -> Callable[[], Awaitable[Any]] | None:
        """An age that is lower than what stands: no adult any more, or a minor where nothing is known."""
        slot = self._people.slot(user)
        column = self._people.age_app if kind == "age" else self._people.age_claim
        stands = 0 if slot is None else int(column[slot])
        lower = stands == AGE_ADULT if said is None else AGES.index(said) == AGE_MINOR != stands
        if said == "adult" or not lower:
            return None
        if kind == "claim":
            return lambda: self._settings.note_age(user, said)
        return lambda: self._settings.change_by_app(user, visibility=None, consent=None, age=said, suspended=None)

    async def _suspend(self, user: str, suspended: dict[str, int]) -> None:
        await self._settings.change_by_app(user, visibility=None, consent=None, age=None, suspended=suspended)

    def _coarser_half(self, user: str, other: str, said: str | None) -> Callable[[], Awaitable[Any]] | None:
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        half = None if slot is None or other_slot is None else self._friendships.half(slot, other_slot)
        if half is None:
            return None
        if said is None or said == DECLINED:
            return lambda: self._friends.unfriend(user, other)
        if said == PRECISE:
            return None
        shares = slot is not None and other_slot in self._friendships.precise.others(slot)
        if shares or PRECISIONS.index(said) < PRECISIONS.index(half.precision):
            return lambda: self._friends.show(user, other, said, None, None)
        return None


def _facts(kind: str, payload: bytes) -> Iterator[tuple[Fact, Any]]:
    """What an entry says, fact by fact: the blocked person, visibility and its end, an age, the precision, …"""
    if kind == "c":
        yield ("c", payload.decode()), None
        return
    content = orjson.loads(payload)
    if kind == "x":
        user, name, target = content
        yield ("x", user, name), target
    elif kind == "e":
        if content[0]:
            yield ("e", content[0]), content[2]
    elif kind == "m":
        user, name, muted = content
        yield ("m", user, name), muted
    elif kind == "s":
        if "visibility" in content:
            yield ("s", content["u"]), (content["visibility"], content["until"])
        for key in ("age", "claim"):
            if key in content:
                yield (key, content["u"]), content[key]
        if "quiet_zones" in content:
            yield ("quiet", content["u"]), content["quiet_zones"]
        if "suspended" in content:
            yield ("suspended", content["u"]), content["suspended"]
        for key, until_ms in content.get("moderated", {}).items():
            yield ("moderated", content["u"], key), until_ms
    elif kind == "p":
        owner, other, *_ = content
        yield ("f", owner, other), PRECISE
    elif kind == "f":
        for owner, other, precision, _, _ in content:
            yield ("f", owner, other), precision


async def _do_each(acts: list[Callable[[], Awaitable[Any]]]) -> None:
    for act in acts:
        await _do(act)


async def _do(act: Callable[[], Awaitable[Any]]) -> None:
    """Until it is written or refused: while the state is away there is nobody to answer either."""
    for _ in range(_TRIES):
        try:
            await act()
            return
        except (StateAway, StateFault) as error:
            log.warning("not_said_again", error=type(error).__name__)
            await asyncio.sleep(_RETRY_S)
        except Refused as refused:
            log.error("not_said_again", reason=refused.detail)
            return
