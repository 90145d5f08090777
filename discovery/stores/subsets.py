"""The subsets of one store set that questions ask for: which rows, and the place index that answers none but these."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from discovery.stores.row_set import Rows, RowSet
from geo.places import Places

FEW = 50
"""As many distances cost less than a look of the index for them."""
_KEPT = 32  # one of 100,000 stores takes 12.5 KB for its rows and at most 70 KB for its index


class Subset:
    """Some rows of a set. The index of them (0.3 ms for 100,000 stores) is made by the first who asks for it."""

    def __init__(self, rows: RowSet, whole: Places) -> None:
        """``whole``: the index of all rows."""
        self.rows = rows
        self._whole = whole
        self._places: Places | None = None
        self._few: Rows | None = None

    def places(self) -> Places:
        """The index that answers these rows alone."""
        if self._places is None:
            self._places = self._whole.subset(self.rows.words)
        return self._places

    def few(self) -> Rows | None:
        """All the rows, ascending, if they are few."""
        if self._few is None and self.rows.count <= FEW:
            self._few = self.rows.rows()
        return self._few


class Subsets:
    """The subsets of one set that were asked for lately; they go with the set. Safe to call from any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Subset] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Subset]) -> Subset:
        """The subset of ``key``; ``make`` makes it. Two who ask for a new one at once may both make it."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        found = make()
        with self._lock:
            self._kept[key] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def __len__(self) -> int:
        return len(self._kept)
