"""The living demo: its people and stores, and a small world of it on a real state server and over HTTP."""

import asyncio
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import pytest_asyncio

from api.demo import announce, population, run, shop
from api.demo.bottles import bottle_text, reply_text
from api.demo.cities import Cities, Places, load_cities, load_places
from api.demo.life import Life
from api.demo.plane import moved, offsets_m
from api.demo.population import YOU, YOU_LAT, YOU_LON, build, distances_to_you_m
from api.demo.seeding import World
from api.demo.walkers import RANGE_M, SPEED_M_S, Walkers
from api.settings import Settings, load_settings
from api.supervisor import DemoContext
from api.worker import build_hive
from discovery.hive import Hive
from discovery.shake import ShakeRequest
from discovery.store import keys
from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer
from discovery.stores.importers import read_stores
from discovery.stores.question import Question
from geo import sphere
from geo.privacy import ExactPoint
from tests.api.demo_service import NEAR, PEOPLE
from tests.state import state, state_server

__all__ = ["state", "state_server"]

EPOCH_MS = 1000


@pytest.fixture(scope="module")
def cities() -> Cities:
    """All of them."""
    return load_cities()


# --- people and stores ---


def test_people_are_simulated_by_name_and_the_same_at_every_start(cities: Cities) -> None:
    people, again = build(cities.places), build(cities.places)
    assert len(people) == len(set(people.ids)) == 20_000
    assert (people.ids[0], people.ids[-1]) == ("sim-00001", "sim-20000")
    assert np.array_equal(people.lats, again.lats)
    assert np.array_equal(people.lons, again.lons)
    assert not np.array_equal(people.lats, build(cities.places, seed=1).lats)


def test_300_people_live_around_you_and_can_walk_without_changing_that(cities: Cities, seed: int) -> None:
    people = build(cities.places, seed=seed)
    distances_m = distances_to_you_m(people.lats, people.lons)
    assert distances_m[:300].max() + RANGE_M <= 20_010
    assert distances_m[300:].min() - RANGE_M >= 19_990
    assert 50 <= (distances_m < 5_000).sum() <= 150
    assert distances_m[:2] == pytest.approx([900, 3_500], rel=1e-3)


def test_people_live_in_cities_by_population(cities: Cities, seed: int) -> None:
    """Counts of the hundred likeliest cities are multinomial: chi-square of 100 cells has mean 100, deviation 14."""
    rng = np.random.default_rng(seed)
    where = cities.places
    share = population.weights(cities.places)
    drawn = 20_000
    people = build(cities.places, drawn + 2, 2, seed=int(rng.integers(1 << 32)))
    homes = sphere.unit_vectors(people.lats[2:], people.lons[2:])
    for city in rng.choice(np.argsort(share)[-100:], 10, replace=False):
        centre = sphere.unit_vectors(where.lats[[city]], where.lons[[city]])
        reach_m = 3 * where.sigmas_m[city]
        near = (homes @ centre[0]) > np.cos(reach_m / sphere.EARTH_RADIUS_M)
        around = sphere.great_circle_m(where.lats, where.lons, where.lats[city], where.lons[city]) < 2 * reach_m
        least, most = drawn * share[city], drawn * share[around].sum()
        spread = 5 * np.sqrt(most)
        assert 0.98 * least - spread <= near.sum() <= most + spread, cities.names[city]


def test_people_live_at_the_distances_that_a_gaussian_gives(cities: Cities, seed: int) -> None:
    where = cities.places
    alone = int(np.argmax(np.where(where.populations > 1e6, where.lats, -90)))
    cut = slice(alone, alone + 1)
    one = Places(where.lats[cut], where.lons[cut], where.populations[cut])
    people = build(one, 5_002, 2, seed)
    distances_m = sphere.great_circle_m(people.lats[2:], people.lons[2:], one.lats[0], one.lons[0])
    assert np.median(distances_m) == pytest.approx(1.1774 * one.sigmas_m[0], rel=0.05)


def test_build_refuses_a_world_without_friends(cities: Cities) -> None:
    for people, near in ((10, 1), (10, 11), (100_000, 300)):
        with pytest.raises(ValueError, match="near must be"):
            build(cities.places, people, near)


