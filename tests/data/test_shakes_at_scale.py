"""1,000 shakes over HTTP on two workers: both answer what the slow twin reads out of the recorded stream."""

import asyncio
import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import h3
import pytest

from discovery.sealed import Sealer
from discovery.shake_entries import ANYWHERE, Shake, unpack_shakes
from discovery.store import keys
from discovery.store.client import State
from discovery.store.hive_time import HiveTime
from discovery.store.ticker import unpack_tick
from geo import cells
from tests import naive
from tests.service import Connection, Service, for_all, serving

SHAKES = 1000
PEOPLE = 800
REPEATED = 100  # shakes that are sent again under the same Idempotency-Key, at once and on any worker
BLOCKED_PAIRS = 80
WINDOW_S = 5.0
CITIES = ((48.8566, 2.3522), (35.6812, 139.7671), (-16.5, 180.0), (71.29, -156.79), (0.0, 6.6))
_SCATTER_DEG = 0.02
_CONNECTIONS = 16  # to each worker
_EARTH_M = 6_371_008.8
_PAGE = 1000
_BANDS = {0: (0, 3000), 1: (3000, 5000), 2: (None, None)}


class Act(NamedTuple):
    """One shake as somebody's app sends it."""

    user: str
    key: str
    body: dict[str, Any]


