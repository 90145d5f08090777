"""Whom moderation keeps from the sea: the set in the state follows what workers have folded, and picks obey it."""

# ruff: noqa: F401, F811 - fixtures come in by import

import random
from collections.abc import Callable

import pytest

from discovery.bottles import Bottles
from discovery.errors import Conflict, NotFound, StateAway
from discovery.people import People
from discovery.sealed import Sealer
from discovery.store import keys
from discovery.store.client import State
from discovery.withheld import Withheld, WithheldNow
from tests.sea import SECRET, Crowd, bottles, crowd, make, picked, rng, states_of

FOR_EVER = 1 << 60


async def told(state: State) -> WithheldNow:
    flat = await state.call("HGETALL", keys.sea_withheld())
    fields = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    stamp = fields.pop("", "")
    return WithheldNow(frozenset(fields), stamp)


def test_the_set_of_a_moment(rng: random.Random, scale: int) -> None:
    """As plain dicts say, at times that go forth and back, with one stamp for one set whatever came before."""
    stamps: dict[str, frozenset[str]] = {}
    for _ in range(20 * scale):
        withheld, ends = Withheld(Sealer(SECRET)), dict[str, int]()
        for _ in range(60):
            user = f"u{rng.randrange(4)}"
            ends[user] = rng.choice((0, rng.randrange(1, 20), FOR_EVER))
            withheld.put(user, ends[user])
            for _ in range(rng.randrange(3)):
                now_ms = rng.randrange(25)
                found = withheld.at(now_ms)
                assert found.users == {user for user, end in ends.items() if end > now_ms}
                assert stamps.setdefault(found.stamp, frozenset(found.users)) == found.users
                assert bool(found.stamp) == bool(found.users)
    assert len(stamps) == 16


def test_a_change_costs_one_hash_however_many_are_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, real = list[str](), Sealer.id128

    def counted(sealer: Sealer, purpose: str, user: str) -> str:
        hashed.append(user)
        return real(sealer, purpose, user)

    monkeypatch.setattr(Sealer, "id128", counted)
    withheld = Withheld(Sealer(SECRET))
    for n in range(1000):
        withheld.put(f"u{n}", FOR_EVER - n % 7)
    assert len(withheld.at(0).users) == len(hashed) == 1000
    hashed.clear()
    for now_ms in range(1, 400):
        withheld.put("u5", now_ms + 1)
        assert "u5" in withheld.at(now_ms).users
        assert "u5" not in withheld.at(now_ms + 1).users
        withheld.put("u6", FOR_EVER - now_ms)
        assert len(withheld._ends) <= 2 * len(withheld.at(now_ms + 1).users) + 65, "ends that passed do not pile up"
    assert set(hashed) == {"u5"}
    assert len(hashed) == 2 * 399 - 1, "in and out, but that it was in at first"
    withheld.put("u5", 0)
    others = Withheld(Sealer(SECRET))
    for n in reversed(range(1000)):
        others.put(f"u{n}", FOR_EVER if n != 5 else 0)
    assert others.at(9) == withheld.at(400), "as a worker that begins now says"


async def test_the_set_may_change_while_it_is_told(bottles: Bottles, state: State, crowd: Crowd) -> None:
    """What is written is the set of one moment, and its stamp."""
    crowd.held.put("ann", FOR_EVER)
    real = state.call

    async def late(*command: object, **more: object) -> object:
        reply = await real(*command, **more)  # type: ignore[arg-type]
        crowd.held.put("bob", FOR_EVER)
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "call", late)
        await bottles.sweep()
    assert await told(state) == crowd.withheld()
    assert (await told(state))[0] == {"ann", "bob"}


def test_people_know_whom_to_withhold(rng: random.Random) -> None:
    """Holds and moderators' suspensions of bottles, not the app's; through checkpoints' restore, drop and erasure."""
    people = People(Sealer(SECRET), require_age=False)
    people.fold_settings({"u": "ann", "moderated": {"hold": 50}}, 1)
    people.fold_settings({"u": "bob", "moderated": {"moderator bottles": 40, "moderator shake": 90}}, 1)
    people.fold_settings({"u": "cleo", "suspended": {"bottles": 90}}, 1)
    assert [sorted(people.withheld_bottles.at(now_ms).users) for now_ms in (39, 40, 50)] == [
        ["ann", "bob"],
        ["ann"],
        [],
    ]
    bob = people.slot_or_new("bob")
    assert [people.withheld(bob, feature, 60) for feature in ("shake", "bottles", "nearby")] == [True, False, False]
    people.fold_settings({"u": "ann", "moderated": {"hold": 0}}, 1)
    assert people.withheld_bottles.at(1).users == {"bob"}
    people.drop(0)
    assert people.withheld_bottles.at(1) == WithheldNow(frozenset(), "")
    people.restore({bob: {"hold": 70}}, {}, {})
    assert people.withheld_bottles.at(1).users == {"bob"}
    people.fold_erased("bob", people.tombstones.name("bob"), 5, 1, 5)
    assert people.withheld_bottles.at(1).users == set()


async def test_nobody_gets_the_bottle_of_who_is_withheld(bottles: Bottles, crowd: Crowd) -> None:
    await bottles.throw("ann", "t", "hello", None)
    crowd.held.put("ann", FOR_EVER)
    assert (await bottles.pick("bob", "p")).reason == "sea_empty"
    crowd.held.put("ann", 0)
    assert (await picked(bottles, "bob", "p")).text == "hello"


