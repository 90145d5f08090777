"""Two store sets of one brand, the old and the new: what differs, and the one with the other merged in."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import orjson

from discovery.stores.fields import Store
from discovery.stores.packing import SetBuilder
from discovery.stores.store_set import StoreSet


@dataclass(frozen=True, slots=True)
class Difference:
    """Counts of stores, as the answer to an import shows them."""

    added: int
    changed: int
    removed: int
    unchanged: int


def difference(old: StoreSet, new: StoreSet) -> Difference:
    """What replacing ``old`` by ``new`` does."""
    added = removed = unchanged = changed = 0
    for old_row, new_row in _side_by_side(old, new):
        if old_row is None:
            added += 1
        elif new_row is None:
            removed += 1
        elif new.is_same(new_row, old, old_row):
            unchanged += 1
        else:
            changed += 1
    return Difference(added, changed, removed, unchanged)


def merged(old: StoreSet, new: StoreSet) -> StoreSet:
    """The stores of ``new``, and those of ``old`` that have another id."""
    with closing(SetBuilder()) as builder:
        for old_row, new_row in _side_by_side(old, new):
            if new_row is not None:
                builder.add(_store(new, new_row))
            elif old_row is not None:
                builder.add(_store(old, old_row))
        return builder.finish()


def without(stores: StoreSet, row: int) -> StoreSet:
    """All but the store of one row."""
    with closing(SetBuilder()) as builder:
        for other in range(len(stores)):
            if other != row:
                builder.add(_store(stores, other))
        return builder.finish()


def _side_by_side(old: StoreSet, new: StoreSet) -> Iterator[tuple[int | None, int | None]]:
    """Rows of the same id in both, or of one where only one has it: both sets are in order of ids."""
    old_row = new_row = 0
    while old_row < len(old) and new_row < len(new):
        old_id, new_id = old.ids[old_row], new.ids[new_row]
        if old_id == new_id:
            yield old_row, new_row
        elif old_id < new_id:
            yield old_row, None
        else:
            yield None, new_row
        old_row, new_row = old_row + (old_id <= new_id), new_row + (new_id <= old_id)
    for row in range(old_row, len(old)):
        yield row, None
    for row in range(new_row, len(new)):
        yield None, row


def _store(stores: StoreSet, row: int) -> Store:
    """The checked store that the row was made of."""
    card = stores.cards[row]
    entry = int(stores.hours_rows[row])
    return Store(
        store_id=stores.ids[row].decode(),
        lat=float(stores.lats[row]),
        lon=float(stores.lons[row]),
        card=card,
        services=tuple(orjson.loads(card)["services"]),
        hours=stores.hours.keys[entry] if entry >= 0 else None,
    )
