"""Random questions with every filter against brute force; pages, lists, cells, text and completion."""

import io
import json
import random
from collections.abc import Callable
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest

from discovery.errors import Invalid
from discovery.stores.finder import listed, nearest, page
from discovery.stores.hours import hours_key
from discovery.stores.importers import read_stores
from discovery.stores.question import Listing, Question, Wanted, words_wanted
from discovery.stores.row_set import RowSet
from discovery.stores.store_set import StoreSet
from discovery.stores.text_index import WordIndex, fold, matched, words_of
from geo import cells
from geo.cell_nearest import nearest_in_cell
from geo.kernels import cell_nearest as cell_kernels
from geo.places import Places
from geo.sphere import great_circle_m, unit_vectors
from tests.naive_stores import NaiveStore, fits, nearest_over_a_net

NOON_MS = 1_780_315_200_000  # a Monday, 12:00Z
HOUR_MS = 3_600_000
HOURS = ["", "24/7", "Mo 10:00-14:00", "Mo-Fr 08:00-12:30", "Mo-Su 12:30-22:00", "off", "nonsense", "Tu 00:00-24:00"]
NAMES = ["Café Nord", "Bar Été", "Ünal & Söhne", "Café du Sud", "Grill"]
SERVICES = [f"s{number:02d}" for number in range(70)]
TAGS = [("kind", "café"), ("kind", "bar"), ("floor", "1"), ("floor", "2")]


def world(rng: random.Random, count: int) -> tuple[StoreSet, list[NaiveStore]]:
    """A set around a point, with clusters of equal places, and its twins."""
    lines, twins = ["store_id,name,lat,lon,opening_hours,timezone,services,tags"], []
    for number in range(count):
        lat, lon = round(rng.gauss(48.8, 0.3), 2), round(rng.gauss(2.3, 0.3), 2)
        name, hours = rng.choice(NAMES), rng.choice(HOURS)
        services = rng.sample(SERVICES[:3] + SERVICES[-3:], rng.randrange(4))
        tags = dict(rng.sample(TAGS, rng.randrange(3)))
        row = f"{number:04d},{name},{lat},{lon},{hours},Etc/UTC,{';'.join(services)}"
        lines.append(row + "," + ";".join(f"{key}={value}" for key, value in tags.items()))
        key = hours_key(hours, "Etc/UTC", "", lat, lon) if hours else None
        offered = frozenset(services)
        twins.append(NaiveStore(f"{number:04d}", lat, lon, offered, False, tuple(tags.items()), name, key))
    for copy in range(2):  # make the first 64 services more common than the rest
        lines.append(f"zz{copy},B,-89.9,{copy},,,{';'.join(SERVICES[: 64 + 6 * copy])},")
        twins.append(NaiveStore(f"zz{copy}", -89.9, copy, frozenset(SERVICES[: 64 + 6 * copy]), False, (), "B"))
    return read_stores("text/csv", io.BytesIO("\n".join(lines).encode()), "B").stores, twins


