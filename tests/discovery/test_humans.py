"""Blocks and mutes are of humans: they go on when the account that they name is erased."""

import random
from itertools import pairwise
from typing import Any

import orjson
import pytest

from discovery.humans import Humans
from discovery.people_fold import PeopleFold
from tests.discovery.histories import SEALER, START_MS, Folded

SHARDS = 3


class World:
    """One worker's fold, and what each entry said, for others to begin anew."""

    def __init__(self, shards: int = SHARDS) -> None:
        self.folded = Folded(shards)
        self.now_ms = START_MS

    def fold(self, kind: str, user: str, content: Any) -> None:
        folded = self.folded
        parts = folded.people, folded.presence, folded.friendships, folded.blocks
        fold = PeopleFold(*parts, lambda *_: None, lambda _: None)
        self.now_ms += 1
        fold.fold(folded.people.shards.of(user), kind, orjson.dumps(content), self.now_ms)

    def person(self, user: str, person: str) -> None:
        self.fold("s", user, {"u": user, "person": person})

    def block(self, user: str, other: str, *, stands: bool = True) -> None:
        self.fold("x", user, [user, other, other if stands else None])

    def mute(self, user: str, other: str, *, stands: bool = True) -> None:
        self.fold("m", user, [user, other, stands])

    def erase(self, user: str) -> None:
        people = self.folded.people
        content = [user, people.tombstones.name(user), self.now_ms, people.life(user) + 1]
        self.fold("e", user, content)

    def restored(self, order: list[int]) -> "World":
        """Another worker, from checkpoints only, read in this order."""
        world = World()
        world.now_ms = self.now_ms
        for shard in order:
            world.folded.load(self.folded.packed(shard, self.now_ms))
        return world

    # --- what is asked, by id ---

    def apart(self, user: str) -> set[str]:
        return self._ids(user, self.folded.blocks.either_way)

    def muted(self, user: str) -> set[str]:
        return self._ids(user, self.folded.people.muted)

    def _ids(self, user: str, ask: Any) -> set[str]:
        slot = self.folded.people.slot(user)
        return set() if slot is None else {self.folded.people.ids[other] for other in ask(slot)}


def everywhere(world: World) -> list[World]:
    """The live worker and others that start now, whichever shard they read first."""
    return [world, *(world.restored(order) for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]))]


def two_accounts() -> World:
    world = World()
    for user in ("x1", "x2"):
        world.person(user, "P")
    world.person("y", "Y")
    world.person("y2", "Y")
    return world


def test_the_block_of_an_erased_account_goes_on_for_the_others_of_its_human() -> None:
    world = two_accounts()
    world.block("y", "x1")
    world.erase("x1")
    for one in everywhere(world):
        assert one.apart("y") == one.apart("y2") == {"x1", "x2"}
        assert one.apart("x2") == {"y", "y2"}
        x2, y = one.folded.people.slot("x2"), one.folded.people.slot("y")
        assert x2 is not None
        assert y is not None
        assert one.folded.blocks.between(x2, y)
        assert one.folded.blocks.between(y, x2)
        assert one.folded.blocks.newest_first(x2)[0] == y
        one.block("y", "x1", stands=False)
        assert one.apart("y") == one.apart("x2") == set()


def test_so_it_is_for_an_account_that_comes_later_and_when_the_erased_one_comes_back() -> None:
    world = two_accounts()
    world.block("y", "x1")
    world.erase("x2")
    world.erase("x1")
    world.person("x3", "P")
    for one in everywhere(world):
        assert one.apart("y") >= {"x1", "x3"}
        assert one.apart("x3") == {"y", "y2"}
        one.fold("s", "x1", {"u": "x1", "claim": "adult"})  # by a token that names no human
        assert one.apart("x3") == one.apart("x1") == {"y", "y2"}
        one.erase("x1")
        assert one.apart("x3") == {"y", "y2"}, "no human was told since: it is still that of before"


def test_the_mute_of_an_erased_account_goes_on_for_the_others_of_its_human() -> None:
    world = two_accounts()
    world.mute("y", "x1")
    world.erase("x1")
    for one in everywhere(world):
        assert one.muted("y") >= {"x2"}
        assert one.muted("x2") == set(), "it is one-sided"
        one.mute("y", "x1", stands=False)
        assert one.muted("y") == set()


def test_what_the_erased_account_itself_blocked_and_muted_goes() -> None:
    world = two_accounts()
    world.block("x1", "y")
    world.mute("x1", "y")
    world.erase("x1")
    for one in everywhere(world):
        assert one.apart("x2") == one.apart("y") == one.muted("x2") == set()


def test_a_tombstone_names_no_human() -> None:
    world = two_accounts()
    world.erase("x1")
    world.erase("x2")
    shards = [world.folded.snapshot(shard, world.now_ms) for shard in range(SHARDS)]
    assert b'"P"' not in orjson.dumps([taken.tombstones for taken in shards])
    assert "P" not in world.folded.people.persons.values()
    assert [row[-1] for taken in shards for row in taken.tombstones] == [SEALER.hash64("human", "P")] * 2


def test_a_shard_read_anew_links_nobody_twice_and_forgets_nobody() -> None:
    world = two_accounts()
    world.block("y", "x1")
    world.erase("x1")
    for shard in (0, 1, 2, 2, 0):
        world.folded.load(world.folded.packed(shard, world.now_ms))
        assert world.apart("x2") == {"y", "y2"}
    shard = world.folded.people.shards.of("x1")
    world.folded.sharded.drop(shard)
    assert not world.folded.people.humans.erased()


@pytest.mark.parametrize("run", range(3))
def test_live_and_restored_workers_agree_and_blocks_are_mutual(seed: int, scale: int, run: int) -> None:
    users = [f"u{n}" for n in range(6)]
    for history in range(8 * scale):
        draws = random.Random(f"{seed} {run} {history}")
        world = World()
        for _ in range(40):
            user, other = draws.sample(users, 2)
            match draws.randrange(6):
                case 0 | 1:
                    world.person(user, draws.choice("PQ"))
                case 2:
                    world.block(user, other, stands=draws.random() < 0.8)
                case 3:
                    world.mute(user, other, stands=draws.random() < 0.8)
                case _:
                    world.erase(user)
        order = draws.sample(range(SHARDS), SHARDS)
        restored = world.restored(order)
        for user in users:
            known = {other for other in world.apart(user) if restored.folded.people.slot(other) is not None}
            assert restored.apart(user) == known, (seed, run, history)
            assert all(user in world.apart(other) for other in world.apart(user)), (seed, run, history)
            assert {u for u in world.muted(user) if restored.folded.people.slot(u) is not None} == restored.muted(user)
        agree(world, users)


def agree(world: World, users: list[str]) -> None:
    """``between`` of each pair, but of one human's own accounts, is what ``either_way`` says of all."""
    people, blocks = world.folded.people, world.folded.blocks
    slots = [slot for user in users if (slot := people.slot(user)) is not None]
    for one, other in [(a, b) for a in slots for b in slots if b not in people.accounts(a)]:
        assert blocks.between(one, other) == (other in blocks.either_way(one))


def test_marks_are_kept_while_the_table_grows() -> None:
    humans = Humans(SEALER, 2)
    humans.put_each([0, 1], ["P", "P"])
    for before, after in pairwise((2, 5, 9)):
        humans.grow(after)
        humans.put_each([before], ["P"])
    assert humans.accounts(0) == {0, 1, 2, 5}
    humans.put_each([0], ["Q"])
    assert humans.accounts(0) == {0}
    assert humans.accounts(1) == {1, 2, 5}
