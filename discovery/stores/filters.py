"""What a question asks of stores, as a mask of common services and a set of rows: never a look at each store."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from discovery.stores.question import Wanted
from discovery.stores.row_set import Rows, RowSet
from discovery.stores.store_set import StoreSet
from discovery.stores.subsets import Subset

_NOTHING = Wanted()


class Filter(NamedTuple):
    """The rows of ``subset`` (None: all) that have every bit of ``mask`` among their 64 most common services."""

    mask: int
    subset: Subset | None

    def and_rows(self, stores: StoreSet, rows: RowSet) -> "Filter":
        """Those of these rows."""
        both = rows if self.subset is None else self.subset.rows & rows
        return Filter(self.mask, Subset(both, stores.places))


def filter_of(stores: StoreSet, wanted: Wanted, opened: RowSet | None = None) -> Filter | None:
    """The filter of what is wanted, of ``opened`` rows only; None when no store of the set can have it all.

    What callers ask again, with other points and other common services, is kept with the set: ``opened`` is told apart
    as an object, so that a change of who is open, as a change of the stores, makes a subset of its own.
    """
    split = stores.services.split(wanted.services)
    if split is None:
        return None
    mask, rare = split
    rest = wanted._replace(services=rare)
    if opened is None and rest == _NOTHING:
        return Filter(mask, None)
    return Filter(mask, stores.subsets.get((rest, opened), lambda: _subset(stores, rest, opened)))


def _subset(stores: StoreSet, wanted: Wanted, found: RowSet | None) -> Subset:
    for rows in _asked_rows(stores, wanted):
        found = rows if found is None else found & rows
    for rows in _refused_rows(stores, wanted):
        found = (stores.all_rows if found is None else found).without(rows)
    return Subset(stores.all_rows if found is None else found, stores.places)


def needs_index(wanted: Wanted) -> bool:
    """Whether the words or tags of the set's cards are asked for."""
    return bool(wanted.tags or wanted.words or wanted.without_tags)


def _asked_rows(stores: StoreSet, wanted: Wanted) -> Iterator[RowSet]:
    for name in wanted.services:
        yield rows_with_service(stores, name)
    for key, value in wanted.tags:
        yield stores.index.get().with_tag(key, value)
    if wanted.words:
        yield stores.index.get().with_words(wanted.words)


def _refused_rows(stores: StoreSet, wanted: Wanted) -> Iterator[RowSet]:
    for key, value in wanted.without_tags:
        yield stores.index.get().with_tag(key, value)
    for name in wanted.without_services:
        yield rows_with_service(stores, name)


def rows_with_service(stores: StoreSet, name: str) -> RowSet:
    """All rows that offer a service."""
    return RowSet.of(stores.services.rows_with(name), len(stores))


def rows_of(stores: StoreSet, fit: Filter) -> Rows:
    """All rows that pass, ascending."""
    rows = None if fit.subset is None else fit.subset.few()
    if rows is None:
        rows = np.arange(len(stores)) if fit.subset is None else fit.subset.rows.rows()
    if fit.mask:
        bits = np.uint64(fit.mask)
        rows = rows[(stores.services.masks[rows] & bits) == bits]
    return rows
