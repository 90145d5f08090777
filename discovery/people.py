"""Who is known, by slot: ids, settings, ages. Folded from the feed; every question about a person starts here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from discovery.quiet_zones import QuietZones
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN
from discovery.sealed import Sealer
from discovery.store.keys import Shards

NOBODY, FRIENDS, EVERYONE = range(3)
VISIBILITIES = ("nobody", "friends", "everyone")

AGE_UNKNOWN, AGE_ADULT, AGE_MINOR = range(3)
AGES = (None, "adult", "minor")

FOR_EVER = np.iinfo(np.int64).max
_FIRST_CAPACITY = 1024


def grown(column: NDArray[Any], capacity: int) -> NDArray[Any]:
    """A copy of ``column`` with ``capacity`` rows, the new ones zero."""
    larger = np.zeros(capacity, dtype=column.dtype)
    larger[: len(column)] = column
    return larger


class People:
    """Columns indexed by slot. A slot is given at a person's first mention and kept, whatever is dropped."""

    FOLDED = ("visibility", "fallback", "visible_until_ms", "bottles", "age_app", "age_claim", "cleared")
    """Columns that the feed of the person's shard made, and no other."""

    def __init__(self, sealer: Sealer, *, require_age: bool, shards: Shards | None = None) -> None:
        """``shards``: shared; its ``count`` is set before the first person is mentioned. None: one shard."""
        self._sealer = sealer
        self._require_age = require_age
        self.shards = Shards() if shards is None else shards
        self._slots: dict[str, int] = {}
        self.ids: list[str] = []
        self.hashes = np.zeros(_FIRST_CAPACITY, np.uint64)  # keyed: what orders and digests use instead of ids
        self.shard = np.zeros(_FIRST_CAPACITY, np.uint8)  # whose feed says what is folded of the person
        self.visibility = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.fallback = np.zeros(_FIRST_CAPACITY, np.uint8)  # what visibility lapses to
        self.visible_until_ms = np.zeros(_FIRST_CAPACITY, np.int64)  # 0: does not lapse
        self.bottles = np.zeros(_FIRST_CAPACITY, np.bool_)
        self.age_app = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.age_claim = np.zeros(_FIRST_CAPACITY, np.uint8)
        self.cleared = np.zeros(_FIRST_CAPACITY, np.bool_)  # the person's own clear stands against the app
        self.quiet_zones = QuietZones()
        self.suspensions: dict[int, dict[str, int]] = {}
        self.persons: dict[int, str] = {}  # the human behind an account, where tokens say so
        self._accounts: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def slot(self, user: str) -> int | None:
        """Slot of a known person."""
        return self._slots.get(user)

    def slot_or_new(self, user: str) -> int:
        """Slot of a person, given now if this is the first mention. Only folds may call it."""
        slot = self._slots.get(user)
        return int(self.slots_or_new([user])[0]) if slot is None else slot

    def slots_or_new(self, users: list[str]) -> NDArray[np.int32]:
        """Slots int32[n] of a batch."""
        try:
            return np.fromiter(map(self._slots.__getitem__, users), np.int32, len(users))
        except KeyError:  # somebody's first mention
            new = [user for user in dict.fromkeys(users) if user not in self._slots]
            self._add(new, self._sealer.hash64_each("person", new), self._shards_of(new))
        return np.fromiter(map(self._slots.__getitem__, users), np.int32, len(users))

    def slots_restored(self, users: list[str], hashes: NDArray[np.uint64], shard: int) -> NDArray[np.int32]:
        """Slots int32[n] of different people of one shard whose hashes are known: half a microsecond each."""
        start = len(self.ids)
        slots = np.fromiter(map(self._slots.setdefault, users, range(start, start + len(users))), np.int32, len(users))
        new = np.flatnonzero(slots >= start)
        if len(new) < len(users):  # some were known: the others' numbers are to follow without a gap
            slots[new] = np.arange(start, start + len(new))
            self._slots.update(zip([users[i] for i in new.tolist()], slots[new].tolist(), strict=True))
        self._append([users[i] for i in new.tolist()] if len(new) < len(users) else users, hashes[new], shard)
        return slots

    def make_room(self, count: int) -> None:
        """Grow once for so many more people, instead of doubling on the way."""
        if len(self.ids) + count > len(self.hashes):
            self._grow(len(self.ids) + count)

    def hash_of(self, user: str) -> int:
        """The keyed 64-bit hash of an id, known or not."""
        return self._sealer.hash64("person", user)

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

    def _add(self, users: list[str], hashes: NDArray[np.uint64], shards: NDArray[np.uint8]) -> None:
        start = len(self.ids)
        self._slots.update(zip(users, range(start, start + len(users)), strict=True))
        self._append(users, hashes, shards)

    def _append(self, users: list[str], hashes: NDArray[np.uint64], shards: NDArray[np.uint8] | int) -> None:
        """The columns of people who have just been given the next slots."""
        start, end = len(self.ids), len(self.ids) + len(users)
        if end > len(self.hashes):
            self._grow(max(2 * len(self.hashes), end))
        self.ids.extend(users)
        self.hashes[start:end] = hashes
        self.shard[start:end] = shards

    def _grow(self, capacity: int) -> None:
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, grown(column, capacity))

    # --- fold ---

    def fold_claims(self, slots: NDArray[np.int32], flags: NDArray[np.uint8]) -> None:
        """Ages that tokens claimed, and the end of a clear by the person's own report."""
        told = (flags & CLAIM_TOLD) != 0
        known = np.where((flags & CLAIM_ADULT) != 0, AGE_ADULT, AGE_MINOR)
        ages = np.where((flags & CLAIM_KNOWN) != 0, known, AGE_UNKNOWN)
        self.age_claim[slots[told]] = ages[told]
        self.cleared[slots[(flags & OWN) != 0]] = False

    def fold_settings(self, change: dict[str, Any], now_ms: int) -> int:
        """Apply one settings record; returns the slot."""
        slot = self.slot_or_new(change["u"])
        if "visibility" in change:
            self._fold_visibility(slot, VISIBILITIES.index(change["visibility"]), change["until"], now_ms)
        if "bottles" in change:
            self.bottles[slot] = change["bottles"]
        if "age" in change:
            self.age_app[slot] = AGES.index(change["age"])
        if "claim" in change:
            self.age_claim[slot] = AGES.index(change["claim"])
        if "person" in change:
            self._fold_person(slot, change["person"])
        if "suspended" in change:
            self.suspensions[slot] = change["suspended"]
        if "quiet_zones" in change:
            self.quiet_zones.set(slot, change["quiet_zones"])
        return slot

    def _fold_visibility(self, slot: int, visibility: int, until_ms: int, now_ms: int) -> None:
        before = self.visibility_at(slot, now_ms)
        if visibility != EVERYONE:
            self.fallback[slot] = NOBODY
        elif before != EVERYONE:
            self.fallback[slot] = before
        self.visibility[slot] = visibility
        self.visible_until_ms[slot] = until_ms

    def _fold_person(self, slot: int, person: str) -> None:
        self._part_from_person(slot)
        self.persons[slot] = person
        self._accounts.setdefault(person, set()).add(slot)

    def _part_from_person(self, slot: int) -> None:
        person = self.persons.pop(slot, None)
        if person is None:
            return
        self._accounts[person].discard(slot)
        if not self._accounts[person]:
            del self._accounts[person]

    # --- a shard's part ---

    def drop(self, shard: int) -> None:
        """Forget what is folded of a shard's people; slots, ids and hashes stay."""
        slots = self.of_shard(shard)
        for name in self.FOLDED:
            getattr(self, name)[slots] = 0
        for slot in [slot for slot in self.suspensions if self.shard[slot] == shard]:
            del self.suspensions[slot]
        for slot in [slot for slot in self.persons if self.shard[slot] == shard]:
            self._part_from_person(slot)
        for slot in [slot for slot in self.quiet_zones.standing() if self.shard[slot] == shard]:
            self.quiet_zones.set(slot, ())

    def restore(
        self, suspensions: dict[int, dict[str, int]], persons: dict[int, str], zones: dict[int, list[int]]
    ) -> None:
        """Put back what stands beside the columns, by slot."""
        self.suspensions.update(suspensions)
        for slot, cells in zones.items():
            self.quiet_zones.set(slot, cells)
        for slot, person in persons.items():
            self._fold_person(slot, person)

    # --- questions ---

    def person_key(self, user: str) -> str:
        """The human behind an account where the app told us, else the account. No id has a space, so none is both."""
        slot = self._slots.get(user)
        person = None if slot is None else self.persons.get(slot)
        return user if person is None else f"person {person}"

    def accounts(self, slot: int) -> set[int]:
        """Slots of all accounts of the human behind this one, itself included."""
        person = self.persons.get(slot)
        return {slot} if person is None else self._accounts[person]

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
        app, claim = self.age_app[slots], self.age_claim[slots]
        known_adult = (app == AGE_ADULT) | (claim == AGE_ADULT)
        minor = (app == AGE_MINOR) | (claim == AGE_MINOR)
        return np.asarray(~minor & (known_adult | (not self._require_age)))

    def suspended(self, slot: int, feature: str, now_ms: int) -> bool:
        """Whether the app suspended ``feature`` for this person at this time."""
        return self.suspensions.get(slot, {}).get(feature, 0) > now_ms

    def strangers_until_ms(self, slots: NDArray[np.int32], edge_ms: int) -> NDArray[np.int64]:
        """int64[n]: until when settings alone let strangers see each person; 0 = not at all, as for who was suspended
        at ``edge_ms`` or has been since."""
        until = self.visible_until_ms[slots]
        open_end = np.where(until == 0, FOR_EVER, until)
        shown = (self.visibility[slots] == EVERYONE) & self._adults(slots)
        if self.suspensions:
            suspended = [slot for slot in self.suspensions if self.suspended(slot, "nearby", edge_ms)]
            shown &= ~np.isin(slots, suspended)
        return np.asarray(np.where(shown, open_end, 0), dtype=np.int64)
