"""Workers agree: one that lived through the feed, one that replays it later, and two that follow it at once."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.auth import Age
from discovery.errors import StateAway
from discovery.hive import Hive, Rules
from discovery.store import keys
from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer
from tests.world import EPOCH_MS, HOUR_MS, PARIS, SECRET, STRANGER_EPOCH_MS, World, open_world

USERS = [f"u{n}" for n in range(9)]
WATCHERS = ["w0", "w1"]  # they come at the end, untouched by the draws, so that somebody surely sees somebody
MINORS = {"u7", "u8"}
CONSENT = {"version": "1", "at": "2026-11-22T08:00:00Z"}
ACTS = 160
STEPS_MS = (1, 700, 4000, 60_000, EPOCH_MS, EPOCH_MS, STRANGER_EPOCH_MS, 8 * HOUR_MS)


@contextlib.asynccontextmanager
async def second_world(first: World) -> AsyncIterator[World]:
    """Another worker on the same state, that starts now."""
    draws = random.Random(8)
    hive = Hive(
        first.state,
        SECRET,
        Rules(ticks_missed_after_s=float("inf")),
        lambda: draws.getrandbits(32),
        draws.randbytes,
        time.monotonic,
    )
    await hive.start()
    world = World(first.state, first.settings, hive)
    world.now_ms = first.now_ms
    try:
        yield world
    finally:
        await hive.stop()


async def fold_all(*worlds: World) -> None:
    for world in worlds:
        await world.hive.feeds.followers[0].fold_to_tail(3.0)
        await world.hive.shake_feed.fold_to_tail(3.0)


class Crowd:
    """People at random; every act is an HTTP call to one of the workers, drawn anew each time."""

    def __init__(self, draws: random.Random, worlds: list[World]) -> None:
        self.draws = draws
        self.worlds = worlds
        self.shakes: list[tuple[str, str]] = []
        self.statuses: dict[str, set[int]] = {}
        self.serial = 0

    async def act(self) -> None:
        acts: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.move, 8),
            (self.set_visibility, 5),
            (self.befriend, 6),
            (self.unfriend, 2),
            (self.block, 2),
            (self.unblock, 2),
            (self.clear, 2),
            (self.app_pairs, 3),
            (self.app_user, 2),
            (self.app_positions, 2),
            (self.shake, 4),
            (self.look, 5),
        ]
        chosen = self.draws.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
        await chosen()

    async def act_and_wait(self) -> None:
        await self.act()
        if self.draws.random() < 0.3:
            await self.worlds[0].later(self.draws.choice(STEPS_MS))
            await fold_all(*self.worlds)
            for world in self.worlds:
                world.now_ms = self.worlds[0].now_ms

    def user(self) -> str:
        return self.draws.choice(USERS)

    def age(self, user: str) -> Age | None:
        if user in WATCHERS:
            return "adult"
        usual: Age = "minor" if user in MINORS else "adult"
        return self.draws.choice((usual, usual, usual, usual, None))

    def place(self) -> dict[str, float]:
        return {"lat": PARIS[0] + self.draws.gauss(0, 0.03), "lon": PARIS[1] + self.draws.gauss(0, 0.04)}

    async def call(self, user: str, method: str, path: str, **more: Any) -> httpx2.Response:
        async with self.draws.choice(self.worlds).client(user, self.age(user)) as client:
            return self.noted(method, path, await client.request(method, path, **more))

    async def app_call(self, method: str, path: str, body: Any) -> None:
        async with self.draws.choice(self.worlds).operator() as client:
            self.noted(method, path, await client.request(method, path, json=body))

    def noted(self, method: str, path: str, answer: httpx2.Response) -> httpx2.Response:
        assert answer.status_code < 500, answer.text
        name = f"{method} {path.rstrip('0123456789')}"
        self.statuses.setdefault(name, set()).add(answer.status_code)
        return answer

    async def move(self) -> None:
        await self.call(self.user(), "PUT", "/v1/me/position", json={**self.place(), "ttl_s": 28_800})

    async def set_visibility(self) -> None:
        body = {"visibility": self.draws.choice(("everyone", "everyone", "everyone", "friends", "nobody"))}
        await self.call(self.user(), "PATCH", "/v1/me/settings", json=body)

    async def befriend(self) -> None:
        user, other = self.draws.sample(USERS, 2)
        precision = self.draws.choice(("near", "near", "area", "city", "hidden"))
        for one, two in ((user, other), (other, user))[: self.draws.randint(1, 2)]:
            await self.call(one, "PUT", f"/v1/me/friends/{two}", json={"precision": precision})

    async def unfriend(self) -> None:
        await self.call(self.user(), "DELETE", f"/v1/me/friends/{self.user()}")

    async def block(self) -> None:
        await self.call(self.user(), "PUT", f"/v1/me/blocks/{self.user()}")

    async def unblock(self) -> None:
        await self.call(self.user(), "DELETE", f"/v1/me/blocks/{self.user()}")

    async def clear(self) -> None:
        await self.call(self.user(), "DELETE", "/v1/me/position")

    async def app_pairs(self) -> None:
        rows = []
        for _ in range(self.draws.randint(1, 4)):
            a, b = self.user(), self.user()
            op, guardian = self.draws.choice(("add", "add", "remove")), self.draws.random() < 0.5
            rows.append({"a": a, "b": b, "op": op, "guardian": guardian})
        await self.app_call("POST", "/v1/app/friendships", {"pairs": rows})

    async def app_user(self) -> None:
        body: dict[str, Any] = {"consent": CONSENT}
        if self.draws.random() < 0.5:
            body |= {"age": self.draws.choice(("adult", "adult", "minor"))}
        if self.draws.random() < 0.5:
            body |= {"visibility": self.draws.choice(("everyone", "friends", "nobody"))}
        if self.draws.random() < 0.5:
            seconds = self.draws.choice((-1, 60, 900, 7200))
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.worlds[0].now_ms / 1000 + seconds))
            body |= {"suspended": [{"feature": self.draws.choice(("nearby", "radar", "shake")), "until": until}]}
        await self.app_call("PUT", f"/v1/app/users/{self.user()}", body)

    async def app_positions(self) -> None:
        rows = [{"user": self.user(), **self.place()} for _ in range(self.draws.randint(1, 5))]
        await self.app_call("POST", "/v1/app/positions", {"positions": rows})

    async def shake(self) -> None:
        await self.shake_by(self.draws.sample(USERS, 3))

    async def shake_by(self, users: list[str]) -> None:
        self.serial += 1
        body = {**self.place(), "reach": self.draws.choice(("nearby", "anywhere"))}
        for user in users:
            answer = await self.call(
                user, "POST", "/v1/shakes", json=body, headers={"Idempotency-Key": f"k{self.serial}"}
            )
            if answer.status_code == 201:
                self.shakes.append((user, answer.json()["shake_id"]))

    async def look(self) -> None:
        await self.call(self.user(), "GET", "/v1/nearby?radius_m=50000&limit=100")
        await self.call(self.user(), "GET", "/v1/radar?radius_m=100000")


async def read_everything(world: World, shakes: list[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """Every read of everybody, as bytes with all headers."""
    asks = [(user, f"/v1/shakes/{shake_id}") for user, shake_id in shakes]
    for user in USERS + WATCHERS:
        asks += [(user, f"/v1/nearby?radius_m={radius}&limit=3") for radius in (3000, 50_000)]
        asks += [(user, f"/v1/radar?radius_m={radius}") for radius in (2000, 100_000)]
        asks += [(user, f"/v1/me/{what}") for what in ("position", "settings", "friends", "blocks")]
    found = {}
    for user, path in asks:
        async with world.client(user, headers={"X-Request-Id": "same"}) as client:
            answer = await client.get(path)
        found[user, path] = repr((answer.status_code, sorted(answer.headers.items()))).encode() + answer.content
    return found


def assert_equal_workers(one: World, two: World) -> int:
    """Equal offsets, times and digests; returns how many digests of people they have in common."""
    ours, theirs = one.hive.presence.digests, two.hive.presence.digests
    common = ours.keys() & theirs.keys()
    assert {edge: ours[edge] for edge in common} == {edge: theirs[edge] for edge in common}
    status, other = one.hive.status(), two.hive.status()
    for own in ("id", "digests"):
        del status[own], other[own]
    assert status == other
    return len(common)


async def test_a_worker_that_replays_the_feed_is_the_one_that_lived_through_it(world: World, seed: int) -> None:
    crowd = Crowd(random.Random(seed), [world])
    for _ in range(ACTS):
        await crowd.act_and_wait()
    for user in WATCHERS:
        await world.place(user, *PARIS, ttl_s=28_800)
    crowd.shakes.clear()
    for users in (USERS, WATCHERS, USERS):
        await crowd.shake_by(users[:3])
    async with second_world(world) as later:
        assert_equal_workers(world, later)
        lived, replayed = await read_everything(world, crowd.shakes), await read_everything(later, crowd.shakes)
        assert lived == replayed
        near = lived["w0", "/v1/nearby?radius_m=3000&limit=3"]
        assert b'"distance_max_m"' in near
        assert any(b'"matched"' in lived[user, f"/v1/shakes/{shake_id}"] for user, shake_id in crowd.shakes)
        for step_ms in (EPOCH_MS, STRANGER_EPOCH_MS):
            await world.later(step_ms)
            await fold_all(later)
            assert_equal_workers(world, later)
            assert await read_everything(world, crowd.shakes) == await read_everything(later, crowd.shakes)
        assert len(later.hive.presence.digests) == 2, "it took none of the edges before its start"
        assert assert_equal_workers(world, later) == 2


async def test_two_workers_at_once_agree_at_every_edge(world: World, seed: int) -> None:
    async with second_world(world) as other:
        crowd = Crowd(random.Random(seed), [world, other])
        common = 0
        for _ in range(ACTS):
            await crowd.act_and_wait()
            await fold_all(world, other)
            common = max(common, assert_equal_workers(world, other))
        assert common > 3
        crowd.shakes = crowd.shakes[-6:]
        assert await read_everything(world, crowd.shakes) == await read_everything(other, crowd.shakes)
    writes = {act: found for act, found in crowd.statuses.items() if not act.startswith("GET")}
    assert len(writes) > 8
    assert all(found & {200, 201, 204} for found in writes.values()), writes


async def test_what_one_worker_answered_the_other_shows_soon(world: World) -> None:
    async with second_world(world) as other:
        await world.place("ann", *PARIS)
        await world.place("bob", *PARIS)
        async with world.client("ann") as ann, other.client("ann") as ann_there, other.client("bob") as bob_there:
            assert (await ann_there.get("/v1/me/position")).status_code == 200, "a 404 is given only at the tail"

            async def listed() -> list[str]:
                return [row["user"] for row in (await ann_there.get("/v1/nearby")).json()["people"]]

            await soon(lambda: listed(), ["bob"])
            await ann.put("/v1/me/blocks/bob")
            await soon(lambda: listed(), [])
            await ann.delete("/v1/me/blocks/bob")
            await soon(lambda: listed(), ["bob"])
            await bob_there.delete("/v1/me/position")
            assert await listed() == [], "the worker that answered a clear shows it at once"
            await soon(lambda: count_near(ann), 0)


async def count_near(client: httpx2.AsyncClient) -> int:
    return len((await client.get("/v1/nearby")).json()["people"])


async def soon(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Within a second; on an idle machine it is a few milliseconds."""
    deadline_s = time.monotonic() + 1
    while (found := await ask()) != expected:
        assert time.monotonic() < deadline_s, (found, expected)
        await asyncio.sleep(0.005)


