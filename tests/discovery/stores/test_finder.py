"""The nearest stores against brute force, with filters, and the bytes of the answer."""

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.errors import Invalid
from discovery.stores.finder import answer, fallback, nearest
from discovery.stores.importers import read_stores
from discovery.stores.question import Question
from discovery.stores.store_set import StoreSet
from geo.sphere import great_circle_m
from tests.naive_stores import NaiveStore, nearest_stores

# A Monday, 12:00Z.
NOON_MS = 1_780_315_200_000
HOURS = {"10:00-14:00": True, "14:00-18:00": False, "24/7": True, "nonsense": False, "": False}
# 70 services: those from 64 on are "rare" in a set that has them all.
SERVICES = [f"s{number:02d}" for number in range(70)]

Row = tuple[float, float, list[str], str]  # lat, lon, services, opening hours

latitudes = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, 48.85]))
longitudes = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, 2.35]))
services = st.lists(st.sampled_from(SERVICES[:3] + SERVICES[-3:]), max_size=3, unique=True)
stores = st.lists(st.tuples(latitudes, longitudes, services, st.sampled_from(sorted(HOURS))), max_size=40)


def build(rows: list[Row], *, all_services: bool = False) -> StoreSet:
    lines = ["store_id,lat,lon,services,opening_hours,timezone"]
    lines += [f"{i:03d},{lat!r},{lon!r},{';'.join(s)},{h},Etc/UTC" for i, (lat, lon, s, h) in enumerate(rows)]
    if all_services:  # two far-off stores make the first 64 services more common than the rest
        lines += [f"zz{copy},-89.9,{copy},{';'.join(SERVICES[: 64 + 6 * copy])},," for copy in range(2)]
    if len(lines) == 1:
        return read_stores("text/csv", io.BytesIO(b"lat,lon\n1,1\n"), "B").stores
    return read_stores("text/csv", io.BytesIO("\n".join(lines).encode()), "B").stores


def naive(rows: list[Row]) -> list[NaiveStore]:
    return [NaiveStore(f"{i:03d}", lat, lon, frozenset(s), HOURS[h]) for i, (lat, lon, s, h) in enumerate(rows)]


@given(
    stores.filter(bool),
    latitudes,
    longitudes,
    st.integers(1, 100),
    st.one_of(st.none(), st.floats(0, 2.1e7)),
    services,
    st.booleans(),
    st.booleans(),
)
def test_equals_brute_force(
    rows: list[Row],
    lat: float,
    lon: float,
    limit: int,
    far: float | None,
    wanted: list[str],
    only_open: bool,
    rare: bool,
) -> None:
    built = build(rows, all_services=rare)
    found = [
        (built.ids[hit.row].decode(), hit.distance_m)
        for hit in nearest(built, Question(lat, lon, NOON_MS, limit, far, only_open, tuple(wanted)))
    ]
    twins = naive(rows)
    if rare:
        twins += [NaiveStore(f"zz{c}", -89.9, c, frozenset(SERVICES[: 64 + 6 * c]), False) for c in range(2)]
    expected = nearest_stores(twins, lat, lon, limit, far, frozenset(wanted), only_open)
    # Distances may differ by 0.2 m at antipodes, and so may the cut at max_distance_m and the order of near equals.
    if far is None:
        assert len(found) == len(expected)
    by_id = {twin.store_id: great_circle_m(lat, lon, twin.lat, twin.lon) for twin in twins}
    for store_id, distance_m in found:
        assert distance_m == pytest.approx(by_id[store_id], abs=0.2)
    for (_, distance_m), (_, other_m) in zip(found, expected, strict=False):
        assert distance_m == pytest.approx(other_m, abs=0.4)
    inside = nearest_stores(twins, lat, lon, 1000, None if far is None else far - 0.4, frozenset(wanted), only_open)
    assert len(found) >= min(limit, len(inside))
    fit = {store_id for store_id, _ in nearest_stores(twins, lat, lon, 1000, None, frozenset(wanted), only_open)}
    assert {store_id for store_id, _ in found} <= fit
    assert len({store_id for store_id, _ in found}) == len(found)


def test_open_stores_far_behind_many_closed_ones() -> None:
    """More closed stores nearby than one look takes: the search goes on until it has enough or has seen all."""
    closed: list[Row] = [(0.0, i / 1000, [], "14:00-18:00") for i in range(700)]
    built = build(closed + [(1.0, i / 10, [], "24/7") for i in range(7)])
    hits = nearest(built, Question(0.0, 0.0, NOON_MS, 3, None, True))
    assert [built.ids[hit.row] for hit in hits] == [b"700", b"701", b"702"]
    assert len(nearest(built, Question(0.0, 0.0, NOON_MS, 100, None, True))) == 7


