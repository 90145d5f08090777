"""What can be found by the words and tags on the cards of one store set. Made when it is first asked for."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.stores.row_set import RowSet
from discovery.stores.suggestions import Suggestions
from discovery.stores.text_index import WordIndex

TEXTS = ("name", "city", "postcode", "address")
_KEPT = 64  # answers to filters; one of 100,000 stores takes 12.5 KB

Card = Mapping[str, Any]


class CardIndex:
    """Indexes of n cards (JSON objects). Takes about 15 us a card: make it in a thread."""

    def __init__(self, cards: list[bytes], lats: NDArray[np.float64], lons: NDArray[np.float64]) -> None:
        """``cards``, ``lats`` and ``lons`` (degrees) of the rows."""
        read: list[Card] = [orjson.loads(card) for card in cards]
        self._size = len(read)
        self._words = WordIndex(" ".join(card[name] for name in TEXTS if card[name]) for card in read)
        self._tags = _rows_of_tags(read)
        self.suggestions = Suggestions(read, lats, lons)
        # Caches of this object: on a method they would keep it, and its arrays, alive.
        self.with_words = lru_cache(maxsize=_KEPT)(self._with_words)
        """``with_words(words)``: rows with a word that begins with each of these folded ones (a tuple, not empty)."""
        self.with_tag = lru_cache(maxsize=_KEPT)(self._with_tag)
        """``with_tag(key, value)``: rows that have this tag, with any value when ``value`` is None."""

    def _with_words(self, words: tuple[str, ...]) -> RowSet:
        return self._words.with_all(words)

    def _with_tag(self, key: str, value: str | None) -> RowSet:
        rows = self._tags.get((key, value), [])
        return RowSet.of(np.array(rows, dtype=np.int64), self._size)


def _rows_of_tags(cards: list[Card]) -> dict[tuple[str, str | None], list[int]]:
    found: dict[tuple[str, str | None], list[int]] = {}
    for row, card in enumerate(cards):
        for key, value in card["tags"].items():
            found.setdefault((key, value), []).append(row)
            found.setdefault((key, None), []).append(row)
    return found
