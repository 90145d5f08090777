"""One brand's stores as packed, immutable columns. A row is a position in them; rows are in order of store_id."""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from discovery.stores.card_index import CardIndex
from discovery.stores.hours import HoursTable
from discovery.stores.row_set import Rows, RowSet
from discovery.stores.subsets import Subsets
from discovery.stores.timelines import Windows
from geo.cell_nearest import nearest_in_cell
from geo.places import Places

MASK_BITS = 64
_CELLS_KEPT = 4096  # lists of about 10 rows; one takes up to 25 ms where stores are dense


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """n byte strings one after the other: string i is ``data[offsets[i] : offsets[i + 1]]``; ``offsets`` i64[n + 1]."""

    data: bytes | bytearray | memoryview
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self.data[self.offsets.item(index) : self.offsets.item(index + 1)])

    @staticmethod
    def of(parts: Sequence[bytes]) -> "Blob":
        """Packed copy of ``parts``."""
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return Blob(b"".join(parts), offsets)


@dataclass(frozen=True, slots=True, eq=False)
class Services:
    """Who offers what. The 64 most common services of a set have a bit each; of the others the rows are listed.

    ``names``: by falling frequency, ties by name. ``masks`` u64[rows]: bit i = offers ``names[i]``, i < 64.
    ``rare``: for each of ``names[64:]`` the rows that offer it, ascending, i64.
    """

    names: tuple[str, ...]
    masks: NDArray[np.uint64]
    rare: tuple[NDArray[np.int64], ...]

    def split(self, wanted: Sequence[str]) -> tuple[int, tuple[str, ...]] | None:
        """The bits of a mask that has all common ones of ``wanted``, and the names of the rare ones, sorted.

        None when a wanted service is offered nowhere.
        """
        bits, rare = 0, []
        for name in wanted:
            index = self._index(name)
            if index is None:
                return None
            if index < MASK_BITS:
                bits |= 1 << index
            else:
                rare.append(name)
        return bits, tuple(sorted(rare))

    def rows_with(self, name: str) -> NDArray[np.int64]:
        """All rows that offer a service, ascending."""
        index = self._index(name)
        if index is None:
            return np.empty(0, dtype=np.int64)
        if index >= MASK_BITS:
            return self.rare[index - MASK_BITS]
        return np.flatnonzero(self.masks & np.uint64(1 << index))

    def _index(self, name: str) -> int | None:
        try:
            return self.names.index(name)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, eq=False)
class StoreSet:
    """``ids`` (ASCII) ascending; ``lats, lons`` f64[n] degrees; ``cards`` JSON objects of the public properties.

    ``hours_rows`` i32[n]: entry of ``hours``, -1 = the state is unknown. ``places`` indexes ``lats, lons`` and
    ``services.masks``, ``windows`` who is open when, ``index`` words and tags. ``nearest_in_cell(cell, k)``: rows, see
    ``geo.cell_nearest``. ``subsets``: what questions asked for lately.
    """

    ids: Blob
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]
    cards: Blob
    services: Services
    hours: HoursTable
    hours_rows: NDArray[np.int32]
    places: Places = field(init=False)
    windows: Windows = field(init=False)
    nearest_in_cell: Callable[[int, int], Rows] = field(init=False)
    index: "LazyIndex" = field(init=False)
    subsets: Subsets = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", Places(self.lats, self.lons, self.services.masks))
        in_cell = partial(nearest_in_cell, self.places, self.lats, self.lons)
        object.__setattr__(self, "nearest_in_cell", lru_cache(maxsize=_CELLS_KEPT)(in_cell))
        object.__setattr__(self, "windows", Windows(self.hours.keys))
        object.__setattr__(self, "subsets", Subsets())
        object.__setattr__(self, "index", LazyIndex(self.cards, self.lats, self.lons))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def all_rows(self) -> RowSet:
        """Every row."""
        return RowSet.of(np.arange(len(self)), len(self))

    def make_as(self, other: "StoreSet") -> None:
        """Make what is made at the first question now, if ``other``, which this set follows, has it: its callers will
        ask the like of this one. Takes as long as a second: to be called from a thread."""
        if other.index.is_made:
            self.index.get()
        if other.windows.made_at_ms is not None:
            self.windows.renew(other.windows.made_at_ms)

    def row_of(self, store_id: str) -> int | None:
        """Row of a store, None when the set has no such id."""
        wanted = store_id.encode()
        row = bisect_left(self.ids, wanted)
        return row if row < len(self) and self.ids[row] == wanted else None

    def first_row_after(self, store_id: str) -> int:
        """The first row whose id comes after this one, which need not be there; '' comes before all."""
        return bisect_right(self.ids, store_id.encode())

    def card_heads(self, rows: Rows) -> list[bytes]:
        """Of each row the begin of its card, with store_id and name: ``{"store_id":"…","name":"…"``.

        Cards are written in the order of ``rows.FIELDS``, and within a JSON text the quotes of what is looked for would
        be escaped: it is the next member's name. Half a microsecond each, a sixth of parsing.
        """
        data, starts, ends = self.cards.data, self.cards.offsets[rows].tolist(), self.cards.offsets[rows + 1].tolist()
        cards = (bytes(data[start:end]) for start, end in zip(starts, ends, strict=True))
        return [card[: card.index(b',"address":')] for card in cards]

    def feature(self, row: int, more: bytes = b"") -> bytes:
        """GeoJSON Feature of a row. ``more``: further members of ``properties``, each with a comma before it."""
        return self.feature_with(row, self.cards[row][:-1], more)

    def feature_with(self, row: int, properties: bytes, more: bytes = b"") -> bytes:
        """GeoJSON Feature of a row with these properties, a JSON object without its last brace, and ``more``."""
        return b'{"type":"Feature","id":"%b","geometry":{"type":"Point","coordinates":[%a,%a]},"properties":%b%b}}' % (
            self.ids[row],  # an id holds nothing that JSON escapes
            self.lons.item(row),
            self.lats.item(row),
            properties,
            more,
        )

    def is_same(self, row: int, other: "StoreSet", other_row: int) -> bool:
        """Whether two rows show the same store: card and coordinates."""
        same_point = self.lats[row] == other.lats[other_row] and self.lons[row] == other.lons[other_row]
        return bool(same_point) and self.cards[row] == other.cards[other_row]


class LazyIndex:
    """Words and tags of the cards, made once, by the first who asks."""

    def __init__(self, cards: Blob, lats: NDArray[np.float64], lons: NDArray[np.float64]) -> None:
        self._source = cards, lats, lons
        self._made: CardIndex | None = None
        self._making = threading.Lock()

    @property
    def is_made(self) -> bool:
        """Whether ``get`` answers at once."""
        return self._made is not None

    def get(self) -> CardIndex:
        """The index. The first call takes about 20 us a card."""
        with self._making:
            if self._made is None:
                cards, lats, lons = self._source
                self._made = CardIndex([cards[row] for row in range(len(cards))], lats, lons)
            return self._made
