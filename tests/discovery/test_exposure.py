"""Caps on exposure: what one human sees in a day, on one worker and on two, and that pages fit together under them."""

import contextlib
import math
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from api.settings import load_settings
from discovery import exposure_caps, nearby_page
from discovery.exposure import DAY_MS, Exposure, Look, pack_looks
from discovery.exposure_caps import FULL_EPOCHS, MORE_EPOCHS, MOST_CELLS, MOST_STRANGERS
from discovery.hive import Hive, Rules
from discovery.positions import AppPosition
from discovery.request_quota import REQUESTS_A_DAY
from discovery.store.client import State
from geo import cells
from geo.privacy import ExactPoint
from tests.discovery.histories import START_MS as HISTORIES_START_MS
from tests.discovery.histories import Folded
from tests.world import PARIS, SECRET, START_MS, STRANGER_EPOCH_MS, World

DAY_START_MS = START_MS // DAY_MS * DAY_MS + DAY_MS + 60_000
RULES = Rules(
    ticks_missed_after_s=math.inf, lease_valid_s=600.0, lease_dead_s=1200.0, exposure_caps=True, quick_deadline_s=3.0
)
MOST_EPOCHS = FULL_EPOCHS + MORE_EPOCHS


@pytest.fixture(autouse=True)
def quick_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure_caps, "_GATHER_S", 0.005)


async def later(world: World, ms: int) -> None:
    """Once the feed was told: the entries that put the time must be the newest."""
    await world.hive.exposure.told()
    await world.later(ms)


async def opened(state: State, data_dir: Path) -> World:
    draws = random.Random(7)
    hive = Hive(state, SECRET, RULES, lambda: draws.getrandbits(32), draws.randbytes, time.monotonic)
    await hive.start()
    return World(state, load_settings(data_dir=data_dir, epoch_s=900), hive)


@contextlib.asynccontextmanager
async def workers(state: State, data_dir: Path, count: int) -> AsyncIterator[list[World]]:
    """Worlds on one state, at the start of a day; only the first one's clock is put."""
    worlds = [await opened(state, data_dir) for _ in range(count)]
    try:
        await worlds[0].at(DAY_START_MS)
        yield worlds
    finally:
        for world in worlds:
            await world.hive.stop()


@pytest.fixture
async def world(state: State, tmp_path: Path) -> AsyncIterator[World]:
    async with workers(state, tmp_path, 1) as [only]:
        yield only


async def crowd(world: World, count: int, *others: World, old: bool = True) -> None:
    """Strangers u0, u1, ... around Paris, and the viewer ann; ``old``: for more than a week; ``others``: workers."""
    for one in (world, *others):
        for user in ("ann", "ann2", *(f"u{n}" for n in range(count))):
            settings = {"u": user, "visibility": "everyone", "until": 0, "age": "adult"}
            one.hive.people.fold_settings(settings, one.now_ms or DAY_START_MS)
    await renew(world, count)
    if old:
        aged(world, "ann")


def aged(world: World, user: str) -> None:
    people = world.hive.people
    people.first_ms[people.slot_or_new(user)] = 1


async def renew(world: World, count: int, *more: str) -> None:
    """All report again."""
    users = ("ann", *more, *(f"u{n}" for n in range(count)))
    rows = [AppPosition(user, ExactPoint(*PARIS), 28_800) for user in users]
    assert set(await world.hive.positions.report_many(rows)) == {None}


async def look(world: World, user: str = "ann", **params: Any) -> httpx2.Response:
    async with world.client(user) as client:
        return await client.get("/v1/nearby", params={"limit": 100, **params})


