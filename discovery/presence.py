"""Where people are, as cells: one state machine a person, folded from the feed; edges publish, visibility only masks.

Columns by slot, all of resolution 8: ``published`` (what friends at `near` see), ``stranger`` (what was published at
the last stranger edge; its parents are what everyone coarser sees), ``pending`` (published at the next edge). A cell
outlives presence as the anchor of hysteresis, shown to nobody.
"""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from discovery.people import People, grown
from discovery.reports import ReportBatch
from geo import cells
from geo.crowd import Crowd
from geo.kernels import keyed, presence
from geo.privacy import PRECISION_RESOLUTION, STRANGER_RESOLUTION, Epochs

_DELTA_LIMIT = 2048  # a first appearance costs each query a few ns; past this a rebuild is cheaper
_DIGESTS_KEPT = 16
_STRANGER_EPOCHS = 3

EpochKey = Callable[[int], tuple[int, int]]


class Presence:
    """Folds reports, clears and edges; answers who is live and in which cell."""

    def __init__(self, people: People, epoch_key: EpochKey) -> None:
        capacity = len(people.hashes)
        self._people = people
        self._epoch_key = epoch_key
        self.epochs = Epochs(1000)
        self.edge_ms = 0
        self.stranger_edge_ms = 0
        self.published = np.zeros(capacity, np.uint64)
        self.stranger = np.zeros(capacity, np.uint64)
        self.pending = np.zeros(capacity, np.uint64)
        self.live_until_ms = np.zeros(capacity, np.int64)
        self.seen_ms = np.zeros(capacity, np.int64)  # last shake: its cell was shown without presence
        self.extended_edge_ms = np.zeros(capacity, np.int64)  # epoch in which the expiry last moved
        self.shown_until_ms = np.zeros(capacity, np.int64)  # until when strangers may be shown this person
        self.digests: OrderedDict[int, int] = OrderedDict()
        self._crowd: Crowd | None = None
        self._keep_digests = False

    # --- fold ---

    def on_time(self, now_ms: int, epoch_ms: int) -> None:
        """Hive time moved to ``now_ms``: cross the edges passed, if any. Called before the entry is folded."""
        if epoch_ms == 0:
            return
        if self.epochs.epoch_ms != epoch_ms:
            self.epochs = Epochs(epoch_ms)
        edge_ms = self.epochs.last_edge(now_ms)
        if edge_ms > self.edge_ms:
            self._cross(edge_ms, self.epochs.last_stranger_edge(now_ms))

    def keep_digests(self) -> None:
        """From now on a digest is taken at every edge (not while catching up: old edges help nobody)."""
        self._keep_digests = True

    def _cross(self, edge_ms: int, stranger_edge_ms: int) -> None:
        """Publish. Crossing many edges at once equals crossing each: nothing was reported in between."""
        presence.adopt(self.pending, self.published)
        if stranger_edge_ms > self.edge_ms:  # else it was no stranger edge when it passed: the epoch was another then
            presence.adopt(self.published, self.stranger)
            self.stranger_edge_ms = stranger_edge_ms
            self._crowd = None
        self.edge_ms = edge_ms
        if self._keep_digests:
            self._take_digest(edge_ms)

    def _take_digest(self, edge_ms: int) -> None:
        self._fit()
        n = len(self._people)
        self.digests[edge_ms] = int(
            presence.digest(self._people.hashes[:n], self.published[:n], self.pending[:n], self.live_until_ms[:n])
        )
        while len(self.digests) > _DIGESTS_KEPT:
            self.digests.popitem(last=False)

    def fold_reports(self, batch: ReportBatch, now_ms: int) -> None:
        """Apply one batch of reports, but none by which the app would bring back who cleared."""
        slots = self._people.slots_or_new(batch.users)
        self._fit()
        self._people.fold_claims(slots, batch.flags)
        taken = ~self._people.cleared[slots] | (batch.expiries_ms == 0)
        self._fold_taken(slots[taken], batch.cells[taken], batch.expiries_ms[taken], now_ms)
        self.refresh(slots, now_ms)

    def _fold_taken(
        self, slots: NDArray[np.int32], cells8: NDArray[np.uint64], expiries_ms: NDArray[np.int64], now_ms: int
    ) -> None:
        absent_ms = self.stranger_edge_ms - _STRANGER_EPOCHS * self.epochs.epoch_ms
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
        self.extended_edge_ms[slots[extended]] = self.edge_ms

    def fold_clear(self, user: str, now_ms: int) -> None:
        """The person cleared their position: gone now; the cell stays as anchor."""
        slot = self._people.slot_or_new(user)
        self._fit()
        self._people.cleared[slot] = True
        self.live_until_ms[slot] = min(int(self.live_until_ms[slot]), now_ms)
        self.refresh_one(slot, now_ms)

    def refresh(self, slots: NDArray[np.int32], now_ms: int) -> None:
        """Presence or settings of ``slots`` changed: who strangers may see, at once."""
        if self._crowd is None:  # its first use works all of it out
            return
        self._fit()
        self._show(slots)
        self._join_crowd(self._crowd, slots[self.shown_until_ms[slots] > now_ms])

    def refresh_one(self, slot: int, now_ms: int) -> None:
        """Like ``refresh`` for one person."""
        self.refresh(np.array([slot], np.int32), now_ms)

    def _show(self, slots: NDArray[np.int32]) -> None:
        """A suspension counts to the end of its stranger epoch, else it would end here and there at other times."""
        until_ms = self._people.strangers_until_ms(slots, self.stranger_edge_ms)
        self.shown_until_ms[slots] = np.minimum(self.live_until_ms[slots], until_ms)

    def _join_crowd(self, crowd: Crowd, slots: NDArray[np.int32]) -> None:
        newcomers = [int(slot) for slot in np.unique(slots) if int(slot) not in crowd]
        if len(newcomers) > _DELTA_LIMIT:
            self._crowd = None
            return
        keys = self._member_keys(np.array(newcomers, np.int32))
        for slot, key in zip(newcomers, keys, strict=True):
            crowd.add(self.stranger_cell(slot), int(key), slot)

    def _fit(self) -> None:
        capacity = len(self._people.hashes)
        if len(self.published) < capacity:
            for name, column in vars(self).items():
                if isinstance(column, np.ndarray):
                    setattr(self, name, grown(column, capacity))

    # --- questions ---

    def is_live(self, slot: int, now_ms: int) -> bool:
        """Whether the person has a live position."""
        return slot < len(self.live_until_ms) and bool(self.live_until_ms[slot] > now_ms)

    def count_live(self, now_ms: int) -> int:
        """How many people are live."""
        return int(np.count_nonzero(self.live_until_ms > now_ms))

    def stranger_cell(self, slot: int) -> int:
        """The resolution-7 cell that strangers see or would see."""
        return cells.parent(int(self.stranger[slot]), STRANGER_RESOLUTION)

    def cell_at(self, slot: int, precision: str) -> int:
        """The cell that a friend at ``precision`` sees: always a parent of the one state machine's cell."""
        if precision == "near":
            return int(self.published[slot])
        return cells.parent(int(self.stranger[slot]), PRECISION_RESOLUTION[precision])

    def viewer_key(self, slot: int) -> int:
        """Where this person stands on the keyed circle of the present stranger epoch."""
        return int(self._member_keys(np.array([slot], np.int32))[0])

    def crowd(self, now_ms: int) -> Crowd:
        """The people index of this stranger epoch, built at first need."""
        if self._crowd is None:
            self._crowd = self._build_crowd(now_ms)
        return self._crowd

    def _build_crowd(self, now_ms: int) -> Crowd:
        self._fit()
        everyone = np.arange(len(self._people), dtype=np.int32)
        self._show(everyone)
        slots = everyone[self.shown_until_ms[everyone] > now_ms]
        return Crowd(cells.parents(self.stranger[slots], STRANGER_RESOLUTION), self._member_keys(slots), slots)

    def _member_keys(self, slots: NDArray[np.int32]) -> NDArray[np.uint64]:
        k0, k1 = self._epoch_key(self.stranger_edge_ms)
        keys: NDArray[np.uint64] = keyed.siphash24_many(k0, k1, self._people.hashes[slots])
        return keys
