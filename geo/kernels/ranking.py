"""The people index: members grouped by cell in keyed order, and the merge of many cells around one viewer's place on
the circle.

Keys lie on a circle of 2^64. A viewer's order is the offset ``(member key - viewer key) mod 2^64``, ascending, so each
cell's members, sorted by key, are already in order when read from the first key >= the viewer's and around; a heap
merges the cells of a band.

Layouts. ``table`` uint64[capacity, 3]: open addressing, rows (cell, start, end), cell 0 = free, capacity a power of two
and at most half full; a cell's members are ``keys[start:end]`` and ``slots[start:end]``, sorted by (key, slot).
``fresh`` uint64[3, capacity]: the rows cells, keys, slots of members added since, sorted by (cell, key, slot), of which
the first ``fresh_count`` are in use.
"""

import numpy as np
from numba import njit, types

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_FREE = np.uint64(0)
_LEAST_CAPACITY = 1024

# Columns of the cursor table: where a cell's next member is, the cell's range, how many are left, and 1 if the range is
# in ``fresh``.
_POSITION, _START, _END, _LEFT, _FRESH = 0, 1, 2, 3, 4

# Read-only types accept writable arrays too.
_CELLS = types.Array(types.uint64, 1, "C", readonly=True)
_SLOTS = types.Array(types.int32, 1, "C", readonly=True)
_TIMES = types.Array(types.int64, 1, "C", readonly=True)
_TABLE = types.uint64[:, ::1]
_KEYS_OUT = types.uint64[::1]
_SLOTS_OUT = types.int32[::1]
_CURSORS = types.int64[:, ::1]


@njit(types.int64(_TABLE, types.uint64), cache=True, nogil=True)
def find_cell(table, cell):  # type: ignore[no-untyped-def]
    """Row of a cell in the table, or the free row where it belongs."""
    # The upper half is folded in first: a product's middle bits depend on lower bits only, and a cell's coarse digits
    # are its upper ones, while its unused lower digits are all alike.
    mask = np.int64(table.shape[0] - 1)
    row = np.int64(((cell ^ (cell >> _HALF)) * _GOLDEN) >> _HALF) & mask
    while table[row, 0] != cell and table[row, 0] != _FREE:
        row = (row + 1) & mask
    return row


@njit(_TABLE(_TABLE), cache=True, nogil=True)
def _doubled(table):  # type: ignore[no-untyped-def]
    larger = np.zeros((2 * table.shape[0], 3), np.uint64)
    for row in range(table.shape[0]):
        if table[row, 0] != _FREE:
            larger[find_cell(larger, table[row, 0])] = table[row]
    return larger


@njit(_TABLE(_CELLS), cache=True, nogil=True)
def cell_table(cells):  # type: ignore[no-untyped-def]
    """Table of n members' cells: each cell's range has its final length, and is still empty (end = start)."""
    table = np.zeros((_LEAST_CAPACITY, 3), np.uint64)
    distinct = 0
    for cell in cells:
        row = find_cell(table, cell)
        if table[row, 0] == _FREE:
            if 2 * (distinct + 1) > table.shape[0]:
                table = _doubled(table)
                row = find_cell(table, cell)
            table[row, 0] = cell
            distinct += 1
        table[row, 1] += _ONE
    total = np.uint64(0)
    for row in range(table.shape[0]):
        count = table[row, 1]
        table[row, 1] = total
        table[row, 2] = total
        total += count
    return table


@njit(types.void(_CELLS, _CELLS, _SLOTS, types.int64[::1], _TABLE, _KEYS_OUT, _SLOTS_OUT), cache=True, nogil=True)
def group_by_cell(cells, keys, slots, order, table, keys_out, slots_out):  # type: ignore[no-untyped-def]
    """Move n members into the ranges of a fresh ``cell_table`` and the two outputs of length n.

    ``order`` sorts the members by key, in which each cell's range is filled; equal keys are then ordered by slot.
    """
    for i in order:
        row = find_cell(table, cells[i])
        place = table[row, 2]
        while place > table[row, 1] and keys_out[place - _ONE] == keys[i] and slots_out[place - _ONE] > slots[i]:
            keys_out[place], slots_out[place] = keys_out[place - _ONE], slots_out[place - _ONE]
            place -= _ONE
        keys_out[place], slots_out[place] = keys[i], slots[i]
        table[row, 2] += _ONE


