"""Zones: what is repaired, what is refused and why, who is inside; across 180 degrees, with holes."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.errors import Invalid
from discovery.stores.zones import NO_ZONES, ZoneSet, check_zone
from geo.sphere import great_circle_m


def box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def holds(zone: Any, lat: float, lon: float) -> bool:
    return ZoneSet(1, {"s": check_zone(zone).geojson}).holding(lat, lon) == ["s"]


HOLED = polygon(box(0, 0, 10, 10), box(2, 2, 4, 4))
ACROSS = polygon(box(170, -10, -170, 10), box(178, -5, -178, 5))
TWO = {"type": "MultiPolygon", "coordinates": [[box(0, 0, 10, 10)], [box(5, 5, 15, 15)]]}
BOWTIE = polygon([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]])


@pytest.mark.parametrize(
    ("zone", "lat", "lon", "inside"),
    [
        (HOLED, 1, 1, True),
        (HOLED, 3, 3, False),
        (HOLED, 0, 5, True),  # on the border
        (HOLED, 2, 3, True),  # on the border of the hole
        (HOLED, 10.0001, 5, False),
        (ACROSS, 0, 175, True),
        (ACROSS, 0, -171, True),
        (ACROSS, 0, 180, False),  # in the hole
        (ACROSS, 9, 180, True),
        (ACROSS, 9, -180, True),
        (ACROSS, 0, 0, False),
        (TWO, 7, 7, True),  # what both share
        (TWO, 12, 12, True),
        (TWO, 12, 2, False),
        (BOWTIE, 5, 1, True),
        (BOWTIE, 9, 5, False),
        (polygon(box(-180, -90, 180, 90)), 0, 0, True),
        ({"type": "Feature", "properties": {}, "geometry": HOLED}, 1, 1, True),
    ],
)
def test_who_is_inside(zone: Any, lat: float, lon: float, inside: bool) -> None:
    assert holds(zone, lat, lon) is inside


@pytest.mark.parametrize(
    ("zone", "repaired"),
    [
        (HOLED, ()),
        (polygon(box(0, 0, 1, 1)[:-1]), ("a ring was not closed",)),
        (BOWTIE, ("self-intersection",)),
        (ACROSS, ("it crosses the antimeridian: it was cut there",)),
        (TWO, ("self-intersection",)),
        (polygon(box(0, 0, 4, 4), box(6, 6, 7, 7)), ("hole lies outside shell",)),
    ],
)
def test_what_is_repaired_is_said(zone: Any, repaired: tuple[str, ...]) -> None:
    assert check_zone(zone).repaired == repaired


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        (None, "Polygon"),
        ({"type": "LineString", "coordinates": []}, "Polygon"),
        ({"type": "Polygon"}, "no coordinates"),
        (polygon(), "no coordinates"),
        (polygon([]), "four"),
        (polygon([[0, 0], [1, 1], [0, 0]]), "four"),
        (polygon([[0, 0]] * 5), "no area"),
        (polygon([[0, 0], [1, 1], [2, 2], [0, 0]]), "no area"),
        (polygon([[0, 0], [1, True], [2, 0], [0, 0]]), "degrees"),
        (polygon([[0, 0], [181, 1], [2, 0], [0, 0]]), "degrees"),
        (polygon([[0, 0], [float("nan"), 1], [2, 0], [0, 0]]), "degrees"),
        (polygon([[0, 80], [120, 80], [-120, 80], [0, 80]]), "pole"),
        (polygon([[0, 0]] * 10_001), "10000"),
        ({"type": "MultiPolygon", "coordinates": [5]}, "rings"),
    ],
)
def test_what_is_no_zone_is_refused_with_the_reason(zone: Any, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_zone(zone)
    assert refused.value.field == "zone"
    assert says in refused.value.detail


numbers = st.one_of(st.floats(-180, 180), st.integers(-200, 200), st.sampled_from([None, "1", True, 1e400]))
positions = st.lists(numbers, min_size=0, max_size=3)
rings = st.lists(positions, max_size=8)


@given(st.one_of(st.lists(rings, max_size=3), st.lists(st.lists(rings, max_size=2), max_size=3), numbers))
def test_any_coordinates_are_a_zone_or_refused(coordinates: Any) -> None:
    for kind in ("Polygon", "MultiPolygon"):
        try:
            checked = check_zone({"type": kind, "coordinates": coordinates})
        except Invalid:
            continue
        assert check_zone_again(checked.geojson)


def check_zone_again(geojson: bytes) -> bool:
    """What was made of a zone is one, and stays as it is."""
    return check_zone(json.loads(geojson)).repaired == ()


def test_tangles_take_no_second(seed: int) -> None:
    rng = random.Random(seed)
    for count in (30, 300, 9_999):
        ring = [[rng.uniform(0, 10), rng.uniform(0, 10)] for _ in range(count)]
        began = time.process_time()
        if count == 30:
            assert check_zone(polygon([*ring, ring[0]])).repaired
        else:
            with pytest.raises(Invalid, match="entangled"):
                check_zone(polygon([*ring, ring[0]]))
        assert time.process_time() - began < 1.0


def test_how_far_outside() -> None:
    zones = ZoneSet(1, {"a": check_zone(polygon(box(2, 48, 3, 49))).geojson, "w": check_zone(ACROSS).geojson})
    assert zones.metres_outside("a", 48.5, 2.5) == 0.0
    assert zones.metres_outside("none", 48.5, 2.5) is None
    away = zones.metres_outside("a", 48.5, 3.1)
    assert away == pytest.approx(great_circle_m(48.5, 3.1, 48.5, 3.0), rel=0.01)
    assert zones.metres_outside("w", 0, -169) == pytest.approx(great_circle_m(0, -169, 0, -170), rel=0.01)


def test_changes_make_another_set() -> None:
    geojson = check_zone(HOLED).geojson
    one = NO_ZONES.with_changes(1, {"a": geojson, "b": geojson})
    two = one.with_changes(2, {"a": None, "c": geojson})
    assert (one.holding(1, 1), two.holding(1, 1), NO_ZONES.holding(1, 1)) == (["a", "b"], ["b", "c"], [])
    assert (len(two), two.version, two.geojson("a"), two.geojson("c")) == (2, 2, None, geojson)
