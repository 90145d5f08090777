"""Ids of people, each with the number that it was given: 12 bytes of text and 10 of index for an id of 12 characters,
where a ``dict`` and a ``list`` of ``str`` take 180.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from geo.kernels import texts

_FIRST_ROOM = 1024
_FIRST_BYTES = 16 * _FIRST_ROOM
_MOST_BYTES = 1 << 32
_SPARE_ROWS = 1.42  # rows of the index for each text there is room for: at most 70 % are in use
_GROWTH = 1.5
_MOST_RECENT = 1 << 15  # one request asks for the same few ids again and again: 0.2 us here, 7 us by the index; 6 MB


class IdTable(Sequence[str]):
    """The ids by number, in the order in which they came; none ever leaves. A thread may read those that it knows of
    while others are added."""

    def __init__(self, key: tuple[int, int]) -> None:
        """``key``: the secret 128-bit key of the index, so that nobody can choose ids that fall together."""
        self._key = np.uint64(key[0]), np.uint64(key[1])
        self._count = 0
        self._data = np.empty(_FIRST_BYTES, np.uint8)
        self._bytes = self._data.data
        self._starts = np.zeros(_FIRST_ROOM + 1, np.uint32)
        self._index = _free_index(_FIRST_ROOM)
        self._recent: dict[str, int] = {}  # asked for lately; a number never changes

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._text(index % self._count)

    def __iter__(self) -> Iterator[str]:
        return map(self._text, range(self._count))

    def _text(self, number: int) -> str:
        return str(self._bytes[self._starts.item(number) : self._starts.item(number + 1)], "utf-8")

    def get(self, text: str) -> int | None:
        """The number of an id; None if it has none."""
        number = self._recent.get(text)
        if number is None:
            number = int(self.find([text])[0])
            if number < 0:
                return None
            if len(self._recent) >= _MOST_RECENT:
                self._recent.clear()
            self._recent[text] = number
        return number

    def find(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """The number of each of n ids, int32[n]; -1 = it has none."""
        queries, ends = _joined(ids)
        numbers = np.empty(len(ids), np.int32)
        texts.find_texts(self._index, self._data, self._starts, *self._key, queries, ends, numbers)
        return numbers

    def add(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """The number of each of n ids, int32[n]; who has none is given the next one. ValueError behind 4 GiB of ids."""
        queries, ends = _joined(ids)
        self.make_room(len(ids), queries.size)
        numbers = np.empty(len(ids), np.int32)
        self._count = int(
            texts.add_texts(
                self._index, self._data, self._starts, self._count, *self._key, queries, ends, numbers
            )
        )  # fmt: skip
        return numbers

    def make_room(self, count: int, size: int = 0) -> None:
        """Grow, if need be, for so many more ids of so many bytes in all."""
        used = self._starts.item(self._count)
        if used + size >= _MOST_BYTES:
            raise ValueError("there is no room for more than 4 GiB of ids")
        if used + size > self._data.size:
            self._data = _larger(self._data, max(used + size, int(_GROWTH * self._data.size)))
            self._bytes = self._data.data
        room = self._starts.size - 1
        if self._count + count > room:
            room = max(self._count + count, int(_GROWTH * room))
            self._starts = _larger(self._starts, room + 1)
            index = _free_index(room)
            texts.index_texts(index, self._data, self._starts, self._count, *self._key)
            self._index = index


def _larger(column: NDArray[Any], size: int) -> NDArray[Any]:
    larger = np.empty(size, column.dtype)
    larger[: column.size] = column
    return larger


def _free_index(room: int) -> NDArray[np.int32]:
    return np.full(int(_SPARE_ROWS * room) + 8, -1, np.int32)


def _joined(ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All as one text, and where each ends."""
    raw = [text.encode() for text in ids]
    lengths = np.fromiter(map(len, raw), np.int64, len(raw))
    return np.frombuffer(b"".join(raw), np.uint8), np.cumsum(lengths)
