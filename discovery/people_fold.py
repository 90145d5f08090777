"""The fold of the people feeds: each kind of entry goes to the part that holds what it changes."""

from collections.abc import Callable
from typing import Any

import orjson
import structlog

from discovery import reports
from discovery.exposure import DAY_MS, Exposure
from discovery.friends import Friendships
from discovery.people import NOBODY, People
from discovery.presence import Presence
from discovery.safety import Blocks

log = structlog.get_logger("nearhive.people")

_LONGEST_RUN = 10_000  # reports applied at once: about 10 ms

CLASS_A = frozenset("sfxcmpe")
"""Kinds of entries that other workers' answers may wait for."""


class PeopleFold:
    """Folds one shard's entries in feed order: r reports, s settings, f friend halves, x block, m mute, c clear,
    p precise share, l live cells of those, v looks at strangers, e erasure, b stores.

    ``on_class_a(shard, kind, payload, now_ms)`` is told at once of an entry that somebody may be waiting for,
    ``on_stores(payload)`` of a store set that changed, ``on_erased(user)`` of somebody who was erased.

    Reports that follow each other are applied in one go: a batch alone costs 50 us whatever it holds. They are gathered
    until anything else comes, an edge among them, or :meth:`settle` is called, which ends each read of a feed: nobody
    can ask in between.
    """

    def __init__(
        self,
        people: People,
        presence: Presence,
        friendships: Friendships,
        blocks: Blocks,
        on_class_a: Callable[[int, str, bytes, int], None],
        on_stores: Callable[[bytes], None],
        on_erased: Callable[[str], None] = lambda user: None,
    ) -> None:
        self._people = people
        self._exposure = Exposure(people)
        self._presence = presence
        self._friendships = friendships
        self._blocks = blocks
        self._on_class_a = on_class_a
        self._on_stores = on_stores
        self._on_erased = on_erased
        self._run: list[reports.ReportBatch] = []
        self._run_reports = 0
        self._run_shard = 0
        self._run_times: list[int] = []

    def fold(self, shard: int, kind: str, payload: bytes, now_ms: int) -> None:
        """Apply one entry. ValueError for a kind that this version does not know."""
        if kind == "r":
            self._fold_reports(shard, payload, now_ms)
            return
        if kind == "l":  # apart from all reports: they need not break a run
            self._friendships.precise.fold_cells(payload, now_ms)
            return
        self.settle()
        if kind == "v":  # counts for who came back after an erasure, which a report may say
            self._exposure.fold(payload)
        elif kind == "b":
            self._on_stores(payload)
        elif kind in CLASS_A:
            self._fold_record(shard, kind, payload, now_ms)
            self._on_class_a(shard, kind, payload, now_ms)
        else:
            raise ValueError(f"a feed entry of unknown kind {kind!r}: was it written by a later version?")

    def _fold_record(self, shard: int, kind: str, payload: bytes, now_ms: int) -> None:
        if kind == "s":
            self._fold_settings(orjson.loads(payload), now_ms)
        elif kind == "f":
            self._friendships.fold(payload, now_ms)
        elif kind == "p":
            self._friendships.precise.fold_share(payload, now_ms)
        elif kind == "m":
            self._people.fold_mute(orjson.loads(payload))
        elif kind == "e":
            self._fold_erasure(shard, orjson.loads(payload), now_ms)
        elif kind == "x":
            pair = self._blocks.fold(payload, now_ms)
            if pair is not None:
                self._friendships.decline(*pair, now_ms)
        else:
            self._presence.fold_clear(payload.decode(), now_ms)
            self._friendships.precise.end_all(self._people.slot_or_new(payload.decode()))

    def _fold_settings(self, change: dict[str, Any], now_ms: int) -> None:
        known = self._people.slot(change["u"])
        hidden = known is None or self._people.visibility_at(known, now_ms) == NOBODY
        slot = self._people.fold_settings(change, now_ms)
        self._presence.refresh_one(slot, now_ms)
        self._friendships.fold_settings(slot, now_ms, was_hidden=hidden)

    def _fold_erasure(self, shard: int, content: list[Any], now_ms: int) -> None:
        """Of whom nothing is known here, only the tombstone."""
        user, name, at_ms, life = content
        if not user:
            self._people.fold_tombstone(shard, name, at_ms, life, now_ms)
            return
        slot = self._people.fold_erased(user, name, at_ms, life, now_ms)
        self._presence.fold_erased(slot, now_ms)
        self._friendships.forget(slot)
        self._blocks.forget(slot)
        self._on_erased(user)

    def _fold_reports(self, shard: int, payload: bytes, now_ms: int) -> None:
        """Broken reports are left out, by every worker alike: class C heals. Any other unreadable entry ends it."""
        try:
            batch = reports.unpack(payload)
        except reports.UnknownVersion:
            raise
        except ValueError as error:
            log.error("unreadable_reports", hive_ms=now_ms, error=str(error))
            return
        if shard != self._run_shard or self._run_reports >= _LONGEST_RUN:
            self.settle()
        if not batch.expiries_ms.all():  # a shake is kept with its own time
            self.settle()
            self._presence.fold_reports(batch, now_ms, shard)
            return
        self._run.append(batch)
        self._run_reports += len(batch.users)
        self._run_times.append(now_ms)
        self._run_shard = shard

    def settle(self) -> None:
        """Apply the reports gathered."""
        if self._run:
            run, times = self._run, self._run_times
            self._run, self._run_times, self._run_reports = [], [], 0
            self._presence.fold_run(run, times, self._run_shard)

    # --- edges ---

    def edge_of(self, shard: int) -> int:
        """The last edge that this shard has crossed."""
        return self._presence.edges(shard).edge_ms

    def announce(self, shard: int, epoch_ms: int) -> None:
        """Ticks of this shard say how long an epoch is."""
        epochs = self._presence.edges(shard).epochs
        if epochs is None or epochs.epoch_ms != epoch_ms:
            self.settle()  # it says who counts as absent
            self._presence.set_epoch(epoch_ms, shard)

    def cross_alone(self, shard: int, now_ms: int) -> None:
        """A shard being restored passes all edges up to ``now_ms``."""
        edges = self._presence.edges(shard)
        epochs = edges.epochs
        if epochs is not None and epochs.last_edge(now_ms) > edges.edge_ms:
            self.settle()
            self._friendships.precise.expire(epochs.last_edge(now_ms))
            self._presence.on_time(now_ms, epochs.epoch_ms, shard)

    def cross_together(self, edge_ms: int) -> bool:
        """Every shard that has not crossed ``edge_ms`` yet crosses it, if it has an edge there; False when none has."""
        self.settle()
        self._friendships.precise.expire(edge_ms)
        crossed = self._presence.cross_all(edge_ms)
        self._exposure.forget_before(self._presence.stranger_edge_ms // DAY_MS)
        return crossed