async def test_a_thread_with_who_is_withheld_is_frozen(bottles: Bottles, crowd: Crowd) -> None:
    bottle_id = (await bottles.throw("ann", "t", "hello", None)).bottle_id
    await picked(bottles, "bob")
    await bottles.reply("bob", "r", bottle_id, "hi")
    crowd.held.put("ann", FOR_EVER)
    with pytest.raises(Conflict):
        await bottles.reply("bob", "r2", bottle_id, "hi again")
    with pytest.raises(NotFound):
        await bottles.get("bob", bottle_id)
    assert await states_of(bottles, "bob") == []
    assert await states_of(bottles, "ann") == [(bottle_id, "thrown", "answered")]
    crowd.held.put("ann", 0)
    await bottles.reply("bob", "r2", bottle_id, "hi again")


async def test_the_words_of_somebody_erased_are_no_withheld_persons(bottles: Bottles, crowd: Crowd) -> None:
    """The author of a thread reads '' then, and the stamp stands under '': they must not be taken for each other."""
    bottle_id = (await bottles.throw("ann", "t", "hello", None)).bottle_id
    await picked(bottles, "bob")
    await bottles.reply("bob", "r", bottle_id, "hi")
    await bottles.reply("ann", "r", bottle_id, "ho")
    await bottles.erase("bob", "", "0" * 32, 1)
    crowd.held.put("eve", FOR_EVER)
    view = await bottles.reply("ann", "r2", bottle_id, "still there?")
    assert [reply.text for reply in view.replies] == ["ho", "still there?"]


async def test_the_set_comes_right_from_whatever_stands(
    make: Callable[..., Bottles], state: State, crowd: Crowd, rng: random.Random, scale: int
) -> None:
    """Two workers that have folded different sets, an emptied state, an older copy, an erasure: each pick is judged by
    what its worker has folded, and leaves that in the state."""
    users = [f"u{n}" for n in range(5)]
    other_crowd = Crowd()
    workers = (
        (make(picks_per_day=10**6), crowd),
        (Bottles(state, other_crowd, lambda: rng.getrandbits(32), SECRET), other_crowd),
    )
    bottle_of = {(await make().throw(user, "t", "x", None)).bottle_id: user for user in users}
    older: list[bytes] = []
    for turn in range(60 * scale):
        worker, known = rng.choice(workers)
        known.held.put(rng.choice(users), rng.choice((0, FOR_EVER)))
        event = rng.choice(("none", "none", "lost", "saved", "older"))
        if event == "saved":
            older = await state.call("HGETALL", keys.sea_withheld())
        elif event != "none":
            await state.call("DEL", keys.sea_withheld())
            if event == "older" and older:
                await state.call("HSET", keys.sea_withheld(), *older)
        bottle = (await worker.pick(f"picker{turn}", "p")).bottle
        held = known.withheld()
        assert (bottle is None) == (len(held.users) == len(users))
        assert await told(state) == held
        if bottle is not None:
            assert bottle_of[bottle.bottle_id] not in held.users
            await worker.throw_back(f"picker{turn}", bottle.bottle_id)


async def test_an_erasure_takes_the_name_along(bottles: Bottles, state: State, crowd: Crowd) -> None:
    for user in ("ann", "bob"):
        await bottles.throw(user, "t", user, None)
        crowd.held.put(user, FOR_EVER)
    assert (await bottles.pick("cleo", "p")).bottle is None
    assert (await told(state))[0] == {"ann", "bob"}
    await bottles.erase("ann", "", "0" * 32, 1)
    assert await told(state) == WithheldNow(frozenset({"bob"}), ""), "who else is in it is not certain"
    crowd.held.put("ann", 0)
    assert (await bottles.pick("cleo", "p")).bottle is None
    assert await told(state) == crowd.withheld()
    crowd.held.put("bob", 0)
    assert (await picked(bottles, "cleo", "p")).text == "bob"
    assert await state.call("EXISTS", keys.sea_withheld()) == 0


async def test_the_last_one_erased_leaves_no_set(bottles: Bottles, state: State, crowd: Crowd) -> None:
    crowd.held.put("ann", FOR_EVER)
    await bottles.sweep()
    assert (await told(state))[0] == {"ann"}, "a sweep tells it where nobody picks"
    await bottles.erase("ann", "", "0" * 32, 1)
    assert await state.call("EXISTS", keys.sea_withheld()) == 0


async def test_workers_that_never_agree_answer_nobody(
    bottles: Bottles, state: State, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker that writes its own set between every two steps of this one."""
    crowd.held.put("ann", FOR_EVER)
    run, met = state.run, 0

    async def spoiled(script: object, names: object, args: object, **more: object) -> object:
        nonlocal met
        reply = await run(script, names, args, **more)  # type: ignore[arg-type]
        met += reply == b"withheld"
        await state.call("HSET", keys.sea_withheld(), "", f"other {met}")
        return reply

    monkeypatch.setattr(state, "run", spoiled)
    with pytest.raises(StateAway):
        await bottles.pick("bob", "p")
    assert met == 20


async def test_a_pick_costs_as_many_commands_however_many_are_withheld(
    make: Callable[..., Bottles], state: State, crowd: Crowd
) -> None:
    bottles = make(picks_per_day=10**6)
    for n in range(40):
        await bottles.throw(f"ok{n}", "t", "x", None)
    costs = []
    for count in (0, 400):
        for n in range(count):
            crowd.held.put(f"held{n}", FOR_EVER)
        await bottles.pick("first", f"p{count}")  # may have to tell of them
        before = await _commands(state)
        for n in range(10):
            await bottles.pick(f"picker{count}-{n}", "p")
        costs.append(await _commands(state) - before)
    # Ten picks of 40 commands or less, where asking for each of 400 would take 4,000; draws differ by some.
    assert costs[1] <= costs[0] + 60, costs


async def _commands(state: State) -> int:
    lines = (await state.call("INFO", "commandstats")).decode().splitlines()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines if line.startswith("cmdstat_"))