async def test_a_second_clear_in_the_same_instant_of_hive_time_counts(world: World) -> None:
    """Hive time stands still while the server's clock is behind: a clear must never look like one already made."""
    async with world.client("ann") as ann:
        for _ in range(3):
            await ann.put("/v1/me/position", json={"lat": 1, "lon": 2})
            assert (await ann.get("/v1/me/position")).status_code == 200
            assert (await ann.delete("/v1/me/position")).status_code == 204
            assert (await ann.get("/v1/me/position")).status_code == 404


async def test_a_store_set_announced_by_one_worker_is_loaded_by_the_other(world: World) -> None:
    async with second_world(world) as other:
        async with world.operator() as here:
            await here.put("/v1/brands/acme", json={"name": "Acme"})
            answer = await here.put(
                "/v1/brands/acme/stores", content=b"store_id,lat,lon\na,1,1\n", headers={"Content-Type": "text/csv"}
            )
            assert answer.status_code == 200, answer.text

        async def found() -> int:
            async with other.operator() as there:
                return (await there.get("/v1/brands/acme/stores/a")).status_code

        await soon(found, 200)
    async with second_world(world) as third, third.operator() as there:
        assert (await there.get("/v1/brands/acme/stores/a")).status_code == 200


@pytest.mark.parametrize("entry", [("r", b"\xff\x00\x00\x00\x00"), ("future", b"?"), ("s", b"{")])
async def test_an_entry_that_cannot_be_understood_ends_the_worker(world: World, entry: tuple[str, bytes]) -> None:
    """Of a later version, or broken: who goes on answering would show who has hidden since."""
    assert world.hive.ready() == (True, "")
    await world.state.call("XADD", keys.feed("s00"), "*", "k", entry[0], "d", entry[1])
    with pytest.raises(StateAway):
        await world.hive.feeds.followers[0].fold_to_tail(0.5)
    assert world.hive.ready()[0] is False
    with pytest.raises(ValueError, match=r"version|unexpected"):
        await world.hive.followed()
    async with world.client("ann") as ann:
        assert (await ann.get("/v1/nearby")).status_code == 503