@njit(types.int64(_CELLS, types.int64, types.int64, types.uint64), cache=True, nogil=True)
def _lower_bound(values, low, high, value):  # type: ignore[no-untyped-def]
    """First index in [low, high) of sorted values that is not below a value, or ``high``."""
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(types.boolean(_SLOTS, types.int64), cache=True, nogil=True)
def _holds(values, value):  # type: ignore[no-untyped-def]
    low, high = 0, values.size
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < values.size and values[low] == value


@njit(types.void(_TABLE, types.int64, types.uint64, types.uint64, types.uint64), cache=True, nogil=True)
def insert_fresh(fresh, count, cell, key, slot):  # type: ignore[no-untyped-def]
    """Insert a member into ``fresh``, which holds ``count`` and has room for one more, at its place by (cell, key,
    slot)."""
    i = count
    while i > 0:
        at_cell, at_key, at_slot = fresh[0, i - 1], fresh[1, i - 1], fresh[2, i - 1]
        if at_cell < cell or (at_cell == cell and (at_key < key or (at_key == key and at_slot < slot))):
            break
        fresh[0, i], fresh[1, i], fresh[2, i] = at_cell, at_key, at_slot
        i -= 1
    fresh[0, i], fresh[1, i], fresh[2, i] = cell, key, slot


@njit(
    types.boolean(_CURSORS, types.int64, _CELLS, types.int64, types.int64, types.uint64, types.uint64),
    cache=True,
    nogil=True,
)
def _open_cursor(cursors, c, keys, start, end, viewer_key, first_offset):  # type: ignore[no-untyped-def]
    """Point cursor ``c`` at the members of ``keys[start:end]`` with an offset >= ``first_offset``; false if there are
    none."""
    if start == end:
        return False
    origin = _lower_bound(keys, start, end, viewer_key)
    position = _lower_bound(keys, start, end, viewer_key + first_offset)
    if position == end:
        position = start
    if keys[position] - viewer_key < first_offset:
        return False
    # From ``position`` around to where the circle began; the whole range if that is the same place.
    left = (origin - position) % (end - start)
    cursors[c, _POSITION], cursors[c, _START], cursors[c, _END] = position, start, end
    cursors[c, _LEFT] = left if left > 0 else end - start
    return True


@njit("UniTuple(i8, 2)(u8[:, ::1], i8, u8)", cache=True, nogil=True)
def _fresh_range(fresh, count, cell):  # type: ignore[no-untyped-def]
    return _lower_bound(fresh[0], 0, count, cell), _lower_bound(fresh[0], 0, count, cell + _ONE)


@njit(
    types.int64(_CURSORS, _TABLE, _CELLS, _TABLE, types.int64, _CELLS, types.uint64, types.uint64),
    cache=True,
    nogil=True,
)
def _open_cursors(cursors, table, keys, fresh, fresh_count, band, viewer_key, first_offset):  # type: ignore[no-untyped-def]
    """One cursor for each cell of a band that has members to show, and one more for its fresh members: how many."""
    n = 0
    for cell in band:
        row = find_cell(table, cell)
        start, end = np.int64(table[row, 1]), np.int64(table[row, 2])
        # A free row's range is empty by construction.
        if _open_cursor(cursors, n, keys, start, end, viewer_key, first_offset):
            cursors[n, _FRESH] = 0
            n += 1
        if fresh_count > 0:
            start, end = _fresh_range(fresh, fresh_count, cell)
            if _open_cursor(cursors, n, fresh[1], start, end, viewer_key, first_offset):
                cursors[n, _FRESH] = 1
                n += 1
    return n


