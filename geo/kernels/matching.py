"""Shake matching on flat arrays: each newcomer takes its nearest open compatible shakes, once and for good.

A *slot* is the index of a shake in stream order. Shakes that are open and have free capacity hang in doubly linked
lists, one per (cell row, age band) and, for reach ``anywhere``, one more per age band in stream order; everything else
is reached only through match lists. The lists stay short in a crowd of any size: a newcomer keeps free capacity only
after taking every compatible listed shake, so among shakes of one cell and age band each has at most 19 compatible
earlier ones in its list; with at most 256 exclusions a person, m listed shakes need
``m (m - 1) / 2 <= (19 + 256) m``, so m <= 551, and m <= 20 where nobody excludes anybody.
A newcomer therefore costs a bounded scan of at most 48 lists, not the number of people in the stadium.
"""

from typing import Any, Final

import numpy as np
from numba import from_dtype, njit, types

from geo.kernels.inner import inner
from geo.kernels.keyed import siphash24

MAX_MATCHES: Final = 20
MAX_NEAR: Final = 48
"""Cells of resolution 7 with centres < 5,000 m apart: 26 at most was counted, around pentagons; 48 leaves room. Where
sparse areas are on, the table of rows is wider: a cell of resolution 5 has up to 399 around it."""
BAND_ANYWHERE: Final = 2
NONE: Final = -1

SHAKE: Final = np.dtype(
    [
        ("shake_hash", np.uint64),
        ("person_hash", np.uint64),
        ("order_key", np.uint64),  # keyed hash of the person in `epoch`
        ("epoch", np.int64),  # stranger epoch of hive_ms
        ("hive_ms", np.int64),
        ("window_ms", np.int64),
        ("closed_ms", np.int64),  # end of the window, or when the next shake of the person came
        ("excluded_at", np.int64),  # absolute position of the first excluded hash
        ("excluded_count", np.int32),
        ("cell_row", np.int32),
        ("earlier", np.int32),  # slot of the person's previous shake that may still hold open partners, or -1
        ("mark", np.int32),  # the newcomer that found this shake through its own earlier matches
        ("limit", np.int32),
        ("count", np.int32),
        ("anywhere", np.int8),
        ("adult", np.int8),
        ("superseded", np.int8),
        ("listed", np.int8),
    ],
    align=True,
)

_SHAKES = types.Array(from_dtype(SHAKE), 1, "C")
_I32 = types.Array(types.int32, 1, "C")
_I32_2D = types.Array(types.int32, 2, "C")
_I32_3D = types.Array(types.int32, 3, "C")
_I8_2D = types.Array(types.int8, 2, "C")
_I64 = types.Array(types.int64, 1, "C")
_U64 = types.Array(types.uint64, 1, "C")
_i64 = types.int64
_u64 = types.uint64
_LISTS = (_SHAKES, _I32_3D, _I32_3D, _I32_2D)


# -- lists of open shakes with free capacity: links[kind, 0|1, slot] = next|previous, ends[..., 0|1] = first|last


@inner(types.void(_I32, _I32, _I32, _i64))
def _append(following: Any, preceding: Any, ends: Any, slot: Any) -> None:
    last = ends[1]
    following[slot] = NONE
    preceding[slot] = last
    if last == NONE:
        ends[0] = slot
    else:
        following[last] = slot
    ends[1] = slot


@inner(types.void(_I32, _I32, _I32, _i64))
def _remove(following: Any, preceding: Any, ends: Any, slot: Any) -> None:
    after, before = following[slot], preceding[slot]
    if before == NONE:
        ends[0] = after
    else:
        following[before] = after
    if after == NONE:
        ends[1] = before
    else:
        preceding[after] = before


@inner(types.void(*_LISTS, _i64))
def _list(shakes: Any, links: Any, cell_ends: Any, queue_ends: Any, slot: Any) -> None:
    me = shakes[slot]
    me.listed = 1
    _append(links[0, 0], links[0, 1], cell_ends[me.cell_row, me.adult], slot)
    if me.anywhere:
        _append(links[1, 0], links[1, 1], queue_ends[me.adult], slot)


