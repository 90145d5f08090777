"""Sets of rows of one store set, as bits: what filters make, and what the search for the nearest takes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Words = NDArray[np.uint64]

_WORD_BITS = 64


@dataclass(frozen=True, slots=True, eq=False)
class RowSet:
    """Row r is bit r % 64 of ``words[r // 64]``, u64[ceil(n / 64)], never changed; ``count`` rows are in it."""

    words: Words
    count: int

    @staticmethod
    def of(rows: Rows, size: int) -> "RowSet":
        """These rows of ``size``; they may repeat."""
        bits = np.zeros(-(-size // _WORD_BITS) * _WORD_BITS, dtype=np.bool_)
        bits[rows] = True
        words = np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64, copy=False)
        return RowSet(words, int(np.count_nonzero(bits)))

    def __and__(self, other: "RowSet") -> "RowSet":
        return _counted(self.words & other.words)

    def without(self, other: "RowSet") -> "RowSet":
        """Rows of this one that are not in the other."""
        return _counted(self.words & ~other.words)

    def __contains__(self, row: int) -> bool:
        return bool(int(self.words[row // _WORD_BITS]) >> row % _WORD_BITS & 1)

    def holds(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of ``rows`` are in it."""
        places = rows.astype(np.uint64)
        bits = self.words[places // np.uint64(_WORD_BITS)] >> places % np.uint64(_WORD_BITS)
        held: NDArray[np.bool_] = (bits & np.uint64(1)).astype(np.bool_)
        return held

    def rows(self) -> Rows:
        """All rows, ascending, i64."""
        return np.flatnonzero(np.unpackbits(self.words.astype("<u8", copy=False).view(np.uint8), bitorder="little"))


def empty_words(size: int) -> Words:
    """Zeros for ``size`` rows."""
    return np.zeros(-(-size // _WORD_BITS), dtype=np.uint64)


def _counted(words: Words) -> RowSet:
    return RowSet(words, int(np.bitwise_count(words).sum()))
