"""The people index: members grouped by cell in keyed order, and the merge of many cells around one viewer's place on
the circle.

Keys lie on a circle of 2^64. A viewer's order is the offset ``(member key - viewer key) mod 2^64``, ascending, so each
cell's members, sorted by key, are already in order when read from the first key >= the viewer's and around. Keys are
pseudo-random, so the next so many members of a whole band lie in a window of offsets whose width follows from their
number: of each cell the few members in that window are taken, and only those are sorted. That reads one or two places
of memory a cell, none of which waits for another, where a heap of cells reads them one after the other.

Layouts. ``index`` uint64: everything in one array, for each that a kernel is given costs a call 0.1 us; ``views`` gives
its parts. ``table`` uint64[rows, 2]: open addressing, rows (cell, start << 32 | end), cell 0 = free, a power of two of
them and at most two thirds in use; a cell's members are ``keys[start:end]`` and ``slots[start:end]``, sorted by (key,
slot); slot -1 = removed. ``marks`` uint64[rows / 16]: a set of bits, four a row of the table, one of which is set for
each cell that has or had members; other cells may share it. ``coarse`` uint64[8192]: a bit for each cell of resolution
``COARSE`` that any of those lies in, and no other. Members added since stand behind all others, at ``base = len(keys) -
len(fresh_cells)``, in order: ``fresh_cells[i]`` is the cell of ``keys[base + i]``, sorted by (cell, key, slot).
"""

from typing import Any

import numpy as np
from numba import njit, types

from geo.kernels.inner import inner

