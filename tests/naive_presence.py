"""Slow, obvious twin of presence: the three kernels on plain lists, and the whole state machine on plain dicts.

Written from the rules in words: one state machine a person, at resolution 8. A report is published at once only
for who was never seen, or was absent for the whole stranger epoch before the last stranger edge; else it is pending
until the next edge. What strangers see moves at stranger edges, every third. A shake moves the cells but makes no
presence. Whatever ends presence, the cell stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.naive_geo import CIRCLE, siphash24

EDGES_PER_STRANGER_EDGE = 3


@dataclass
class Person:
    """One person's cells and times; 0 = none."""

    published: int = 0
    stranger: int = 0
    pending: int = 0
    live_until_ms: int = 0
    seen_ms: int = 0


def fold_reports(
    people: Sequence[Person], reports: Sequence[tuple[int, int, int]], now_ms: int, absent_ms: int
) -> None:
    """Reports are (slot, cell, expiry_ms), expiry 0 for a shake."""
    for slot, cell, expiry_ms in reports:
        person = people[slot]
        never_seen = person.published == 0
        long_away = person.live_until_ms <= absent_ms and person.seen_ms < absent_ms
        if never_seen or long_away:
            person.published = person.stranger = cell
        person.pending = cell
        if expiry_ms == 0:
            person.seen_ms = now_ms
        else:
            person.live_until_ms = expiry_ms


def adopt(source: Sequence[int], target: Sequence[int], shards: Sequence[int], shard: int) -> list[int]:
    """The target after an edge of one shard, or of all (-1)."""
    rows = zip(source, target, shards, strict=True)
    return [new if shard in (-1, its_shard) else old for new, old, its_shard in rows]


def digest(rows: Sequence[tuple[int, int, int, int]]) -> int:
    """Of rows (person hash, published, pending, expiry); who has none of the last three counts as unknown."""
    total = 0
    for person_hash, published, pending, expiry_ms in rows:
        if (published, pending, expiry_ms) == (0, 0, 0):
            continue
        value = _hashed(0, person_hash ^ published)
        value = _hashed(value, pending)
        value = _hashed(value, expiry_ms)
        total += value
    return total % CIRCLE


def _hashed(key: int, value: int) -> int:
    return siphash24(bytes(8) + key.to_bytes(8, "little"), value.to_bytes(8, "little"))


@dataclass
class NaivePresence:
    """The state machine of everybody, edge by edge."""

    people: dict[str, Person] = field(default_factory=dict)
    epoch_ms: int = 0
    edge_ms: int = 0
    stranger_edge_ms: int = 0
    cleared: set[str] = field(default_factory=set)

    def on_time(self, now_ms: int, epoch_ms: int) -> None:
        """Cross every edge up to now, one after the other."""
        self.epoch_ms = epoch_ms
        if not self.people:  # nobody to publish: only where we are counts, and 1970 is far away
            self._start_at(now_ms)
        edge_ms = (self.edge_ms // epoch_ms + 1) * epoch_ms
        while edge_ms <= now_ms:
            for person in self.people.values():
                person.published = person.pending
            if edge_ms % (EDGES_PER_STRANGER_EDGE * epoch_ms) == 0:
                for person in self.people.values():
                    person.stranger = person.published
                self.stranger_edge_ms = edge_ms
            self.edge_ms = edge_ms
            edge_ms += epoch_ms

    def _start_at(self, now_ms: int) -> None:
        stranger_epoch_ms = EDGES_PER_STRANGER_EDGE * self.epoch_ms
        edge_ms = now_ms // self.epoch_ms * self.epoch_ms
        stranger_edge_ms = now_ms // stranger_epoch_ms * stranger_epoch_ms
        if stranger_edge_ms > self.edge_ms:
            self.stranger_edge_ms = stranger_edge_ms
        self.edge_ms = max(self.edge_ms, edge_ms)

    def report(self, user: str, cell: int, expiry_ms: int, now_ms: int, *, own: bool = True) -> None:
        """A shake, or the person's report, or the app's, which is nothing after the person's own clear."""
        is_shake = expiry_ms == 0
        if own and not is_shake:
            self.cleared.discard(user)
        if user in self.cleared and not is_shake:
            return
        absent_ms = self.stranger_edge_ms - EDGES_PER_STRANGER_EDGE * self.epoch_ms
        fold_reports([self.people.setdefault(user, Person())], [(0, cell, expiry_ms)], now_ms, absent_ms)

    def clear(self, user: str, now_ms: int) -> None:
        """The person is gone; the cell stays as anchor."""
        person = self.people.setdefault(user, Person())
        person.live_until_ms = min(person.live_until_ms, now_ms)
        self.cleared.add(user)

    def live(self, now_ms: int) -> set[str]:
        """Who has a live position."""
        return {user for user, person in self.people.items() if person.live_until_ms > now_ms}