async def test_a_broken_batch_of_reports_is_left_out(world: World) -> None:
    await world.state.call("XADD", keys.feed("s00"), "*", "k", "r", "d", b"\x01\x09\x00\x00\x00")
    await world.place("ann", *PARIS)
    assert world.hive.ready()[0]


async def test_a_server_that_hangs_is_noticed(world: World, state_server: EmbeddedServer) -> None:
    """Reads stop, so that nobody is shown who may have hidden since; and go on by themselves."""
    pid = state_server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(2.7)
        assert world.hive.ready() == (False, "the state is not answering")
    finally:
        os.kill(pid, signal.SIGCONT)
    await world.hive.feeds.followers[0].fold_to_tail(3.0)
    await asyncio.sleep(1.0)
    assert world.hive.ready() == (True, "")


async def test_no_tick_yet_is_not_ready(state: State) -> None:
    hive = Hive(state, SECRET, Rules(ticks_missed_after_s=float("inf")), lambda: 0, lambda n: b"\0" * n, time.monotonic)
    assert hive.ready() == (False, "the feed is still being folded")
    await hive.start()
    assert hive.ready() == (False, "no tick has been seen yet")
    hive.feeds.followers[0].epoch_ms = 1000
    hive.hold("the world is being built")
    assert hive.ready() == (False, "the world is being built")
    hive.release()
    assert hive.ready()[0]
    await asyncio.sleep(0)  # let the tasks begin
    await hive.stop()
    assert not hive.ready()[0]


async def test_stop_ends_every_task_also_one_that_waits_for_the_state(state: State, tmp_path: Path) -> None:
    async with open_world(state, tmp_path) as world:

        async def away(brand: str, version: int = 0) -> None:
            raise StateAway

        before = asyncio.all_tasks()
        world.hive.stores.load = away  # type: ignore[method-assign]
        await state.call("XADD", keys.feed("s00"), "*", "k", "b", "d", b'["acme",1]')
        await world.hive.feeds.followers[0].fold_to_tail(3.0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() - before, "the worker tries to load the set until it can"
        started_s = time.monotonic()
        await world.hive.stop()
        assert time.monotonic() - started_s < 1.5
        assert not asyncio.all_tasks() - before