def test_moves_are_metres_everywhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lats, lons = rng.uniform(-85, 85, 1000), np.append(rng.uniform(-180, 180, 998), [180.0, -180.0])
    east_m, north_m = rng.uniform(-3000, 3000, (2, 1000))
    to_lats, to_lons = moved(lats, lons, east_m, north_m)
    assert (np.abs(to_lons) <= 180).all()
    assert sphere.great_circle_m(lats, lons, to_lats, to_lons) == pytest.approx(np.hypot(east_m, north_m), rel=5e-3)
    back_east_m, back_north_m = offsets_m(lats, lons, to_lats, to_lons)
    assert back_east_m == pytest.approx(east_m, abs=1e-3)
    assert back_north_m == pytest.approx(north_m, abs=1e-3)


def test_people_walk_and_stay_around_home(seed: int) -> None:
    rng = np.random.default_rng(seed)
    home_lats, home_lons = rng.uniform(-70, 70, 300), rng.uniform(-180, 180, 300)
    walkers = Walkers(home_lats, home_lons, rng, 0.0)
    everybody = np.arange(300)
    before = walkers.where(everybody)
    walked_m = np.zeros(300)
    for step in range(1, 501):
        now = walkers.walk(everybody, 30.0 * step)
        stride_m = sphere.great_circle_m(*before, *now)
        assert stride_m == pytest.approx(np.full(300, 30 * SPEED_M_S), rel=0.02)
        walked_m, before = walked_m + stride_m, now
        assert sphere.great_circle_m(home_lats, home_lons, *now).max() < RANGE_M + 50
    assert np.median(sphere.great_circle_m(home_lats, home_lons, *before)) > 500
    paused = walkers.walk(everybody, 1e6)
    assert sphere.great_circle_m(*before, *paused).max() < 100


def test_walkers_resume_where_they_were_seen_unless_that_is_too_far() -> None:
    walkers = Walkers(np.array([10.0, 10.0]), np.array([179.99, 20.0]), np.random.default_rng(1), 0.0)
    walkers.resume(np.array([0, 1]), np.array([10.0, 10.5]), np.array([-179.99, 20.0]), 0.0)
    lats, lons = walkers.where(np.array([0, 1]))
    assert lats == pytest.approx([10.0, 10.0])
    assert lons == pytest.approx([-179.99, 20.0])
    walkers.resume(np.array([0]), np.array([10.0]), np.array([-179.99]), 100.0)
    lats, lons = walkers.where(np.array([0]))
    assert 0 < sphere.great_circle_m(lats, lons, np.array([10.0]), np.array([-179.99]))[0] <= 100.5


def test_stores_import_without_a_word_and_vary(cities: Cities) -> None:
    file = shop.stores_csv(cities)
    assert file == shop.stores_csv(cities)
    read = read_stores("text/csv", io.BytesIO(file), shop.BRAND_NAME)
    assert (len(read.stores), read.findings.rejected, read.findings.warnings) == (2_000, [], [])
    rows = list(csv.DictReader(io.StringIO(file.decode())))
    hours = Counter(row["opening_hours"] for row in rows)
    assert len(hours) == 7
    assert min(hours["24/7"], hours[""], hours["Mo-Su 18:00-04:00"]) >= 90
    assert {"wifi", "parking", "drive-through", "wheelchair"} == set(
        ";".join(r["services"] for r in rows).split(";")
    ) - {""}
    assert len({row["timezone"] for row in rows}) > 50
    assert all("(simulated)" in row["name"] for row in rows)
    assert sum(row["city"] == "Paris" for row in rows) >= 15


def test_every_text_says_that_it_is_simulated() -> None:
    texts = [bottle_text(number)[0] for number in range(20)] + [reply_text(number) for number in range(20)]
    marks = ("simulated", "simulé", "simulado", "simuliert", "シミュレーション", "模拟")
    assert all(any(mark in text for mark in marks) for text in texts)