@inner(types.void(*_LISTS, _i64))
def _unlist(shakes: Any, links: Any, cell_ends: Any, queue_ends: Any, slot: Any) -> None:
    me = shakes[slot]
    if not me.listed:
        return
    me.listed = 0
    _remove(links[0, 0], links[0, 1], cell_ends[me.cell_row, me.adult], slot)
    if me.anywhere:
        _remove(links[1, 0], links[1, 1], queue_ends[me.adult], slot)


# -- who may meet whom, and in which order


@inner(types.boolean(_U64, _i64, _i64, _u64))
def _contains(excluded: Any, start: Any, count: Any, value: Any) -> Any:
    low, high = start, start + count
    while low < high:
        middle = (low + high) // 2
        if excluded[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < start + count and excluded[low] == value


@inner(types.boolean(_SHAKES, _U64, _i64, _i64, _i64))
def _compatible(shakes: Any, excluded: Any, excluded_base: Any, newcomer: Any, slot: Any) -> Any:
    me, other = shakes[newcomer], shakes[slot]
    if other.superseded or me.adult != other.adult or me.person_hash == other.person_hash:
        return False
    if other.hive_ms + min(me.window_ms, other.window_ms) < me.hive_ms:
        return False
    if _contains(excluded, me.excluded_at - excluded_base, me.excluded_count, other.person_hash):
        return False
    return not _contains(excluded, other.excluded_at - excluded_base, other.excluded_count, me.person_hash)


@inner(_i64(_SHAKES, _I32_2D, _I8_2D, _i64, _i64))
def _pair_band(shakes: Any, near_row: Any, near_band: Any, newcomer: Any, slot: Any) -> Any:
    me, other = shakes[newcomer], shakes[slot]
    if me.anywhere and other.anywhere:
        return BAND_ANYWHERE
    for column in range(near_row.shape[1]):
        if near_row[me.cell_row, column] == other.cell_row:
            return near_band[me.cell_row, column]
    return NONE


@inner(_u64(_SHAKES, _u64, _u64, _i64, _i64))
def _offset(shakes: Any, k0: Any, k1: Any, viewer: Any, slot: Any) -> Any:
    """How far round the key circle of the viewer's epoch the other one stands, seen from the viewer's own key."""
    key = shakes[slot].order_key
    if shakes[slot].epoch != shakes[viewer].epoch:
        key = siphash24(k0, k1, shakes[slot].person_hash)
    return key - shakes[viewer].order_key


@inner(types.boolean(_i64, _u64, _i64, _i64, _u64, _i64))
def _before(band: Any, key: Any, slot: Any, other_band: Any, other_key: Any, other_slot: Any) -> Any:
    if band != other_band:
        return band < other_band
    if key != other_key:
        return key < other_key
    return slot < other_slot


@inner(_i64(_I64, _U64, _I64, _i64, _i64, _i64, _u64, _i64))
def _offer(bands: Any, keys: Any, slots: Any, held: Any, limit: Any, band: Any, key: Any, slot: Any) -> Any:
    """Insert into the `limit` smallest by (band, key, slot), kept sorted; the new number held."""
    at = held
    while at > 0 and _before(band, key, slot, bands[at - 1], keys[at - 1], slots[at - 1]):
        at -= 1
    if at == limit:
        return held
    held = min(held + 1, limit)
    for move in range(held - 1, at, -1):
        bands[move], keys[move], slots[move] = bands[move - 1], keys[move - 1], slots[move - 1]
    bands[at], keys[at], slots[at] = band, key, slot
    return held


# -- the candidates of one newcomer


@inner(types.boolean(_SHAKES, _I32_2D, _i64, _i64))
def _holds(shakes: Any, match_slot: Any, holder: Any, slot: Any) -> Any:
    at = 0
    while at < shakes[holder].count and match_slot[holder, at] != slot:
        at += 1
    return at < shakes[holder].count


@inner(_i64(_SHAKES, _I32_2D, _I32_2D, _I8_2D, _U64, _i64, _u64, _u64, _i64, _I64, _U64, _I64))
def _offer_partners(
    shakes: Any,
    match_slot: Any,
    near_row: Any,
    near_band: Any,
    excluded: Any,
    excluded_base: Any,
    k0: Any,
    k1: Any,
    newcomer: Any,
    bands: Any,
    keys: Any,
    slots: Any,
) -> Any:
    """Offer and mark the open shakes that hold an earlier shake of this person, full ones included.

    Whoever holds an earlier shake came before it closed, and each closed no later than the next came: closing times
    fall along the chain, and the search may end at the first that closed too long ago. An earlier shake that no open
    shake points to any more never will be pointed to again, so it leaves the chain.
    """
    me = shakes[newcomer]
    held = 0
    live = newcomer
    earlier = me.earlier
    while earlier != NONE and shakes[earlier].closed_ms + me.window_ms >= me.hive_ms:
        found = False
        for at in range(shakes[earlier].count):
            slot = match_slot[earlier, at]
            if slot == NONE or shakes[slot].superseded or shakes[slot].closed_ms < me.hive_ms:
                continue
            if not _holds(shakes, match_slot, slot, earlier):
                continue
            found = True
            shakes[slot].mark = newcomer
            band = _pair_band(shakes, near_row, near_band, newcomer, slot)
            if band != NONE and _compatible(shakes, excluded, excluded_base, newcomer, slot):
                key = _offset(shakes, k0, k1, newcomer, slot) if band < BAND_ANYWHERE else np.uint64(slot)
                held = _offer(bands, keys, slots, held, me.limit, band, key, slot)
        if found:
            live = earlier
        else:
            shakes[live].earlier = shakes[earlier].earlier
        earlier = shakes[earlier].earlier
    return held


@inner(_i64(*_LISTS, _I32_2D, _I8_2D, _U64, _i64, _u64, _u64, _i64, _I64, _U64, _I64, _i64))
def _offer_near(
    shakes: Any,
    links: Any,
    cell_ends: Any,
    queue_ends: Any,
    near_row: Any,
    near_band: Any,
    excluded: Any,
    excluded_base: Any,
    k0: Any,
    k1: Any,
    newcomer: Any,
    bands: Any,
    keys: Any,
    slots: Any,
    held: Any,
) -> Any:
    """Offer the listed shakes of the cells around; expired ones leave their lists on the way."""
    me = shakes[newcomer]
    for column in range(near_row.shape[1]):
        row = near_row[me.cell_row, column]
        if row == NONE:
            continue
        slot = cell_ends[row, me.adult, 0]
        while slot != NONE:
            following = links[0, 0, slot]
            other = shakes[slot]
            if other.closed_ms < me.hive_ms:
                _unlist(shakes, links, cell_ends, queue_ends, slot)
            elif (
                other.mark != newcomer
                and not (me.anywhere and other.anywhere)
                and _compatible(shakes, excluded, excluded_base, newcomer, slot)
            ):
                key = _offset(shakes, k0, k1, newcomer, slot)
                held = _offer(bands, keys, slots, held, me.limit, near_band[me.cell_row, column], key, slot)
            slot = following
    return held


@inner(_i64(*_LISTS, _U64, _i64, _i64, _I64, _U64, _I64, _i64))
def _offer_anywhere(
    shakes: Any,
    links: Any,
    cell_ends: Any,
    queue_ends: Any,
    excluded: Any,
    excluded_base: Any,
    newcomer: Any,
    bands: Any,
    keys: Any,
    slots: Any,
    held: Any,
) -> Any:
    """Offer the other `anywhere` shakes, oldest first, until no later one can enter."""
    me = shakes[newcomer]
    slot = queue_ends[me.adult, 0]
    while slot != NONE:
        if held == me.limit and (bands[held - 1] < BAND_ANYWHERE or slots[held - 1] < slot):
            return held
        following = links[1, 0, slot]
        if shakes[slot].closed_ms < me.hive_ms:
            _unlist(shakes, links, cell_ends, queue_ends, slot)
        elif shakes[slot].mark != newcomer and _compatible(shakes, excluded, excluded_base, newcomer, slot):
            held = _offer(bands, keys, slots, held, me.limit, BAND_ANYWHERE, np.uint64(slot), slot)
        slot = following
    return held


# -- the fold


@inner(types.void(_SHAKES, _I32_2D, _I8_2D, _i64, _i64, _i64))
def _give(shakes: Any, match_slot: Any, match_band: Any, holder: Any, slot: Any, band: Any) -> None:
    """Write `slot` into the holder's list: over the same person's earlier shake if it is there, else at the end."""
    at = 0
    while at < shakes[holder].count:
        held = match_slot[holder, at]
        if held != NONE and shakes[held].person_hash == shakes[slot].person_hash:
            break
        at += 1
    match_slot[holder, at] = slot
    match_band[holder, at] = band
    if at == shakes[holder].count:
        shakes[holder].count = at + 1


@inner(_i64(*_LISTS, _i64))
def _supersede(shakes: Any, links: Any, cell_ends: Any, queue_ends: Any, newcomer: Any) -> Any:
    """Close the person's previous shake; its slot if it was open until now, else -1."""
    me = shakes[newcomer]
    if me.earlier == NONE:
        return NONE
    previous = shakes[me.earlier]
    _unlist(shakes, links, cell_ends, queue_ends, me.earlier)
    previous.superseded = 1
    if previous.closed_ms < me.hive_ms:
        return NONE
    previous.closed_ms = me.hive_ms
    return me.earlier


@njit(
    _i64(*_LISTS, _I32_2D, _I8_2D, _I32_2D, _I8_2D, _U64, _i64, _i64, _i64, _u64, _u64, _I32),
    cache=True,
    nogil=True,
)
def fold_newcomers(
    shakes: Any,
    links: Any,
    cell_ends: Any,
    queue_ends: Any,
    match_slot: Any,
    match_band: Any,
    near_row: Any,
    near_band: Any,
    excluded: Any,
    excluded_base: Any,
    first: Any,
    end: Any,
    k0: Any,
    k1: Any,
    changed: Any,
) -> Any:
    """Fold the shakes of slots ``first..end-1``, which all have one ``hive_ms``, in order.

    ``shakes`` (n,) of ``SHAKE``, rows ``first..end-1`` filled in with ``count = 0``; ``links`` (2, 2, n) int32;
    ``cell_ends`` (rows, 2, 2) and ``queue_ends`` (2, 2) int32, -1 = empty; ``match_slot`` (n, 20) int32 and
    ``match_band`` (n, 20) int8; ``near_row``/``near_band`` (rows, w), -1 = unused; ``excluded`` (m,) uint64, of which
    element 0 has the absolute position ``excluded_base``; (``k0``, ``k1``) the key of the newcomers' epoch;
    ``changed`` int32 with room for 22 slots a newcomer. Returns how many slots it wrote into ``changed`` (with
    repeats): those whose match list changed or whose window was ended by a later shake.
    """
    bands, keys, slots = (
        np.empty(MAX_MATCHES, np.int64),
        np.empty(MAX_MATCHES, np.uint64),
        np.empty(MAX_MATCHES, np.int64),
    )
    written = 0
    for newcomer in range(first, end):
        me = shakes[newcomer]
        ended = _supersede(shakes, links, cell_ends, queue_ends, newcomer)
        if ended != NONE:
            changed[written] = ended
            written += 1
        held = _offer_partners(
            shakes, match_slot, near_row, near_band, excluded, excluded_base, k0, k1, newcomer, bands, keys, slots
        )
        held = _offer_near(
            shakes, links, cell_ends, queue_ends, near_row, near_band, excluded, excluded_base, k0, k1, newcomer,
            bands, keys, slots, held,
        )  # fmt: skip
        if me.anywhere:
            held = _offer_anywhere(
                shakes, links, cell_ends, queue_ends, excluded, excluded_base, newcomer, bands, keys, slots, held
            )
        for at in range(held):
            _give(shakes, match_slot, match_band, slots[at], newcomer, bands[at])
            _give(shakes, match_slot, match_band, newcomer, slots[at], bands[at])
            if shakes[slots[at]].count >= shakes[slots[at]].limit:
                _unlist(shakes, links, cell_ends, queue_ends, slots[at])
            changed[written] = slots[at]
            written += 1
        if held:
            changed[written] = newcomer
            written += 1
        if me.count < me.limit:
            _list(shakes, links, cell_ends, queue_ends, newcomer)
    return written


# -- reading and forgetting


@njit(
    _i64(_SHAKES, _I32_2D, _I8_2D, _i64, _u64, _u64, _I64, _I64),
    cache=True,
    nogil=True,
)
def read_matches(
    shakes: Any, match_slot: Any, match_band: Any, viewer: Any, k0: Any, k1: Any, slots: Any, bands: Any
) -> Any:
    """Write the viewer's matches into ``slots`` and ``bands`` ((20,) int64) in the order shown; their number.

    Nearer bands first, inside a band by the keyed order seen from the viewer; ``anywhere`` pairs last, oldest first.
    (``k0``, ``k1``) is the key of the epoch of the viewer's shake.
    """
    keys = np.empty(MAX_MATCHES, np.uint64)
    held = 0
    for at in range(shakes[viewer].count):
        slot = match_slot[viewer, at]
        band = match_band[viewer, at]
        key = _offset(shakes, k0, k1, viewer, slot) if band < BAND_ANYWHERE else np.uint64(slot)
        held = _offer(bands, keys, slots, held, MAX_MATCHES, band, key, slot)
    return held


@njit(_u64(_SHAKES, _I32_2D, _I8_2D, _i64, _i64), cache=True, nogil=True)
def state_digest(shakes: Any, match_slot: Any, match_band: Any, first: Any, end: Any) -> Any:
    """Sum mod 2^64 over slots ``first..end-1`` of SipHash of (shake, person, closing) and of (shake, matched, band)."""
    total = np.uint64(0)
    for slot in range(first, end):
        me = shakes[slot]
        total += siphash24(me.shake_hash, me.person_hash, np.uint64(me.closed_ms))
        for at in range(me.count):
            matched = shakes[match_slot[slot, at]]
            total += siphash24(me.shake_hash, matched.shake_hash, np.uint64(match_band[slot, at]))
    return total


@inner(types.void(_I32_2D, _i64))
def _shift_ends(ends: Any, dropped: Any) -> None:
    for age in range(2):
        for end in range(2):
            ends[age, end] = max(ends[age, end] - dropped, NONE)


@njit(types.void(*_LISTS, _I32_2D, _I8_2D, _i64, _i64), cache=True, nogil=True)
def drop_oldest(
    shakes: Any, links: Any, cell_ends: Any, queue_ends: Any, match_slot: Any, match_band: Any, dropped: Any, count: Any
) -> None:
    """Forget slots ``0..dropped-1`` of ``count`` and move the others down; what pointed to a forgotten one is -1."""
    for slot in range(dropped):
        _unlist(shakes, links, cell_ends, queue_ends, slot)
    for slot in range(dropped, count):
        to = slot - dropped
        shakes[to] = shakes[slot]
        shakes[to].mark = NONE
        shakes[to].earlier = max(shakes[to].earlier - dropped, NONE)
        for at in range(shakes[to].count):
            match_slot[to, at] = max(match_slot[slot, at] - dropped, NONE)
            match_band[to, at] = match_band[slot, at]
        for kind in range(2):
            for end in range(2):
                links[kind, end, to] = max(links[kind, end, slot] - dropped, NONE)
    _shift_ends(queue_ends, dropped)
    for row in range(cell_ends.shape[0]):
        _shift_ends(cell_ends[row], dropped)
