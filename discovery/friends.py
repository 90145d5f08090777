"""Friendships: two halves, each owned by who shows; a friendship exists when both have asked.

Of two friends each sees the coarser of what they show each other, so that watching means showing. The exception is a
precise share (``discovery.precise``), which stands beside a half and has one direction.

A friend is not told who is a minor. What a minor is not to be shown, or to show, is left out as what nobody shows: a
precise share with a minor is answered, listed and counted like any other, and shows them nothing; the `near` of who is
no adult any more reads as the `area` that it counts as.
"""

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from discovery.errors import AdultsOnly, Invalid, NotFriends, NotVisible, TooManyFriends
from discovery.owned_rows import OwnedRows
from discovery.people import NOBODY, People
from discovery.precise import LONGEST_SHARE_MS, PreciseShares, Share, share_record
from discovery.request_quota import RequestQuota
from discovery.safety import Blocks
from discovery.store.life_script import LifeScript
from discovery.store.writer import Writer

DAY_MS = 86_400_000
NEAR_LAPSES_MS = 30 * DAY_MS
SILENT_MS = 30 * DAY_MS  # a refused request stays silent
PRECISIONS = ("hidden", "city", "area", "near")  # coarse to fine
DECLINED = "declined"
PRECISE = "precise"
MOST_HALVES = 5000
"""Of one person: each is looked through in many answers. Declining is not counted, for it must always be possible."""
STORED_PRECISIONS = (*PRECISIONS, DECLINED)
"""What a half may be, by the number under which checkpoints keep it."""

_SHOW = LifeScript("friend_show")
_SHARE = LifeScript("friend_precise")


class Half(NamedTuple):
    """What one person shows another. ``since_ms`` first asked, ``asked_ms`` asked last; ``until_ms`` 0 = no end;
    ``guardian`` once vouched for it, kept while the half stands. (A tuple: a start makes millions of them, and a frozen
    dataclass takes four times as long.)"""

    precision: str
    until_ms: int
    since_ms: int
    asked_ms: int
    guardian: bool

    def precision_at(self, now_ms: int) -> str:
        """`near` lapses to `area`."""
        return "area" if self.until_ms and now_ms >= self.until_ms else self.precision


@dataclass(slots=True, frozen=True)
class FriendView:
    """One row of a person's own list."""

    user: str
    state: str
    i_show: str | None
    shows_me: str | None
    until_ms: int | None


def half_record(owner: str, other: str, precision: str | None, until_ms: int, guardian: bool) -> list[object]:
    """The feed record of one half; precision None removes it."""
    return [owner, other, precision, until_ms, guardian]


