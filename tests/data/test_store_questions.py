"""The real files as brands: random questions with every filter, through both workers, while the files are imported
again, against brute force; and real opening hours."""

import asyncio
import csv
import io
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from discovery.stores.cards import rfc3339
from discovery.stores.hours import hours_key, state_at
from discovery.stores.question import Question, Wanted
from discovery.stores.timelines import DAY_MS, Timelines
from geo.sphere import great_circle_m
from tests.data.real import rows
from tests.naive_stores import NaiveStore, fits, plain
from tests.service import Connection, Service, for_all, serving

pytestmark = pytest.mark.timeout(3000)

FILES = {
    "starbucks": ("stores/starbucks_worldwide_2017.csv.gz", 25_599),
    "chains": ("stores/us_chains_2024.csv.gz", 191_806),
    "osm": ("stores/osm_poi_munich_isleofman.csv.gz", 10_456),
}
COLUMNS = ["store_id", "name", "city", "country", "lat", "lon", "opening_hours", "timezone", "services", "tags"]
QUESTIONS = 500  # of each file, ten times as many nightly
WALKED = 4000  # stores looked at in order of distance before all are
START_MS = 1_795_392_000_000  # 2026-11-23T00:00Z
_TIE_M = 1e-3  # of two stores this equally far either may come first


@dataclass
class File:
    """A file as it is imported, and its stores."""

    brand: str
    body: bytes
    stores: list[NaiveStore]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]


def read(brand: str) -> File:
    name, count = FILES[brand]
    out, stores = io.StringIO(), []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["store_id", "name", "city", "country", "lat", "lon", "opening_hours", "timezone", "services", "tags"]
    )
    for number, row in enumerate(rows(name)):
        store_id, city, zone = f"r{number:06d}", row["city"].strip(), row["tz"]
        title = (row["name"] or row["brand"] or "x").strip()
        service = row.get("ownership") or row.get("category") or row.get("brand") or ""
        tag = row.get("wheelchair") or row.get("state") or ""
        service, tag = re.sub(r"[;=]", " ", service).strip(), re.sub(r"[;=]", " ", tag).strip()
        hours, country = row.get("opening_hours") or "", row.get("country") or ""
        writer.writerow(
            [store_id, title, city, country, row["lat"], row["lon"], hours, zone, service, f"t={tag}" if tag else ""]
        )
        lat, lon = float(row["lat"]), float(row["lon"])
        key = hours_key(hours, zone, country.upper(), lat, lon) if hours else None
        offered, tags = frozenset([service] if service else []), ((("t", tag),) if tag else ())
        stores.append(NaiveStore(store_id, lat, lon, offered, False, tags, f"{title} {city}", key))
    assert len(stores) == count
    lats, lons = (np.array([getattr(store, axis) for store in stores]) for axis in ("lat", "lon"))
    return File(brand, out.getvalue().encode(), stores, lats, lons)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


