"""People nearby: the plain list under Shake and Radar, in bands between published cells of both sides, never metres."""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from discovery.errors import BadCursor, CursorExpired, NotVisible
from discovery.exposure_caps import ExposureCaps
from discovery.friends import Friendships
from discovery.nearby_page import Around, NearbyPages
from discovery.people import EVERYONE, People
from discovery.positions import Positions
from discovery.presence import Presence
from discovery.safety import Blocks
from discovery.sealed import Sealer

_CURSOR = struct.Struct("<qIBQ")  # stranger edge, radius, band, offset on the circle
_PURPOSE = "nearby"


@dataclass(slots=True, frozen=True)
class Neighbour:
    """One stranger: who, and the band between the two published cells."""

    user: str
    distance_min_m: int
    distance_max_m: int


@dataclass(slots=True, frozen=True)
class NearbyPage:
    """One page of the list; ``edge_ms`` is the stranger edge that fixed its cells."""

    people: list[Neighbour]
    edge_ms: int
    next_cursor: str | None


class Nearby:
    """Lists strangers band by band, inside a band from the viewer's place on the keyed circle."""

    def __init__(
        self,
        people: People,
        presence: Presence,
        friendships: Friendships,
        blocks: Blocks,
        positions: Positions,
        sealer: Sealer,
        caps: ExposureCaps,
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        """``ready``: returns when the people index is built."""
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._blocks = blocks
        self._positions = positions
        self._sealer = sealer
        self._caps = caps
        self._ready = ready
        self._pages = NearbyPages(presence, caps)

    async def page(self, user: str, radius_m: int, limit: int, cursor: str | None) -> NearbyPage:
        """One page. Raises PositionRequired, NotVisible, BadCursor, CursorExpired, CellsUsedUp."""
        await self._ready()
        viewer = await self._positions.require_live(user)
        await self._positions.require_visibility(viewer, EVERYONE)
        if self._presence.in_quiet_zone(viewer):  # there strangers do not see the viewer: neither way, as with hiding
            raise NotVisible("in your quiet zone strangers do not see you, and you do not see them")
        now_ms = self._positions.now_ms
        after = None if cursor is None else self._open(cursor, user, radius_m)
        cell = self._presence.stranger_cell(viewer)
        self._caps.ask(viewer, cell, self._presence.stranger_edge_ms, now_ms, looks=True)
        around, borders = self._presence.bands_around(cell, radius_m)
        slots, bands, offsets = self._pages.page(Around(viewer, around, self._excluded(viewer), now_ms), after, limit)
        more = len(slots) > limit
        last = (int(bands[limit - 1]), int(offsets[limit - 1])) if more else None
        shown = zip(slots[:limit].tolist(), bands[:limit].tolist(), strict=True)
        found = [Neighbour(self._people.ids[slot], *borders[band]) for slot, band in shown]
        return NearbyPage(
            found, self._presence.stranger_edge_ms, None if last is None else self._seal(user, radius_m, last)
        )

    def _excluded(self, viewer: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Self, the blocked, whom the viewer muted, and accepted friends: those are in radar, and a hidden one must not
        be found here."""
        slots = {viewer, *self._blocks.either_way(viewer), *self._friendships.friends(viewer)}
        slots |= self._people.muted(viewer)
        return np.array(sorted(slots), dtype=np.int32)

    def _seal(self, user: str, radius_m: int, last: tuple[int, int]) -> str:
        payload = _CURSOR.pack(self._presence.stranger_edge_ms, radius_m, *last)
        return self._sealer.seal(_PURPOSE, payload, user.encode())

    def _open(self, cursor: str, user: str, radius_m: int) -> tuple[int, int]:
        payload = self._sealer.open(_PURPOSE, cursor, user.encode())
        edge_ms, sealed_radius_m, band, offset = _CURSOR.unpack(payload)
        if sealed_radius_m != radius_m:
            raise BadCursor("the cursor belongs to another radius")
        if edge_ms != self._presence.stranger_edge_ms:
            raise CursorExpired("the list moved on: start again without a cursor")
        return band, offset
