"""Rows that each belong to one person, such as what they show others: changed in place, and yet fit for a snapshot.

A checkpoint is packed in a thread while the fold goes on, from what stood at one moment. Copying all rows for it would
take long, copying an owner's rows at each change would cost whoever has thousands of them that much each time. So a
snapshot takes the outer table only, and an owner's rows are copied once, at their first change after a snapshot.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

_Key = TypeVar("_Key")
_Row = TypeVar("_Row")

_NO_ROWS: Final[Mapping[Any, Any]] = MappingProxyType({})


class OwnedRows(Generic[_Key, _Row]):
    """owner (slot) -> key -> row; an owner without rows is not there."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[_Key, _Row]] = {}
        self._ours: set[int] = set()  # owners whose rows no snapshot holds

    def of(self, owner: int) -> Mapping[_Key, _Row]:
        """The rows of one owner, to be read."""
        return self._rows.get(owner, _NO_ROWS)

    def owners(self) -> Iterator[int]:
        """Everybody with rows."""
        return iter(self._rows)

    def put(self, owner: int, key: _Key, row: _Row) -> None:
        """Add a row or replace it (in its place: the order of rows is that in which their keys came)."""
        self._to_change(owner)[key] = row

    def remove(self, owner: int, key: _Key) -> _Row | None:
        """Take a row away; None when it is not there."""
        if key not in self.of(owner):
            return None
        rows = self._to_change(owner)
        row = rows.pop(key)
        if not rows:
            self.drop(owner)
        return row

    def drop(self, owner: int) -> Mapping[_Key, _Row]:
        """Take all rows of one owner away, and say what they were."""
        self._ours.discard(owner)
        return self._rows.pop(owner, _NO_ROWS)

    def put_back(self, owner: int, rows: dict[_Key, _Row]) -> None:
        """Add rows of an owner that were taken out before; ``rows`` is kept, and copied at its first change: a start
        puts back millions of owners, few of whom change."""
        standing = self._rows.get(owner)
        self._rows[owner] = rows if standing is None else {**standing, **rows}

    def standing(self) -> dict[int, dict[_Key, _Row]]:
        """All rows as they stand now and will in this answer: the outer table is copied, the inner ones are lent."""
        self._ours = set()
        return dict(self._rows)

    def _to_change(self, owner: int) -> dict[_Key, _Row]:
        rows = self._rows.get(owner)
        if rows is None or owner not in self._ours:
            rows = self._rows[owner] = {} if rows is None else dict(rows)
            self._ours.add(owner)
        return rows
