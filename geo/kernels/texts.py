"""Distinct texts, numbered in the order in which they came: packed bytes and an open-addressing index of numbers.

Layouts. Text i is the bytes ``data[starts[i]:starts[i + 1]]``. ``index`` int32[rows]: numbers, -1 = free, never full; a
text's search starts at the row ``upper * rows >> 32``, upper the upper half of its keyed hash, so any number of rows
will do. Nothing is ever removed. Queries come as ``queries`` uint8 with ``ends`` int64[n]: query i is
``queries[ends[i - 1]:ends[i]]``.
"""

import numpy as np
from numba import njit

from geo.kernels.inner import inner
from geo.kernels.keyed import absorbed, finished, started

_HALF = np.uint64(32)


@njit("u8(u8, u8, Array(u1, 1, 'C', readonly=True), i8, i8)", cache=True, nogil=True)
def siphash24_bytes(k0, k1, data, start, end):  # type: ignore[no-untyped-def]
    """SipHash-2-4 of ``data[start:end]`` under the 128-bit key (k0 low, k1 high); source: see ``keyed``."""
    state = started(k0, k1)
    block, shift = np.uint64(0), np.uint64(0)
    for i in range(start, end):
        block |= np.uint64(data[i]) << shift
        shift += np.uint64(8)
        if shift == np.uint64(64):
            state = absorbed(state, block)
            block, shift = np.uint64(0), np.uint64(0)
    # The last block: what is left over, and the length in the top byte.
    return finished(absorbed(state, block | (np.uint64((end - start) & 0xFF) << np.uint64(56))))


@inner("b1(u1[::1], i8, i8, Array(u1, 1, 'C', readonly=True), i8, i8)")
def _equal(data, start, end, query, first, last):  # type: ignore[no-untyped-def]
    if end - start != last - first:
        return False
    for i in range(end - start):  # noqa: SIM110 - the compiler knows no generators
        if data[start + i] != query[first + i]:
            return False
    return True


@inner("i8(i4[::1], u1[::1], u4[::1], u8, u8, Array(u1, 1, 'C', readonly=True), i8, i8)")
def _row_of(index, data, starts, k0, k1, query, first, last):  # type: ignore[no-untyped-def]
    """Row of the index with a query's number, or the free row where it belongs."""
    upper = siphash24_bytes(k0, k1, query, first, last) >> _HALF
    row = np.int64(upper * np.uint64(index.size) >> _HALF)
    while index[row] >= 0:
        number = index[row]
        if _equal(data, starts[number], starts[number + 1], query, first, last):
            return row
        row = (row + 1) % index.size
    return row


@njit(
    "void(i4[::1], u1[::1], u4[::1], u8, u8, Array(u1, 1, 'C', readonly=True), Array(i8, 1, 'C', readonly=True), "
    "i4[::1])",
    cache=True,
    nogil=True,
)
def find_texts(index, data, starts, k0, k1, queries, ends, numbers):  # type: ignore[no-untyped-def]
    """The number of each query, or -1, into ``numbers``."""
    first = 0
    for i in range(ends.size):
        numbers[i] = index[_row_of(index, data, starts, k0, k1, queries, first, ends[i])]
        first = ends[i]


@njit(
    "i8(i4[::1], u1[::1], u4[::1], i8, u8, u8, Array(u1, 1, 'C', readonly=True), Array(i8, 1, 'C', readonly=True), "
    "i4[::1])",
    cache=True,
    nogil=True,
)
def add_texts(index, data, starts, count, k0, k1, queries, ends, numbers):  # type: ignore[no-untyped-def]
    """The number of each query into ``numbers``, where it has none the next after the ``count`` in use; how many are in
    use then. There is room for all in every array."""
    first = 0
    for i in range(ends.size):
        row = _row_of(index, data, starts, k0, k1, queries, first, ends[i])
        if index[row] < 0:
            at = np.int64(starts[count])
            for j in range(first, ends[i]):
                data[at + j - first] = queries[j]
            starts[count + 1] = at + ends[i] - first
            index[row] = count
            count += 1
        numbers[i] = index[row]
        first = ends[i]
    return count


@njit("void(i4[::1], u1[::1], u4[::1], i8, u8, u8)", cache=True, nogil=True)
def index_texts(index, data, starts, count, k0, k1):  # type: ignore[no-untyped-def]
    """Fill a free index with the first ``count`` texts."""
    for number in range(count):
        upper = siphash24_bytes(k0, k1, data, starts[number], starts[number + 1]) >> _HALF
        row = np.int64(upper * np.uint64(index.size) >> _HALF)
        while index[row] >= 0:
            row = (row + 1) % index.size
        index[row] = number