def test_places_are_kept_beside_the_data_and_made_again_when_broken(cities: Cities, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    for _ in range(2):
        assert all(np.array_equal(*pair) for pair in zip(load_places(directory), cities.places, strict=True))
    (kept,) = directory.iterdir()
    started_s = time.process_time()
    load_places(directory)
    assert time.process_time() - started_s < 0.1  # the whole package takes 0.4 s
    for broken in (b"", b"PK\x03\x04", kept.read_bytes()[:1000]):
        kept.write_bytes(broken)
        assert np.array_equal(load_places(directory).lats, cities.places.lats)


# --- a small world in this process ---


class Demo(NamedTuple):
    """A demo that became ready, and a worker's hive beside it."""

    hive: Hive
    settings: Settings
    start: Any
    url: str


@pytest_asyncio.fixture
async def demo(state: State, state_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Demo]:
    """A small demo world, alive, and how to start it once more."""
    settings = load_settings(data_dir=tmp_path, epoch_s=1)
    hive = build_hive(state, settings)
    await hive.start()
    hive.keep_house(EPOCH_MS)

    @contextlib.asynccontextmanager
    async def start(name: str) -> AsyncIterator[None]:
        ready = asyncio.Event()
        context = DemoContext(state_server.url, 8000, ready.set)
        task = asyncio.create_task(run.live(settings, name, context, PEOPLE, NEAR))
        waiting, watch = asyncio.create_task(ready.wait()), asyncio.create_task(hive.followed())
        await asyncio.wait([task, waiting, watch], return_when="FIRST_COMPLETED", timeout=60)
        assert not watch.done(), watch
        assert ready.is_set(), (task, hive.ready(), hive.status())
        try:
            yield
            assert not task.done(), task
        finally:
            for ended in (task, waiting):
                ended.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)

    try:
        async with start("first"):
            yield Demo(hive, settings, start, state_server.url)
    finally:
        await hive.leave()
        await hive.stop()


async def test_a_ready_world_gives_you_people_friends_stores_and_a_bottle(demo: Demo) -> None:
    hive = demo.hive
    assert await hive.state.call("GET", keys.demo_ready()) == b"first"
    page = await hive.nearby.page(YOU, 20_000, 100, None)
    assert len(page.people) == NEAR - 2
    assert {found.user for found in page.people} <= {f"sim-{number:05d}" for number in range(1, NEAR + 1)}
    radar = await hive.radar.around(YOU, 10_000)
    assert {friend.user: friend.precision for friend in radar.friends} == {"sim-00001": "near", "sim-00002": "area"}
    assert hive.presence.count_live(hive.now_ms) == PEOPLE + 1
    everybody = np.array([hive.people.slot(f"sim-{number:05d}") for number in range(1, PEOPLE + 1)], np.int32)
    assert (hive.people.strangers_until_ms(everybody, hive.now_ms) > hive.now_ms).all()
    assert hive.settings.view(YOU).bottles
    picked = await hive.bottles.pick(YOU, "pick")
    assert picked.bottle is not None
    found = json.loads(await hive.stores.reads.nearest(shop.BRAND, Question(YOU_LAT, YOU_LON, 0), 0))
    assert len(found["features"]) == 5
    key = run.brand_key(run.key_file(demo.settings))
    assert key is not None
    assert hive.stores.key_allows(shop.BRAND, key)
    assert run.key_file(demo.settings).stat().st_mode & 0o777 == 0o600


async def test_a_shake_of_yours_meets_somebody_within_its_window(demo: Demo) -> None:
    request = ShakeRequest(ExactPoint(YOU_LAT, YOU_LON), "nearby", 10)
    shaken = await demo.hive.shakes.shake(YOU, "shake", request, "adult")
    until_s = time.monotonic() + 7
    while shaken.state == "waiting" and time.monotonic() < until_s:
        shaken = await demo.hive.shakes.look(YOU, shaken.shake_id, 1.0)
    assert shaken.state == "matched"
    assert all(match.user.startswith("sim-") for match in shaken.matches)
    assert all(match.distance_max_m in (3000, 5000) for match in shaken.matches)


@pytest.fixture
def life(demo: Demo, cities: Cities) -> Life:
    """A second life in the same world, whose acts the test calls."""
    people = build(cities.places, PEOPLE, NEAR)
    walkers = Walkers(people.lats, people.lons, np.random.default_rng(1), 0.0)
    nobody = np.array([], np.int64)
    return Life(World(demo.hive, people, walkers, print), nobody, np.random.default_rng(2), time.monotonic, "test")


async def test_simulated_people_answer_a_bottle_of_yours(demo: Demo, life: Life) -> None:
    thrown = await demo.hive.bottles.throw(YOU, "throw", "Is anybody there?", "en")
    for _ in range(600):
        await life.sail()
        view = await demo.hive.bottles.get(YOU, thrown.bottle_id)
        if view.replies:
            break
    assert "(simulated)" in view.replies[0].text
    assert int(await demo.hive.state.call("HLEN", keys.sea_index())) >= 49