def ask(rng: random.Random) -> Question:
    """A question with some of all filters."""

    def some(choice: Callable[[], Any], share: float = 0.3) -> Any:
        return choice() if rng.random() < share else ()

    far = rng.choice([None, None, 10_000.0, 60_000.0])
    only_open = rng.random() < 0.5
    wanted = Wanted(
        tags=some(lambda: (rng.choice([("kind", None), ("kind", "bar"), ("floor", "1"), ("none", None)]),)),
        words=some(lambda: words_wanted(rng.choice(["cafe", "CAF no", "ete", "u", "sohne unal", "x"]))),
        without_services=some(lambda: (rng.choice(SERVICES[:2] + SERVICES[-1:]),)),
        without_tags=some(lambda: (rng.choice([("floor", None), ("kind", "café")]),)),
    )
    return Question(
        round(rng.gauss(48.8, 0.3), 3),
        round(rng.gauss(2.3, 0.3), 3),
        NOON_MS,
        rng.choice([1, 5, 20, 100]),
        far,
        only_open,
        some(lambda: tuple(rng.sample([*SERVICES[:3], *SERVICES[-3:]], rng.randrange(1, 3)))),
        min_distance_m=rng.choice([0.0, 0.0, 5_000.0]),
        wanted=wanted,
        speed_kmh=rng.choice([None, 5.0, 60.0]) if only_open else None,
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_random_questions_equal_brute_force(seed: int, scale: int, *, compiled: bool) -> None:
    """Through the compiled hours, and without them (an instant beyond their window); two thousand stores, so that
    searches go on from the index to the scan."""
    rng = random.Random(seed)
    stores, twins = world(rng, 2500)
    stores.windows.renew(NOON_MS if compiled else NOON_MS - 100 * 24 * HOUR_MS)
    found_some = 0
    for _ in range(30 * scale):
        question = ask(rng)
        if not compiled:
            question = question._replace(speed_kmh=None)
        distances = [great_circle_m(question.lat, question.lon, one.lat, one.lon) for one in twins]
        ranked = sorted(zip(distances, twins, strict=True), key=lambda pair: (pair[0], pair[1].store_id))
        fit = [(distance_m, one) for distance_m, one in ranked if fits(one, question, distance_m)]
        hits = nearest(stores, question)
        assert [hit.distance_m for hit in hits] == pytest.approx([d for d, _ in fit[: question.limit]], abs=1e-3)
        assert {stores.ids[hit.row].decode() for hit in hits} <= {one.store_id for _, one in fit}
        assert len({hit.row for hit in hits}) == len(hits)
        found_some += bool(hits)
    assert found_some > 10


def test_a_journey_needs_the_compiled_hours(seed: int) -> None:
    stores, _ = world(random.Random(seed), 5)
    with pytest.raises(Invalid):
        nearest(stores, Question(1.0, 1.0, NOON_MS, only_open=True, speed_kmh=5.0))


def test_pages_make_the_whole_in_order(seed: int) -> None:
    """Many stores share a point, so that pages end amid equal distances."""
    rng = random.Random(seed)
    stores, _ = world(rng, 800)
    stores.windows.renew(NOON_MS)
    for limit in (1, 7, 100):
        question = ask(rng)._replace(limit=limit, lat=48.8, lon=2.3)
        whole = [hit.row for start in [question._replace(limit=100)] for hit in _all_pages(stores, start)]
        assert [hit.row for hit in _all_pages(stores, question)] == whole
        assert len(set(whole)) == len(whole)


def _all_pages(stores: StoreSet, question: Question) -> list[Any]:
    hits = []
    while True:
        found = page(stores, question)
        hits += found.hits
        if found.after is None:
            return hits
        assert len(found.hits) == question.limit
        question = question._replace(after=found.after)


def test_lists_equal_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    stores, twins = world(rng, 500)
    for _ in range(30):
        west, east = sorted(rng.uniform(1.5, 3.1) for _ in range(2))
        south, north = sorted(rng.uniform(48, 49.6) for _ in range(2))
        question = ask(rng)._replace(speed_kmh=None, max_distance_m=None, min_distance_m=0.0)
        listing = Listing(NOON_MS, 7, (west, south, east, north), question.all_wanted(), question.only_open)
        ids: list[str] = []
        while True:
            rows, after = listed(stores, listing)
            ids += [stores.ids[row].decode() for row in rows]
            if after is None:
                break
            listing = listing._replace(after=after)
        inside = [one for one in twins if south <= one.lat <= north and west <= one.lon <= east]
        assert ids == [one.store_id for one in inside if fits(one, question, 0.0)]


def test_the_nearest_of_a_set_of_rows_are_those_of_all_in_order(seed: int) -> None:
    """The index with a set of rows against the one without: of all rows in order, those of the set come first."""
    rng = np.random.default_rng(seed)
    lats, lons = (np.round(rng.uniform(-2, 2, 700), 1) for _ in range(2))
    masks = rng.integers(0, 4, 700).astype(np.uint64)
    places = Places(lats, lons, masks)
    for share in (0.0, 0.01, 0.3, 1.0):
        held = rng.random(700) < share
        rows = RowSet.of(np.flatnonzero(held), 700)
        for required, near, far in ((0, 0.0, np.inf), (2, 0.0, 150_000.0), (1, 50_000.0, 100_000.0)):
            lat, lon = rng.uniform(-2, 2, 2).tolist()
            ordered, distances_m = places.nearest(lat, lon, 700, far, near, required)
            kept = held[ordered]
            found = places.subset(rows.words).nearest(lat, lon, 9, far, near, required)
            assert found[0].tolist() == ordered[kept][:9].tolist()
            assert found[1].tolist() == distances_m[kept][:9].tolist()


# --- cells ---


@pytest.mark.parametrize(("count", "spread"), [(3, 1.0), (40, 1.0), (400, 0.5), (400, 0.02), (2000, 0.1)])
def test_a_cell_lists_every_store_that_may_be_among_the_nearest(seed: int, count: int, spread: float) -> None:
    """None is missing at 2,401 points of the cell; and each is, at one of them, nearly among the five."""
    rng = np.random.default_rng(seed)
    lats, lons = (np.round(middle + spread * rng.normal(size=count), 3) for middle in (48.85, 2.35))
    places = Places(lats, lons)
    cell = cells.cell_of(48.85, 2.35, 7)
    found = set(nearest_in_cell(places, lats, lons, cell, 5).tolist())
    inside = [cells.center(int(child)) for child in h3.cell_to_children(cell, 11)]
    inside = [point for point in inside if cells.cell_of(*point, 7) == cell]  # children stick out a little
    assert len(inside) > 2000
    rows, distances_m = places.nearest_many([p[0] for p in inside], [p[1] for p in inside], 5)
    assert set(rows.ravel().tolist()) - {-1} <= found
    step_m = 60.0  # from any point of the cell to the next of these: twice the radius of resolution 11
    for row in found:
        to_it = great_circle_m([p[0] for p in inside], [p[1] for p in inside], lats[row], lons[row])
        assert count < 5 or (to_it <= distances_m[:, 4] + 2 * step_m).any()


def test_the_cell_kernel_equals_its_slow_twin(seed: int) -> None:
    """Far fewer points than a cell's, on a triangle of a degree, against a fine net of points in it."""
    rng = np.random.default_rng(seed)
    corners = unit_vectors([0.0, 0.5, 0.0], [0.0, 0.0, 0.5])[None, :, :]
    points = unit_vectors(rng.uniform(-0.5, 1, 30), rng.uniform(-0.5, 1, 30))
    found = cell_kernels.nearest_of_some_point(np.ascontiguousarray(corners), points, 2, 1e-6)
    net = nearest_over_a_net(corners[0].tolist(), points.tolist(), 2)
    assert net <= set(np.flatnonzero(found).tolist())
    assert found.sum() <= len(net) + 2, "a region missed by the net is smaller than its meshes"
    assert cell_kernels.nearest_of_some_point.signatures


# --- text ---


@pytest.mark.parametrize(
    ("text", "folded"),
    [("Café", "cafe"), ("STRAßE", "strasse"), ("Łódź", "lodz"), ("Ærø", "aero"), ("ﬁn", "fin"), ("İzmir", "izmir")],
)
def test_text_is_folded(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_words_of_scripts_without_spaces_are_found_anywhere() -> None:
    index = WordIndex(["北京市中心店", "東京駅", "Café 京"])
    assert index.with_all(words_of("京市")).rows().tolist() == [0]
    assert index.with_all(words_of("京")).rows().tolist() == [0, 1, 2]
    assert words_of("O'Neill-Straße 5a") == ["o", "neill", "strasse", "5a"]


def test_what_was_typed_is_marked() -> None:
    assert matched("Café Éclair", ["cafe", "ec"]) == [(0, 4), (5, 2)]
    assert matched("Straße", ["stras"]) == [(0, 5)]
    assert matched("Bar", ["x"]) == []


def test_sets_of_rows(seed: int) -> None:
    rng = random.Random(seed)
    for size in (0, 1, 63, 64, 65, 1000):
        one, other = ({row for row in range(size) if rng.random() < 0.5} for _ in range(2))
        sets = [RowSet.of(np.array(sorted(rows), dtype=np.int64), size) for rows in (one, other)]
        for made, expected in ((sets[0] & sets[1], one & other), (sets[0].without(sets[1]), one - other)):
            assert made.rows().tolist() == sorted(expected)
            assert made.count == len(expected)
            assert made.holds(np.arange(size)).tolist() == [row in expected for row in range(size)]
            assert all((row in made) == (row in expected) for row in range(size))


def test_suggestions_put_what_begins_so_first_and_then_what_is_common() -> None:
    names = ["Bar Sud", "Sud Bar", "Sud Bar", "Grand Sud", "Grand Sud", "Grand Sud"]
    lines = [f"{i},{name},{i},1,Sudbury,GB" for i, name in enumerate(names)]
    file = io.BytesIO("\n".join(["store_id,name,lat,lon,city,country", *lines]).encode())
    stores = read_stores("text/csv", file, "B").stores
    found = stores.index.get().suggestions.complete("sud", 10)
    assert [(one["text"], one["stores"]) for one in found] == [
        ("Sudbury", 6),
        ("Sud Bar", 2),
        ("Grand Sud", 3),
        ("Bar Sud", 1),
    ]
    assert json.dumps(found[0]["matched"]) == '[{"offset": 0, "length": 3}]'
    assert found[0]["lat"] == pytest.approx(2.5, abs=1e-4)
    assert [one["text"] for one in stores.index.get().suggestions.complete("sud", 1)] == ["Sudbury"]
