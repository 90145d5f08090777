"""Fold of position reports into the per-person columns: one state machine a person."""

import numpy as np
from numba import njit

from geo.kernels.keyed import siphash24


@njit(
    "void(i4[::1], u8[::1], i8[::1], i8, i8, u8[::1], u8[::1], u8[::1], i8[::1], i8[::1])",
    cache=True,
    nogil=True,
)
def fold_reports(slots, cells, expiries_ms, now_ms, absent_ms, published, stranger, pending, live_until_ms, seen_ms):  # type: ignore[no-untyped-def]
    """Apply reports in order.

    slots int32[n], cells uint64[n] (candidate, resolution 8), expiries_ms int64[n] (0 = a shake: no presence).
    ``absent_ms``: who was last shown at or before it missed a whole stranger epoch, and is published at once.
    The five columns are indexed by slot and changed in place.
    """
    for i in range(slots.shape[0]):
        slot = slots[i]
        # Presence ends just before live_until_ms; a shake is seen at seen_ms itself.
        if published[slot] == 0 or (live_until_ms[slot] <= absent_ms and seen_ms[slot] < absent_ms):
            published[slot] = cells[i]
            stranger[slot] = cells[i]
        pending[slot] = cells[i]
        if expiries_ms[i] > 0:
            live_until_ms[slot] = expiries_ms[i]
        else:
            seen_ms[slot] = now_ms


@njit("void(u8[::1], u8[::1], u1[::1], i8)", cache=True, nogil=True)
def adopt(source, target, shards, shard):  # type: ignore[no-untyped-def]
    """At an edge: the ``source`` cell of each person of ``shard`` becomes their ``target`` cell.

    source, target uint64[n]; shards uint8[>= n] says whose shard each slot is; ``shard`` -1 takes everybody.
    """
    for slot in range(source.shape[0]):
        if shard < 0 or shards[slot] == shard:
            target[slot] = source[slot]


@njit("u8(u8[::1], u8[::1], u8[::1], i8[::1])", cache=True, nogil=True)
def digest(person_hashes, published, pending, live_until_ms):  # type: ignore[no-untyped-def]
    """Sum modulo 2^64 of hash(person, published, pending, expiry), so that slot numbers do not matter.

    Who has none of the three counts as unknown: whether somebody was ever mentioned differs between two workers, one of
    which lived through the feed while the other started from a checkpoint.
    """
    zero = np.uint64(0)
    total = np.uint64(0)
    for slot in range(person_hashes.shape[0]):
        if published[slot] == zero and pending[slot] == zero and live_until_ms[slot] == 0:
            continue
        value = siphash24(zero, zero, person_hashes[slot] ^ published[slot])
        value = siphash24(zero, value, pending[slot])
        value = siphash24(zero, value, np.uint64(live_until_ms[slot]))
        total += value
    return total
