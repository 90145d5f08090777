"""One page of the people around a viewer, as far as the caps on exposure let the viewer see them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.exposure_caps import MOST_STRANGERS, ExposureCaps
from discovery.presence import Presence
from geo.crowd import Cells, Crowd
from geo.privacy import EDGES_PER_STRANGER_EDGE

_LARGEST_CHUNK = 1 << 17  # members looked through at once for a viewer who is shown few of them
_LOOKED_THROUGH = 1 << 13  # the same, where the worker knows marks alone: 2 ms

Mask = Callable[[NDArray[np.int32]], NDArray[np.bool_]]
Place = tuple[int, int]
"""Band, and offset on the keyed circle."""


class Members(NamedTuple):
    """Slots int32[n], bands int32[n] and offsets uint64[n], in order."""

    slots: NDArray[np.int32]
    bands: NDArray[np.int32]
    offsets: NDArray[np.uint64]

    def some(self, which: NDArray[np.bool_] | slice) -> "Members":
        """Those of a mask or slice."""
        return Members(self.slots[which], self.bands[which], self.offsets[which])

    @property
    def last(self) -> Place:
        """Where the last one stands."""
        return int(self.bands[-1]), int(self.offsets[-1])


class Around(NamedTuple):
    """Where from, and without whom (sorted slots), somebody looks."""

    viewer: int
    bands: Sequence[Cells]
    excluded: NDArray[np.int32]
    now_ms: int


class NearbyPages:
    """Pages in the one order of the crowd; a cap leaves people out and changes no order, so that pages fit together."""

    def __init__(self, presence: Presence, caps: ExposureCaps) -> None:
        self._presence = presence
        self._caps = caps

    def page(self, around: Around, after: Place | None, limit: int) -> Members:
        """Up to ``limit`` members behind ``after``, and one more if there is another."""
        viewer, edge_ms = around.viewer, self._presence.stranger_edge_ms
        found = self._drawn(around, after, limit + 1)
        shown = self._caps.shown_to_young(viewer, edge_ms, around.now_ms)
        if shown is None:
            return found
        first = found.slots[:limit]
        new = first[~np.isin(self._caps.marks(first), shown)]
        room = max(0, MOST_STRANGERS - len(shown))
        self._caps.show(viewer, edge_ms, new[:room].tolist())
        if len(new) <= room:
            return found
        return self._few(around, after, limit + 1, np.union1d(shown, self._caps.marks(new[:room])))

    def _all(self, around: Around, after: Place | None, count: int) -> Members:
        return self._ranked(self._presence.crowd(around.now_ms), around, after, count)

    def _ranked(self, crowd: Crowd, around: Around, after: Place | None, count: int) -> Members:
        presence, shown_ms = self._presence, self._presence.shown_until_ms
        key = presence.viewer_key(around.viewer)
        return Members(*crowd.page(around.bands, key, after, count, shown_ms, around.now_ms, around.excluded))

    def _drawn(self, around: Around, after: Place | None, count: int) -> Members:
        """Everybody, or for a thinned viewer those drawn for this epoch."""
        if not self._is_thinned(around):
            return self._all(around, after, count)
        likely = 64 + int(1.2 * count / self._caps.share_drawn(self._stranger_epoch_ms))
        return self._those(around, after, count, partial(self._mask, around), likely)

    def _few(self, around: Around, after: Place | None, count: int, marks: NDArray[np.uint32]) -> Members:
        """Those with one of ``marks`` (about 50), wherever they are by now."""
        edge_ms = self._presence.stranger_edge_ms
        slots = self._caps.met(around.viewer, edge_ms)
        if len(np.unique(self._caps.marks(slots))) < len(marks):  # a start: they may be met among the nearest
            nearest = self._all(around, None, _LOOKED_THROUGH).slots
            self._caps.meet(around.viewer, edge_ms, nearest[np.isin(self._caps.marks(nearest), marks)])
            slots = self._caps.met(around.viewer, edge_ms)
        members = self._ranked(self._presence.crowd_of(slots, around.now_ms), around, after, max(1, len(slots)))
        shown = members.some(self._mask(around, members.slots)) if self._is_thinned(around) else members
        return shown.some(slice(count))

    def _those(self, around: Around, after: Place | None, count: int, mask: Mask, likely: int) -> Members:
        """Up to ``count`` of a mask, looked for among ``likely`` members at once."""
        parts, missing, chunk = [], count, min(likely, _LARGEST_CHUNK)
        while True:
            members = self._all(around, after, chunk)
            parts.append(members.some(mask(members.slots)))
            missing -= len(parts[-1].slots)
            if missing <= 0 or len(members.slots) < chunk:
                return Members(*map(np.concatenate, zip(*parts, strict=True))).some(slice(count))
            after = members.last

    def _is_thinned(self, around: Around) -> bool:
        return self._caps.is_thinned(around.viewer, self._presence.stranger_edge_ms)

    def _mask(self, around: Around, slots: NDArray[np.int32]) -> NDArray[np.bool_]:
        edge_ms = self._presence.stranger_edge_ms
        return self._caps.drawn(around.viewer, slots, edge_ms, self._stranger_epoch_ms)

    @property
    def _stranger_epoch_ms(self) -> int:
        return EDGES_PER_STRANGER_EDGE * self._presence.epochs.epoch_ms
