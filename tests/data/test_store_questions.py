"""The real files as brands: random questions with every filter, through both workers, while the files are imported
again, against brute force; and real opening hours."""

import asyncio
import csv
import io
import random
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from discovery.stores.cards import rfc3339
from discovery.stores.hours import hours_key, state_at
from discovery.stores.question import Question, Wanted
from discovery.stores.timelines import DAY_MS, Timelines
from tests.data.real import rows
from tests.naive_stores import EARTH_RADIUS_M, NaiveStore, plain, words_of
from tests.service import Connection, Service, for_all, serving

pytestmark = pytest.mark.timeout(3000)

FILES = {
    "starbucks": ("stores/starbucks_worldwide_2017.csv.gz", 25_599),
    "chains": ("stores/us_chains_2024.csv.gz", 191_806),
    "osm": ("stores/osm_poi_munich_isleofman.csv.gz", 10_456),
}
COLUMNS = ["store_id", "name", "city", "country", "lat", "lon", "opening_hours", "timezone", "services", "tags"]
QUESTIONS = 500  # of each file, ten times as many nightly
QUESTIONS_AN_INSTANT = 25  # who is open is found out by asking the hours package for each
MANY = 1000
IMPORT_S = 600.0  # 25 s alone on an idle machine
START_MS = 1_795_392_000_000  # 2026-11-23T00:00Z
_TIE_M = 1e-3  # of two stores this equally far either may come first


class File:
    """A file as it is imported, and brute force over its stores: a mask a filter, a distance to each store."""

    def __init__(self, brand: str, body: bytes, stores: list[NaiveStore]) -> None:
        self.brand, self.body, self.stores = brand, body, stores
        self._phis, self._lambdas = (np.radians([getattr(one, axis) for one in stores]) for axis in ("lat", "lon"))
        self._services = np.array([next(iter(one.services), "") for one in stores])
        self._tags = np.array([one.tags[0][1] if one.tags else "" for one in stores])
        keys = sorted({one.key for one in stores if one.key is not None}, key=repr)
        numbers = {key: number for number, key in enumerate(keys)}
        self._keys, self._hours = keys, np.array([-1 if one.key is None else numbers[one.key] for one in stores])
        self._rows_of_words: dict[str, list[int]] = {}
        for row, one in enumerate(stores):
            for word in set(words_of(one.text)):
                self._rows_of_words.setdefault(word, []).append(row)
        self.open_at = lru_cache(maxsize=None)(self._open_at)
        self.begins = lru_cache(self._begins)

    def _open_at(self, at_ms: int) -> NDArray[np.bool_]:
        opened: NDArray[np.bool_] = np.array([*(state_at(key, at_ms).state == "open" for key in self._keys), False])
        rows_open: NDArray[np.bool_] = opened[self._hours]
        return rows_open

    def _begins(self, start: str) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.stores), dtype=np.bool_)
        for word, word_rows in self._rows_of_words.items():
            if word.startswith(start):
                mask[word_rows] = True
        return mask

    def distances_m(self, lat: float, lon: float) -> NDArray[np.float64]:
        """The haversine."""
        phi = np.radians(lat)
        half_chord = (
            np.sin((self._phis - phi) / 2) ** 2
            + np.cos(phi) * np.cos(self._phis) * np.sin((self._lambdas - np.radians(lon)) / 2) ** 2
        )
        distances: NDArray[np.float64] = 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(1.0, np.sqrt(half_chord)))
        return distances

    def expected_m(self, asked: Question) -> list[float]:
        """Distances of the nearest that fit."""
        distances = self.distances_m(asked.lat, asked.lon)
        fit = distances >= asked.min_distance_m
        if asked.max_distance_m is not None:
            fit &= distances <= asked.max_distance_m
        for service in asked.services:
            fit &= self._services == service
        for service in asked.wanted.without_services:
            fit &= self._services != service
        for _, value in asked.wanted.tags:
            fit &= self._tags == value
        for start in asked.wanted.words:
            fit &= self.begins(start)
        if asked.only_open:
            fit &= self.open_at(asked.at_ms)
        return (
            sorted(distances[fit].tolist())[: asked.limit] if fit.sum() < MANY else _least(distances[fit], asked.limit)
        )


def _least(values: NDArray[np.float64], count: int) -> list[float]:
    return sorted(np.partition(values, count)[:count].tolist())


def read(brand: str) -> File:
    name, count = FILES[brand]
    out, stores = io.StringIO(), []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
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
    return File(brand, out.getvalue().encode(), stores)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


def question(rng: random.Random, file: File, instants: list[int]) -> Question:
    """Near a store, with some of all filters, of values that stores have."""
    at, like = rng.choice(file.stores), rng.choice(file.stores)
    words = tuple(plain(word)[:3] for word in re.findall(r"[a-zA-Z]{3,}", like.text)[:1])
    return Question(
        max(-90.0, min(90.0, round(at.lat + rng.gauss(0, 0.05), 5))),
        max(-180.0, min(180.0, round(at.lon + rng.gauss(0, 0.05), 5))),
        rng.choice(instants),
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


@pytest.mark.parametrize("brand", FILES)
async def test_random_questions_equal_brute_force_while_files_are_imported(
    service: Service, brand: str, seed: int, scale: int
) -> None:
    rng, file = random.Random(seed), read(brand)
    headers, path = service.operator, f"/v1/brands/{brand}/stores"
    as_csv = headers | {"Content-Type": "text/csv"}
    count = min(5000, QUESTIONS * scale)
    instants = [START_MS + rng.randrange(6 * DAY_MS // 1000) * 1000 for _ in range(count // QUESTIONS_AN_INSTANT)]
    asked = [question(rng, file, instants) for _ in range(count)]
    imports, done = 0, asyncio.Event()

    async def import_file(connection: Connection) -> Any:
        return (await connection.ask("PUT", f"{path}?on_error=skip", file.body, as_csv, IMPORT_S)).ok()

    async def import_again(connection: Connection) -> None:
        nonlocal imports
        while not done.is_set():
            report = await import_file(connection)
            assert (report["unchanged"], report["rejected"]) == (len(file.stores), [])
            imports += 1

    async def ask(connection: Connection, one: Question) -> list[float]:
        found = (await connection.ask("POST", f"{path}/nearest", body_of(one), headers)).ok()
        return [feature["properties"]["distance_m"] for feature in found["features"]]

    async with service.by_worker(3) as groups:
        first = groups[0][0]
        (await first.ask("PUT", f"/v1/brands/{brand}", {"name": brand}, headers)).ok()
        assert (await import_file(first))["added"] == len(file.stores)
        importing = asyncio.create_task(import_again(first))
        try:
            answers = await for_all([c for group in groups for c in group if c is not first], asked, ask)
        finally:
            done.set()
            await importing
    assert imports >= 1
    fitting = 0
    for one, found in zip(asked, answers, strict=True):
        expected = file.expected_m(one)
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
