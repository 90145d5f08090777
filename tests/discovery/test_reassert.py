"""What people forbade is said again when the state has lost it, also when restoring needs a second try."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from discovery.errors import StateAway
from discovery.people import AGE_ADULT, AGE_MINOR, EVERYONE, FRIENDS, NOBODY
from discovery.store import keys
from discovery.store.checkpoints import Checkpoints, Loaded
from tests.world import HOUR_MS, PARIS, World


@pytest.mark.parametrize("failures", [0, 1, 3])
async def test_a_block_that_a_failover_lost_stands_again(
    world: World, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.place("ann", *PARIS)
    await world.place("bob", *PARIS)
    feed = world.hive.feeds.followers[0]
    before = await feed.tail()
    async with world.client("ann") as ann:
        assert (await ann.put("/v1/me/blocks/bob")).status_code == 204
        await lose(world, before)
        read, tries = Checkpoints.read, []

        async def failing_read(self: Checkpoints) -> Loaded | None:
            tries.append(1)
            if len(tries) <= failures:
                raise StateAway
            return await read(self)

        monkeypatch.setattr(Checkpoints, "read", failing_read)
        world.hive.feeds.doubt(0)

        until_s = time.monotonic() + 5
        while await world.state.call("HVALS", world.hive.shards.blocks("ann")) != [b"bob"]:
            assert time.monotonic() < until_s, "the block was not said again"
            await asyncio.sleep(0.01)
        assert len(tries) == failures + 1
        await world.hive.feeds.followers[0].fold_to_tail(3.0)
        while (answer := await ann.get("/v1/nearby")).status_code == 503:  # until it holds its lease again
            assert time.monotonic() < until_s, answer.text
            await asyncio.sleep(0.01)
        assert answer.json()["people"] == []


def time_text(world: World, in_ms: int) -> str:
    return datetime.fromtimestamp((world.now_ms + in_ms) / 1000, UTC).isoformat()


async def settings(world: World, age: Any = "adult", **change: Any) -> None:
    async with world.client("ann", age) as ann:
        answer = await ann.patch("/v1/me/settings", json=change)
        assert answer.status_code == 200, answer.text


async def app_age(world: World, age: str) -> None:
    async with world.operator() as app:
        assert (await app.put("/v1/app/users/ann", json={"age": age})).status_code == 200


async def claims(world: World, *ages: Any) -> None:
    for age in ages:
        async with world.client("ann", age) as ann:
            await ann.post("/v1/bottles", json={"text": "x"}, headers={"Idempotency-Key": "k"})
            answer = await ann.put("/v1/me/position", json={"lat": PARIS[0], "lon": PARIS[1]})
            assert answer.status_code == 200, answer.text


@contextlib.asynccontextmanager
async def lost_in_a_failover(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the body makes people say is lost with the last entries and the changes of their records; afterwards all
    that is said again has been said."""
    await world.later(1000)
    feed, record, reassertion = world.hive.feeds.followers[0], world.hive.shards.person("ann"), world.hive._reassertion
    before, fields = await feed.tail(), await world.state.call("HGETALL", record)
    yield
    assert await feed.tail() > before
    await lose(world, before)
    await world.state.call("DEL", record)
    await world.state.call("HSET", record, *fields)
    say_again, restored = reassertion.say_again, asyncio.Event()

    def noted(*args: Any) -> None:
        say_again(*args)
        restored.set()

    monkeypatch.setattr(reassertion, "say_again", noted)
    world.hive.feeds.doubt(0)
    async with asyncio.timeout(5):
        await restored.wait()
        await asyncio.gather(*reassertion._tasks)


def stands(world: World) -> tuple[int, int, int, int]:
    """Age by the app and by the token, what is shown now, and until when."""
    people, slot = world.hive.people, world.hive.people.slot_or_new("ann")
    shown, until_ms = people.visibility_at(slot, world.now_ms), int(people.visible_until_ms[slot])
    return int(people.age_app[slot]), int(people.age_claim[slot]), shown, max(0, until_ms - world.now_ms)


