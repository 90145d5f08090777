"""The app's friendships where the two people live in different shards: two scripts, with everything between them."""

import random
from collections.abc import Sequence
from typing import Any, cast

import orjson
import pytest

from discovery.app_backend import AppBackend, Pair
from discovery.people import People
from discovery.sealed import Sealer
from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script
from discovery.store.writer import Writer

SHARDS = 16
DECLINED = "declined_by_person"
USERS = [f"u{n}" for n in range(12)]


class Shelf:
    """What AppBackend uses of a Writer, on a real state. ``between``: op -> what happens once before its script."""

    def __init__(self, state: State, shards: int = SHARDS) -> None:
        self.state = state
        self.shards = keys.Shards(shards)
        self.between: dict[str, Any] = {}
        self.scripts: list[tuple[str, set[str]]] = []
        self.waits: list[tuple[str, int, bytes]] = []

    async def run(
        self, script: Script, names: Sequence[str], args: Sequence[bytes | str | int], *, of: Sequence[str]
    ) -> list[bytes]:
        ops = {str(op) for op in args[3::4]}
        act = self.between.pop(ops.copy().pop(), None)
        if act is not None:
            await act()
        self.scripts.append((names[0], ops))
        tombstones = keys.tombstones(keys.shard_tag(self.shards.of(of[0])))
        return cast(list[bytes], await self.state.run(script, [*names, tombstones], [*args, 0]))

    async def folded(self, user: str, raw_id: bytes) -> None:
        self.waits.append(("folded", self.shards.of(user), raw_id))

    async def everywhere(self, user: str, raw_id: bytes) -> None:
        self.waits.append(("everywhere", self.shards.of(user), raw_id))

    async def half(self, owner: str, other: str) -> str | None:
        found = await self.state.call("HGET", self.shards.friend_halves(owner), other)
        return None if found is None else found.decode()

    async def person_says(self, owner: str, other: str, precision: str) -> None:
        """As Friends writes it."""
        await self.state.call("HSET", self.shards.friend_halves(owner), other, f"{precision}|0|0|20000")

    async def entries(self, shard: int) -> list[list[Any]]:
        rows = await self.state.call("XRANGE", keys.feed(keys.shard_tag(shard)), "-", "+")
        assert all(fields[:3] == [b"k", b"f", b"d"] for _, fields in rows)
        return [orjson.loads(fields[3]) for _, fields in rows]

    async def records(self) -> list[list[Any]]:
        return [record for shard in self.shards.all() for entry in await self.entries(shard) for record in entry]


@pytest.fixture
def shelf(state: State) -> Shelf:
    return Shelf(state)


def backend(shelf: Shelf) -> AppBackend:
    return AppBackend(People(Sealer(b"k" * 32), require_age=False), cast(Writer, shelf))


def pair(a: str, b: str, op: str = "add", index: int = 0, guardian: bool = False) -> Pair:
    return Pair(index, a, b, op, guardian)


def couple(draws: random.Random) -> tuple[str, str]:
    """Of few people, so that rows meet."""
    a, b = draws.sample(USERS[:6], 2)
    return a, b


def apart(shelf: Shelf) -> tuple[str, str]:
    """Two people of two shards."""
    a = USERS[0]
    return a, next(user for user in USERS if shelf.shards.of(user) != shelf.shards.of(a))


async def test_a_friendship_over_two_shards_is_two_halves_each_with_its_owner(shelf: Shelf) -> None:
    a, b = apart(shelf)
    assert await backend(shelf).pair([pair(a, b)]) == []
    assert await shelf.half(a, b) == await shelf.half(b, a) == "area|0|0"
    for owner, other in ((a, b), (b, a)):
        assert await shelf.entries(shelf.shards.of(owner)) == [[[owner, other, "area", 0, False]]]
    assert {(kind, shard) for kind, shard, _ in shelf.waits} == {("folded", shelf.shards.of(user)) for user in (a, b)}


async def test_the_same_again_writes_nothing_and_waits_for_what_stands(shelf: Shelf) -> None:
    a, b = apart(shelf)
    await backend(shelf).pair([pair(a, b, guardian=True)])
    before, first_waits = await shelf.records(), sorted(shelf.waits)
    shelf.waits.clear()
    assert await backend(shelf).pair([pair(b, a, guardian=True), pair(a, b, index=1, guardian=True)]) == []
    assert await shelf.records() == before
    assert sorted(shelf.waits) == first_waits


@pytest.mark.parametrize("act", ["declined", "hidden"])
async def test_what_a_person_ended_is_not_undone_and_the_other_half_is_not_touched(shelf: Shelf, act: str) -> None:
    a, b = apart(shelf)
    await shelf.person_says(b, a, act)
    for row in (pair(a, b), pair(b, a), pair(a, b, guardian=True)):
        assert await backend(shelf).pair([row]) == [(0, DECLINED)]
    assert (await shelf.half(a, b), await shelf.half(b, a)) == (None, f"{act}|0|0|20000")
    assert await shelf.records() == []


@pytest.mark.parametrize("blocker", [0, 1])
async def test_a_block_of_either_side_declines(shelf: Shelf, blocker: int) -> None:
    a, b = apart(shelf)
    owner, other = (a, b) if blocker == 0 else (b, a)
    await shelf.state.call("HSET", shelf.shards.blocks(owner), "bottle:1", other)
    assert await backend(shelf).pair([pair(a, b)]) == [(0, DECLINED)]
    assert await shelf.records() == []