async def test_people_report_and_renew_what_lapses_soon_but_never_undo_a_choice(demo: Demo, life: Life) -> None:
    hive = demo.hive
    shy = await hive.settings.change("sim-00031", visibility="nobody", claim="adult")
    before_ms = {user: hive.settings.view(user).visible_until_ms for user in ("sim-00061", "sim-00151")}
    await life.walk()  # people 1, 31, 61 ... report; the lead of nobody reaches 8 h
    assert {user: hive.settings.view(user).visible_until_ms for user in before_ms} == before_ms
    life.lead_ms[:] = 24 * 3_600_000
    life.second = 0
    await life.walk()
    after_ms = {user: hive.settings.view(user).visible_until_ms for user in before_ms}
    assert all((after_ms[user] or 0) - (before_ms[user] or 0) > 10 * 3_600_000 for user in ("sim-00151",))
    assert hive.settings.view("sim-00031") == shy


async def test_you_are_kept_in_the_world_but_your_own_choices_stand(demo: Demo, life: Life) -> None:
    hive = demo.hive
    await hive.positions.clear(YOU)
    await hive.settings.change(YOU, visibility="nobody", claim="adult")
    await life.keep()
    slot = hive.people.slot(YOU)
    assert slot is not None
    assert not hive.presence.is_live(slot, hive.now_ms)
    assert hive.settings.view(YOU).visibility == "nobody"
    async with demo.start("again"):  # a start restores them: its printed lines are to work
        await hive.feeds.followers[0].fold_to_tail(3.0)
        assert hive.presence.is_live(slot, hive.now_ms)
        assert hive.settings.view(YOU).visibility == "everyone"


async def test_a_second_start_writes_nothing(demo: Demo) -> None:
    before = await _entries(demo)
    async with demo.start("second"):
        assert await demo.hive.state.call("GET", keys.demo_ready()) == b"second"
        assert await _entries(demo) == before


async def _entries(demo: Demo) -> int:
    """Changes of settings, friendships and stores in the feed."""
    rows = await demo.hive.state.call("XRANGE", keys.feed("s00"), "-", "+")
    return sum(fields[1] in (b"s", b"f", b"b") for _, fields in rows)


# --- the same over HTTP, as it is served ---


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a served small demo prints, while it is up."""
    data = {"NEARHIVE_DATA_DIR": str(tmp_path_factory.mktemp("demo") / "data"), "NEARHIVE_EPOCH_S": "1"}
    arguments = [sys.executable, "-m", "tests.api.demo_service"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | data) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "nearhive doctor\n")
            yield "".join(line for line in lines if line or pytest.fail("the demo ended"))
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(30)
    assert status == 0


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose `curl` is ours."""
    directory = tmp_path_factory.mktemp("bin")
    curl = directory / "curl"
    curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("minicurl.py")}" "$@"\n')
    curl.chmod(0o755)
    return os.environ | {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}


def test_each_printed_line_gives_a_real_answer_by_itself(served: str, shell: dict[str, str]) -> None:
    lines = [line for line in served.splitlines() if line.startswith("curl ")]
    outputs = (
        subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=shell) for line in lines
    )
    nearby, radar, shake, match, thrown, picked, stores = (json.loads(done.stdout) for done in outputs)
    assert nearby["people"]
    assert {friend["user"] for friend in radar["friends"]} == {"sim-00001", "sim-00002"}
    assert shake["state"] in ("waiting", "matched")
    assert match["state"] == "matched"
    assert thrown["throws_left"] >= 0
    assert "text" in picked["bottle"]
    assert [len(stores["features"]), stores["features"][0]["properties"]["open"]["state"]] == [3, "open"]
    for label in ("TOKEN=ey", "BRAND_KEY=nh_sk_", "simulated"):
        assert label in served


def test_the_announcement_quotes_for_any_shell() -> None:
    text = announce.announcement("http://127.0.0.1:8000", "t.o.k", "nh_sk_k")
    for line in (line for line in text.splitlines() if line.startswith("curl")):
        subprocess.run(["sh", "-n", "-c", line], check=True)