@njit(
    "Tuple((u8, i8))(i8[:, ::1], i8, Array(u8, 1, 'C', readonly=True), Array(i4, 1, 'C', readonly=True), u8[:, ::1])",
    cache=True,
    nogil=True,
)
def _member_at(cursors, c, keys, slots, fresh):  # type: ignore[no-untyped-def]
    position = cursors[c, _POSITION]
    if cursors[c, _FRESH] == 1:
        return fresh[1, position], np.int64(fresh[2, position])
    return keys[position], np.int64(slots[position])


@njit(types.void(_CURSORS, types.int64), cache=True, nogil=True)
def _advance(cursors, c):  # type: ignore[no-untyped-def]
    cursors[c, _LEFT] -= 1
    cursors[c, _POSITION] += 1
    if cursors[c, _POSITION] == cursors[c, _END]:
        cursors[c, _POSITION] = cursors[c, _START]


@njit(types.void(_KEYS_OUT, _CURSORS, types.int64, types.int64), cache=True, nogil=True)
def _sift_down(offsets, heads, n, i):  # type: ignore[no-untyped-def]
    """Restore the heap of n heads ordered by (offset, slot) below place i; ``heads`` rows are (slot, cursor)."""
    offset, slot, cursor = offsets[i], heads[i, 0], heads[i, 1]
    while 2 * i + 1 < n:
        child = 2 * i + 1
        right = child + 1
        if right < n and (
            offsets[right] < offsets[child] or (offsets[right] == offsets[child] and heads[right, 0] < heads[child, 0])
        ):
            child = right
        if offset < offsets[child] or (offset == offsets[child] and slot <= heads[child, 0]):
            break
        offsets[i], heads[i, 0], heads[i, 1] = offsets[child], heads[child, 0], heads[child, 1]
        i = child
    offsets[i], heads[i, 0], heads[i, 1] = offset, slot, cursor


@njit(
    types.int64(
        _TABLE, _CELLS, _SLOTS, _TABLE, types.int64, _CELLS, types.uint64, types.uint64,
        _TIMES, types.int64, _SLOTS, types.int64, _SLOTS_OUT, _KEYS_OUT,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def rank_band(  # type: ignore[no-untyped-def]
    table, keys, slots, fresh, fresh_count, band, viewer_key, first_offset,
    shown_until_ms, now_ms, excluded, filled, slots_out, offsets_out,
):  # fmt: skip
    """Append the shown members of a band's cells to the outputs, by (offset, slot), from ``first_offset`` on.

    ``filled`` places of the outputs are taken; returns how many are afterwards, at most their length. A member is shown
    if ``shown_until_ms[slot] > now_ms`` (never if the slot lies beyond that array) and its slot is not in ``excluded``,
    sorted.
    """
    cursors = np.empty((2 * band.size, 5), np.int64)
    n = _open_cursors(cursors, table, keys, fresh, fresh_count, band, viewer_key, first_offset)
    offsets = np.empty(n, np.uint64)
    heads = np.empty((n, 2), np.int64)
    for c in range(n):
        key, heads[c, 0] = _member_at(cursors, c, keys, slots, fresh)
        offsets[c], heads[c, 1] = key - viewer_key, c
    for i in range(n // 2 - 1, -1, -1):
        _sift_down(offsets, heads, n, i)
    while n > 0 and filled < slots_out.size:
        offset, slot, c = offsets[0], heads[0, 0], heads[0, 1]
        if slot < shown_until_ms.size and shown_until_ms[slot] > now_ms and not _holds(excluded, slot):
            slots_out[filled], offsets_out[filled] = slot, offset
            filled += 1
        _advance(cursors, c)
        if cursors[c, _LEFT] > 0:
            key, heads[0, 0] = _member_at(cursors, c, keys, slots, fresh)
            offsets[0] = key - viewer_key
        else:
            n -= 1
            offsets[0], heads[0, 0], heads[0, 1] = offsets[n], heads[n, 0], heads[n, 1]
        _sift_down(offsets, heads, n, 0)
    return filled