async def test_a_person_who_declines_between_the_two_scripts_wins_and_no_half_stays(shelf: Shelf) -> None:
    a, b = apart(shelf)
    shelf.between = {"add": lambda: shelf.person_says(b, a, "declined")}
    assert await backend(shelf).pair([pair(a, b)]) == [(0, DECLINED)]
    assert (await shelf.half(a, b), await shelf.half(b, a)) == (None, "declined|0|0|20000")
    assert await shelf.entries(shelf.shards.of(a)) == [[[a, b, "area", 0, False]], [[a, b, None, 0, False]]]
    assert await shelf.entries(shelf.shards.of(b)) == []


@pytest.mark.parametrize("own", ["near", "hidden", "declined"])
async def test_taking_back_takes_nothing_that_a_person_chose(shelf: Shelf, own: str) -> None:
    """The other side had asked before, or chooses while the half is being taken back."""
    a, b = apart(shelf)
    shelf.between = {
        "add": lambda: shelf.person_says(b, a, "declined"),
        "undo": lambda: shelf.person_says(a, b, own),
    }
    assert await backend(shelf).pair([pair(a, b)]) == [(0, DECLINED)]
    assert await shelf.half(a, b) == f"{own}|0|0|20000"
    await shelf.person_says(a, b, "city")
    shelf.between = {"add": lambda: shelf.person_says(b, a, "declined")}
    assert await backend(shelf).pair([pair(a, b)]) == [(0, DECLINED)]
    assert await shelf.half(a, b) == "city|0|0|20000"


async def test_a_removal_is_waited_for_everywhere_and_leaves_what_was_declined(shelf: Shelf) -> None:
    a, b = apart(shelf)
    await backend(shelf).pair([pair(a, b)])
    await shelf.person_says(b, a, "declined")
    shelf.waits.clear()
    assert await backend(shelf).pair([pair(a, b, "remove")]) == []
    assert (await shelf.half(a, b), await shelf.half(b, a)) == (None, "declined|0|0|20000")
    assert {(kind, shard) for kind, shard, _ in shelf.waits} == {
        ("everywhere", shelf.shards.of(user)) for user in (a, b)
    }


async def test_half_a_friendship_is_made_whole_by_the_same_request_again(shelf: Shelf) -> None:
    """A worker that ends between the two scripts."""
    a, b = apart(shelf)
    await backend(shelf).pair([pair(a, b)])
    await shelf.state.call("HDEL", shelf.shards.friend_halves(b), a)
    assert await backend(shelf).pair([pair(a, b)]) == []
    assert await shelf.half(b, a) == "area|0|0"


class Model:
    """Pairs one after the other, as one script on one shard would."""

    def __init__(self) -> None:
        self.halves: dict[tuple[str, str], tuple[str, bool]] = {}
        self.blocks: set[tuple[str, str]] = set()

    def apply(self, row: Pair) -> str | None:
        sides = [(row.a, row.b), (row.b, row.a)]
        if row.op == "remove":
            for side in sides:
                if self.halves.get(side, ("declined", False))[0] != "declined":
                    del self.halves[side]
            return None
        if any(
            side in self.blocks or self.halves.get(side, ("", False))[0] in ("declined", "hidden") for side in sides
        ):
            return DECLINED
        for side in sides:
            precision, vouched = self.halves.get(side, ("area", False))
            self.halves[side] = precision, vouched or row.guardian
        return None


@pytest.mark.parametrize("shards", [1, SHARDS])
async def test_requests_end_as_if_their_rows_were_applied_one_by_one(state: State, seed: int, shards: int) -> None:
    draws, shelf, model = random.Random(seed), Shelf(state, shards), Model()
    for _ in range(12):
        for _ in range(6):
            owner, other = draws.sample(USERS, 2)
            precision = draws.choice(("declined", "hidden", "near", "city"))
            await shelf.person_says(owner, other, precision)
            model.halves[owner, other] = precision, False
        if draws.random() < 0.5:
            owner, other = draws.sample(USERS, 2)
            await state.call("HSET", shelf.shards.blocks(owner), other, other)
            model.blocks.add((owner, other))
        rows = [
            pair(*couple(draws), draws.choice(("add", "add", "remove")), index, draws.random() < 0.3)
            for index in range(draws.choice((3, 40, 700)))
        ]
        expected = [(row.index, code) for row in rows if (code := model.apply(row))]
        assert await backend(shelf).pair(rows) == expected
    stored = {}
    for owner in USERS:
        flat = await state.call("HGETALL", shelf.shards.friend_halves(owner))
        for other, half in zip(flat[::2], flat[1::2], strict=True):
            precision, _, vouched = half.decode().split("|")[:3]
            stored[owner, other.decode()] = precision, vouched == "1"
    assert stored == model.halves
    folded: dict[tuple[str, str], str] = {}
    for owner, other, precision, _, _ in await shelf.records():
        folded[owner, other] = precision
    for side, precision in folded.items():
        assert side in model.halves or precision is None, "the feed tells of no half that is not stored"


async def test_a_large_request_takes_few_scripts(shelf: Shelf) -> None:
    rows = [pair("ann", f"f{n}", index=n) for n in range(2000)]
    assert await backend(shelf).pair(rows) == []
    assert len(shelf.scripts) <= 2 * (SHARDS + 4)