class Friendships:
    """Folded halves, each part of the shard of who shows."""

    def __init__(self, people: People, blocks: Blocks) -> None:
        self._people = people
        self._blocks = blocks
        self._halves: OwnedRows[int, Half] = OwnedRows()  # owner -> other
        self._asked_by: dict[int, set[int]] = {}
        self.precise = PreciseShares(people)

    def fold(self, payload: bytes, now_ms: int) -> None:
        """Apply a list of half records."""
        for owner, other, precision, until_ms, guardian in orjson.loads(payload):
            slots = self._people.slot_or_new(owner), self._people.slot_or_new(other)
            self._set(*slots, precision, until_ms, guardian, now_ms)

    def fold_settings(self, slot: int, now_ms: int, *, was_hidden: bool) -> None:
        """Settings of a person were folded: who hides, or had lapsed to hiding before, or is no adult, no longer shows
        anybody their precise cell."""
        hidden = was_hidden or self._people.visibility_at(slot, now_ms) == NOBODY
        if hidden or not self._people.is_adult(slot):
            self.precise.end_all(slot)
        self.precise.fold_zones(slot)

    def decline(self, owner: int, other: int, now_ms: int) -> None:
        """A block ends what the blocker showed."""
        if other in self._halves.of(owner):
            self._set(owner, other, DECLINED, 0, False, now_ms)

    def _set(self, owner: int, other: int, precision: str | None, until_ms: int, guardian: bool, now_ms: int) -> None:
        """Whatever is written of a half ends the precise share beside it."""
        self.precise.end(owner, other)
        before = self._halves.remove(owner, other)
        if precision is not None:
            active = before is not None and before.precision != DECLINED
            since_ms = before.since_ms if before is not None and active else now_ms
            vouched = guardian or (before is not None and active and before.guardian and precision != DECLINED)
            self._halves.put(owner, other, Half(precision, until_ms, since_ms, now_ms, vouched))
        self._note_asked(owner, other, asks=precision not in (None, DECLINED))

    def _note_asked(self, owner: int, other: int, *, asks: bool) -> None:
        asked = self._asked_by.setdefault(other, set())
        (asked.add if asks else asked.discard)(owner)
        if not asked:
            del self._asked_by[other]

    def forget(self, owner: int) -> None:
        """Drop what somebody erased showed others; what others show them stays, as the others' own, and counts for
        nobody who comes under that id later (:meth:`counting`)."""
        self.precise.end_all(owner)
        for other in self._halves.drop(owner):
            self._note_asked(owner, other, asks=False)

    # --- a shard's part: the halves that its people own ---

    def standing(self) -> dict[int, dict[int, Half]]:
        """All halves by owner and other, as they stand now and will in this answer."""
        return self._halves.standing()

    def drop(self, shard: int) -> None:
        """Forget what a shard's people show."""
        self.precise.drop(shard)
        for owner in [slot for slot in self._halves.owners() if self._people.shard[slot] == shard]:
            for other in self._halves.drop(owner):
                self._note_asked(owner, other, asks=False)

    def restore(self, owner: int, halves: dict[int, Half]) -> None:
        """Put back some of what one person shows."""
        self._halves.put_back(owner, halves)
        asked_by = self._asked_by
        for other, half in halves.items():
            if half.precision != DECLINED:
                asked = asked_by.get(other)
                if asked is None:
                    asked_by[other] = {owner}
                else:
                    asked.add(owner)

    # --- questions ---

    def half(self, owner: int, other: int) -> Half | None:
        """The active half, None when there is none or it was declined."""
        found = self._halves.of(owner).get(other)
        return None if found is None or found.precision == DECLINED else found

    def counting(self, owner: int, other: int) -> Half | None:
        """The active half, unless ``other`` was erased since ``owner`` last asked: it was meant for somebody else."""
        found = self.half(owner, other)
        return None if found is None or found.asked_ms <= self._people.erased_ms[other] else found

    def accepted(self, a: int, b: int) -> bool:
        """Both asked, nobody blocked, and between ages the minor asked first or a guardian vouched."""
        mine, theirs = self.counting(a, b), self.counting(b, a)
        if mine is None or theirs is None or self._blocks.between(a, b):
            return False
        adults = self._people.is_adult(a), self._people.is_adult(b)
        if adults[0] == adults[1] or mine.guardian or theirs.guardian:
            return True
        return theirs.since_ms < mine.since_ms if adults[0] else mine.since_ms < theirs.since_ms

    def friends(self, slot: int) -> list[int]:
        """Slots of all accepted friends."""
        return [other for other in self._halves.of(slot) if self.accepted(slot, other)]

    def seen_at(self, a: int, b: int, now_ms: int) -> str:
        """The precision at which two accepted friends see each other: the coarser, never `near` with a minor."""
        shown = [half.precision_at(now_ms) for half in (self.half(a, b), self.half(b, a)) if half is not None]
        coarser = min(shown, key=PRECISIONS.index)
        if coarser == "near" and not (self._people.is_adult(a) and self._people.is_adult(b)):
            return "area"
        return coarser

    def gives_precisely(self, owner: int, other: int, now_ms: int) -> Share | None:
        """The share that ``owner``, an adult, gives ``other`` now: an accepted friend, while it is still the friendship
        in which it was given. All that ``owner`` is told goes by this, so that the age of ``other`` changes nothing."""
        share, theirs = self.precise.share(owner, other, now_ms), self.half(other, owner)
        if share is None or theirs is None or theirs.since_ms != share.friend_since_ms:
            return None
        return share if self._people.is_adult(owner) and self.accepted(owner, other) else None

    def shows_precisely(self, owner: int, other: int, now_ms: int) -> bool:
        """Whether ``other``, an adult, sees the precise cell of ``owner`` now."""
        return self._people.is_adult(other) and self.gives_precisely(owner, other, now_ms) is not None

    def shares_precisely(self, owner: int, now_ms: int) -> bool:
        """Whether ``owner`` gives anybody their precise cell now."""
        return any(self.gives_precisely(owner, other, now_ms) for other in self.precise.others(owner))

    def hidden_between(self, slot: int) -> set[int]:
        """Accepted friends one of whom shows the other `hidden`."""
        return {other for other in self.friends(slot) if self.seen_at(slot, other, 0) == "hidden"}

    def view(self, slot: int, other: int, now_ms: int) -> FriendView | None:
        """How ``other`` stands on the list of ``slot``; None when not listed."""
        mine = self.half(slot, other)
        user = self._people.ids[other]
        asked_anew = self.counting(slot, other) is None and self.asks(other, slot)
        if mine is None or asked_anew:
            return FriendView(user, "incoming", None, None, None) if asked_anew else None
        theirs = self.half(other, slot) if self.accepted(slot, other) else None
        share = self.gives_precisely(slot, other, now_ms)
        return FriendView(
            user,
            "requested" if theirs is None else "accepted",
            PRECISE if share else mine.precision_at(now_ms),
            self._shown_by(other, slot, theirs, now_ms),
            share.until_ms if share else mine.until_ms if mine.until_ms > now_ms else None,
        )

    def _shown_by(self, other: int, slot: int, theirs: Half | None, now_ms: int) -> str | None:
        if theirs is None:
            return None
        if self.shows_precisely(other, slot, now_ms):
            return PRECISE
        precision = theirs.precision_at(now_ms)
        return precision if precision != "near" or self._people.is_adult(other) else "area"

    def asks(self, other: int, slot: int) -> bool:
        """Whether ``slot`` is told that ``other`` asks: not while blocked, nor in the silence after declining."""
        theirs = self.counting(other, slot)
        if theirs is None or self._blocks.between(slot, other):
            return False
        declined = self._halves.of(slot).get(other)
        if declined is None or declined.precision != DECLINED:
            return True
        return theirs.asked_ms > declined.asked_ms + SILENT_MS

    def listed(self, slot: int, now_ms: int) -> list[FriendView]:
        """The person's whole list, by id; without the requests of whom the person muted."""
        others = set(self._halves.of(slot)) | self._asked_by.get(slot, set()) - self._people.muted(slot)
        views = (self.view(slot, other, now_ms) for other in others)
        return sorted((view for view in views if view is not None), key=lambda view: view.user)