@pytest.mark.parametrize("wanted", [(), ("wifi",)])
def test_open_stores_behind_thousands_of_closed_ones(wanted: tuple[str, ...]) -> None:
    """Beyond 2,500 rows the finder scans instead of asking the index: no store twice, none left out, still in order."""
    far_ids = [f"{i:03d}" for i in range(3000, 3030)]
    closed: list[Row] = [(0.0, i / 10_000, list(wanted), "14:00-18:00" if i % 2 else "") for i in range(3000)]
    built = build(closed + [(1.0, i / 10, list(wanted), "24/7") for i in range(30)])
    question = Question(0.0, 0.0, NOON_MS, 40, None, True, wanted)
    assert [built.ids[hit.row].decode() for hit in nearest(built, question)] == far_ids
    hits = nearest(built, question._replace(limit=7))
    assert [built.ids[hit.row].decode() for hit in hits] == far_ids[:7]
    reach = hits[4].distance_m + 1
    assert len(nearest(built, question._replace(max_distance_m=reach))) == 5


def test_many_stores_at_one_point_come_in_order_of_id_and_once() -> None:
    built = build([(1.0, 1.0, [], "14:00-18:00" if i % 2 else "24/7") for i in range(90)])
    hits = nearest(built, Question(1.0, 1.0, NOON_MS, 30, None, True))
    assert [built.ids[hit.row].decode() for hit in hits] == [f"{i:03d}" for i in range(0, 60, 2)]


def test_max_distance_is_inclusive_and_the_fallback_lies_beyond() -> None:
    built = build([(0.0, 1.0, ["wifi"], "24/7"), (0.0, 2.0, [], "24/7"), (0.0, 3.0, ["wifi"], "")])
    question = Question(0.0, 0.0, NOON_MS, 5, 100_000.0, False, ("wifi",))
    assert nearest(built, question) == []
    assert [built.ids[hit.row] for hit in fallback(built, question)] == [b"000", b"002"]
    found = json.loads(answer(built, question))
    assert found["features"] == []
    assert [feature["id"] for feature in found["fallback"]["features"]] == ["000", "002"]
    reached = nearest(built, question._replace(max_distance_m=None, limit=1))[0].distance_m
    assert len(nearest(built, question._replace(max_distance_m=reached))) == 1
    assert nearest(built, question._replace(max_distance_m=math.nextafter(reached, 0) - 1e-6)) == []


def test_no_fallback_where_something_is_found_or_nothing_was_limited() -> None:
    built = build([(0.0, 1.0, [], "24/7")])
    assert "fallback" not in json.loads(answer(built, Question(0.0, 0.0, NOON_MS, max_distance_m=200_000.0)))
    nothing = json.loads(answer(built, Question(0.0, 0.0, NOON_MS, services=("unheard of",))))
    assert nothing == {"type": "FeatureCollection", "features": []}


def test_the_bytes_of_an_answer() -> None:
    built = build([(0.0, 1.0, ["wifi"], "10:00-14:00")])
    assert json.loads(answer(built, Question(0.0, 0.0, NOON_MS))) == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": "000",
                "geometry": {"type": "Point", "coordinates": [1.0, 0.0]},
                "properties": {
                    "store_id": "000",
                    "name": "B",
                    "address": None,
                    "city": None,
                    "country": None,
                    "postcode": None,
                    "phone": None,
                    "website": None,
                    "opening_hours": "10:00-14:00",
                    "timezone": "Etc/UTC",
                    "services": ["wifi"],
                    "tags": {},
                    "distance_m": 111195.08,  # R * pi / 180 = 111,195.0802 m
                    "bearing_deg": 90.0,
                    "open": {"state": "open", "next_change": "2026-06-01T14:00:00Z", "closes_in_s": 7200},
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (Question(90.1, 0.0, NOON_MS), "lat"),
        (Question(0.0, math.nan, NOON_MS), "lon"),
        (Question(0.0, 0.0, NOON_MS, limit=0), "limit"),
        (Question(0.0, 0.0, NOON_MS, limit=101), "limit"),
        (Question(0.0, 0.0, NOON_MS, max_distance_m=-1.0), "max_distance_m"),
        (Question(0.0, 0.0, NOON_MS, max_distance_m=math.nan), "max_distance_m"),
        (Question(0.0, 0.0, NOON_MS, max_distance_m=math.inf), "max_distance_m"),
    ],
)
def test_bad_questions(question: Question, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        answer(build([]), question)
    assert refused.value.field == field