LASTS = 8 * HOUR_MS - 1000
CASES: dict[str, tuple[Any, tuple[int, int, int, int]]] = {
    "the app says minor": (lambda world: app_age(world, "minor"), (AGE_MINOR, AGE_ADULT, EVERYONE, LASTS)),
    "a token says minor": (lambda world: claims(world, "minor"), (AGE_ADULT, AGE_MINOR, EVERYONE, LASTS)),
    "a token says nothing": (lambda world: claims(world, None), (0, 0, EVERYONE, LASTS)),
    "a shorter end": (
        lambda world: settings(world, visible_until=time_text(world, HOUR_MS)),
        (AGE_ADULT, AGE_ADULT, EVERYONE, HOUR_MS),
    ),
    "less, and an end": (
        lambda world: settings(world, visibility="friends", visible_until=time_text(world, HOUR_MS)),
        (AGE_ADULT, AGE_ADULT, FRIENDS, HOUR_MS),
    ),
    "nobody": (lambda world: settings(world, visibility="nobody"), (AGE_ADULT, AGE_ADULT, NOBODY, 0)),
}
"""What is said -> what stands in the end, where an adult who is shown to everyone stood."""


@pytest.mark.parametrize("said", CASES)
async def test_what_shows_less_stands_again(world: World, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    act, expected = CASES[said]
    if expected[0]:
        await app_age(world, "adult")
    await world.place("ann", *PARIS)
    async with lost_in_a_failover(world, monkeypatch):
        await act(world)
        assert stands(world) == expected
    assert stands(world) == expected


@pytest.mark.parametrize("said", ["the app says adult", "a longer end", "a token says minor, another adult"])
async def test_what_shows_more_is_not_said_again(world: World, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await app_age(world, "adult" if said.startswith("a token") else "minor")
    async with world.client("ann") as ann:
        await ann.put("/v1/me/position", json={"lat": PARIS[0], "lon": PARIS[1]})
    await settings(world, visibility="friends", visible_until=time_text(world, HOUR_MS))
    async with lost_in_a_failover(world, monkeypatch):
        before = stands(world)
        if said == "a longer end":
            await settings(world, visible_until=time_text(world, 2 * HOUR_MS))
        elif said == "the app says adult":
            await app_age(world, "adult")
        else:
            await claims(world, "minor", "adult")
    assert stands(world) == before


async def test_what_has_lapsed_meanwhile_shows_what_it_lapsed_to(world: World) -> None:
    """(what stands), what was said -> what is said again, an hour after: the rule alone."""
    await world.place("ann", *PARIS, visibility="friends")
    slot, narrowed = world.hive.people.slot_or_new("ann"), world.hive._reassertion._narrowed
    past, now, soon = world.now_ms - 1, world.now_ms, world.now_ms + HOUR_MS
    assert narrowed(slot, now, "friends", past) == ("nobody", None)
    assert narrowed(slot, now, "friends", soon) == ("friends", soon)
    assert narrowed(slot, now, "everyone", past) is None
    await settings(world, visibility="everyone")
    assert narrowed(slot, now, "friends", past) == ("nobody", None)
    assert narrowed(slot, now, "everyone", past) == ("friends", None), "what it was before"
    assert narrowed(slot, now, "everyone", soon) == ("everyone", soon)
    assert narrowed(slot, now, "everyone", now + 9 * HOUR_MS) is None
    later = now + 9 * HOUR_MS  # lapsed to `friends`, without an end
    assert narrowed(slot, later, "friends", later + 1) == ("friends", later + 1)
    assert narrowed(slot, later, "friends", later) == ("nobody", None)
    assert narrowed(slot, later, "friends", 0) is None
    assert narrowed(None, now, "nobody", 0) is None


async def lose(world: World, last: tuple[int, int]) -> None:
    """The record and the entries after ``last``, as a replica that did not get them would not have them."""
    await world.state.call("DEL", world.hive.shards.blocks("ann"))
    for entry, _ in await world.state.call("XRANGE", keys.feed("s00"), "({}-{}".format(*last), "+"):
        await world.state.call("XDEL", keys.feed("s00"), entry)