async def seen(world: World, user: str = "ann", limit: int = 100) -> list[str]:
    """All pages."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await look(world, user, limit=limit, **cursor)
        assert answer.status_code == 200, answer.text
        found += [person["user"] for person in answer.json()["people"]]
        if answer.json()["next_cursor"] is None:
            return found
        cursor = {"cursor": answer.json()["next_cursor"]}


# --- one stranger in at most six epochs a day ---


async def test_a_viewer_sees_a_stranger_in_at_most_six_epochs_of_a_day(world: World) -> None:
    count = 40
    await crowd(world, count)
    times = dict.fromkeys((f"u{n}" for n in range(count)), 0)
    lengths = []
    for _ in range(DAY_MS // STRANGER_EPOCH_MS):
        users = await seen(world)
        assert len(set(users)) == len(users)
        lengths.append(len(users))
        for user in users:
            times[user] += 1
        assert await seen(world, limit=7) == users, "stable in the epoch, whatever the pages"
        await later(world, STRANGER_EPOCH_MS)
        await renew(world, count)
    assert lengths[:FULL_EPOCHS] == [count] * FULL_EPOCHS
    assert min(times.values()) >= FULL_EPOCHS
    assert max(times.values()) <= MOST_EPOCHS
    assert sum(lengths[FULL_EPOCHS:]) > 0, "some are shown again later"
    while world.now_ms // DAY_MS == DAY_START_MS // DAY_MS:
        await later(world, STRANGER_EPOCH_MS)
    await renew(world, count)
    await later(world, STRANGER_EPOCH_MS)
    assert len(await seen(world)) == count, "another day"


async def test_accounts_of_one_human_look_together(world: World) -> None:
    await crowd(world, 30)
    other = "ann2"
    await renew(world, 30, other)
    for user in ("ann", other):
        world.hive.people.fold_settings({"u": user, "person": "one human"}, world.now_ms)
    for epoch in range(FULL_EPOCHS + 1):
        users = await seen(world, ("ann", other)[epoch % 2])
        assert (len(users) < 20) == (epoch == FULL_EPOCHS), epoch
        await later(world, STRANGER_EPOCH_MS)
        await renew(world, 30, other)


# --- the first week ---


@pytest.mark.parametrize("limit", [13, 100])
async def test_a_new_account_is_shown_fifty_strangers_a_day(world: World, limit: int) -> None:
    await crowd(world, MOST_STRANGERS + 15, old=False)
    first = await seen(world, limit=limit)
    assert len(first) == len(set(first)) == MOST_STRANGERS
    assert await seen(world, limit=limit) == first
    assert await seen(world, limit=100) == first, "the pages do not matter"
    hidden = first[7]
    await world.hive.settings.change(hidden, visibility="nobody")
    left = [user for user in first if user != hidden]
    assert await seen(world) == left, "nobody takes the place of who hides"
    await later(world, STRANGER_EPOCH_MS)
    await renew(world, MOST_STRANGERS + 15)
    assert sorted(await seen(world)) == sorted(left), "in a later epoch the same, in its order"
    aged(world, "ann")
    assert len(await seen(world)) == MOST_STRANGERS + 14


async def test_whom_a_full_account_may_still_see_is_found_without_looking_at_everybody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by looking at everybody, in every epoch and whatever the pages; by marks alone, as after a start, for those
    who are met among the nearest, from whom on their slots are known."""
    looked_at = list[int]()
    real = exposure_caps.ExposureCaps.marks

    def counted(caps: exposure_caps.ExposureCaps, slots: NDArray[np.int32]) -> NDArray[np.uint32]:
        looked_at.append(len(slots))
        return real(caps, slots)

    monkeypatch.setattr(exposure_caps.ExposureCaps, "marks", counted)
    monkeypatch.setattr(nearby_page, "_LOOKED_THROUGH", 20)
    count, people = MOST_STRANGERS + 100, world.hive.people
    await crowd(world, count, old=False)
    mine = set(await seen(world))
    viewer = people.slot_or_new("ann")
    first_ms = int(people.first_ms[viewer])
    for _ in range(2):
        await later(world, STRANGER_EPOCH_MS)
        await renew(world, count)
        aged(world, "ann")
        order = [user for user in await seen(world) if user in mine]
        people.first_ms[viewer] = first_ms
        looked_at.clear()
        found = await seen(world)
        assert found == order
        assert set(found) == mine
        assert max(looked_at) <= 100, "a page, or those shown"
        assert await seen(world, limit=7) == found
    people.shown[viewer] = people.shown[viewer]._replace(slots=np.empty(0, np.int32))
    looked_at.clear()
    few = await seen(world)
    assert set(few) < mine
    assert max(looked_at) <= 100
    assert await seen(world, limit=7) == few
    monkeypatch.setattr(nearby_page, "_LOOKED_THROUGH", 1000)
    assert await seen(world) == found
    monkeypatch.setattr(nearby_page, "_LOOKED_THROUGH", 1)
    assert await seen(world) == found, "their slots are known again"


