"""Where victims are put: twelve places of the globe, and points drawn so that the attacker can know the rest."""

import math
import random
from dataclasses import dataclass
from typing import Literal

from api.audit.oracle import Point, Prior
from api.audit.plane import destination, moved
from geo import cells
from geo.privacy import FRIEND_RESOLUTION, STRANGER_RESOLUTION

Placement = Literal["uniform", "centroid", "edge", "vertex"]

CITY_M = 15_000.0
"""Victims are in cells of points uniform in this disc; what the attacker knows is ``PRIOR_M`` around the city."""
PRIOR_M = 20_000.0
_FORCED_M = 10.0
_REACH = 1.15  # centre to farthest vertex over the edge of a hexagon of equal area, the distorted included


@dataclass(frozen=True, slots=True)
class Site:
    """A place; ``lat``, ``lon`` its centre."""

    name: str
    lat: float
    lon: float

    @property
    def prior(self) -> Prior:
        """What everybody knows of who lives there."""
        return Prior(self.lat, self.lon, PRIOR_M)


SITES = (
    Site("Paris", 48.8566, 2.3522),
    Site("New York", 40.7128, -74.0060),
    Site("Tokyo", 35.6762, 139.6503),
    Site("São Paulo", -23.5505, -46.6333),
    Site("Nairobi", -1.2864, 36.8172),
    Site("Sydney", -33.8688, 151.2093),
    Site("Reykjavik", 64.1466, -21.9426),
    Site("Tromsø", 69.6492, 18.9553),
    Site("antimeridian, Taveuni", -16.85, 179.99),
    Site("pentagon, off Dalian", 39.13, 122.33),
    Site("equator, Pontianak", 0.0, 109.33),
    Site("sparse, outback", -24.90, 133.20),
)
"""Eight cities with two in the far north, and the odd places of the lattice and the globe. The pentagon's centre lies
at 39.100, 122.300."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A true point, which only the harness knows, and the cells of it that are shown."""

    site: Site
    lat: float
    lon: float
    cell: int  # resolution 8, as snapped

    @property
    def point(self) -> Point:
        """``(lat, lon)``."""
        return self.lat, self.lon

    @property
    def stranger_cell(self) -> int:
        """The parent of resolution 7 that strangers are shown; its region is the union of its children."""
        return cells.parent(self.cell, STRANGER_RESOLUTION)


def draw_victim(site: Site, draws: random.Random, placement: Placement = "uniform") -> Victim:
    """A victim of a site. The cell is that of a point uniform in the city; then ``uniform`` in the region declared for
    that cell, or within 10 m of its centre, an edge or a vertex."""
    around = destination((site.lat, site.lon), draws.uniform(0.0, 360.0), CITY_M * math.sqrt(draws.random()))
    stranger_cell = cells.parent(cells.cell_of(*around, FRIEND_RESOLUTION), STRANGER_RESOLUTION)
    point = draw_in_region(stranger_cell, draws) if placement == "uniform" else _forced(stranger_cell, draws, placement)
    return Victim(site, *point, cells.cell_of(*point, FRIEND_RESOLUTION))


def draw_in_region(stranger_cell: int, draws: random.Random) -> Point:
    """Uniform in what is declared for a cell of resolution 7: the union of its children of resolution 8, as a point
    snapped to resolution 8 gives the parent that is shown."""
    center = cells.center(stranger_cell)
    # Equal-area radius times sqrt(2 pi / sqrt 27) = 1.0996 is the edge; a child's corner reaches a fifth further.
    reach_m = 1.2 * _REACH * 1.0996 * math.sqrt(cells.area_m2(stranger_cell) / math.pi)
    while True:
        point = destination(center, draws.uniform(0.0, 360.0), reach_m * math.sqrt(draws.random()))
        if cells.parent(cells.cell_of(*point, FRIEND_RESOLUTION), STRANGER_RESOLUTION) == stranger_cell:
            return point


def _forced(cell: int, draws: random.Random, placement: Placement) -> Point:
    """Within 10 m of the centre, of a point of the border, or of a corner of a resolution-7 cell."""
    corners = cells.boundary(cell).tolist()
    at = draws.randrange(len(corners))
    target: Point = cells.center(cell)
    if placement != "centroid":
        a, b = corners[at], corners[(at + 1) % len(corners)]
        share = 0.0 if placement == "vertex" else draws.uniform(0.1, 0.9)
        turn = (b[1] - a[1] + 180.0) % 360.0 - 180.0
        target = a[0] + share * (b[0] - a[0]), (a[1] + share * turn + 180.0) % 360.0 - 180.0
    angle, radius_m = draws.uniform(0.0, 2 * math.pi), _FORCED_M * math.sqrt(draws.random())
    return moved(target, radius_m * math.sin(angle), radius_m * math.cos(angle))