class Friends:
    """The acts of a person: show, unfriend, list."""

    def __init__(self, friendships: Friendships, people: People, writer: Writer, quota: RequestQuota) -> None:
        self._friendships = friendships
        self._people = people
        self._writer = writer
        self._quota = quota

    async def show(self, user: str, other: str, precision: str, until_ms: int | None, claim: str | None) -> FriendView:
        """Ask for a friendship, answer one, or change what ``other`` is shown. Raises Invalid, AdultsOnly, NotVisible,
        NotFriends, TooManyFriends, RequestsUsedUp, StateAway."""
        if user == other:
            raise Invalid("nobody can befriend themselves", field="user")
        if precision == PRECISE:
            await self._share(user, other, until_ms, claim)
        else:
            end_ms = self._checked_until(user, precision, until_ms, claim)
            if not self._answers(user, other):
                await self._quota.take(user, other)
            await self._write(user, other, precision, end_ms)
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        assert slot is not None
        assert other_slot is not None
        view = self._friendships.view(slot, other_slot, self._writer.now_ms)
        # By now the same person may have unfriended or blocked them, through another device.
        return view or FriendView(other, "requested", precision, None, None)

    def _answers(self, user: str, other: str) -> bool:
        """Whether showing ``other`` anything is no request: it stands, or answers theirs."""
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        if slot is None or other_slot is None:
            return False
        return self._friendships.half(slot, other_slot) is not None or self._friendships.asks(other_slot, slot)

    def _checked_until(self, user: str, precision: str, until_ms: int | None, claim: str | None) -> int:
        now_ms = self._writer.now_ms
        if precision != "near":
            if until_ms is not None:
                raise Invalid("only `near` and `precise` take an end", field="until")
            return 0
        if not self._people.adult_with(self._people.slot(user), claim):
            raise AdultsOnly("`near` is for adults")
        if until_ms is not None and not now_ms < until_ms <= now_ms + NEAR_LAPSES_MS:
            raise Invalid("must be in the future and at most 30 days ahead", field="until")
        return until_ms or now_ms + NEAR_LAPSES_MS

    async def _share(self, user: str, other: str, until_ms: int | None, claim: str | None) -> None:
        """Show ``other`` the precise cell until then. Raises Invalid, AdultsOnly, NotVisible, NotFriends, StateAway."""
        now_ms = self._writer.now_ms
        if until_ms is None or not now_ms < until_ms <= now_ms + LONGEST_SHARE_MS:
            raise Invalid("`precise` needs an end in the future, at most 24 h ahead", field="until")
        if not self._people.adult_with(self._people.slot(user), claim):
            raise AdultsOnly("`precise` is for adults")
        since_ms = self._friend_since(user, other)
        if since_ms is None:
            await self._writer.catch_up(user, other)
            since_ms = self._friend_since(user, other)
        if since_ms is None:
            raise NotFriends
        share = Share(until_ms, since_ms)
        names = [self._writer.shards.friend_halves(user), self._writer.feed_key(user)]
        payload = orjson.dumps(share_record(user, other, share))
        if await self._writer.enforce(user, _SHARE, names, [payload, other, "|".join(map(str, share))]) < 0:
            raise NotFriends

    def _friend_since(self, user: str, other: str) -> int | None:
        """Since when ``other``, an accepted friend, has asked; None for who is none. Raises NotVisible."""
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        if slot is None or other_slot is None or not self._friendships.accepted(slot, other_slot):
            return None
        if self._people.visibility_at(slot, self._writer.now_ms) == NOBODY:
            raise NotVisible("who shows nobody where they are cannot share it precisely")
        theirs = self._friendships.half(other_slot, slot)
        return None if theirs is None else theirs.since_ms

    async def unfriend(self, user: str, other: str) -> None:
        """End what ``user`` shows ``other``; for the other it reads `requested` from now on."""
        if not self._related(user, other):
            await self._writer.catch_up(user, other)
        if self._related(user, other):
            await self._write(user, other, DECLINED, 0)
        else:  # perhaps by this very act, whose first try was not yet effective everywhere
            await self._writer.settled(user)

    async def end(self, user: str, other: str) -> None:
        """End what ``user`` shows ``other``, if anything: as part of a block."""
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        if slot is not None and other_slot is not None and self._friendships.half(slot, other_slot) is not None:
            await self._write(user, other, DECLINED, 0)

    def _related(self, user: str, other: str) -> bool:
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        if slot is None or other_slot is None:
            return False
        return bool(self._friendships.half(slot, other_slot) or self._friendships.half(other_slot, slot))

    async def _write(self, user: str, other: str, precision: str, until_ms: int) -> None:
        """The day makes asking anew after the silence a change, and so does the life of ``other``; within a day the
        same half is none. Raises TooManyFriends."""
        payload = orjson.dumps([half_record(user, other, precision, until_ms, False)])
        day = self._writer.now_ms // DAY_MS
        names = [self._writer.shards.friend_halves(user), self._writer.feed_key(user)]
        most = 0 if precision == DECLINED else MOST_HALVES
        life = self._people.life(other)
        half = f"{precision}|{until_ms}|0|{day}" + (f".{life}" if life else "")
        if await self._writer.enforce(user, _SHOW, names, [payload, other, half, most]) < 0:
            raise TooManyFriends(f"nobody can have more than {MOST_HALVES:,} friends and requests: end some first")

    def listed(self, user: str) -> list[FriendView]:
        """The person's own list."""
        slot = self._people.slot(user)
        return [] if slot is None else self._friendships.listed(slot, self._writer.now_ms)