COARSE = 4
"""Resolution of the parents in ``coarse``."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_WORD, _IN_WORD = np.uint64(6), np.uint64(63)  # which word a bit is in, and where
_FREE = np.uint64(0)
_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)
_CIRCLE = 2.0**64
_LEAST_CAPACITY = 1024
MARKS_PER_ROW = 4
_REMOVED = np.int32(-1)
# An H3 index: the base cell in bits 45-51, digits of 3 bits from bit 42 down.
_COARSE_SHIFT = np.uint64(3 * (15 - COARSE))
COARSE_BITS = 1 << 7 + 3 * COARSE
# The first words of an index: rows of its table, places for members, how many of these are for those added, how many
# were.
_ROWS, _PLACES, _ROOM, ADDED = 0, 1, 2, 3
HEADER = 8
_LINE = 8  # keys that one line of the cache holds
_INSERTED = 24  # members of a cell that are sorted by insertion alone

# Columns of the ranges of a band: where the next member is, where the range starts and ends, how many are left.
_POSITION, _START, _END, _LEFT = 0, 1, 2, 3

# Read-only types accept writable arrays too.
_CELLS = types.Array(types.uint64, 1, "C", readonly=True)
_SLOTS = types.Array(types.int32, 1, "C", readonly=True)
_TIMES = types.Array(types.int64, 1, "C", readonly=True)
_TABLE = types.uint64[:, ::1]
_KEYS_OUT = types.uint64[::1]
_SLOTS_OUT = types.int32[::1]
_RANGES = types.int64[:, ::1]


@inner(types.uint64(types.uint64), inline="always")
def _hash(cell):  # type: ignore[no-untyped-def]
    # The upper half is folded in first: a product's middle bits depend on lower bits only, and a cell's coarse digits
    # are its upper ones, while its unused lower digits are all alike.
    return ((cell ^ (cell >> _HALF)) * _GOLDEN) >> _HALF


@njit(types.int64(types.boolean[::1], _SLOTS), cache=True, nogil=True)
def flag_all(flags, slots):  # type: ignore[no-untyped-def]
    """Set the flags of n slots; how many were not set before."""
    new = 0
    for slot in slots:
        new += int(not flags[slot])
        flags[slot] = True
    return new


@inner(types.int64(_TABLE, types.uint64))
def find_cell(table, cell):  # type: ignore[no-untyped-def]
    """Row of a cell in the table, or the free row where it belongs."""
    mask = np.int64(table.shape[0] - 1)
    row = np.int64(_hash(cell)) & mask
    while table[row, 0] != cell and table[row, 0] != _FREE:
        row = (row + 1) & mask
    return row


@inner(_TABLE(_TABLE))
def _doubled(table):  # type: ignore[no-untyped-def]
    larger = np.zeros((2 * table.shape[0], 2), np.uint64)
    for row in range(table.shape[0]):
        if table[row, 0] != _FREE:
            larger[find_cell(larger, table[row, 0])] = table[row]
    return larger


@njit(_TABLE(_CELLS), cache=True, nogil=True)
def cell_table(cells):  # type: ignore[no-untyped-def]
    """Table of n members' cells, n < 2^32: each cell's range has its final start, and is still empty (end = start)."""
    table = np.zeros((_LEAST_CAPACITY, 2), np.uint64)
    distinct = 0
    for cell in cells:
        row = find_cell(table, cell)
        if table[row, 0] == _FREE:
            if 3 * (distinct + 1) > 2 * table.shape[0]:
                table = _doubled(table)
                row = find_cell(table, cell)
            table[row, 0] = cell
            distinct += 1
        table[row, 1] += _ONE
    total = np.uint64(0)
    for row in range(table.shape[0]):
        count = table[row, 1]
        table[row, 1] = total << _HALF | total
        total += count
    return table


def views(index: Any) -> Any:
    """``table``, ``marks``, ``coarse``, ``fresh_cells``, ``keys`` and ``slots`` of an index, as views."""
    rows, places, room = np.int64(index[_ROWS]), np.int64(index[_PLACES]), np.int64(index[_ROOM])
    marks = HEADER + 2 * rows
    coarse = marks + rows * MARKS_PER_ROW // 64
    fresh_cells = coarse + COARSE_BITS // 64
    keys = fresh_cells + room
    slots = keys + places
    return (
        index[HEADER:marks].reshape((rows, 2)),
        index[marks:coarse],
        index[coarse:fresh_cells],
        index[fresh_cells:keys],
        index[keys:slots],
        index[slots:].view(np.int32)[:places],
    )


_views = inner("Tuple((u8[:, ::1], u8[::1], u8[::1], u8[::1], u8[::1], i4[::1]))(u8[::1])")(views)


@njit("void(u8[::1], Array(u8, 1, 'C', readonly=True))", cache=True, nogil=True)
def mark_all(index, cells):  # type: ignore[no-untyped-def]
    """Set the bits of n cells; 0 is none."""
    _, marks, coarse, _, _, _ = _views(index)
    for cell in cells:
        if cell != _FREE:
            bit = _hash(cell) & np.uint64(64 * marks.size - 1)
            marks[bit >> _WORD] |= _ONE << (bit & _IN_WORD)
            bit = (cell >> _COARSE_SHIFT) & np.uint64(COARSE_BITS - 1)
            coarse[bit >> _WORD] |= _ONE << (bit & _IN_WORD)


@njit("b1(u8[::1], Array(u8, 1, 'C', readonly=True))", cache=True, nogil=True)
def anyone_in(index, cells):  # type: ignore[no-untyped-def]
    """Whether any of n cells of resolution ``COARSE`` holds a cell that has or had members."""
    _, _, coarse, _, _, _ = _views(index)
    for cell in cells:
        bit = (cell >> _COARSE_SHIFT) & np.uint64(COARSE_BITS - 1)
        if (coarse[bit >> _WORD] >> (bit & _IN_WORD)) & _ONE != _FREE:
            return True
    return False


@inner(types.boolean(_CELLS, types.uint64), inline="always")
def _is_marked(marks, cell):  # type: ignore[no-untyped-def]
    bit = _hash(cell) & np.uint64(64 * marks.size - 1)
    return (marks[bit >> _WORD] >> (bit & _IN_WORD)) & _ONE != _FREE


@inner(types.void(_KEYS_OUT, _SLOTS_OUT, types.int64, types.int64))
def _insertion_sort(keys, slots, start, end):  # type: ignore[no-untyped-def]
    """Sort places start..end-1 by (key, slot)."""
    for i in range(start + 1, end):
        key, slot = keys[i], slots[i]
        at = i
        while at > start and (keys[at - 1] > key or (keys[at - 1] == key and slots[at - 1] > slot)):
            keys[at], slots[at] = keys[at - 1], slots[at - 1]
            at -= 1
        keys[at], slots[at] = key, slot


@inner(types.void(_KEYS_OUT, _SLOTS_OUT, types.int64, types.int64, types.uint64, types.float64))
def sort_spread(keys, slots, start, end, least, width):  # type: ignore[no-untyped-def]
    """Sort places start..end-1 by (key, slot), given keys spread over ``least .. least + width``; of any others it is
    slow.

    Each goes to the part of the range where it would stand if they were spread evenly, which leaves little to insert.
    """
    n = end - start
    if n > _INSERTED:
        scale = n / width
        old_keys, old_slots = keys[start:end].copy(), slots[start:end].copy()
        counts, places = np.zeros(n, np.int32), np.empty(n, np.int32)
        for i in range(n):
            # Half of it: the machine converts signed numbers alone in one step.
            half = np.int64((old_keys[i] - least) >> _ONE)
            places[i] = min(np.int64(np.float64(half) * (2.0 * scale)), n - 1)
            counts[places[i]] += 1
        total = start
        for i in range(n):
            counts[i], total = total, total + counts[i]
        for i in range(n):
            to = counts[places[i]]
            counts[places[i]] = to + 1
            keys[to], slots[to] = old_keys[i], old_slots[i]
    _insertion_sort(keys, slots, start, end)


@njit(types.void(_CELLS, _CELLS, _SLOTS, _TABLE, _KEYS_OUT, _SLOTS_OUT), cache=True, nogil=True)
def group_by_cell(cells, keys, slots, table, keys_out, slots_out):  # type: ignore[no-untyped-def]
    """Move n members into the ranges of their fresh ``cell_table``, at the start of the two outputs, in order."""
    for i in range(cells.size):
        row = find_cell(table, cells[i])
        place = table[row, 1] & _LOW
        keys_out[place], slots_out[place] = keys[i], slots[i]
        table[row, 1] += _ONE
    for row in range(table.shape[0]):
        if table[row, 0] != _FREE:
            start, end = np.int64(table[row, 1] >> _HALF), np.int64(table[row, 1] & _LOW)
            sort_spread(keys_out, slots_out, start, end, _FREE, _CIRCLE)


@inner(types.int64(_CELLS, types.int64, types.int64, types.uint64))
def _lower_bound(values, low, high, value):  # type: ignore[no-untyped-def]
    """First index in [low, high) of sorted values that is not below a value, or ``high``."""
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@inner(types.int64(types.int64, types.int64, types.uint64), inline="always")
def _likely_place(low, high, value):  # type: ignore[no-untyped-def]
    """Where in [low, high) a value would stand among keys spread evenly over the circle."""
    return low + min(np.int64(np.float64(value) * ((high - low) / _CIRCLE)), high - low - 1)


@inner(types.int64(_CELLS, types.int64, types.int64, types.uint64))
def _key_bound(keys, low, high, value):  # type: ignore[no-untyped-def]
    """``_lower_bound`` of keys on the circle: from the likely place in growing steps."""
    at = _likely_place(low, high, value)
    step = 1
    if keys[at] < value:
        low = at + 1
        while low + step < high and keys[low + step] < value:
            low += step + 1
            step *= 2
        return _lower_bound(keys, low, min(low + step, high), value)
    high = at
    while high - step >= low and keys[high - step] >= value:
        high -= step
        step *= 2
    return _lower_bound(keys, max(low, high - step), high, value)


@inner(types.boolean(_SLOTS, types.int64))
def _holds(values, value):  # type: ignore[no-untyped-def]
    at = np.searchsorted(values, value)
    return at < values.size and values[at] == value


@njit(
    types.void(_KEYS_OUT, types.int64, _KEYS_OUT, _SLOTS_OUT, _CELLS, _CELLS, _SLOTS, types.int64[::1]),
    cache=True,
    nogil=True,
)
def merge_fresh(fresh_cells, count, keys, slots, new_cells, new_keys, new_slots, order):  # type: ignore[no-untyped-def]
    """Merge new members into the ``count`` added before, in front of enough room; ``order`` sorts the new by cell, key
    and slot."""
    base = keys.size - fresh_cells.size
    at, left = count - 1, order.size - 1
    for to in range(count + order.size - 1, -1, -1):
        if left < 0:
            return
        cell, key, slot = new_cells[order[left]], new_keys[order[left]], new_slots[order[left]]
        old = base + at
        if at >= 0 and (
            fresh_cells[at] > cell
            or (fresh_cells[at] == cell and (keys[old] > key or (keys[old] == key and slots[old] > slot)))
        ):
            fresh_cells[to], keys[base + to], slots[base + to] = fresh_cells[at], keys[old], slots[old]
            at -= 1
        else:
            fresh_cells[to], keys[base + to], slots[base + to] = cell, key, slot
            left -= 1


@inner("UniTuple(i8, 2)(u8[:, ::1], u8)")
def _built_range(table, cell):  # type: ignore[no-untyped-def]
    packed = table[find_cell(table, cell), 1]
    return np.int64(packed >> _HALF), np.int64(packed & _LOW)


@inner("UniTuple(i8, 2)(Array(u8, 1, 'C', readonly=True), i8, i8, u8)")
def _fresh_range(fresh_cells, count, base, cell):  # type: ignore[no-untyped-def]
    start = _lower_bound(fresh_cells, 0, count, cell)
    return base + start, base + _lower_bound(fresh_cells, start, count, cell + _ONE)


@njit(
    types.boolean(_TABLE, _KEYS_OUT, _SLOTS_OUT, _KEYS_OUT, types.int64, types.uint64, types.uint64, types.int32),
    cache=True,
    nogil=True,
)
def remove(table, keys, slots, fresh_cells, fresh_count, cell, key, slot):  # type: ignore[no-untyped-def]
    """Mark a member as removed; false if there is none. Slots of one key are no longer in order then: a run of equal
    keys is looked through to its end."""
    base = keys.size - fresh_cells.size
    for fresh in range(2):
        start, end = _fresh_range(fresh_cells, fresh_count, base, cell) if fresh else _built_range(table, cell)
        at = _lower_bound(keys, start, end, key)
        while at < end and keys[at] == key:
            if slots[at] == slot:
                slots[at] = _REMOVED
                return True
            at += 1
    return False


@inner(types.boolean(_RANGES, types.int64, _CELLS, types.uint64, types.uint64))
def _open_range(ranges, c, keys, viewer_key, first_offset):  # type: ignore[no-untyped-def]
    """Complete range ``c``, of which start and end are written, by its members with an offset >= ``first_offset``;
    false if there are none."""
    start, end = ranges[c, _START], ranges[c, _END]
    position = _key_bound(keys, start, end, viewer_key + first_offset)
    if position == end:
        position = start
    left = end - start
    if first_offset > _FREE:
        if keys[position] - viewer_key < first_offset:
            return False
        # From ``position`` around to where the circle began; the whole range if that is the same place.
        origin = _key_bound(keys, start, end, viewer_key)
        around = (origin - position) % left
        left = around if around > 0 else left
    ranges[c, _POSITION], ranges[c, _LEFT] = position, left
    return True


@inner(types.int64(_RANGES, _TABLE, _CELLS, _CELLS, types.int64, types.int64, _CELLS, types.int64, types.int64))
def _find_ranges(ranges, table, marks, fresh_cells, fresh_count, base, cells, first, end):  # type: ignore[no-untyped-def]
    """Start and end of the members of each cell first..end-1 that has any, and of those added since: how many."""
    mask = np.int64(table.shape[0] - 1)
    marked, n = 0, 0
    # What the next loop branches on is read here already, without a branch, so that the cache's misses overlap.
    for i in range(first, end):
        ranges[marked, _POSITION] = i
        ranges[marked, _LEFT] = np.int64(table[np.int64(_hash(cells[i])) & mask, 1])
        marked += int(_is_marked(marks, cells[i]))
    for i in range(marked):
        packed = table[find_cell(table, cells[ranges[i, _POSITION]]), 1]
        ranges[n, _START], ranges[n, _END] = packed >> _HALF, packed & _LOW
        # A free row's range is empty by construction.
        n += int(ranges[n, _START] < ranges[n, _END])
    if fresh_count == 0:
        return n
    for i in range(marked):
        cell = cells[ranges[i, _POSITION]]
        start = _lower_bound(fresh_cells, 0, fresh_count, cell)
        ranges[n, _START] = base + start
        ranges[n, _END] = base + _lower_bound(fresh_cells, start, fresh_count, cell + _ONE)
        n += int(ranges[n, _START] < ranges[n, _END])
    return n


@inner(
    types.int64(
        _RANGES, _TABLE, _CELLS, _SLOTS, _CELLS, _CELLS, types.int64, _CELLS, types.int64, types.int64, types.uint64,
        types.uint64,
    ),
)  # fmt: skip
def _open_ranges(  # type: ignore[no-untyped-def]
    ranges, table, keys, slots, marks, fresh_cells, fresh_count, cells, first, end, viewer_key, first_offset
):
    """One range for each of the cells first..end-1 that has members to show, and one more for those added since."""
    base = keys.size - fresh_cells.size
    found = _find_ranges(ranges, table, marks, fresh_cells, fresh_count, base, cells, first, end)
    for c in range(found):
        at = _likely_place(ranges[c, _START], ranges[c, _END], viewer_key + first_offset)
        behind = min(at + _LINE, ranges[c, _END] - 1)
        ranges[c, _LEFT] = np.int64(keys[at] ^ keys[behind]) ^ slots[at] ^ slots[behind]
    n = 0
    for c in range(found):
        ranges[n, _START], ranges[n, _END] = ranges[c, _START], ranges[c, _END]
        n += int(_open_range(ranges, n, keys, viewer_key, first_offset))
    return n


@inner(
    "Tuple((i8, u8[::1], i4[::1]))(i8[:, ::1], i8, u8, u8, Array(u8, 1, 'C', readonly=True), "
    "Array(i4, 1, 'C', readonly=True), u8[::1], i4[::1])"
)
def _take(ranges, n, viewer_key, last_offset, keys, slots, offsets, members):  # type: ignore[no-untyped-def]
    """Take the members up to ``last_offset`` out of n ranges: how many, and their offsets and slots, in arrays that may
    be larger ones than the last two."""
    taken = 0
    for c in range(n):
        position, left, run, at = ranges[c, _POSITION], ranges[c, _LEFT], 0, 0
        while left > 0 and at == run:
            if taken == offsets.size:
                offsets = np.concatenate((offsets, np.empty_like(offsets)))
                members = np.concatenate((members, np.empty_like(members)))
            run, at = min(left, ranges[c, _END] - position, offsets.size - taken), 0
            while at < run and keys[position + at] - viewer_key <= last_offset:
                offsets[taken + at], members[taken + at] = keys[position + at] - viewer_key, slots[position + at]
                at += 1
            taken, left, position = taken + at, left - at, position + at
            if position == ranges[c, _END]:
                position = ranges[c, _START]
        ranges[c, _POSITION], ranges[c, _LEFT] = position, left
    return taken, offsets, members


@inner(types.int64(_KEYS_OUT, _SLOTS_OUT, types.int64, _TIMES, types.int64, _SLOTS))
def _keep_shown(offsets, members, count, shown_until_ms, now_ms, excluded):  # type: ignore[no-untyped-def]
    """Move those who are shown to the front: how many."""
    shown = 0
    if shown_until_ms.size == 0:
        return shown
    last = shown_until_ms.size - 1
    # All are read before anything is written: behind a write to a place that the last read decides, each read would
    # wait for the one before, and nearly all of them miss the cache.
    until_ms = np.empty(count, np.int64)
    for i in range(count):
        slot = np.int64(members[i])
        # A removed member's slot is no place of the array either.
        until_ms[i] = shown_until_ms[min(max(slot, 0), last)]
    for i in range(count):
        offset, slot = offsets[i], np.int64(members[i])
        offsets[shown], members[shown] = offset, slot
        shown += int((slot >= 0) & (slot <= last) & (until_ms[i] > now_ms))
    left = 0
    for i in range(shown):
        offsets[left], members[left] = offsets[i], members[i]
        left += int(not _holds(excluded, members[i]))
    return left


@inner(types.uint64(types.uint64, types.int64, types.int64))
def _window_end(first_offset, wanted, left):  # type: ignore[no-untyped-def]
    """Last offset of a window that starts at ``first_offset`` and holds somewhat more than ``wanted`` of the members
    ``left`` in front of it; all if those are few."""
    some = wanted + (wanted >> 3) + 8
    if left <= 2 * some:
        return _LAST
    width = np.float64(_LAST - first_offset) * (some / left)
    return first_offset + np.uint64(width)


@njit(
    types.int64(
        _KEYS_OUT, _CELLS, _TIMES, types.uint64, types.uint64, _TIMES, types.int64, _SLOTS, _SLOTS_OUT, _SLOTS_OUT,
        _KEYS_OUT,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def rank_bands(  # type: ignore[no-untyped-def]
    index, cells, ends, viewer_key, first_offset, shown_until_ms, now_ms, excluded, slots_out, bands_out, offsets_out
):
    """Write the first shown members of some bands into the outputs, by (band, offset, slot), from ``first_offset`` of
    the first band on; how many, at most the outputs' length.

    Band i holds ``cells[ends[i - 1]:ends[i]]``. A member is shown if ``shown_until_ms[slot] > now_ms`` (never if the
    slot lies beyond that array) and its slot is not in ``excluded``, sorted.
    """
    # Plain numbers, where the compiler is switched off, would not wrap around the circle.
    viewer_key, first_offset = np.uint64(viewer_key), np.uint64(first_offset)
    table, marks, _, fresh_cells, keys, slots = _views(index)
    fresh_count = np.int64(index[ADDED])
    limit = slots_out.size
    ranges = np.empty((2 * cells.size + 1, 4), np.int64)
    offsets, members = np.empty(2 * limit + 32, np.uint64), np.empty(2 * limit + 32, np.int32)
    filled, first = 0, 0
    for band in range(ends.size):
        n = _open_ranges(
            ranges, table, keys, slots, marks, fresh_cells, fresh_count, cells, first, ends[band], viewer_key,
            first_offset,
        )  # fmt: skip
        left = 0
        for c in range(n):
            left += ranges[c, _LEFT]
        while left > 0 and filled < limit:
            last_offset = _window_end(first_offset, limit - filled, left)
            taken, offsets, members = _take(ranges, n, viewer_key, last_offset, keys, slots, offsets, members)
            shown = _keep_shown(offsets, members, taken, shown_until_ms, now_ms, excluded)
            sort_spread(offsets, members, 0, shown, first_offset, np.float64(last_offset - first_offset) + 1.0)
            for i in range(min(shown, limit - filled)):
                slots_out[filled], bands_out[filled], offsets_out[filled] = members[i], band, offsets[i]
                filled += 1
            left -= taken
            first_offset = last_offset + _ONE
        if filled == limit:
            break
        first, first_offset = ends[band], _FREE
    return filled
