"""A balanced kd-tree with bounding boxes over unit vectors, in flat arrays.

Layout. The tree is complete and implicit: node 1 is the root, node i has children 2i and 2i + 1, the last ``leaves`` (a
power of two) nodes are leaves, and the node with number j of the m on its level holds the positions [n * j // m, n * (j
+ 1) // m) of the tree's order. In that order are ``points`` f64[n, 3], ``rows`` i32[n] and ``masks`` u64[n]. Per node
there are ``boxes`` i32[2 * leaves, 6], the least and greatest x, y, z of its points in grains of 2**-30 (6 mm on the
Earth), rounded outwards, and ``node_masks`` u64[2 * leaves], the union of their masks. There is no node 0; its box
begins with the number of levels below the root, log2 of ``leaves``: shifting by it is much faster than dividing by
``leaves``.

Memory. A leaf holds at most 12 points and, but in a tree of one leaf, at least 6, so that there are at most n / 3 nodes
of 34 bytes (box, mask, flags): 36 + 11.3 bytes a point at worst, 36 + 5.7 at best.

Which points a search may answer with is one u16 a node, ``flags``: of a leaf bit i stands for its i-th point, of any
other node the flags are the union of its children's, so that 0 means that nothing below it qualifies.
"""

import math

import numpy as np
from numba import njit

from geo.kernels.inner import inner

# Flags allow 16; 12 keeps a point below 48 bytes.
LEAF_SIZE = 12
_HEADER = 2  # words of a packed tree that are no part of it

GRAINS = 2.0**30
"""Grains of a box in 1: a power of two, so that grains and numbers turn into each other exactly."""

_POINTS = "f8[:, ::1], i4[::1], u8[::1]"
_READ_ONLY_POINTS = "Array(f8, 2, 'C', readonly=True)"
_READ_ONLY_BITS = "Array(u8, 1, 'C', readonly=True)"


@inner(f"void({_POINTS}, i8, i8)")
def _swap(points, rows, masks, i, j):  # type: ignore[no-untyped-def]
    for axis in range(3):
        points[i, axis], points[j, axis] = points[j, axis], points[i, axis]
    rows[i], rows[j] = rows[j], rows[i]
    masks[i], masks[j] = masks[j], masks[i]


@inner(f"void({_POINTS}, i8, i8, i8, i8)")
def _select(points, rows, masks, low, high, place, axis):  # type: ignore[no-untyped-def]
    """Reorder [low, high) so that what lies before ``place`` is not greater, and what lies after is not less, on an
    axis.

    Hoare's quickselect with the middle element as pivot; stopping at equal values halves runs of duplicates.
    """
    high -= 1
    while low < high:
        pivot = points[(low + high) >> 1, axis]
        i, j = low, high
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                _swap(points, rows, masks, i, j)
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            return


@inner("i8(f8[:, ::1], u8[::1], i4[:, ::1], u8[::1], i8, i8, i8)")
def _summarise(points, masks, boxes, node_masks, node, low, high):  # type: ignore[no-untyped-def]
    """Box and mask of a node from its points; returns the axis on which they spread most."""
    widest, width = 0, -1.0
    for axis in range(3):
        least, greatest = np.inf, -np.inf
        for i in range(low, high):
            least, greatest = min(least, points[i, axis]), max(greatest, points[i, axis])
        boxes[node, axis] = math.floor(least * GRAINS)
        boxes[node, axis + 3] = math.ceil(greatest * GRAINS)
        if greatest - least > width:
            widest, width = axis, greatest - least
    for i in range(low, high):
        node_masks[node] |= masks[i]
    return widest


@inner("i8(i8)")
def _leaves_for(n):  # type: ignore[no-untyped-def]
    leaves = 1
    while leaves * LEAF_SIZE < n:
        leaves *= 2
    return leaves


@njit(
    f"Tuple((f8[:, ::1], i4[::1], u8[::1], i4[:, ::1], u8[::1]))({_READ_ONLY_POINTS}, {_READ_ONLY_BITS})",
    cache=True,
    nogil=True,
)
def build(vectors, masks):  # type: ignore[no-untyped-def]
    """Tree of n unit vectors f64[n, 3] with their masks u64[n]: (points, rows, masks, boxes, node_masks)."""
    n = masks.size
    points, rows, masks = vectors.copy(), np.arange(n).astype(np.int32), masks.copy()
    leaves = _leaves_for(n)
    boxes, node_masks = np.zeros((2 * leaves, 6), np.int32), np.zeros(2 * leaves, np.uint64)
    level = 1
    boxes[0, 0] = round(math.log2(leaves))
    while level <= min(leaves, n):
        for j in range(level):
            low, high = n * j // level, n * (j + 1) // level
            axis = _summarise(points, masks, boxes, node_masks, level + j, low, high)
            if level < leaves:
                _select(points, rows, masks, low, high, n * (2 * j + 1) // (2 * level), axis)
        level *= 2
    return points, rows, masks, boxes, node_masks


@njit(f"u2[::1](i4[::1], {_READ_ONLY_BITS})", cache=True, nogil=True)
def flags_of(rows, allowed):  # type: ignore[no-untyped-def]
    """Flags, u16[2 * leaves], of the rows r whose bit r % 64 of word r // 64 of ``allowed`` u64[>= n / 64] is set."""
    n, leaves = rows.size, _leaves_for(rows.size)
    flags = np.zeros(2 * leaves, np.uint16)
    for j in range(leaves):
        low, high = n * j // leaves, n * (j + 1) // leaves
        for i in range(low, high):
            row = rows[i]
            bit = (allowed[row >> 6] >> np.uint64(row & 63)) & np.uint64(1)
            flags[leaves + j] |= np.uint16(bit << np.uint64(i - low))
    for node in range(leaves - 1, 0, -1):
        flags[node] = flags[2 * node] | flags[2 * node + 1]
    return flags


@inner("Tuple((f8[:, ::1], i4[::1], u8[::1], i4[:, ::1], u8[::1]))(u8[::1])")
def parts(tree):  # type: ignore[no-untyped-def]
    """What ``packed`` put into one: (points, rows, masks, boxes, node_masks), which share its memory."""
    n, nodes = np.int64(tree[0]), np.int64(tree[1])
    masks = _HEADER + 3 * n
    node_masks = masks + n
    boxes = node_masks + nodes
    rows = boxes + 3 * nodes
    return (
        tree[_HEADER:masks].view(np.float64).reshape((n, 3)),
        tree[rows : rows + (n + 1) // 2].view(np.int32)[:n],
        tree[masks:node_masks],
        tree[boxes:rows].view(np.int32).reshape((nodes, 6)),
        tree[node_masks:boxes],
    )


@njit(
    f"u8[::1](Array(f8, 2, 'C', readonly=True), i4[::1], {_READ_ONLY_BITS}, i4[:, ::1], {_READ_ONLY_BITS})",
    cache=True,
    nogil=True,
)
def packed(points, rows, masks, boxes, node_masks):  # type: ignore[no-untyped-def]
    """A tree in one array, u64, for each array that a kernel is given costs its call 0.1 us: n, leaves, points, masks,
    node masks, boxes, rows."""
    n, nodes = masks.size, node_masks.size
    tree = np.zeros(_HEADER + 4 * n + 4 * nodes + (n + 1) // 2, np.uint64)
    tree[0], tree[1] = np.uint64(n), np.uint64(nodes)
    to_points, to_rows, to_masks, to_boxes, to_node_masks = parts(tree)
    to_points[:], to_rows[:], to_masks[:], to_boxes[:], to_node_masks[:] = points, rows, masks, boxes, node_masks
    return tree
