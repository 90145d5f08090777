"""Words of stores, folded: which rows have a word that begins so. Case, accents and width make no difference."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from discovery.stores.row_set import Rows, RowSet

# Letters with a stroke and ligatures do not decompose in Unicode.
_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
# Scripts written without spaces: each character counts as a word, so that any part of a name is found.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])[^\W_])+")
_LAST = "\U0010ffff"


def fold(text: str) -> str:
    """``text`` in small letters without accents: "Café Ünal" and "cafe unal" are equal."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in apart if not unicodedata.combining(char)).translate(_PLAIN)


def words_of(text: str) -> list[str]:
    """The words of a text, folded."""
    return _WORD.findall(fold(text))


def matched(text: str, wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Where words of ``text`` begin with one of ``wanted`` (folded): (offset, length) in characters, ascending."""
    found = []
    for word in _WORD.finditer(text):
        lengths = [_prefix_length(word[0], one) for one in wanted]
        if longest := max(lengths, default=0):
            found.append((word.start(), longest))
    return found


def _prefix_length(word: str, wanted: str) -> int:
    """Characters of ``word`` that make up ``wanted`` when folded, 0 when it does not begin so."""
    if not fold(word).startswith(wanted):
        return 0
    return next(length for length in range(1, len(word) + 1) if fold(word[:length]).startswith(wanted))


class WordIndex:
    """The words of n texts; row i is text i."""

    def __init__(self, texts: Iterable[str]) -> None:
        """About 4 us a text of 8 words."""
        known: dict[str, int] = {}
        numbers: list[int] = []
        ends: list[int] = []
        for text in texts:
            numbers += [known.setdefault(word, len(known)) for word in words_of(text)]
            ends.append(len(numbers))
        self._size = len(ends)
        self._words = sorted(known)
        rank = np.empty(len(known), dtype=np.int64)
        rank[[known[word] for word in self._words]] = np.arange(len(known))
        ranks = rank[np.array(numbers, dtype=np.int64)]
        counts = [end - start for start, end in pairwise([0, *ends])]
        rows = np.repeat(np.arange(self._size, dtype=np.int32), counts)
        self._rows = rows[np.argsort(ranks, kind="stable")]
        self._starts = np.zeros(len(known) + 1, dtype=np.int64)
        np.cumsum(np.bincount(ranks, minlength=len(known)), out=self._starts[1:])

    def beginning_with(self, prefix: str) -> RowSet:
        """Rows that have a word which begins with ``prefix`` (folded)."""
        low, high = bisect_left(self._words, prefix), bisect_left(self._words, prefix + _LAST)
        rows: Rows = self._rows[self._starts[low] : self._starts[high]].astype(np.int64)
        return RowSet.of(rows, self._size)

    def with_all(self, prefixes: Sequence[str]) -> RowSet:
        """Rows that have a word for each of ``prefixes`` (at least one)."""
        found = self.beginning_with(prefixes[0])
        for prefix in prefixes[1:]:
            found = found & self.beginning_with(prefix)
        return found
