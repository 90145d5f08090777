"""The people index of a stranger epoch, built beside the fold: begun and finished between two entries, built in between
by any thread.

What the building thread reads may be changed by the fold meanwhile. So the plan notes whose rows change (of all that
strangers see, ``Presence.refresh`` is told), and those are put right when it is finished; of everybody else it has read
what stood there all the time. At a stranger edge, and when a shard is dropped, a plan is void.

The building thread calls nothing that keeps the interpreter for more than a millisecond: ufuncs on whole columns,
``take``, ``searchsorted`` and kernels all let go of it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.people import AgesAndVisibility
from geo import cells
from geo.crowd import Cells, Crowd
from geo.kernels import keyed
from geo.privacy import STRANGER_RESOLUTION
from geo.sparse import SparseAreas

Slots = NDArray[np.int32]


class Built(NamedTuple):
    """The index, until when strangers may be shown each person (int64[n]), and of which cells of resolution 8
    (uint64[n]) and which people (bool[n]) it was built."""

    crowd: Crowd
    shown_until_ms: NDArray[np.int64]
    stranger: Cells
    members: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CrowdPlan:
    """What an index is built of; the columns are of the first n people, by slot.

    ``unseen`` int[m]: slots of those whom strangers do not see for anything beside the columns.
    """

    key: tuple[int, int]
    now_ms: int
    areas: SparseAreas | None
    hashes: NDArray[np.uint64]
    stranger: Cells
    live_until_ms: NDArray[np.int64]
    cleared: NDArray[np.bool_]
    settings: AgesAndVisibility
    unseen: NDArray[np.int64]
    changed: list[Slots] = field(default_factory=list)

    def build(self) -> Built:
        """For any thread: a tenth of a second for a million people."""
        stranger = self.stranger.copy()
        shown_ms = self._shown_until_ms()
        # Who is being erased this moment may have lost the cell and not the rest.
        members = (shown_ms > self.now_ms) & (stranger != 0)
        slots = np.flatnonzero(members).astype(np.int32)
        cells7 = cells.parents(stranger.take(slots), STRANGER_RESOLUTION)
        shown = cells7 if self.areas is None else self.areas.published_many(cells7)
        keys = keyed.siphash24_many(*self.key, self.hashes.take(slots))
        return Built(Crowd(shown, keys, slots), shown_ms, stranger, members)

    def _shown_until_ms(self) -> NDArray[np.int64]:
        until_ms = self.settings.strangers_until_ms()
        np.minimum(until_ms, self.live_until_ms, out=until_ms)
        until_ms *= ~self.cleared
        until_ms[self.unseen] = 0
        return until_ms

    def changed_slots(self) -> Slots:
        """Whose rows changed since the plan was made, int32[m] ascending."""
        return np.unique(np.concatenate(self.changed)) if self.changed else np.empty(0, np.int32)
