"""Geometry of the attacks: it must be right to centimetres anywhere on the globe, or weak builds would look strong."""

import random

import numpy as np
import pytest

from api.audit.plane import cover, destination, meeting_point, moved, moved_each, offset_m
from api.audit.sessions import intersect_squares
from api.audit.sites import SITES, Site, draw_victim
from geo import cells
from geo.sphere import bearing_deg, great_circle_m


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_destinations_lie_at_their_distance_and_bearing(site: Site, seed: int) -> None:
    draws = random.Random(seed)
    origin = site.prior.point
    for _ in range(50):
        bearing, distance_m = draws.uniform(0, 360), draws.uniform(1, 80_000)
        point = destination(origin, bearing, distance_m)
        assert -180.0 <= point[1] <= 180.0
        assert great_circle_m(*origin, *point) == pytest.approx(distance_m, abs=1e-3)
        assert abs((bearing_deg(*origin, *point) - bearing + 180) % 360 - 180) < 1e-3
        east, north = offset_m(origin, point)
        assert great_circle_m(*moved(origin, east, north), *point) < 1e-3
        lats, lons = moved_each(origin, np.array([east]), np.array([north]))
        assert great_circle_m(float(lats[0]), float(lons[0]), *point) < 1e-3


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_circles_meet_at_the_point_they_were_drawn_for(site: Site, seed: int) -> None:
    draws = random.Random(seed)
    for _ in range(10):
        truth = destination(site.prior.point, draws.uniform(0, 360), draws.uniform(0, 20_000))
        centers = [destination(site.prior.point, 120.0 * i, 20_000) for i in range(3)]
        found = meeting_point(centers, [great_circle_m(*truth, *center) for center in centers], site.prior.point)
        assert great_circle_m(*found, *truth) < 0.01


@pytest.mark.parametrize(("radius_m", "disc_m"), [(50_000, 20_000), (20_000, 10_000), (5000, 3000), (3000, 3000)])
def test_a_cover_leaves_no_hole(radius_m: int, disc_m: int, seed: int) -> None:
    draws = random.Random(seed)
    for site in SITES:
        places = np.array(cover(site.prior.point, radius_m, disc_m))
        for _ in range(100):
            point = destination(site.prior.point, draws.uniform(0, 360), radius_m * draws.random() ** 0.5)
            assert great_circle_m(places[:, 0], places[:, 1], *point).min() <= disc_m


def test_squares_intersect_in_the_middle() -> None:
    origin = (10.0, 179.999)
    shown = [moved(origin, 100.0, 300.0), moved(origin, -100.0, -100.0)]
    east, north = offset_m(origin, intersect_squares(shown, 800.0))
    assert (east, north) == pytest.approx((0.0, 100.0), abs=0.1)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_victims_are_where_their_placement_says(site: Site, seed: int) -> None:
    """Within 10 m of the centre, the border or a corner of a cell of resolution 7; and anywhere in the union of the
    children that is declared."""
    draws = random.Random(seed)
    for _ in range(5):
        uniform = draw_victim(site, draws)
        assert great_circle_m(*site.prior.point, *uniform.point) < site.prior.radius_m
        centered = draw_victim(site, draws, "centroid")
        assert great_circle_m(*centered.point, *cells.center(centered.stranger_cell)) <= 10.01
        corner = draw_victim(site, draws, "vertex")
        around = [int(c) for c in cells.disk(corner.stranger_cell, 4000.0)[0]]
        assert min(great_circle_m(*corner.point, *c) for one in around for c in cells.boundary(one).tolist()) <= 10.01
        edge = draw_victim(site, draws, "edge")
        ways = [destination(edge.point, 30.0 * i, 15.0) for i in range(12)]
        assert len({cells.cell_of(*way, 7) for way in ways}) > 1
