"""Who is known, by slot: ids, settings, ages. Folded from the feed; every question about a person starts here."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery import suspensions as closed
from discovery.columns import grown, one_row, put
from discovery.humans import Humans
from discovery.id_table import IdTable
from discovery.mutes import Mutes
from discovery.quiet_zones import QuietZones
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, LIFE_SHIFT, LIVES, OWN
from discovery.sealed import Sealer
from discovery.store.keys import Shards
from discovery.tombstones import Tombstone, TombstoneRow, Tombstones, hash_in
from discovery.withheld import Withheld
from geo.kernels import keyed

NOBODY, FRIENDS, EVERYONE = range(3)
VISIBILITIES = ("nobody", "friends", "everyone")

AGE_UNKNOWN, AGE_ADULT, AGE_MINOR = range(3)
AGES = (None, "adult", "minor")

FOR_EVER = np.iinfo(np.int64).max
_FIRST_CAPACITY = 1024


class Shown(NamedTuple):
    """Strangers whom a new account was shown on a day since 1970, by their marks: uint32[n], ascending, each once.

    ``slots`` int32[m], in any order, are of those of them whom this worker has met as such: to find them in a crowd.
    """

    day: int
    marks: NDArray[np.uint32]
    slots: NDArray[np.int32] = np.empty(0, np.int32)


class AgesAndVisibility(NamedTuple):
    """Columns of the first n people: all that they set and were told of that says whether strangers see them."""

    visibility: NDArray[np.uint8]
    visible_until_ms: NDArray[np.int64]
    age_app: NDArray[np.uint8]
    age_claim: NDArray[np.uint8]
    require_age: bool

    def open_to_strangers(self) -> NDArray[np.bool_]:
        """bool[n]: visible to everyone and an adult."""
        return np.asarray((self.visibility == EVERYONE) & adults(self.age_app, self.age_claim, self.require_age))


def adults(app: NDArray[np.uint8], claim: NDArray[np.uint8], require_age: bool) -> NDArray[np.bool_]:
    """bool[n]: the lower of both ages; unknown counts as minor unless ages are not required."""
    known_adult = (app == AGE_ADULT) | (claim == AGE_ADULT)
    minor = (app == AGE_MINOR) | (claim == AGE_MINOR)
    return np.asarray(~minor & (known_adult | (not require_age)))


class People:
    """Columns indexed by slot. A slot is given at a person's first mention and kept, whatever is dropped."""

    FOLDED = (
        "visibility",
        "fallback",
        "visible_until_ms",
        "bottles",
        "age_app",
        "age_claim",
        "cleared",
        "came",
        "first_ms",
        "looked_ms",
        "looks",
        "cells_day",
        "cells",
        "cell_mark",
    )
    """Columns that the feed of the person's shard made, and no other."""

    def __init__(self, sealer: Sealer, *, require_age: bool, shards: Shards | None = None) -> None:
        """``shards``: shared; its ``count`` is set before the first person is mentioned. None: one shard."""
        self._sealer = sealer
        self._require_age = require_age
        self.shards = Shards() if shards is None else shards
        self.ids = IdTable((sealer.hash64("ids", "0"), sealer.hash64("ids", "1")))
        self.hashes = np.zeros(_FIRST_CAPACITY, np.uint64)  # keyed: what orders and digests use instead of ids
        self.shard = np.zeros(_FIRST_CAPACITY, np.uint8)  # whose feed says what is folded of the person
        self.visibility = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.fallback = np.zeros(_FIRST_CAPACITY, np.uint8)  # what visibility lapses to
        self.visible_until_ms = np.zeros(_FIRST_CAPACITY, np.int64)  # 0: does not lapse
        self.bottles = np.zeros(_FIRST_CAPACITY, np.bool_)
        self.age_app = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.age_claim = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.cleared = np.zeros(_FIRST_CAPACITY, np.bool_)  # the person's own clear stands against the app
        self.came = np.zeros(_FIRST_CAPACITY, np.bool_)  # of ids once erased: somebody took part since
        self.lives = np.zeros(_FIRST_CAPACITY, np.int32)  # erasures of the id; this and the next follow from tombstones
        self.erased_ms = np.zeros(_FIRST_CAPACITY, np.int64)  # hive time of the last one
        self.first_ms = np.zeros(_FIRST_CAPACITY, np.int64)  # hive time of the first report or setting
        self.looked_ms = np.zeros(_FIRST_CAPACITY, np.int64)  # from here on: exposure.py
        self.looks = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.cells_day = np.zeros(_FIRST_CAPACITY, np.int32)
        self.cells = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.cell_mark = np.zeros(_FIRST_CAPACITY, np.uint32)
        self.shown: dict[int, Shown] = {}
        self._mark_key = np.uint64(sealer.hash64("shown", "0")), np.uint64(sealer.hash64("shown", "1"))
        self.tombstones = Tombstones(sealer)
        self.quiet_zones = QuietZones()
        self.mutes = Mutes()
        self.suspensions: dict[int, dict[str, int]] = {}  # of all sources; suspensions.py reads, _suspend writes them
        self.withheld_bottles = Withheld(sealer)
        self.humans = Humans(sealer, _FIRST_CAPACITY)

    def __len__(self) -> int:
        return len(self.ids)

    def slot(self, user: str) -> int | None:
        """Slot of a known person."""
        return self.ids.get(user)

    def slot_or_new(self, user: str) -> int:
        """Slot of a person, given now if this is the first mention. Only folds may call it."""
        return int(self.slots_or_new([user])[0])

    def slots_or_new(self, users: list[str]) -> NDArray[np.int32]:
        """Slots int32[n] of a batch."""
        slots = self.ids.find(users)
        unknown = np.flatnonzero(slots < 0)
        if not unknown.size:
            return slots
        new = list(dict.fromkeys(users[i] for i in unknown.tolist()))
        self._append(len(self.ids.add(new)), self._sealer.hash64_each("person", new), self._shards_of(new))
        return self.ids.find(users)

    def slots_restored(self, users: list[str], hashes: NDArray[np.uint64], shard: int) -> NDArray[np.int32]:
        """Slots int32[n] of different people of one shard whose hashes are known: a fifth of a microsecond each."""
        start = len(self.ids)
        slots = self.ids.add(users)
        new = slots >= start
        self._append(int(np.count_nonzero(new)), hashes[new], shard)
        return slots

    def make_room(self, count: int) -> None:
        """Grow once for so many more people, instead of doubling on the way."""
        self.ids.make_room(count)
        if len(self.ids) + count > len(self.hashes):
            self._grow(len(self.ids) + count)

    def hash_of(self, user: str) -> int:
        """The keyed 64-bit hash of an id, known or not."""
        return self._sealer.hash64("person", user)

    def marks(self, slots: NDArray[Any]) -> NDArray[np.uint32]:
        """uint32[n]: what stands for people in ``shown``, a keyed hash that without the secret says nothing of them.

        32 bits are enough for a cap that counts to 50 a day. A stranger whose mark is that of one shown before passes
        as shown already: once in 2^32 / 50 strangers, and by chance alone, for nobody can choose marks. So a new
        account with 100,000 people around is shown 50.001 instead of 50 in the mean; 100,000 new accounts with 10,000
        around each are shown 12 strangers more a day than 5 million. Marks decide nothing else.
        """
        return self._marked(self.hashes[slots])

    def marks_of(self, users: Sequence[str]) -> NDArray[np.uint32]:
        """:meth:`marks` of ids, known or not."""
        slots = self.ids.find(users)
        if slots.size and slots.min() >= 0:
            return self.marks(slots)
        return self._marked(self._sealer.hash64_each("person", users))

    def _marked(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        return np.asarray(keyed.siphash24_many(*self._mark_key, hashes).astype(np.uint32))  # the low half

    @property
    def secret_fingerprint(self) -> str:
        """Tells whether hashes were made with this secret, and nothing else about it."""
        return self._sealer.id128("fingerprint")

    def of_shard(self, shard: int) -> NDArray[np.int64]:
        """Slots int64[n], ascending, of everybody of one shard."""
        return np.flatnonzero(self.shard[: len(self.ids)] == shard)

    def _shards_of(self, users: list[str]) -> NDArray[np.uint8]:
        if self.shards.count == 1:
            return np.zeros(len(users), np.uint8)
        return np.fromiter(map(self.shards.of, users), np.uint8, len(users))

    def _append(self, count: int, hashes: NDArray[np.uint64], shards: NDArray[np.uint8] | int) -> None:
        """The columns of people who have just been given the last ``count`` slots."""
        start, end = len(self.ids) - count, len(self.ids)
        if end > len(self.hashes):
            self._grow(max(2 * len(self.hashes), end))
        self.hashes[start:end] = hashes
        self.shard[start:end] = shards
        if self.tombstones:
            self._mark(np.arange(start, end))

    def _grow(self, capacity: int) -> None:
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, grown(column, capacity))
        self.humans.grow(capacity)

    # --- fold ---

    def fold_claims(self, slots: NDArray[np.int32], flags: NDArray[np.uint8]) -> None:
        """Ages that tokens claimed, and the end of a clear by the person's own report."""
        told = (flags & CLAIM_TOLD) != 0
        known = np.where((flags & CLAIM_ADULT) != 0, AGE_ADULT, AGE_MINOR)
        ages = np.where((flags & CLAIM_KNOWN) != 0, known, AGE_UNKNOWN)
        self.age_claim[slots[told]] = ages[told]
        self._come(slots[told])
        put(self.cleared, slots[(flags & OWN) != 0], False)

    def fold_first(self, slots: NDArray[np.int32], times_ms: NDArray[np.int64]) -> None:
        """These accounts took part at these times, in ascending order: since the first the account counts as old."""
        new = self.first_ms[slots] == 0
        self.first_ms[slots[new][::-1]] = times_ms[new][::-1]

    def fold_settings(self, change: dict[str, Any], now_ms: int) -> int:
        """Apply one settings record; returns the slot."""
        slot = self.slot_or_new(change["u"])
        if "moderated" not in change:  # that is said of a person, not by them
            self._come(one_row(slot))
            self.fold_first(one_row(slot), np.array([now_ms], np.int64))
        if "visibility" in change:
            self._fold_visibility(slot, VISIBILITIES.index(change["visibility"]), change["until"], now_ms)
        if "bottles" in change:
            self.bottles[slot] = change["bottles"]
        if "age" in change:
            self.age_app[slot] = AGES.index(change["age"])
        if "claim" in change:
            self.age_claim[slot] = AGES.index(change["claim"])
        if "person" in change:
            self.humans.put_each([slot], [change["person"]])
        if "suspended" in change:
            self._suspend(slot, closed.with_app(self.suspensions.get(slot, {}), change["suspended"]))
        if "moderated" in change:
            self._suspend(slot, closed.with_moderated(self.suspensions.get(slot, {}), change["moderated"]))
        if "quiet_zones" in change:
            self.quiet_zones.set(slot, change["quiet_zones"])
        return slot

    def _come(self, slots: NDArray[np.int32]) -> None:
        """Somebody takes part under these ids, of which some were erased: what was closed to them is closed."""
        new = slots[(self.lives[slots] > 0) & ~self.came[slots]]
        put(self.came, new, True)
        for slot in new.tolist():
            standing = self.suspensions.get(slot)
            if standing is not None:
                self.tombstones.close(int(self.shard[slot]), self.ids[slot], {})
                self._suspend(slot, standing)

    def _fold_visibility(self, slot: int, visibility: int, until_ms: int, now_ms: int) -> None:
        before = self.visibility_at(slot, now_ms)
        if visibility != EVERYONE:
            put(self.fallback, one_row(slot), NOBODY)
        elif before != EVERYONE:
            put(self.fallback, one_row(slot), before)
        self.visibility[slot] = visibility
        put(self.visible_until_ms, one_row(slot), until_ms)

    def _suspend(self, slot: int, standing: dict[str, int]) -> None:
        """The dict is replaced, never changed: a snapshot may hold it. Of an id whose person was erased it stands with
        the tombstone, and the sea is told nothing: no bottle is theirs, and not every worker knows the id."""
        if standing:
            self.suspensions[slot] = standing
        else:
            self.suspensions.pop(slot, None)
        gone = self.lives[slot] > 0 and not self.came[slot]
        if gone:
            self.tombstones.close(int(self.shard[slot]), self.ids[slot], standing)
        self.withheld_bottles.put(self.ids[slot], 0 if gone else closed.withheld_until_ms(standing, "bottles"))

    def fold_mute(self, record: list[Any]) -> None:
        """Apply one mute ``[muter, other, whether it stands]``."""
        user, other, muted = record
        self.mutes.fold(self.slot_or_new(user), other, muted=muted)

    # --- a shard's part ---

    def drop(self, shard: int) -> None:
        """Forget what is folded of a shard's people; slots, ids and hashes stay."""
        slots = self.of_shard(shard)
        beside = {*self.suspensions, *self.persons, *self.quiet_zones.standing(), *self.mutes.standing(), *self.shown}
        self._forget(slots, [slot for slot in beside if self.shard[slot] == shard])
        for slot in [slot for slot in self.humans.erased() if self.shard[slot] == shard]:
            self.humans.put_erased(slot, 0)
        put(self.lives, slots, 0)
        put(self.erased_ms, slots, 0)
        self.tombstones.drop(shard)

    def _forget(self, slots: NDArray[Any], beside: list[int]) -> None:
        """Drop all that is folded of ``slots``; ``beside``: those of them that have anything beside the columns."""
        for name in self.FOLDED:
            put(getattr(self, name), slots, 0)
        for slot in beside:
            self._suspend(slot, {})
            self.humans.part(slot)
            self.quiet_zones.set(slot, ())
            self.mutes.put(slot, ())
            self.shown.pop(slot, None)

    def restore(
        self,
        suspensions: dict[int, dict[str, int]],
        zones: dict[int, list[int]],
        mutes: dict[int, list[str]],
    ) -> None:
        """Put back what stands beside the columns, by slot."""
        for slot, standing in suspensions.items():
            self._suspend(slot, standing)
        for slot, cells in zones.items():
            self.quiet_zones.set(slot, cells)
        for slot, others in mutes.items():
            self.mutes.put(slot, others)

    # --- erasure ---

    def fold_erased(self, user: str, name: str, at_ms: int, life: int, now_ms: int) -> int:
        """Somebody was erased, and this is life number ``life`` of the id: all that was folded goes, but suspensions
        last to their ends, and what others blocked or muted stays of the human. The slot."""
        slot = self.slot_or_new(user)
        before = self.tombstones.standing(int(self.shard[slot]), name)
        human = self.humans.mark(slot) or (0 if before is None else before.human)
        standing = {key: end_ms for key, end_ms in self.suspensions.get(slot, {}).items() if end_ms > now_ms}
        self._forget(np.array([slot]), [slot])
        self.tombstones.put(int(self.shard[slot]), name, Tombstone(at_ms, life, now_ms, human=human))
        self.humans.put_erased(slot, human)
        self.lives[slot], self.erased_ms[slot] = life, now_ms
        self._suspend(slot, standing)
        return slot

    def fold_tombstone(self, shard: int, name: str, at_ms: int, life: int, now_ms: int) -> None:
        """Somebody of whom nothing is known here was erased elsewhere, or earlier."""
        before = self.tombstones.standing(shard, name)
        kept = (before.closed, before.human) if before is not None else ()
        self.tombstones.put(shard, name, Tombstone(at_ms, life, now_ms, *kept))
        self._mark(np.flatnonzero(self.hashes[: len(self.ids)] == hash_in(name)))

    def restore_tombstones(self, shard: int, rows: list[TombstoneRow]) -> None:
        """Put back those of a shard, before its people."""
        self.tombstones.restore(shard, rows)
        if rows:
            self._mark(self.of_shard(shard))

    def _mark(self, slots: NDArray[Any]) -> None:
        """These slots are new, or there are tombstones that they may have."""
        for slot in slots[self.tombstones.likely(self.hashes[slots])].tolist():
            found = self.tombstones.find(int(self.shard[slot]), self.ids[slot])
            if found is not None:
                self.lives[slot], self.erased_ms[slot] = found.life, found.hive_ms
                self.humans.put_erased(slot, found.human)
                if found.closed or slot in self.suspensions:
                    self._suspend(slot, {**self.suspensions.get(slot, {}), **found.closed})

    def tombstone(self, user: str) -> Tombstone | None:
        """Of the last erasure of this id."""
        slot = self.ids.get(user)
        if slot is not None and not self.lives[slot]:
            return None
        return self.tombstones.find(self.shards.of(user), user)

    def life(self, user: str) -> int:
        """How often this id was erased."""
        found = self.tombstone(user)
        return 0 if found is None else found.life

    def is_gone(self, user: str) -> bool:
        """Whether the person was erased, and nobody came under this id since."""
        slot = self.ids.get(user)
        return self.life(user) > 0 and (slot is None or not self.came[slot])

    def gone(self, slots: NDArray[np.int32]) -> NDArray[np.bool_]:
        """bool[n]: ``is_gone`` of each."""
        return np.asarray((self.lives[slots] > 0) & ~self.came[slots])

    def of_this_life(self, slots: NDArray[np.int32], flags: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """bool[n]: which reports are no leftovers of somebody erased since, nor of the app about who is gone."""
        lives, said = self.lives[slots], flags >> LIFE_SHIFT
        return np.asarray((lives == 0) | ((said == lives % LIVES) & (self.came[slots] | ((flags & CLAIM_TOLD) != 0))))

    # --- questions ---

    def person_key(self, user: str) -> str:
        """The human behind an account where the app told us, else the account. No id has a space, so none is both."""
        slot = self.ids.get(user)
        person = None if slot is None else self.persons.get(slot)
        return user if person is None else f"person {person}"

    @property
    def persons(self) -> dict[int, str]:
        """The app's name for the human behind an account, where tokens say so."""
        return self.humans.names

    def accounts(self, slot: int) -> set[int]:
        """Slots of all accounts of the human behind this one, itself included."""
        return self.humans.accounts(slot)

    def visibility_at(self, slot: int, now_ms: int) -> int:
        """What the person shows now: the setting, or what it lapsed to."""
        until_ms = self.visible_until_ms[slot]
        return int(self.visibility[slot] if until_ms == 0 or now_ms < until_ms else self.fallback[slot])

    def is_adult(self, slot: int) -> bool:
        """The lower of token claim and app value; unknown counts as minor unless ages are not required."""
        return bool(self._adults(np.array([slot]))[0])

    def adult_with(self, slot: int | None, claim: str | None) -> bool:
        """Like ``is_adult`` with the claim of the token at hand; also for who is not known yet."""
        app = AGE_UNKNOWN if slot is None else int(self.age_app[slot])
        return self._adult_by(app, AGES.index(claim))

    def adult_after(self, slot: int | None, age: str | None) -> bool:
        """Like ``is_adult`` once the app has set ``age`` (None: what it set before); also for who is not known yet."""
        app, claim = (
            (AGE_UNKNOWN, AGE_UNKNOWN) if slot is None else (int(self.age_app[slot]), int(self.age_claim[slot]))
        )
        return self._adult_by(app if age is None else AGES.index(age), claim)

    def _adult_by(self, *ages: int) -> bool:
        return AGE_MINOR not in ages and (AGE_ADULT in ages or not self._require_age)

    def _adults(self, slots: NDArray[Any]) -> NDArray[np.bool_]:
        return adults(self.age_app[slots], self.age_claim[slots], self._require_age)

    def closed_to(self, user: str) -> closed.Standing:
        """What is suspended of whoever has, or comes under, this id: by source and feature, until when."""
        slot = self.slot(user)
        if slot is not None:
            return self.suspensions.get(slot, {})
        found = self.tombstone(user)
        return {} if found is None else found.closed

    def named_suspensions(self) -> dict[int, dict[str, int]]:
        """Those of everybody but whom was erased and nobody came as since: theirs stand with tombstones, by no name."""
        return {slot: ends for slot, ends in self.suspensions.items() if not self.lives[slot] or self.came[slot]}

    def suspended(self, slot: int, feature: str, now_ms: int) -> bool:
        """Whether ``feature`` is closed to this person at this time, by the app, a moderator or a hold."""
        return closed.until_ms(self.suspensions.get(slot, {}), feature) > now_ms

    def withheld(self, slot: int, feature: str, now_ms: int) -> bool:
        """Whether moderation keeps this person from ``feature``: then nobody else meets them there either."""
        return closed.withheld_until_ms(self.suspensions.get(slot, {}), feature) > now_ms

    def muted(self, slot: int) -> set[int]:
        """Slots of everybody whom this human muted, with all accounts of each."""
        names = {name for account in self.accounts(slot) for name in self.mutes.of(account)}
        known = {other for name in names if (other := self.ids.get(name)) is not None}
        found = {account for other in known for account in self.humans.behind(other)}
        if len(known) < len(names) and self.tombstones:
            found |= self._erased_behind([name for name in names if self.ids.get(name) is None])
        return found

    def _erased_behind(self, users: list[str]) -> set[int]:
        """Accounts of the humans who had these ids, of which nothing is known but that some were erased."""
        likely = self.tombstones.likely(self._sealer.hash64_each("person", users)).tolist()
        found = [self.tombstone(users[i]) for i in likely]
        humans = {tombstone.human for tombstone in found if tombstone is not None}
        return {account for human in humans for account in self.humans.accounts_of_mark(human)}

    def ages_and_visibility(self, count: int) -> AgesAndVisibility:
        """The columns of the first ``count`` people, as they are, not copied."""
        return AgesAndVisibility(
            self.visibility[:count],
            self.visible_until_ms[:count],
            self.age_app[:count],
            self.age_claim[:count],
            self._require_age,
        )

    def suspended_at(self, feature: str, edge_ms: int) -> list[int]:
        """Slots of all to whom ``feature`` is closed at this time."""
        return [slot for slot in self.suspensions if self.suspended(slot, feature, edge_ms)]

    def strangers_until_ms(self, slots: NDArray[np.int32], edge_ms: int) -> NDArray[np.int64]:
        """int64[n]: until when settings alone let strangers see each person; 0 = not at all, as for who was suspended
        at ``edge_ms`` or has been since."""
        until = self.visible_until_ms[slots]
        open_end = np.where(until == 0, FOR_EVER, until)
        shown = (self.visibility[slots] == EVERYONE) & self._adults(slots)
        suspended = [slot for slot in self._with_suspensions(slots) if self.suspended(slot, "nearby", edge_ms)]
        if suspended:
            shown &= ~np.isin(slots, suspended)
        return np.asarray(np.where(shown, open_end, 0), dtype=np.int64)

    def _with_suspensions(self, slots: NDArray[np.int32]) -> list[int]:
        """All of ``slots`` that have any, perhaps others too: each batch of reports asks, and holds have no end."""
        if len(slots) > len(self.suspensions):
            return list(self.suspensions)
        return [slot for slot in slots.tolist() if slot in self.suspensions]