class Recorded(NamedTuple):
    """The stream: shakes by hash with their hive time, and what the twin takes."""

    shakes: dict[int, tuple[Shake, int]]
    entries: list[tuple[bytes, int]]
    epoch_ms: int


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Epochs of a second, so that the keyed orders change under way."""
    with serving(tmp_path_factory.mktemp("service"), epoch_s="1", shake_window_s=str(WINDOW_S)) as running:
        yield running


async def test_1000_shakes_on_two_workers_equal_the_slow_twin(service: Service, seed: int) -> None:
    draws = random.Random(seed)
    acts, blocked = _plan(draws)
    async with service.by_worker(_CONNECTIONS) as groups:
        both = [connection for group in groups for connection in group]
        await for_all(both, blocked, _blocker(service))
        await asyncio.sleep(1.0)  # by then every worker knows the blocks
        ids = await _shake_all(service, both, acts, draws)
        await asyncio.sleep(WINDOW_S + 0.5)  # all windows have closed
        recorded = await _recorded(service)
        assert recorded.shakes.keys() == {int(shake_id[:16], 16) for shake_id in ids}
        epoch_key = Sealer(service.secret("privacy_secret").encode()).epoch_key
        expected = naive.replay(recorded.entries, epoch_key, recorded.epoch_ms)
        for group in groups:
            answers = await for_all(group, zip(acts, ids, strict=True), _look(service))
            for shake_id, answer in zip(ids, answers, strict=True):
                assert _shown(answer) == expected[int(shake_id[:16], 16)]
    _check_rules(acts, answers, recorded, {frozenset(pair) for pair in blocked})


def _plan(draws: random.Random) -> tuple[list[Act], list[tuple[str, str]]]:
    """Shakes of people in five cities (two of them on the antimeridian and near the pole), and who blocks whom."""
    city_of = {f"p{number}": draws.randrange(len(CITIES)) for number in range(PEOPLE)}
    everyone = list(city_of)
    acts = []
    for number in range(SHAKES):
        user = everyone[number] if number < PEOPLE else draws.choice(everyone)  # some shake again: that ends the first
        lat, lon = CITIES[city_of[user]]
        turned = lon + draws.gauss(0, _SCATTER_DEG) / math.cos(math.radians(lat))
        body: dict[str, Any] = {"lat": lat + draws.gauss(0, _SCATTER_DEG), "lon": (turned + 180) % 360 - 180}
        body |= {"limit": draws.choice((1, 2, 3, 10, 20)), "reach": draws.choice(("nearby",) * 4 + ("anywhere",))}
        acts.append(Act(user, f"key-{number}", body))
    draws.shuffle(acts)
    pairs: set[tuple[str, str]] = set()
    while len(pairs) < BLOCKED_PAIRS:
        one, two = draws.sample(everyone, 2)
        if city_of[one] == city_of[two]:
            pairs.add((one, two))
    return acts, sorted(pairs)


def _blocker(service: Service) -> Any:
    async def block(connection: Connection, pair: tuple[str, str]) -> None:
        answer = await connection.ask("PUT", f"/v1/me/blocks/{pair[1]}", headers=service.person(pair[0]))
        answer.ok(204)

    return block


async def _shake_all(
    service: Service, connections: list[Connection], acts: list[Act], draws: random.Random
) -> list[str]:
    """The shake ids, in the order of ``acts``; a repeat must name the first shake."""
    headers = {act.key: service.person(act.user) | {"Idempotency-Key": act.key} for act in acts}

    async def shake(connection: Connection, act: Act) -> str:
        return str((await connection.ask("POST", "/v1/shakes", act.body, headers[act.key])).ok(201)["shake_id"])

    sent = list(itertools.chain.from_iterable([act] * (1 + (n < REPEATED)) for n, act in enumerate(acts)))
    order = list(range(len(sent)))  # a repeat follows at once, or at any time
    if draws.random() < 0.5:
        draws.shuffle(order)
    started_s = time.monotonic()
    found = await for_all(connections, [sent[index] for index in order], shake)
    print(f"{len(sent)} shakes in {time.monotonic() - started_s:.1f} s")
    named: dict[str, set[str]] = defaultdict(set)
    for index, shake_id in zip(order, found, strict=True):
        named[sent[index].key].add(shake_id)
    assert {len(ids) for ids in named.values()} == {1}, "one Idempotency-Key, one shake"
    ids = [next(iter(named[act.key])) for act in acts]
    assert len(set(ids)) == len(acts)
    return ids


async def _recorded(service: Service) -> Recorded:
    """Read the whole stream from the state server, with the hive time of each entry."""
    state, hive, after = State(service.state_url), HiveTime(), "-"
    found = Recorded({}, [], 0)
    await state.open()
    try:
        while page := await state.call("XRANGE", keys.feed("shake"), after, "+", "COUNT", _PAGE):
            for raw_id, fields in page:
                found = _take(found, hive, raw_id, dict(zip(fields[::2], fields[1::2], strict=True)))
            after = f"({page[-1][0].decode()}"
    finally:
        await state.close()
    return found


def _take(found: Recorded, hive: HiveTime, raw_id: bytes, fields: dict[bytes, bytes]) -> Recorded:
    epoch_ms = found.epoch_ms
    if fields[b"k"] == b"t":
        tick = unpack_tick(fields[b"d"])
        hive.set_offset(tick.offset_ms)
        epoch_ms = tick.epoch_ms
    now_ms = hive.advance(int(raw_id.partition(b"-")[0]), is_tick=fields[b"k"] == b"t")
    if fields[b"k"] == b"s":
        found.entries.append((fields[b"d"], now_ms))
        for shake in unpack_shakes(fields[b"d"]):
            found.shakes.setdefault(shake.shake_hash, (shake, now_ms))
    return found._replace(epoch_ms=epoch_ms)


def _look(service: Service) -> Any:
    async def look(connection: Connection, job: tuple[Act, str]) -> Any:
        act, shake_id = job
        return (await connection.ask("GET", f"/v1/shakes/{shake_id}", headers=service.person(act.user))).ok()

    return look


def _shown(answer: dict[str, Any]) -> list[tuple[str, int]]:
    """(person, band) as the twin names them; a shake whose window has closed is `matched` or `nobody`."""
    assert answer["state"] == ("matched" if answer["matches"] else "nobody")
    band_of = {limits: band for band, limits in _BANDS.items()}
    return [(match["user"], band_of[match["distance_min_m"], match["distance_max_m"]]) for match in answer["matches"]]


def _check_rules(
    acts: list[Act], answers: list[dict[str, Any]], recorded: Recorded, blocked: set[frozenset[str]]
) -> None:
    """Without the twin: every match is mutual, in time, in its band, of nobody blocked, and no list is too long."""
    shakes = [recorded.shakes[int(answer["shake_id"][:16], 16)] for answer in answers]
    of_person: dict[str, list[tuple[Shake, int]]] = defaultdict(list)
    listed: set[tuple[str, str]] = set()
    for one, answer in zip(shakes, answers, strict=True):
        of_person[one[0].person].append(one)
        listed |= {(one[0].person, other) for other, _ in _shown(answer)}
    bands = set()
    for act, one, answer in zip(acts, shakes, answers, strict=True):
        shown = dict(_shown(answer))
        assert len(shown) == len(answer["matches"]) <= act.body["limit"]
        assert act.user == one[0].person
        for other, band in shown.items():
            assert other != act.user
            assert frozenset((other, act.user)) not in blocked
            assert (other, act.user) in listed
            # Who shook twice may have met by either shake.
            assert any(_may_match(one, theirs, band) for theirs in of_person[other])
            bands.add(band)
    assert sum(bool(answer["matches"]) for answer in answers) > SHAKES // 2
    assert bands == {0, 1, 2}


def _may_match(one: tuple[Shake, int], other: tuple[Shake, int], band: int) -> bool:
    (mine, mine_ms), (theirs, theirs_ms) = one, other
    if abs(mine_ms - theirs_ms) > 1000 * WINDOW_S:
        return False
    both_anywhere = mine.reach == theirs.reach == ANYWHERE
    if both_anywhere or band == 2:
        return both_anywhere and band == 2
    nearest_m, farthest_m = (0, 3000) if band == 0 else (3000, 5000)
    return nearest_m <= _metres(mine.cell7, theirs.cell7) < farthest_m


def _metres(a: int, b: int) -> float:
    (lat_a, lon_a), (lat_b, lon_b) = (map(math.radians, h3.cell_to_latlng(cells.to_hex(cell))) for cell in (a, b))
    half = math.sin((lat_a - lat_b) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_a - lon_b) / 2) ** 2
    return 2 * _EARTH_M * math.asin(math.sqrt(half))
