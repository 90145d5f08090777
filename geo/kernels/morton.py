"""Points in the order of a Morton curve over latitude and longitude, so that neighbours come one after the other."""

import numpy as np
from numba import njit

from geo.kernels.inner import inner

# Of the 64 bits of a sorted word 2 * 22 are the cell on the curve, 5 m by 10 m, and the low 20 the number of the point.
MOST_POINTS = 2**20
_INDEX_BITS = 20
_AXIS_BITS = 22
_DIGIT_BITS = 11

_DEGREES = "Array(f8, 1, 'C', readonly=True)"


@inner("u8(u8)")
def _spread(bits):  # type: ignore[no-untyped-def]
    """The low 32 bits at the even places: S. E. Anderson, "Bit Twiddling Hacks", "Interleave bits by Binary Magic
    Numbers"."""
    bits = (bits | (bits << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    bits = (bits | (bits << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    bits = (bits | (bits << np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    bits = (bits | (bits << np.uint64(2))) & np.uint64(0x3333333333333333)
    return (bits | (bits << np.uint64(1))) & np.uint64(0x5555555555555555)


@inner("void(u8[::1], u8[::1], i8)")
def _sort_by_digit(words, sorted_words, shift):  # type: ignore[no-untyped-def]
    digit, by = np.uint64(2**_DIGIT_BITS - 1), np.uint64(shift)
    starts = np.zeros(2**_DIGIT_BITS + 1, np.int64)
    for word in words:
        starts[np.int64((word >> by) & digit) + 1] += 1
    for i in range(1, starts.size):
        starts[i] += starts[i - 1]
    for word in words:
        d = np.int64((word >> by) & digit)
        sorted_words[starts[d]] = word
        starts[d] += 1


@njit(f"i4[::1]({_DEGREES}, {_DEGREES})", cache=True, nogil=True)
def in_order(lats, lons):  # type: ignore[no-untyped-def]
    """Numbers, i32[m], of m <= 2**20 points in degrees, along the curve and in one cell ascending. Radix sort."""
    m = lats.size
    words, sorted_words = np.empty(m, np.uint64), np.empty(m, np.uint64)
    most, scale = float(2**_AXIS_BITS - 1), float(2**_AXIS_BITS)
    for i in range(m):
        south = np.uint64(min((lats[i] + 90.0) / 180.0 * scale, most))
        west = np.uint64(min((lons[i] + 180.0) / 360.0 * scale, most))
        cell = (_spread(south) << np.uint64(1)) | _spread(west)
        words[i] = (cell << np.uint64(_INDEX_BITS)) | np.uint64(i)
    for shift in range(_INDEX_BITS, 64, _DIGIT_BITS):
        _sort_by_digit(words, sorted_words, shift)
        words, sorted_words = sorted_words, words
    order = np.empty(m, np.int32)
    for i in range(m):
        order[i] = words[i] & np.uint64(MOST_POINTS - 1)
    return order
