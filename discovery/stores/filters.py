"""What a question asks of stores, as a mask of common services and a set of rows: never a look at each store."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from discovery.stores.question import Wanted
from discovery.stores.row_set import RowSet
from discovery.stores.store_set import StoreSet


class Filter(NamedTuple):
    """The rows of ``rows`` (None: all) that have every bit of ``mask`` among their 64 most common services."""

    mask: int
    rows: RowSet | None

    def and_rows(self, rows: RowSet) -> "Filter":
        """Those of these rows."""
        return Filter(self.mask, rows if self.rows is None else self.rows & rows)


def filter_of(stores: StoreSet, wanted: Wanted) -> Filter | None:
    """The filter of what is wanted, None when no store of the set can have it all."""
    requirement = stores.services.requirement(wanted.services)
    if requirement is None:
        return None
    mask, rare_rows = requirement
    found = Filter(mask, None if rare_rows is None else RowSet.of(rare_rows, len(stores)))
    for rows in _asked_rows(stores, wanted):
        found = found.and_rows(rows)
    for rows in _refused_rows(stores, wanted):
        kept = found.rows if found.rows is not None else stores.all_rows
        found = Filter(mask, kept.without(rows))
    return found


def needs_index(wanted: Wanted) -> bool:
    """Whether the words or tags of the set's cards are asked for."""
    return bool(wanted.tags or wanted.words or wanted.without_tags)


def _asked_rows(stores: StoreSet, wanted: Wanted) -> Iterator[RowSet]:
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
    requirement = stores.services.requirement((name,))
    if requirement is None:
        return RowSet.of(np.empty(0, dtype=np.int64), len(stores))
    mask, rare_rows = requirement
    if rare_rows is None:
        rare_rows = np.flatnonzero(stores.services.masks & np.uint64(mask))
    return RowSet.of(rare_rows, len(stores))
