"""Friendships: two halves, each owned by who shows; a friendship exists when both have asked.

Of two friends each sees the coarser of what they show each other, so that watching means showing.
"""

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from discovery.errors import AdultsOnly, Invalid, NotAvailable
from discovery.owned_rows import OwnedRows
from discovery.people import People
from discovery.safety import Blocks
from discovery.store.writer import Writer

DAY_MS = 86_400_000
NEAR_LAPSES_MS = 30 * DAY_MS
SILENT_MS = 30 * DAY_MS  # a refused request stays silent
PRECISIONS = ("hidden", "city", "area", "near")  # coarse to fine
DECLINED = "declined"
STORED_PRECISIONS = (*PRECISIONS, DECLINED)
"""What a half may be, by the number under which checkpoints keep it."""


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

    def fold(self, payload: bytes, now_ms: int) -> None:
        """Apply a list of half records."""
        for owner, other, precision, until_ms, guardian in orjson.loads(payload):
            slots = self._people.slot_or_new(owner), self._people.slot_or_new(other)
            self._set(*slots, precision, until_ms, guardian, now_ms)

    def decline(self, owner: int, other: int, now_ms: int) -> None:
        """A block ends what the blocker showed."""
        if other in self._halves.of(owner):
            self._set(owner, other, DECLINED, 0, False, now_ms)

    def _set(self, owner: int, other: int, precision: str | None, until_ms: int, guardian: bool, now_ms: int) -> None:
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

    # --- a shard's part: the halves that its people own ---

    def standing(self) -> dict[int, dict[int, Half]]:
        """All halves by owner and other, as they stand now and will in this answer."""
        return self._halves.standing()

    def drop(self, shard: int) -> None:
        """Forget what a shard's people show."""
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

    def accepted(self, a: int, b: int) -> bool:
        """Both asked, nobody blocked, and between ages the minor asked first or a guardian vouched."""
        mine, theirs = self.half(a, b), self.half(b, a)
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

    def hidden_between(self, slot: int) -> set[int]:
        """Accepted friends one of whom shows the other `hidden`."""
        return {other for other in self.friends(slot) if self.seen_at(slot, other, 0) == "hidden"}

    def view(self, slot: int, other: int, now_ms: int) -> FriendView | None:
        """How ``other`` stands on the list of ``slot``; None when not listed."""
        mine = self.half(slot, other)
        user = self._people.ids[other]
        if mine is None:
            return FriendView(user, "incoming", None, None, None) if self._asks(other, slot) else None
        theirs = self.half(other, slot) if self.accepted(slot, other) else None
        return FriendView(
            user,
            "requested" if theirs is None else "accepted",
            mine.precision_at(now_ms),
            None if theirs is None else theirs.precision_at(now_ms),
            mine.until_ms if mine.until_ms > now_ms else None,
        )

    def _asks(self, other: int, slot: int) -> bool:
        theirs = self.half(other, slot)
        if theirs is None or self._blocks.between(slot, other):
            return False
        declined = self._halves.of(slot).get(other)
        return declined is None or theirs.asked_ms > declined.asked_ms + SILENT_MS

    def listed(self, slot: int, now_ms: int) -> list[FriendView]:
        """The person's whole list, by id."""
        others = set(self._halves.of(slot)) | self._asked_by.get(slot, set())
        views = (self.view(slot, other, now_ms) for other in others)
        return sorted((view for view in views if view is not None), key=lambda view: view.user)


class Friends:
    """The acts of a person: show, unfriend, list."""

    def __init__(self, friendships: Friendships, people: People, writer: Writer) -> None:
        self._friendships = friendships
        self._people = people
        self._writer = writer

    async def show(self, user: str, other: str, precision: str, until_ms: int | None, claim: str | None) -> FriendView:
        """Ask for a friendship, answer one, or change what ``other`` is shown."""
        end_ms = self._checked_until(user, other, precision, until_ms, claim)
        await self._write(user, other, precision, end_ms)
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        assert slot is not None
        assert other_slot is not None
        view = self._friendships.view(slot, other_slot, self._writer.now_ms)
        assert view is not None
        return view

    def _checked_until(self, user: str, other: str, precision: str, until_ms: int | None, claim: str | None) -> int:
        now_ms = self._writer.now_ms
        if user == other:
            raise Invalid("nobody can befriend themselves", field="user")
        if precision == "precise":
            raise NotAvailable("precise sharing comes with a later version", field="precision")
        if precision != "near":
            if until_ms is not None:
                raise Invalid("only `near` takes an end", field="until")
            return 0
        if not self._people.adult_with(self._people.slot(user), claim):
            raise AdultsOnly("`near` is for adults")
        if until_ms is not None and not now_ms < until_ms <= now_ms + NEAR_LAPSES_MS:
            raise Invalid("must be in the future and at most 30 days ahead", field="until")
        return until_ms or now_ms + NEAR_LAPSES_MS

    async def unfriend(self, user: str, other: str) -> None:
        """End what ``user`` shows ``other``; for the other it reads `requested` from now on."""
        if not self._related(user, other):
            await self._writer.catch_up(user, other)
        if self._related(user, other):
            await self._write(user, other, DECLINED, 0)
        else:  # perhaps by this very act, whose first try was not yet effective everywhere
            await self._writer.settled(user)

    def _related(self, user: str, other: str) -> bool:
        slot, other_slot = self._people.slot(user), self._people.slot(other)
        if slot is None or other_slot is None:
            return False
        return bool(self._friendships.half(slot, other_slot) or self._friendships.half(other_slot, slot))

    async def _write(self, user: str, other: str, precision: str, until_ms: int) -> None:
        """The day makes asking anew after the silence a change; within a day the same half is none."""
        payload = orjson.dumps([half_record(user, other, precision, until_ms, False)])
        day = self._writer.now_ms // DAY_MS
        record = self._writer.shards.friend_halves(user)
        await self._writer.change(user, record, "f", payload, {other: f"{precision}|{until_ms}|0|{day}"})

    def listed(self, user: str) -> list[FriendView]:
        """The person's own list."""
        slot = self._people.slot(user)
        return [] if slot is None else self._friendships.listed(slot, self._writer.now_ms)
