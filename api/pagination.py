"""Sealed cursors: what a list needs to go on, readable by this service only, bound to the list and the caller."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import orjson
from fastapi import Query
from pydantic import BeforeValidator

from discovery.errors import BadCursor
from discovery.sealed import Sealer

from .dependencies import whole_number

Position = str | int

LimitParam = Annotated[int, BeforeValidator(whole_number), Query(ge=1, le=100, description="Most items of one page.")]
CursorParam = Annotated[
    str | None, Query(max_length=2048, pattern=r"^[A-Za-z0-9_-]+$", description="next_cursor of the page before.")
]


class Cursors:
    """Makes and reads cursors. ``list_name`` is fixed per route; ``caller`` is who may use the cursor."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, list_name: str, caller: str, *position: Position) -> str:
        """The cursor of ``position``: equal inputs give equal bytes."""
        return self._sealer.seal(f"cursor {list_name}", orjson.dumps(position), caller.encode())

    def open(self, list_name: str, caller: str, cursor: str, kinds: Sequence[type]) -> list[Position]:
        """The position of a cursor; ``kinds`` are its types, in order. BadCursor when it is not one of this list."""
        position = orjson.loads(self._sealer.open(f"cursor {list_name}", cursor, caller.encode()))
        if len(position) != len(kinds) or not all(type(one) is kind for one, kind in zip(position, kinds, strict=True)):
            raise BadCursor
        return list(position)

    def page_of_names(
        self, list_name: str, caller: str, names: Iterable[str], limit: int, cursor: str | None
    ) -> tuple[list[str], str | None]:
        """A page of ``names`` in their order as text, and ``next_cursor``. BadCursor as :meth:`open`."""
        after = "" if cursor is None else str(self.open(list_name, caller, cursor, [str])[0])
        left = sorted(name for name in names if name > after)
        return left[:limit], self.seal(list_name, caller, left[limit - 1]) if len(left) > limit else None
