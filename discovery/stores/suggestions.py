"""Completes what somebody types: names of stores and cities of one store set."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.stores.row_set import RowSet
from discovery.stores.text_index import WordIndex, fold, matched, words_of

_LAST = "\U0010ffff"


class _Entry(NamedTuple):
    """A name, or a city in a country, as it is written first, and the rows that have it."""

    kind: str
    text: str
    country: str | None
    rows: list[int]


class Suggestions:
    """Distinct names and cities; those of more stores come first, and of these such as begin with what is typed."""

    def __init__(
        self, cards: Sequence[Mapping[str, Any]], lats: NDArray[np.float64], lons: NDArray[np.float64]
    ) -> None:
        """``cards`` of the rows, and where these are (degrees)."""
        entries = _entries(cards)
        self._entries = sorted(entries, key=lambda entry: (-len(entry.rows), entry.text, entry.kind))
        self._ids = [str(cards[entry.rows[0]]["store_id"]) for entry in self._entries]
        self._lats, self._lons = lats, lons
        self._words = WordIndex(entry.text for entry in self._entries)
        folded = [fold(entry.text) for entry in self._entries]
        self._order = np.array(sorted(range(len(folded)), key=folded.__getitem__), dtype=np.int64)
        self._folded = sorted(folded)

    def complete(self, text: str, limit: int) -> list[dict[str, object]]:
        """The at most ``limit`` best for what is typed so far: each word of it begins a word of the name."""
        words = words_of(text)
        if not words:
            return []
        fit = self._words.with_all(words)
        begins = self._beginning_with(fold(text).lstrip())
        best = [*(fit & begins).rows()[:limit].tolist(), *fit.without(begins).rows()[:limit].tolist()]
        return [self._as_json(index, words) for index in best[:limit]]

    def _beginning_with(self, prefix: str) -> RowSet:
        low, high = bisect_left(self._folded, prefix), bisect_left(self._folded, prefix + _LAST)
        return RowSet.of(self._order[low:high], len(self._entries))

    def _as_json(self, index: int, words: Sequence[str]) -> dict[str, object]:
        entry = self._entries[index]
        lat, lon = _middle(self._lats[entry.rows], self._lons[entry.rows])
        return {
            "type": entry.kind,
            "text": entry.text,
            "country": entry.country,
            "stores": len(entry.rows),
            "store_id": self._ids[index] if len(entry.rows) == 1 else None,
            "lat": lat,
            "lon": lon,
            "matched": [{"offset": offset, "length": length} for offset, length in matched(entry.text, words)],
        }


def _entries(cards: Sequence[Mapping[str, Any]]) -> list[_Entry]:
    """Texts that differ in case or accents alone are one."""
    found: dict[tuple[str, str, str | None], _Entry] = {}
    folded = lru_cache(maxsize=1 << 16)(fold)
    for row, card in enumerate(cards):
        named: list[tuple[str, str, str | None]] = [("name", card["name"], None)]
        if card["city"]:
            named.append(("city", card["city"], card["country"]))
        for kind, text, country in named:
            entry = found.get((kind, folded(text), country))
            if entry is None:
                entry = found[kind, folded(text), country] = _Entry(kind, text, country, [])
            entry.rows.append(row)
    return list(found.values())


def _middle(lats: NDArray[np.float64], lons: NDArray[np.float64]) -> tuple[float, float]:
    """The middle of some points by the sum of their unit vectors, to 1e-6 degrees; the first where they cancel out."""
    if len(lats) == 1:
        return float(lats[0]), float(lons[0])
    phi, theta = np.radians(lats), np.radians(lons)
    x, y, z = (float(np.sum(one)) for one in (np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)))
    if x * x + y * y + z * z < 1e-12:
        return float(lats[0]), float(lons[0])
    return round(float(np.degrees(np.arctan2(z, np.hypot(x, y)))), 6), round(float(np.degrees(np.arctan2(y, x))), 6)
