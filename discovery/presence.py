"""Where people are, as cells: one state machine a person, folded from the feed; edges publish, visibility only masks.

Columns by slot, all of resolution 8: ``published`` (what friends at `near` see), ``stranger`` (what was published at
the last stranger edge; its parents are what everyone coarser sees), ``pending`` (published at the next edge). A cell
outlives presence as the anchor of hysteresis, shown to nobody.

What is folded of a person follows from the feed of their shard alone: each shard crosses the edges of its own feed, at
its own place there, with the epoch length that its own ticks announce. While all are followed they cross together, so
that questions see one edge; a shard that is being restored crosses alone, and until it has caught up with the others
(:attr:`Presence.in_step`) nothing may be answered.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discovery.columns import grown, put
from discovery.crowd_plan import Built, CrowdPlan
from discovery.people import People
from discovery.reports import JUMP, ReportBatch, chosen, joined
from geo import cells
from geo.crowd import BandsAround, Crowd
from geo.kernels import keyed, presence
from geo.mixed_bands import Band, MixedBandsAround, pair
from geo.privacy import (
    PRECISION_RESOLUTION,
    STRANGER_BANDS_M,
    STRANGER_RESOLUTION,
    Epochs,
    bands_within,
    uncertainty_m,
)
from geo.sparse import SparseAreas

_DELTA_LIMIT = 8192  # a first appearance costs each query a few ns; past this another index is built
_DIGESTS_KEPT = 16
_STRANGER_EPOCHS = 3
_EVERY_SHARD = -1
DAY_MS = 86_400_000
_BEFORE_ANY_TICK = Epochs(1000)
_BANDS: list[Band] = list(pairwise(STRANGER_BANDS_M))

EpochKey = Callable[[int], tuple[int, int]]


@dataclass(slots=True)
class ShardEdges:
    """Where the feed of one shard stands: its last edge and stranger edge (ms, 0 = none), and the epochs that its ticks
    announce (None = no tick yet)."""

    edge_ms: int = 0
    stranger_edge_ms: int = 0
    epochs: Epochs | None = None


class Presence:
    """Folds reports, clears and edges; answers who is live and in which cell."""

    FOLDED = (
        "published",
        "stranger",
        "pending",
        "live_until_ms",
        "seen_ms",
        "extended_edge_ms",
        "reported_ms",
        "jump_day",
    )
    """Columns that the feed of the person's shard made, and no other."""

    def __init__(self, people: People, epoch_key: EpochKey, areas: SparseAreas | None = None) -> None:
        """``areas``: what coarser cells strangers see where few people live; None: the same resolution everywhere."""
        capacity = len(people.hashes)
        self._people = people
        self._epoch_key = epoch_key
        self._areas = areas
        self._edges: dict[int, ShardEdges] = {}
        self.edge_ms = 0  # the last that every shard has crossed, and the same for strangers
        self.stranger_edge_ms = 0
        self._in_step = False
        self.published = np.zeros(capacity, np.uint64)
        self.stranger = np.zeros(capacity, np.uint64)
        self.pending = np.zeros(capacity, np.uint64)
        self.live_until_ms = np.zeros(capacity, np.int64)
        self.seen_ms = np.zeros(capacity, np.int64)  # last shake: its cell was shown without presence
        self.extended_edge_ms = np.zeros(capacity, np.int64)  # epoch in which the expiry last moved
        self.reported_ms = np.zeros(capacity, np.int64)  # when the feed last said that somebody is in ``pending``
        self.jump_day = np.zeros(capacity, np.int32)  # day since 1970 of the last free jump
        self.shown_until_ms = np.zeros(capacity, np.int64)  # until when strangers may be shown this person
        self._in_crowd = np.zeros(capacity, np.bool_)  # members of the index, while there is one
        self.digests: OrderedDict[int, int] = OrderedDict()
        self._crowd: Crowd | None = None
        self._plan: CrowdPlan | None = None  # of the next one, while it is built
        self._keep_digests = False

    # --- edges ---

    def on_time(self, now_ms: int, epoch_ms: int, shard: int = 0) -> None:
        """Hive time of one shard moved to ``now_ms``: it crosses the edges passed, if any, alone. Called before the
        entry is folded."""
        if epoch_ms == 0:
            return
        self.set_epoch(epoch_ms, shard)
        self._cross([shard], now_ms)

    def set_epoch(self, epoch_ms: int, shard: int) -> None:
        """A tick of this shard announced the epoch length; 0 says nothing. Called before the edges that it makes are
        crossed."""
        edges = self.edges(shard)
        if epoch_ms and (edges.epochs is None or edges.epochs.epoch_ms != epoch_ms):
            edges.epochs = Epochs(epoch_ms)

    def cross_all(self, up_to_ms: int) -> bool:
        """Every shard has reached ``up_to_ms``, or waits in front of its first entry behind it: all cross the edges up
        to there in one step. Returns whether any did.

        Each by its own epoch length. For a moment after a change the lengths differ between shards, and a shard may
        have no edge here that another has; it then crosses nothing, as it will not when its feed is folded anew.
        """
        return self._cross(self._people.shards.all(), up_to_ms)

    def edges(self, shard: int) -> ShardEdges:
        """Where one shard stands."""
        found = self._edges.get(shard)
        if found is None:
            found = self._edges[shard] = ShardEdges()
        return found

    @property
    def in_step(self) -> bool:
        """Whether all shards stand at the same edge; else no question may be answered."""
        return self._in_step

    @property
    def epochs(self) -> Epochs:
        """The epochs of now; those of the first shard while shards differ."""
        return self.edges(0).epochs or _BEFORE_ANY_TICK

    def keep_digests(self) -> None:
        """From now on a digest is taken at every edge (not while catching up: old edges help nobody)."""
        self._keep_digests = True

    def _cross(self, shards: Sequence[int], up_to_ms: int) -> bool:
        """Publish. Crossing many edges at once equals crossing each: nothing was reported in between."""
        passed = []
        for shard in shards:
            edges = self.edges(shard)
            if edges.epochs is not None and edges.epochs.last_edge(up_to_ms) > edges.edge_ms:
                passed.append((shard, edges, edges.epochs))
        if not passed:
            return False
        self.fit()
        self._adopt(self.pending, self.published, [shard for shard, _, _ in passed])
        moved_on = []
        for shard, edges, epochs in passed:
            stranger_edge_ms = epochs.last_stranger_edge(up_to_ms)
            if stranger_edge_ms > edges.edge_ms:  # else no stranger edge when it passed: the epoch was another then
                edges.stranger_edge_ms = stranger_edge_ms
                moved_on.append(shard)
            edges.edge_ms = epochs.last_edge(up_to_ms)
        self._adopt(self.published, self.stranger, moved_on)
        self._settle()
        if self._keep_digests and self._in_step and len(passed) == self._people.shards.count:
            self._take_digest(self.edge_ms)
        return True

    def _adopt(self, source: NDArray[np.uint64], target: NDArray[np.uint64], shards: list[int]) -> None:
        if len(shards) == self._people.shards.count:
            shards = [_EVERY_SHARD]
        for shard in shards:
            presence.adopt(source, target, self._people.shard, shard)
        if target is self.stranger and shards:
            self._drop_crowd()

    def _settle(self) -> None:
        """The edges of all follow from those of each."""
        every = [self.edges(shard) for shard in self._people.shards.all()]
        self.edge_ms = min(edges.edge_ms for edges in every)
        self.stranger_edge_ms = min(edges.stranger_edge_ms for edges in every)
        self._in_step = self.edge_ms > 0 and all(edges.edge_ms == self.edge_ms for edges in every)

    def _take_digest(self, edge_ms: int) -> None:
        """All have just crossed. Of who had before, each worker would see another moment behind the edge."""
        self.fit()
        n = len(self._people)
        self.digests[edge_ms] = int(
            presence.digest(self._people.hashes[:n], self.published[:n], self.pending[:n], self.live_until_ms[:n])
        )
        while len(self.digests) > _DIGESTS_KEPT:
            self.digests.popitem(last=False)

    # --- fold ---

    def fold_reports(self, batch: ReportBatch, now_ms: int, shard: int = 0) -> None:
        """Apply one batch of reports of one shard's people, but none by which the app would bring back who cleared or
        was erased, nor what comes late of an earlier life."""
        slots = self._slots_of(batch)
        ours = self._people.of_this_life(slots, batch.flags)
        if not ours.all():
            slots, batch = slots[ours], chosen(batch, ours)
        self._fold_batch(slots, batch, np.full(len(slots), now_ms, np.int64), shard)

    def fold_run(self, batches: list[ReportBatch], times_ms: list[int], shard: int = 0) -> None:
        """Apply batches that follow each other in the feed of a shard, each at its time, as ``fold_reports`` of each
        would. No edge lies between them and they hold no shake.

        They are applied as one batch. Then times and cells come out the same, for reports are taken in order and only a
        shake keeps its own time. Who has cleared their position or was erased is the exception: the own report ends
        that for all of its batch, so then each is applied alone.
        """
        run = joined(batches)
        slots = self._slots_of(run)
        if not (self._people.cleared[slots].any() or self._people.lives[slots].any()):
            times = np.repeat(np.array(times_ms, np.int64), [len(batch.users) for batch in batches])
            self._fold_batch(slots, run, times, shard)
            return
        for batch, now_ms in zip(batches, times_ms, strict=True):
            self.fold_reports(batch, now_ms, shard)

    def _slots_of(self, batch: ReportBatch) -> NDArray[np.int32]:
        slots = self._people.slots_or_new(batch.users)
        self.fit()
        return slots

    def _fold_batch(
        self, slots: NDArray[np.int32], batch: ReportBatch, times_ms: NDArray[np.int64], shard: int
    ) -> None:
        if not len(slots):
            return
        now_ms = int(times_ms[-1])
        self._people.fold_claims(slots, batch.flags)
        self._people.fold_first(slots, times_ms)
        taken = ~self._people.cleared[slots] | (batch.expiries_ms == 0)
        self._fold_taken(slots[taken], batch.cells[taken], batch.expiries_ms[taken], now_ms, self.edges(shard))
        # Of several rows of one person the last stays, as when each is folded alone.
        self.reported_ms[slots[taken]] = times_ms[taken]
        jumped = taken & ((batch.flags & JUMP) != 0)
        self.jump_day[slots[jumped]] = times_ms[jumped] // DAY_MS
        self.refresh(slots, now_ms)

    def _fold_taken(
        self,
        slots: NDArray[np.int32],
        cells8: NDArray[np.uint64],
        expiries_ms: NDArray[np.int64],
        now_ms: int,
        edges: ShardEdges,
    ) -> None:
        epochs = edges.epochs or _BEFORE_ANY_TICK
        absent_ms = edges.stranger_edge_ms - _STRANGER_EPOCHS * epochs.epoch_ms
        extended = (expiries_ms > 0) & (expiries_ms != self.live_until_ms[slots])
        presence.fold_reports(
            slots,
            cells8,
            expiries_ms,
            now_ms,
            absent_ms,
            self.published,
            self.stranger,
            self.pending,
            self.live_until_ms,
            self.seen_ms,
        )
        self.extended_edge_ms[slots[extended]] = edges.edge_ms

    def fold_clear(self, user: str, now_ms: int) -> None:
        """The person cleared their position: gone now; the cell stays as anchor.

        Gone by ``cleared``, not by ``now_ms``: that is the time of this shard, and questions are asked at that of the
        slowest, which may be seconds behind.
        """
        slot = self._people.slot_or_new(user)
        self.fit()
        self._people.cleared[slot] = True
        self.live_until_ms[slot] = min(int(self.live_until_ms[slot]), now_ms)
        self.refresh_one(slot, now_ms)

    def fold_erased(self, slot: int, now_ms: int) -> None:
        """The person was erased: no cell is left, as for who never was here."""
        self.fit()
        self._leave_crowd(slot, self.stranger)
        for name in (*self.FOLDED, "shown_until_ms"):
            getattr(self, name)[slot] = 0
        if self._plan is not None:
            self._plan.changed.append(np.array([slot], np.int32))

    def refresh(self, slots: NDArray[np.int32], now_ms: int) -> None:
        """Presence or settings of ``slots`` changed: who strangers may see, at once."""
        if self._plan is not None:
            self._plan.changed.append(slots)
        if self._crowd is None:  # its first use works all of it out
            return
        self.fit()
        self._show(slots)
        self._join_crowd(self._crowd, slots[self.shown_until_ms[slots] > now_ms])

    def refresh_one(self, slot: int, now_ms: int) -> None:
        """Like ``refresh`` for one person."""
        self.refresh(np.array([slot], np.int32), now_ms)

    def _show(self, slots: NDArray[np.int32]) -> None:
        """A suspension counts to the end of the stranger epoch of all, else it would end here and there at other
        times."""
        until_ms = self._people.strangers_until_ms(slots, self.stranger_edge_ms)
        shown_ms = np.minimum(self.live_until_ms[slots], until_ms)
        self.shown_until_ms[slots] = np.where(self._people.cleared[slots], 0, shown_ms)
        self.shown_until_ms[self._people.quiet_zones.inside(slots, self.stranger)] = 0

    def _join_crowd(self, crowd: Crowd, slots: NDArray[np.int32]) -> None:
        newcomers = np.unique(slots[~self._in_crowd[slots]])
        crowd.add_many(self._stranger_cells(newcomers), self._member_keys(newcomers), newcomers)
        self._in_crowd[newcomers] = True

    def _leave_crowd(self, slot: int, stranger: NDArray[np.uint64]) -> None:
        """``stranger`` has the cell at which the person is in the index."""
        if self._crowd is not None and self._in_crowd[slot]:
            cell = int(self._stranger_cells(np.array([slot]), stranger)[0])
            self._crowd.remove(cell, self.viewer_key(slot), slot)
            self._in_crowd[slot] = False

    def _drop_crowd(self) -> None:
        self._crowd = self._plan = None

    # --- a shard's part ---

    def drop(self, shard: int) -> None:
        """Forget what is folded of a shard's people and where its feed stands. The digests go too: if the shard is
        restored because it had gone astray, they say so of edges long past."""
        slots = self._people.of_shard(shard)
        self.fit()
        for name in (*self.FOLDED, "shown_until_ms"):
            put(getattr(self, name), slots, 0)
        self.restore(shard, ShardEdges())
        self.digests.clear()

    def restore(self, shard: int, edges: ShardEdges) -> None:
        """The columns of a shard were put back as they were at ``edges``."""
        self._edges[shard] = edges
        self._drop_crowd()
        self._settle()

    def fit(self) -> None:
        """Make room for everybody known."""
        capacity = len(self._people.hashes)
        if len(self.published) < capacity:
            for name, column in vars(self).items():
                if isinstance(column, np.ndarray):
                    setattr(self, name, grown(column, capacity))

    # --- questions ---

    def is_live(self, slot: int, now_ms: int) -> bool:
        """Whether the person has a live position."""
        return slot < len(self.live_until_ms) and bool(
            self.live_until_ms[slot] > now_ms and not self._people.cleared[slot]
        )

    def count_live(self, now_ms: int) -> int:
        """How many people are live."""
        live = self.live_until_ms > now_ms
        return int(np.count_nonzero(live & ~self._people.cleared[: len(live)]))

    def stranger_cell(self, slot: int) -> int:
        """The cell that strangers see or would see: of resolution 7, or coarser where few people live."""
        cell = cells.parent(int(self.stranger[slot]), STRANGER_RESOLUTION)
        return cell if self._areas is None else self._areas.published(cell)

    def bands_around(self, cell: int, radius_m: int) -> tuple[Sequence[NDArray[np.uint64]], list[Band]]:
        """The bands around a cell that strangers see, and the borders of each. ValueError for a radius that is none."""
        if self._areas is None:
            return BandsAround(cell, bands_within(radius_m)), _BANDS
        mixed = MixedBandsAround(cell, radius_m)
        return mixed, mixed.limits

    def stranger_uncertainty_m(self, slot: int) -> float:
        """Declared uncertainty, in metres, of the cell that strangers see or would see."""
        cell = self.stranger_cell(slot)
        return uncertainty_m(cell) if self._areas is None else self._areas.uncertainty_m(cell)

    def pair_cells(self, a: int, b: int, precision: str) -> tuple[int, int]:
        """The cells of two friends at a precision, both as coarse as the coarser of the two."""
        return pair(self.cell_at(a, precision), self.cell_at(b, precision))

    def cell_at(self, slot: int, precision: str) -> int:
        """The cell that a friend at ``precision`` sees: always a parent of the one state machine's cell."""
        if precision == "near":
            return int(self.published[slot])
        if precision == "area":
            return self.stranger_cell(slot)
        return cells.parent(int(self.stranger[slot]), PRECISION_RESOLUTION[precision])

    def coarsened(self, a: int, b: int, precision: str) -> str:
        """The precision at which two friends see each other where either is in a quiet zone: `city`, else as it was.

        It changes only at edges: for who sees the cell of each epoch at one of those, else at a stranger edge.
        """
        if precision in ("hidden", "city") or not (self._quiet(a, precision) or self._quiet(b, precision)):
            return precision
        return "city"

    def in_quiet_zone(self, slot: int) -> bool:
        """Whether strangers do not see the person for a quiet zone."""
        return self._in_zone(slot, self.stranger)

    def _quiet(self, slot: int, precision: str) -> bool:
        return self.in_quiet_zone(slot) or (precision != "area" and self._in_zone(slot, self.published))

    def _in_zone(self, slot: int, column: NDArray[np.uint64]) -> bool:
        return slot < len(column) and self._people.quiet_zones.hold(slot, int(column[slot]))

    def viewer_key(self, slot: int) -> int:
        """Where this person stands on the keyed circle of the present stranger epoch."""
        return int(self._member_keys(np.array([slot], np.int32))[0])

    def crowd(self, now_ms: int) -> Crowd:
        """The people index of this stranger epoch, built at once if there is none."""
        while self._crowd is None:
            plan = self.plan_crowd(now_ms)
            self.take_crowd(plan, plan.build(), now_ms)
        return self._crowd

    @property
    def has_crowd(self) -> bool:
        """Whether there is an index of this stranger epoch."""
        return self._crowd is not None

    @property
    def wants_crowd(self) -> bool:
        """Whether so many came since the index was built that another one would be better."""
        return self._crowd is not None and self._crowd.added > _DELTA_LIMIT

    def plan_crowd(self, now_ms: int) -> CrowdPlan:
        """Begin to build the index of this stranger epoch. Its first columns may be read by another thread."""
        self.fit()
        people, n = self._people, len(self._people)
        quiet = people.quiet_zones.all_inside(self.stranger[:n])
        self._plan = CrowdPlan(
            key=self._epoch_key(self.stranger_edge_ms),
            now_ms=now_ms,
            areas=self._areas,
            hashes=people.hashes[:n],
            stranger=self.stranger[:n],
            live_until_ms=self.live_until_ms[:n],
            cleared=people.cleared[:n],
            settings=people.ages_and_visibility(n),
            unseen=np.union1d(people.suspended_at("nearby", self.stranger_edge_ms), quiet).astype(np.int64),
        )
        return self._plan

    def take_crowd(self, plan: CrowdPlan, built: Built, now_ms: int) -> bool:
        """The index was built: it is the one from now on, unless the plan is void. Who changed meanwhile is put right:
        out, where they were built in at another cell than they have now, and in."""
        if plan is not self._plan:
            return False
        n = len(built.members)
        self._plan, self._crowd = None, built.crowd
        self.shown_until_ms[:n] = built.shown_until_ms
        self._in_crowd[:n] = built.members
        self._in_crowd[n:] = False
        changed = plan.changed_slots()
        known = changed[changed < n]
        for slot in known[built.stranger[known] != self.stranger[known]].tolist():
            self._leave_crowd(slot, built.stranger)
        self.refresh(changed, now_ms)
        return True

    def _stranger_cells(
        self, slots: NDArray[np.integer[Any]], stranger: NDArray[np.uint64] | None = None
    ) -> NDArray[np.uint64]:
        cells7 = cells.parents((self.stranger if stranger is None else stranger)[slots], STRANGER_RESOLUTION)
        return cells7 if self._areas is None else self._areas.published_many(cells7)

    def crowd_of(self, slots: NDArray[np.int32], now_ms: int) -> Crowd:
        """An index of those alone of these different people who are in :meth:`crowd`: for 50, 0.1 ms."""
        self.crowd(now_ms)
        slots = slots[slots < len(self._in_crowd)]
        slots = slots[self._in_crowd[slots]]
        return Crowd(self._stranger_cells(slots), self._member_keys(slots), slots)

    def _member_keys(self, slots: NDArray[np.int32]) -> NDArray[np.uint64]:
        k0, k1 = self._epoch_key(self.stranger_edge_ms)
        keys: NDArray[np.uint64] = keyed.siphash24_many(k0, k1, self._people.hashes[slots])
        return keys