def question(rng: random.Random, file: File) -> Question:
    """Near a store, with some of all filters, of values that stores have."""
    at, like = rng.choice(file.stores), rng.choice(file.stores)
    words = tuple(plain(word)[:3] for word in re.findall(r"[a-zA-Z]{3,}", like.text)[:1])
    return Question(
        max(-90.0, min(90.0, round(at.lat + rng.gauss(0, 0.05), 5))),
        max(-180.0, min(180.0, round(at.lon + rng.gauss(0, 0.05), 5))),
        START_MS + rng.randrange(6 * DAY_MS // 1000) * 1000,
        rng.choice([1, 5, 20]),
        rng.choice([None, None, 20_000.0, 300_000.0]),
        rng.random() < 0.4 and file.brand == "osm",
        tuple(like.services) if rng.random() < 0.3 else (),
        min_distance_m=rng.choice([0.0, 0.0, 0.0, 1_000.0]),
        wanted=Wanted(
            tags=like.tags if rng.random() < 0.3 else (),
            words=words if rng.random() < 0.3 else (),
            without_services=tuple(at.services) if rng.random() < 0.1 else (),
        ),
    )


def body_of(asked: Question) -> dict[str, Any]:
    return {
        "lat": asked.lat,
        "lon": asked.lon,
        "limit": asked.limit,
        "min_distance_m": asked.min_distance_m,
        "services": asked.services,
        "tags": dict(asked.wanted.tags),
        "without_services": asked.wanted.without_services,
        **({} if asked.max_distance_m is None else {"max_distance_m": asked.max_distance_m}),
        **({"open": rfc3339(asked.at_ms)} if asked.only_open else {}),
        **({"q": " ".join(asked.wanted.words)} if asked.wanted.words else {}),
        "fields": ["distance_m"],
    }


def expected_m(file: File, asked: Question) -> list[float]:
    """Distances of the stores that fit, by looking at one after the other."""
    distances = great_circle_m(asked.lat, asked.lon, file.lats, file.lons)
    found: list[float] = []
    near = np.argpartition(distances, min(WALKED, len(distances) - 1))[:WALKED]
    for order in (near[np.argsort(distances[near])], np.argsort(distances)):
        found = []
        for row in order.tolist():
            if fits(file.stores[row], asked, float(distances[row])):
                found.append(float(distances[row]))
                if len(found) == asked.limit:
                    return found
            if asked.max_distance_m is not None and distances[row] > asked.max_distance_m:
                return found
    return found


@pytest.mark.parametrize("brand", FILES)
async def test_random_questions_equal_brute_force_while_files_are_imported(
    service: Service, brand: str, seed: int, scale: int
) -> None:
    rng, file = random.Random(seed), read(brand)
    headers, path = service.operator, f"/v1/brands/{brand}/stores"
    as_csv = headers | {"Content-Type": "text/csv"}
    asked = [question(rng, file) for _ in range(min(5000, QUESTIONS * scale))]
    imports, done = 0, asyncio.Event()

    async def import_again(connection: Connection) -> None:
        nonlocal imports
        while not done.is_set():
            report = (await connection.ask("PUT", f"{path}?on_error=skip", file.body, as_csv)).ok()
            assert (report["unchanged"], report["rejected"]) == (len(file.stores), [])
            imports += 1

    async def ask(connection: Connection, one: Question) -> list[float]:
        found = (await connection.ask("POST", f"{path}/nearest", body_of(one), headers)).ok()
        return [feature["properties"]["distance_m"] for feature in found["features"]]

    async with service.by_worker(3) as groups:
        first = groups[0][0]
        (await first.ask("PUT", f"/v1/brands/{brand}", {"name": brand}, headers)).ok()
        added = (await first.ask("PUT", f"{path}?on_error=skip", file.body, as_csv)).ok()
        assert added["added"] == len(file.stores)
        importing = asyncio.create_task(import_again(first))
        try:
            answers = await for_all([c for group in groups for c in group if c is not first], asked, ask)
        finally:
            done.set()
            await importing
    assert imports >= 1
    fitting = 0
    for one, found in zip(asked, answers, strict=True):
        expected = await asyncio.to_thread(expected_m, file, one)
        assert found == pytest.approx(expected, rel=0, abs=_TIE_M + 5e-4), one
        fitting += bool(found)
    print(f"{brand}: {len(asked)} questions, {fitting} with an answer, {imports} imports meanwhile")
    assert fitting > len(asked) // 3


def test_compiled_hours_of_real_stores_agree_with_each_by_itself(seed: int, scale: int) -> None:
    """All 5,907 stores with hours, and all 9,122 texts: 10,000 store-times, 100,000 nightly; none hangs or throws."""
    rng = random.Random(seed)
    keys = [store.key for store in read("osm").stores if store.key is not None]
    assert len(keys) > 5000
    texts = [row["opening_hours"] for row in rows("vectors/oh_real_strings.csv.gz")]
    keys += [key for text in texts if (key := hours_key(text, "Europe/Berlin", "DE", 48.1, 11.6)) is not None]
    assert len(keys) > 13_000
    hours_rows = np.arange(len(keys), dtype=np.int32)
    for start_ms in (START_MS, START_MS - 31 * DAY_MS):  # the second window holds 2026-10-25
        compiled = Timelines(keys, start_ms, start_ms + 10 * DAY_MS)
        for _ in range(5):
            at_ms = start_ms + rng.randrange(10 * DAY_MS)
            opened = compiled.open_rows(hours_rows, at_ms)
            for row in rng.sample(range(len(keys)), min(len(keys), 1000 * scale)):
                assert (row in opened) == (state_at(keys[row], at_ms).state == "open"), (keys[row], at_ms)