async def test_an_account_is_new_for_seven_days_after_its_first_act(world: World) -> None:
    await crowd(world, MOST_STRANGERS + 5, old=False)
    slot = world.hive.people.slot_or_new("ann")
    assert world.hive.people.first_ms[slot] == DAY_START_MS
    await later(world, 7 * DAY_MS - STRANGER_EPOCH_MS)
    await renew(world, MOST_STRANGERS + 5)
    assert len(await seen(world)) == MOST_STRANGERS
    await later(world, STRANGER_EPOCH_MS)
    await renew(world, MOST_STRANGERS + 5)
    assert len(await seen(world)) == MOST_STRANGERS + 5


# --- thirty cells ---


async def test_a_human_asks_from_thirty_cells_a_day(world: World) -> None:
    around = [cells.center(int(cell)) for cell in cells.disk(cells.cell_of(*PARIS, 7), 20_000.0)[0]]
    viewers = [f"v{n}" for n in range(MOST_CELLS + 1)]
    for viewer, point in zip(viewers, around, strict=False):
        await world.place(viewer, *point, ttl_s=28_800)
        world.hive.people.fold_settings({"u": viewer, "person": "one human"}, world.now_ms)
    for viewer in viewers[:-1]:
        assert (await look(world, viewer)).status_code == 200
    refused = await look(world, viewers[-1])
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_places")
    assert int(refused.headers["Retry-After"]) == DAY_MS // 1000 - 60
    assert (await look(world, viewers[0])).status_code == 200, "from where it was counted already"
    async with world.client(viewers[-1], headers={"Idempotency-Key": "k"}) as client:
        lat, lon = around[MOST_CELLS]
        shaken = await client.post("/v1/shakes", json={"lat": lat, "lon": lon})
    assert (shaken.status_code, shaken.json()["code"]) == (429, "too_many_places")
    await later(world, DAY_MS)
    await world.place(viewers[-1], *around[MOST_CELLS], ttl_s=28_800)
    assert (await look(world, viewers[-1])).status_code == 200


# --- friend requests ---


async def test_twenty_requests_a_day_and_answers_are_free(world: World) -> None:
    async with world.client("ann") as ann, world.client("fan") as fan:
        await fan.put("/v1/me/friends/ann", json={})
        for n in range(REQUESTS_A_DAY):
            assert (await ann.put(f"/v1/me/friends/u{n}", json={})).status_code == 200
        refused = await ann.put("/v1/me/friends/more", json={})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_friend_requests")
        assert refused.json()["resets_at"].endswith("T00:00:00Z")
        assert (await ann.put("/v1/me/friends/fan", json={})).json()["state"] == "accepted"
        assert (await ann.put("/v1/me/friends/u3", json={"precision": "city"})).status_code == 200
        await ann.delete("/v1/me/friends/u4")
        assert (await ann.put("/v1/me/friends/u4", json={})).status_code == 200, "asked today already"
        bodies = {(await ann.put(f"/v1/me/friends/{user}", json={})).content for user in ("fan2", "nobody")}
        assert len(bodies) == 1
        await later(world, DAY_MS)
        assert (await ann.put("/v1/me/friends/more", json={})).status_code == 200


async def test_requests_of_all_accounts_of_a_human_count(world: World) -> None:
    for user in ("ann", "ann2"):
        world.hive.people.fold_settings({"u": user, "person": "one human"}, world.now_ms)
    async with world.client("ann") as ann, world.client("ann2") as other:
        for n in range(REQUESTS_A_DAY):
            client = (ann, other)[n % 2]
            assert (await client.put(f"/v1/me/friends/u{n}", json={})).status_code == 200
        for client in (ann, other):
            assert (await client.put("/v1/me/friends/more", json={})).status_code == 429


# --- two workers ---


