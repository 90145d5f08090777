"""Tombstones: that somebody was erased, and when; of the person only keyed hashes of the id and of the human behind it,
and what is closed to it.

An id lives once more after each erasure: its *life* counts the erasures before it. What was said in an earlier life,
by a token or in a write still under way, changes nothing in a later one.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.sealed import Sealer
from discovery.suspensions import Standing

_NOTHING: Final[Standing] = MappingProxyType({})


class Tombstone(NamedTuple):
    """``at_ms``: when it was asked for, by the clock that tokens are judged by. ``life``: how many erasures this id has
    seen. ``hive_ms``: hive time at which it was folded. ``closed``: suspensions that go on (see ``suspensions.py``),
    here while nobody has come under the id since, so that who is banned does not get rid of it by an erasure.
    ``human``: mark of the human behind the account (see ``humans.py``), 0 where nobody told; for who blocked it."""

    at_ms: int
    life: int
    hive_ms: int
    closed: Standing = _NOTHING
    human: int = 0


TombstoneRow = tuple[Any, ...]
"""Name and the fields of a tombstone, without the last ones where they are empty: a line of a checkpoint."""


def hash_in(name: str) -> np.uint64:
    """The hash of the id, as People keeps it, in the name of a tombstone."""
    return np.uint64(int(name[:16], 16))


class Tombstones:
    """Folded tombstones by name, each part of the shard of the person."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._of: dict[int, dict[str, Tombstone]] = {}
        self._hashes: NDArray[np.uint64] | None = None  # of all names, ascending; None: to be made again

    def __bool__(self) -> bool:
        return any(self._of.values())

    def name(self, user: str) -> str:
        """128 bits as hex: the hash by which People orders the id, then another one."""
        return f"{self._sealer.hash64('person', user):016x}{self._sealer.hash64('tombstone', user):016x}"

    def find(self, shard: int, user: str) -> Tombstone | None:
        """That of one person of ``shard``."""
        of = self._of.get(shard)
        return of.get(self.name(user)) if of else None

    def put(self, shard: int, name: str, tombstone: Tombstone) -> None:
        """A person of ``shard`` was erased (again)."""
        self._of.setdefault(shard, {})[name] = tombstone
        if self._hashes is not None:
            person_hash = hash_in(name)
            self._hashes = np.insert(self._hashes, np.searchsorted(self._hashes, person_hash), person_hash)

    def close(self, shard: int, user: str, closed: Standing) -> None:
        """What is closed to whoever comes under an erased id changed."""
        stands = self.find(shard, user)
        if stands is not None:
            self._of[shard][self.name(user)] = stands._replace(closed=closed)

    def standing(self, shard: int, name: str) -> Tombstone | None:
        """The one of this name."""
        return self._of.get(shard, {}).get(name)

    def likely(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Indices of those whose hash is that of some tombstone: all that are, and one other in 2^64.

        By bisection: each batch with a newcomer asks, and sorting 100,000 tombstones for one of them takes 50 ms.
        """
        if self._hashes is None:
            self._hashes = np.array(sorted(hash_in(name) for of in self._of.values() for name in of), np.uint64)
        if not len(self._hashes):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.flatnonzero(self._hashes[at] == hashes)

    def names(self) -> dict[str, int]:
        """Every name and when; the latest where shards differ."""
        found: dict[str, int] = {}
        for of in self._of.values():
            for name, tombstone in of.items():
                found[name] = max(tombstone.at_ms, found.get(name, 0))
        return found

    def count(self) -> int:
        """How many ids were ever erased."""
        return len(self.names())

    # --- a shard's part ---

    def rows(self, shard: int, after_ms: int = 0) -> list[TombstoneRow]:
        """All of a shard; of suspensions those that end behind ``after_ms``."""
        return [_row(name, tombstone, after_ms) for name, tombstone in self._of.get(shard, {}).items()]

    def restore(self, shard: int, rows: Iterable[TombstoneRow]) -> None:
        """Put back what :meth:`rows` said."""
        self._of[shard] = {name: Tombstone(*fields) for name, *fields in rows}
        self._hashes = None

    def drop(self, shard: int) -> None:
        """Forget those of a shard."""
        self._of.pop(shard, None)
        self._hashes = None


def _row(name: str, tombstone: Tombstone, after_ms: int) -> TombstoneRow:
    closed = {key: until_ms for key, until_ms in tombstone.closed.items() if until_ms > after_ms}
    row = name, tombstone.at_ms, tombstone.life, tombstone.hive_ms
    if tombstone.human:
        return *row, closed, tombstone.human
    return (*row, closed) if closed else row
