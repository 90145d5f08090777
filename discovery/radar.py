"""Radar: accepted friends inside a chosen radius, at the coarser of what each pair shows each other.

Who shares precisely is shown in that cell, and its distance is counted from the viewer's own cell of `near`: the finest
that the viewer's one state machine has published. Only the viewer is told that distance, so that it tells nobody
anything of the viewer; and whether the other one's radar shows the viewer does not depend on it.
"""

from dataclasses import dataclass

from discovery.friends import PRECISE, Friendships
from discovery.people import FRIENDS, NOBODY, People
from discovery.positions import Positions
from discovery.presence import Presence
from geo import cells


@dataclass(slots=True, frozen=True)
class Blip:
    """One friend on the radar; the cell is of the pair's precision."""

    user: str
    precision: str
    distance_m: float
    cell: int


@dataclass(slots=True, frozen=True)
class RadarView:
    """Friends by distance, ties by id; ``edge_ms`` is the edge that fixed the cells."""

    friends: list[Blip]
    edge_ms: int


class Radar:
    """Distances between published cells, at each pair's precision."""

    def __init__(self, people: People, presence: Presence, friendships: Friendships, positions: Positions) -> None:
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._positions = positions

    async def around(self, user: str, radius_m: int) -> RadarView:
        """Friends within ``radius_m``. Raises PositionRequired, NotVisible."""
        viewer = await self._positions.require_live(user)
        await self._positions.require_visibility(viewer, FRIENDS)
        now_ms = self._positions.now_ms
        muted = self._people.muted(viewer)
        others = (other for other in self._friendships.friends(viewer) if other not in muted)
        blips = (self._blip(viewer, other, now_ms) for other in others)
        found = [blip for blip in blips if blip is not None and blip.distance_m <= radius_m]
        return RadarView(sorted(found, key=lambda blip: (blip.distance_m, blip.user)), self._presence.edge_ms)

    def _blip(self, viewer: int, other: int, now_ms: int) -> Blip | None:
        if not self._presence.is_live(other, now_ms) or self._people.visibility_at(other, now_ms) == NOBODY:
            return None
        if self._friendships.shows_precisely(other, viewer, now_ms) and (cell := self._friendships.precise.cell(other)):
            here = self._presence.cell_at(viewer, "near")
            return Blip(self._people.ids[other], PRECISE, cells.distance_m(here, cell), cell)
        seen_at = self._friendships.seen_at(viewer, other, now_ms)
        precision = self._presence.coarsened(viewer, other, seen_at)
        if precision == "hidden":
            return None
        here, there = self._presence.pair_cells(viewer, other, precision)
        return Blip(self._people.ids[other], precision, cells.distance_m(here, there), there)