async def test_who_alternates_workers_gets_no_more(state: State, tmp_path: Path) -> None:
    count = MOST_STRANGERS + 20
    async with workers(state, tmp_path, 2) as [one, two]:
        await crowd(one, count, two, old=False)
        await two.hive.writer.catch_up("ann")
        first = await seen(one)
        await one.hive.exposure.told()
        await two.hive.writer.catch_up("ann")
        assert await seen(two) == first
        slot = two.hive.people.slot_or_new("ann")
        assert len(Exposure(two.hive.people).shown(slot, DAY_START_MS // DAY_MS)) == MOST_STRANGERS
        for epoch in range(1, FULL_EPOCHS + 1):
            await later(one, STRANGER_EPOCH_MS)
            await renew(one, count)
            worlds = (one, two) if epoch % 2 else (two, one)
            for world in worlds:
                await world.hive.writer.catch_up("ann")
                users = await seen(world)
                assert (len(users) < MOST_STRANGERS // 2) == (epoch == FULL_EPOCHS), epoch
                await world.hive.exposure.told()


async def test_no_answer_waits_for_the_counting(world: World) -> None:
    """The state may be gone: what was counted is lost, the worker's own count stands."""
    await crowd(world, 3)
    before = await world.state.call("XLEN", world.hive.feeds.followers[0].key)
    assert len(await seen(world)) == 3
    assert await world.state.call("XLEN", world.hive.feeds.followers[0].key) == before
    await world.hive.exposure.told()
    assert await world.state.call("XLEN", world.hive.feeds.followers[0].key) == before + 1
    await seen(world)
    await world.hive.exposure.told()
    assert await world.state.call("XLEN", world.hive.feeds.followers[0].key) == before + 1, "once an epoch"


# --- the fold ---


def test_the_same_looks_twice_are_one_and_a_checkpoint_keeps_them(seed: int, scale: int) -> None:
    draws = random.Random(seed)
    edge_ms = HISTORIES_START_MS // DAY_MS * DAY_MS
    for _ in range(10 * scale):
        lived = Folded(1)
        exposure = Exposure(lived.people)
        lived.presence.on_time(edge_ms, 900_000)
        now_ms = edge_ms
        for _ in range(60):
            now_ms += draws.choice([0, STRANGER_EPOCH_MS, 5 * STRANGER_EPOCH_MS])
            others = tuple(draws.sample(["x", "y", "z"], draws.randrange(3)))
            entry = pack_looks([Look(draws.choice("ab"), now_ms, draws.random() < 0.7, draws.randrange(3), others)])
            exposure.fold(entry)
            before = lived.facts()
            exposure.fold(entry)
            assert lived.facts() == before
        lived.presence.on_time(now_ms, 900_000)
        lived.people.first_ms[: len(lived.people)] = 1
        started = Folded(1, known=["z", "b"])
        started.load(lived.packed(0))
        assert started.facts() == lived.facts()
        for user in "ab":
            mine = [Exposure(folded.people) for folded in (lived, started)]
            slots = [folded.people.slot_or_new(user) for folded in (lived, started)]
            day = now_ms // DAY_MS
            assert mine[0].looked_before(slots[0], now_ms) == mine[1].looked_before(slots[1], now_ms)
            assert mine[0].cells(slots[0], day) == mine[1].cells(slots[1], day)
            marks = [one.shown(slot, day).tolist() for one, slot in zip(mine, slots, strict=True)]
            assert marks[0] == marks[1]


def test_looks_of_another_day_are_none() -> None:
    folded = Folded(1)
    exposure = Exposure(folded.people)
    slot = folded.people.slot_or_new("ann")
    day = HISTORIES_START_MS // DAY_MS
    exposure.count(Look("ann", day * DAY_MS, True, 7, ("bob",)))
    exposure.count(Look("ann", day * DAY_MS + STRANGER_EPOCH_MS, True, 8))
    exposure.count(Look("ann", day * DAY_MS, True, 7))  # told late, by another worker
    assert exposure.looked_before(slot, day * DAY_MS + 2 * STRANGER_EPOCH_MS) == 2
    assert exposure.looked_before(slot, day * DAY_MS + STRANGER_EPOCH_MS) == 1
    assert exposure.looked_before(slot, (day + 1) * DAY_MS) == 0
    assert (exposure.cells(slot, day), exposure.cells(slot, day + 1)) == (3, 0)
    assert (len(exposure.shown(slot, day)), len(exposure.shown(slot, day + 1))) == (1, 0)
