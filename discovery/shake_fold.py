"""The fold of the shake stream: who met whom, the same in every worker that read the same entries.

A newcomer takes its nearest open compatible shakes with free capacity: nearer band first, inside a band by the keyed
order of the newcomer's stranger epoch, ties by stream position; pairs of two ``anywhere`` last, oldest first. A match
is mutual and never retracted. A person's new shake ends their earlier one, which keeps its matches; who holds the
earlier one can be matched again without using capacity, and then points to the new one.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from discovery.shake_entries import ANYWHERE, MAX_WINDOW_MS, NEARBY, unpack_shakes
from discovery.shake_table import ShakeTable
from geo.kernels.keyed import siphash24
from geo.kernels.matching import MAX_MATCHES, read_matches
from geo.mixed_bands import judged_at
from geo.privacy import EDGES_PER_STRANGER_EDGE

Key = tuple[int, int]

_PARTNERS_MS: Final = 2 * MAX_WINDOW_MS
"""A match and the earlier shakes of its person lie at most two windows before a shake: kept that much longer."""
_CACHED_KEYS: Final = 256
_FIRST_BANDS: Final = {7: 0, 6: 3, 5: 4}


class ShakeView(NamedTuple):
    """A shake as its owner may read it. ``closes_at_ms`` is the end of its window, or when the person shook again."""

    person: str
    cell7: int
    reach: int
    closes_at_ms: int
    window_ms: int
    hive_ms: int


class Match(NamedTuple):
    """``band``: 0 = under 3 km, 1 = 3 to 5 km, 2 = both ``anywhere``, no distance; where the coarser cell of the two is
    of resolution 6, 3 = under 10 km, and where it is of 5, 4 = under 20 km."""

    person: str
    band: int


class ShakeFold:
    """Folds entries given in stream order; for one thread. All times are hive time in milliseconds.

    ``epoch_key(number)`` gives the 128-bit key (two u64) of a stranger epoch; ``epoch_ms`` is the length of an epoch, a
    third of a stranger epoch. A shake is readable, and a repeat of its hash ignored, for ``keep_ms``. Raises
    ``ValueError`` for a length or time to keep that is not positive.
    """

    def __init__(self, epoch_key: Callable[[int], Key], epoch_ms: int, keep_ms: int = 600_000) -> None:
        if keep_ms <= 0:
            raise ValueError(f"keep_ms must be positive, not {keep_ms}")
        self._epoch_key = epoch_key
        self._keys: dict[int, Key] = {}
        self._keep_ms = keep_ms
        self.clear()
        self.set_epoch(epoch_ms)

    def clear(self) -> None:
        """Forget every shake: the stream is folded anew."""
        self._table = ShakeTable()
        self._position_of: dict[int, int] = {}
        self._last_of_person: dict[int, int] = {}
        self._fold_ms = 0
        self.now_ms = 0

    def set_epoch(self, epoch_ms: int) -> None:
        """Length of an epoch from the next entry on; to be changed at the same entry in every worker."""
        if epoch_ms <= 0:
            raise ValueError(f"epoch_ms must be positive, not {epoch_ms}")
        self._epoch_ms = epoch_ms

    def fold(self, payload: bytes, hive_ms: int) -> list[int]:
        """Fold one entry; a time before the last entry's counts as that one's.

        Returns the hashes, once each, of the shakes whose match list changed or that a later shake of the person ended.
        Raises ``ValueError`` for a payload ``unpack_shakes`` refuses, with nothing changed.
        """
        shakes = unpack_shakes(payload)
        self._fold_ms = max(self._fold_ms, hive_ms)
        self.tick(self._fold_ms)
        epoch = self._fold_ms // (EDGES_PER_STRANGER_EDGE * self._epoch_ms)
        key = self._key(epoch)
        first = len(self._table)
        for shake in shakes:
            if self._slot(shake.shake_hash, self._fold_ms) is not None:
                continue
            order_key = int(siphash24(*map(np.uint64, (*key, shake.person_hash))))
            earlier = self._last_of_person.get(shake.person_hash)
            position = self._table.add(shake, self._fold_ms, epoch, order_key, earlier)
            self._position_of[shake.shake_hash] = self._last_of_person[shake.person_hash] = position
        changed = self._table.match(first, key)
        return list(dict.fromkeys(self._table.shakes["shake_hash"][changed].tolist()))

    def tick(self, hive_ms: int) -> None:
        """Time passes: shakes older than ``keep_ms`` are no longer known, and leave memory in batches."""
        self.now_ms = max(self.now_ms, hive_ms)
        oldest = self._table.first_since(self.now_ms - self._keep_ms - _PARTNERS_MS)
        if oldest and 2 * oldest >= len(self._table):
            self._forget(oldest)

    def shakes_of(self, person: str) -> list[tuple[int, int]]:
        """Hive time and shake cell of each shake of somebody that is still known."""
        table = self._table
        times = table.shakes["hive_ms"]
        return [(int(times[slot]), table.cell7[slot]) for slot, each in enumerate(table.persons) if each == person]

    def forget_person(self, person: str) -> None:
        """Their shakes are nobody's from now on ('')."""
        persons = self._table.persons
        for slot, each in enumerate(persons):
            if each == person:
                persons[slot] = ""

    def shake(self, shake_hash: int) -> ShakeView | None:
        """A shake folded within the last ``keep_ms``."""
        slot = self._slot(shake_hash, self.now_ms)
        if slot is None:
            return None
        row = self._table.shakes[slot]
        return ShakeView(
            self._table.persons[slot],
            self._table.cell7[slot],
            ANYWHERE if row["anywhere"] else NEARBY,
            int(row["closed_ms"]),
            int(row["window_ms"]),
            int(row["hive_ms"]),
        )

    def matches(self, shake_hash: int) -> list[Match]:
        """Who this shake met, in the order shown: nearer bands first, inside by the viewer's keyed order, ``anywhere``
        last, oldest first. Empty for a shake not known."""
        viewer = self._slot(shake_hash, self.now_ms)
        if viewer is None:
            return []
        table = self._table
        k0, k1 = map(np.uint64, self._key(int(table.shakes["epoch"][viewer])))
        slots, bands = np.empty(MAX_MATCHES, np.int64), np.empty(MAX_MATCHES, np.int64)
        count = read_matches(table.shakes, table.match_slot, table.match_band, viewer, k0, k1, slots, bands)
        persons = table.persons
        return [
            Match(persons[slot], _shown_band(band, table.cell7[slot], table.cell7[viewer]))
            for slot, band in zip(slots[:count].tolist(), bands[:count].tolist(), strict=True)
        ]

    def digest(self) -> int:
        """64-bit hash of all shakes readable now and their matches: equal in workers at one place of the stream."""
        return self._table.digest(self._table.first_since(self.now_ms - self._keep_ms))

    def _key(self, epoch: int) -> Key:
        key = self._keys.get(epoch)
        if key is None:
            if len(self._keys) == _CACHED_KEYS:
                self._keys.clear()
            key = self._keys[epoch] = self._epoch_key(epoch)
        return key

    def _slot(self, shake_hash: int, now_ms: int) -> int | None:
        position = self._position_of.get(shake_hash)
        if position is None:
            return None
        slot = position - self._table.forgotten
        return slot if self._table.shakes["hive_ms"][slot] + self._keep_ms >= now_ms else None

    def _forget(self, count: int) -> None:
        rows = self._table.shakes[:count]
        first = self._table.forgotten
        for names, hashes in ((self._position_of, rows["shake_hash"]), (self._last_of_person, rows["person_hash"])):
            for position, value in enumerate(hashes.tolist(), first):
                if names[value] == position:
                    del names[value]
        self._table.forget(count)


def _shown_band(band: int, cell_a: int, cell_b: int) -> int:
    """The matching knows the first band of every pair as 0, since it is the nearest there is for them."""
    return _FIRST_BANDS[judged_at(cell_a, cell_b)] if band == 0 else band
