"""18,737 people of Gowalla and 86,985 friendships, brought in by the app's backend; then radar over HTTP."""

import asyncio
import itertools
import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import h3
import pytest

from tests.data.real import rows
from tests.service import Answer, Connection, Service, for_all, serving

pytestmark = pytest.mark.timeout(300)

EARTH_M = 6_371_008.8
ROWS_A_REQUEST = 10_000
VIEWERS = 1000
RADII_M = (1000, 10_000, 100_000)
_CONNECTIONS = 64  # to each worker
_PATIENCE_S = 60.0

Homes = dict[str, tuple[float, float]]
Edges = list[tuple[str, str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), log_level="warning") as running:
        yield running


@pytest.fixture(scope="module")
def homes() -> Homes:
    """Each person's most visited place, of several the one with the lowest id."""
    places = {row["poi"]: (float(row["lat"]), float(row["lon"])) for row in rows("users/gowalla_poi.csv.gz")}
    favourite: dict[str, tuple[int, int]] = {}
    for row in rows("users/gowalla_user_visits.csv.gz"):
        rank = (-int(row["visits"]), int(row["poi"]))
        favourite[row["user"]] = min(favourite.get(row["user"], rank), rank)
    found = {user: places[str(poi)] for user, (_, poi) in favourite.items()}
    assert len(found) == 18_737
    return found


@pytest.fixture(scope="module")
def edges() -> Edges:
    found = [(row["user_a"], row["user_b"]) for row in rows("users/gowalla_friend_edges.csv.gz")]
    assert len(found) == 86_985
    return found


async def test_radar_of_1000_people_equals_brute_force_over_cells(
    service: Service, homes: Homes, edges: Edges, seed: int
) -> None:
    async with service.by_worker(_CONNECTIONS) as groups:
        await _bring_in(service, [connection for group in groups for connection in group], homes, edges)
        viewers = random.Random(seed).sample(sorted(homes), VIEWERS)
        # Half of what was written went through the other worker: each is asked about everybody.
        for worker in groups:
            await _compare_radars(service, worker, viewers, homes, edges)


async def _bring_in(service: Service, connections: list[Connection], homes: Homes, edges: Edges) -> None:
    """As an app would that moves in: positions, then visibility with consent, then the whole graph of friends."""
    clock = Stopwatch()
    positions = [{"user": user, "lat": lat, "lon": lon} for user, (lat, lon) in homes.items()]
    for answer in await for_all(connections[:2], _pages(positions), _post(service, "positions")):
        assert answer["rejected"] == []
    clock.lap(f"{len(positions)} positions")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    consent = {"visibility": "friends", "consent": {"version": "1", "at": now}}

    async def show(connection: Connection, user: str) -> str:
        answer = await _until_told(connection, "PUT", f"/v1/app/users/{user}", consent, headers)
        return str(answer.ok()["visibility"])

    headers = service.operator
    assert set(await for_all(connections, homes, show)) == {"friends"}
    clock.lap(f"{len(homes)} visibilities")
    pairs = [{"a": a, "b": b, "op": "add"} for a, b in edges]
    answers = await for_all(connections[:2], _pages(pairs), _post(service, "friendships"))
    assert sum(answer["applied"] for answer in answers) == len(edges)
    assert [answer["skipped"] for answer in answers] == [[]] * len(answers)
    clock.lap(f"{len(edges)} friendships")


async def _until_told(connection: Connection, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
    """As any client does: a worker that folds 170,000 halves at once may say 503 for a moment. All is idempotent."""
    ends_s = time.monotonic() + _PATIENCE_S
    while (answer := await connection.ask(method, path, body, headers)).status == 503 and time.monotonic() < ends_s:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return answer


def _pages(items: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    return (items[at : at + ROWS_A_REQUEST] for at in range(0, len(items), ROWS_A_REQUEST))


def _post(service: Service, what: str) -> Any:
    field, headers = {"positions": "positions", "friendships": "pairs"}[what], service.operator

    async def post(connection: Connection, page: list[dict[str, Any]]) -> Any:
        return (await _until_told(connection, "POST", f"/v1/app/{what}", {field: page}, headers)).ok()

    return post


async def _compare_radars(
    service: Service, connections: list[Connection], viewers: list[str], homes: Homes, edges: Edges
) -> None:
    clock = Stopwatch()
    friends = _friends(edges)
    headers = {user: service.person(user, age=None) for user in viewers}

    async def look(connection: Connection, question: tuple[str, int]) -> list[dict[str, Any]]:
        user, radius_m = question
        answer = await _until_told(connection, "GET", f"/v1/radar?radius_m={radius_m}", None, headers[user])
        return list(answer.ok()["friends"])

    questions = list(itertools.product(viewers, RADII_M))
    answers = await for_all(connections, questions, look)
    clock.lap(f"{len(questions)} radars")
    seen = 0
    for (user, radius_m), found in zip(questions, answers, strict=True):
        expected = _radar(user, radius_m, homes, friends)
        given = [(friend["user"], friend["cell"], friend["precision"]) for friend in found]
        assert given == [(other, cell, "area") for _, other, cell in expected], (user, radius_m)
        distances_m = [friend["distance_m"] for friend in found]
        assert distances_m == pytest.approx([distance_m for distance_m, *_ in expected], rel=0, abs=0.001)
        seen += len(found)
    assert seen > 2 * len(viewers), "a comparison of empty lists would say nothing"


def _friends(edges: Edges) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for a, b in edges:
        found.setdefault(a, set()).add(b)
        found.setdefault(b, set()).add(a)
    return found


def _radar(user: str, radius_m: int, homes: Homes, friends: dict[str, set[str]]) -> list[tuple[float, str, str]]:
    """(distance, friend, cell) of the friends whose cell centre is within the radius, by distance, then by id."""
    here = _cell(homes[user])
    around = [(_metres(here, there), other, there) for other in friends.get(user, ()) if (there := _cell(homes[other]))]
    return sorted(one for one in around if one[0] <= radius_m)


def _cell(home: tuple[float, float]) -> str:
    """What friends at `area` see: the parent of the kept cell."""
    return str(h3.cell_to_parent(h3.latlng_to_cell(*home, 8), 7))


def _metres(a: str, b: str) -> float:
    """Between the centres."""
    (lat_a, lon_a), (lat_b, lon_b) = (map(math.radians, h3.cell_to_latlng(cell)) for cell in (a, b))
    half = math.sin((lat_a - lat_b) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_a - lon_b) / 2) ** 2
    return 2 * EARTH_M * math.asin(math.sqrt(half))


class Stopwatch:
    """Prints how long each part took."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()

    def lap(self, what: str) -> None:
        now_s = time.monotonic()
        print(f"{what} in {now_s - self._since_s:.1f} s")
        self._since_s = now_s
