"""Drift bottles on a real server: each rule, each repeat, and time."""

# ruff: noqa: F401, F811 - fixtures come in by import

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from discovery.bottle_records import DAY_MS, HOUR_MS, BottleView, MineItem
from discovery.bottles import REPLIES_MAX, Bottles
from discovery.errors import Conflict, Invalid, KeyReused, NotFound, QuotaExceeded
from discovery.store import keys
from discovery.store.client import State
from tests.naive_bottles import check_sea
from tests.sea import Crowd, bottles, crowd, make, picked, refused, rng, states_of, wait_for_a_day

# --- the rules, one by one ---


async def test_throw_then_pick(bottles: Bottles) -> None:
    before_ms = time.time_ns() // 1_000_000
    thrown = await bottles.throw("ann", "k1", "hello\n海", "zh-Hans")
    after_ms = time.time_ns() // 1_000_000
    assert before_ms + 72 * HOUR_MS <= thrown.expires_at_ms <= after_ms + 72 * HOUR_MS
    assert (thrown.throws_left, thrown.resets_at_ms % DAY_MS) == (19, 0)
    assert before_ms < thrown.resets_at_ms <= after_ms + DAY_MS

    answer = await bottles.pick("bob", "k1")
    hour_ms = (thrown.expires_at_ms - 72 * HOUR_MS) // HOUR_MS * HOUR_MS
    assert answer.bottle == BottleView(thrown.bottle_id, "text", "hello\n海", "zh-Hans", hour_ms, 0, False, ())
    assert (answer.reason, answer.picks_left) == (None, 19)
    assert await states_of(bottles, "ann") == [(thrown.bottle_id, "thrown", "picked")]
    assert await states_of(bottles, "bob") == [(thrown.bottle_id, "picked", "picked")]


async def test_an_empty_sea_takes_no_quota_and_no_key(bottles: Bottles) -> None:
    answer = await bottles.pick("bob", "k")
    assert (answer.bottle, answer.reason, answer.picks_left) == (None, "sea_empty", 20)
    await bottles.throw("ann", "k", "hello", None)
    assert (await picked(bottles, "bob", "k")).text == "hello"


async def test_own_seen_and_blocked_bottles_are_never_picked(bottles: Bottles, crowd: Crowd) -> None:
    crowd.persons = {"ann2": "human", "ann": "human"}
    crowd.block("bob", "ann")
    thrown = await bottles.throw("ann", "k", "hello", None)
    for caller in ("ann", "ann2", "bob"):
        assert (await bottles.pick(caller, "k-pick")).reason == "sea_empty"
    crowd.persons |= {"cat": "cat-human", "cat2": "cat-human"}
    await picked(bottles, "cat")
    await bottles.throw_back("cat", thrown.bottle_id)
    for caller in ("cat", "cat2"):
        assert (await bottles.pick(caller, "again")).reason == "sea_empty"
    assert (await picked(bottles, "dan")).throw_backs == 1


async def test_thread_of_two(bottles: Bottles) -> None:
    thrown = await bottles.throw("ann", "k", "hello", None)
    assert isinstance(await refused(bottles.reply("ann", "r0", thrown.bottle_id, "me first")), Conflict)
    await picked(bottles, "bob")
    assert isinstance(await refused(bottles.reply("ann", "r0", thrown.bottle_id, "me first")), Conflict)
    await bottles.reply("bob", "r1", thrown.bottle_id, "who is there?")
    view = await bottles.reply("ann", "r2", thrown.bottle_id, "ann")
    assert [(reply.mine, reply.text) for reply in view.replies] == [(False, "who is there?"), (True, "ann")]
    view = await bottles.get("bob", thrown.bottle_id)
    assert [(reply.mine, reply.text) for reply in view.replies] == [(True, "who is there?"), (False, "ann")]
    assert (view.mine, (await bottles.get("ann", thrown.bottle_id)).mine) == (False, True)
    assert await states_of(bottles, "ann") == [(thrown.bottle_id, "thrown", "answered")]
    assert await states_of(bottles, "bob") == [(thrown.bottle_id, "picked", "answered")]
    assert isinstance(await refused(bottles.throw_back("bob", thrown.bottle_id)), Conflict)
    assert isinstance(await refused(bottles.delete("ann", thrown.bottle_id)), Conflict)


async def test_nobody_else_learns_anything(bottles: Bottles) -> None:
    """A stranger's answers for a bottle that floats, is held, is answered, was deleted, never was: one and the same."""
    ids = [(await bottles.throw("ann", f"k{n}", "hello", None)).bottle_id for n in range(4)]
    await bottles.delete("ann", ids[3])
    for n in range(2):
        await picked(bottles, "bob", f"p{n}")
    await bottles.reply("bob", "r", next(i for i, _, _ in await states_of(bottles, "bob")), "hi")
    answers = set()
    for bottle_id in [*ids, "0" * 32, "no id", "../x", "é" * 32]:
        for act in (
            bottles.get("eve", bottle_id),
            bottles.reply("eve", "r", bottle_id, "hi"),
            bottles.throw_back("eve", bottle_id),
            bottles.delete("eve", bottle_id),
            bottles.block_other("eve", bottle_id),
        ):
            error = await refused(act)
            answers.add((type(error), error.code, error.detail, error.field))
    assert answers == {(NotFound, "not_found", "no such bottle", None)}


async def test_throw_back(bottles: Bottles) -> None:
    thrown = await bottles.throw("ann", "k", "hello", None)
    assert isinstance(await refused(bottles.throw_back("ann", thrown.bottle_id)), Conflict)
    await picked(bottles, "bob")
    await bottles.throw_back("bob", thrown.bottle_id)
    await bottles.throw_back("bob", thrown.bottle_id)
    assert await states_of(bottles, "bob") == []
    assert await states_of(bottles, "ann") == [(thrown.bottle_id, "thrown", "floating")]
    assert isinstance(await refused(bottles.get("bob", thrown.bottle_id)), NotFound)
    assert isinstance(await refused(bottles.reply("bob", "r", thrown.bottle_id, "late")), Conflict)
    assert (await picked(bottles, "cat")).throw_backs == 1
    await bottles.throw_back("bob", thrown.bottle_id)
    assert await states_of(bottles, "cat") == [(thrown.bottle_id, "picked", "picked")]


async def test_delete_only_before_the_first_pick(bottles: Bottles) -> None:
    first = await bottles.throw("ann", "k1", "one", None)
    assert isinstance(await refused(bottles.delete("bob", first.bottle_id)), NotFound)
    await bottles.delete("ann", first.bottle_id)
    await bottles.delete("ann", first.bottle_id)
    assert isinstance(await refused(bottles.get("ann", first.bottle_id)), NotFound)
    assert await states_of(bottles, "ann") == []
    assert (await bottles.pick("bob", "p")).reason == "sea_empty"
    assert await bottles.throw("ann", "k1", "one", None) == first
    assert (await bottles.pick("bob", "p")).reason == "sea_empty"
    second = await bottles.throw("ann", "k2", "two", None)
    await picked(bottles, "bob")
    assert isinstance(await refused(bottles.delete("ann", second.bottle_id)), Conflict)
    await bottles.throw_back("bob", second.bottle_id)
    assert isinstance(await refused(bottles.delete("ann", second.bottle_id)), Conflict)


async def test_block_other_names_the_other_and_frees_the_bottle(bottles: Bottles, crowd: Crowd) -> None:
    thrown = await bottles.throw("ann", "k", "hello", None)
    await picked(bottles, "bob")
    assert isinstance(await refused(bottles.block_other("ann", thrown.bottle_id)), Conflict)
    assert await bottles.block_other("bob", thrown.bottle_id) == "ann"
    crowd.block("ann", "bob")
    assert await bottles.block_other("bob", thrown.bottle_id) == "ann"
    assert (await picked(bottles, "cat")).throw_backs == 0
    await bottles.reply("cat", "r", thrown.bottle_id, "hi")
    assert await bottles.block_other("ann", thrown.bottle_id) == "cat"
    assert await bottles.block_other("cat", thrown.bottle_id) == "ann"


async def test_a_block_parts_the_two(bottles: Bottles, crowd: Crowd) -> None:
    answered = await bottles.throw("ann", "k1", "one", None)
    await picked(bottles, "bob", "p1")
    await bottles.reply("bob", "r1", answered.bottle_id, "hi")
    held = await bottles.throw("ann", "k2", "two", None)
    await picked(bottles, "bob", "p2")
    crowd.block("bob", "ann")
    for caller in ("ann", "bob"):
        assert isinstance(await refused(bottles.get(caller, answered.bottle_id)), NotFound)
    assert isinstance(await refused(bottles.get("bob", held.bottle_id)), NotFound)
    assert isinstance(await refused(bottles.reply("ann", "r2", answered.bottle_id, "hi")), NotFound)
    # As after a lapsed hold: the holder cannot tell a block from a bottle that drifted on.
    assert isinstance(await refused(bottles.reply("bob", "r3", held.bottle_id, "hi")), Conflict)
    assert isinstance(await refused(bottles.reply("bob", "r1", answered.bottle_id, "hi")), Conflict)
    assert await states_of(bottles, "bob") == []
    # The author must not learn from a block who holds it.
    assert await states_of(bottles, "ann") == [(held.bottle_id, "thrown", "picked")]
    assert (await bottles.get("ann", held.bottle_id)).text == "two"
    again = await bottles.pick("bob", "p2")
    assert (again.bottle, again.reason, again.picks_left) == (None, None, 18)
    crowd.pairs.clear()
    assert (await bottles.get("bob", answered.bottle_id)).text == "one"


async def test_a_block_between_claim_and_answer(make: Callable[..., Bottles], state: State, crowd: Crowd) -> None:
    """The draw knows of no block, the check after the claim does: released without trace, and another one drawn."""
    bottles = make()
    bad = await bottles.throw("ann", "k", "bad", None)

    def block_now(asked: int) -> None:
        if asked == 2:
            crowd.block("ann", "bob")

    crowd.asked, crowd.on_ask = 0, block_now
    answer = await bottles.pick("bob", "p")
    assert (answer.bottle, answer.reason, answer.picks_left) == (None, "sea_empty", 20)
    assert crowd.asked >= 3
    assert await states_of(bottles, "ann") == [(bad.bottle_id, "thrown", "floating")]
    await check_sea(state)
    crowd.pairs.clear()
    assert (await picked(bottles, "bob", "p")).bottle_id == bad.bottle_id
    await bottles.throw_back("bob", bad.bottle_id)


async def test_a_released_claim_leaves_the_bottle_deletable(make: Callable[..., Bottles], crowd: Crowd) -> None:
    bottles = make()
    bad = await bottles.throw("ann", "k", "bad", None)
    crowd.on_ask = lambda asked: crowd.block("ann", "bob") if asked == 2 else None
    assert (await bottles.pick("bob", "p")).reason == "sea_empty"
    await bottles.delete("ann", bad.bottle_id)


async def test_until_the_sea_is_cleared_of_who_was_erased_nobody_meets_them(bottles: Bottles, crowd: Crowd) -> None:
    """Their bottles are drawn once at most, and given back; who else drifts is found."""
    for number in range(10):
        await bottles.throw("ann", f"a{number}", "of who goes", None)
    thread = await picked(bottles, "cat")
    await bottles.reply("cat", "r", thread.bottle_id, "hello")
    asked = await picked(bottles, "dan")
    crowd.gone.add("ann")
    assert (await bottles.pick("bob", "p")).reason == "sea_empty"
    mine = await bottles.throw("eve", "e", "of who stays", None)
    assert (await picked(bottles, "bob", "p")).bottle_id == mine.bottle_id
    assert isinstance(await refused(bottles.reply("dan", "r", asked.bottle_id, "hello")), Conflict)
    for user, bottle in (("cat", thread), ("dan", asked)):
        assert isinstance(await refused(bottles.get(user, bottle.bottle_id)), NotFound)
        assert await states_of(bottles, user) == []


@pytest.mark.parametrize("caller", ["ann", "bob"])
async def test_a_block_folded_while_a_reply_is_written_is_as_one_before(
    bottles: Bottles, crowd: Crowd, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bottle = await bottles.throw("ann", "k", "hello", None)
    await picked(bottles, "bob")
    if caller == "ann":
        await bottles.reply("bob", "r", bottle.bottle_id, "first")
    run = bottles._run

    async def late(*act: Any) -> Any:
        reply = await run(*act)
        crowd.block("ann", "bob")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(bottles, "_run", late)
        answer = await refused(bottles.reply(caller, "late", bottle.bottle_id, "second"))
    again = await refused(bottles.reply(caller, "later", bottle.bottle_id, "third"))
    assert type(answer) is type(again) is (NotFound if caller == "ann" else Conflict)
    assert answer.detail == again.detail


# --- repeats ---


async def test_repeats_of_a_throw(bottles: Bottles, state: State) -> None:
    first = await bottles.throw("ann", "k", "hello", "en")
    assert await bottles.throw("ann", "k", "hello", "en") == first
    for text, language in (("hello!", "en"), ("hello", None), ("hello", "fr")):
        assert isinstance(await refused(bottles.throw("ann", "k", text, language)), KeyReused)
    assert isinstance(await refused(bottles.pick("ann", "k")), KeyReused)
    assert (await bottles.throw("bob", "k", "hello", "en")).bottle_id != first.bottle_id
    # After 24 h the operation row is gone and the bottle is not: its own fingerprint guards the id.
    await state.call("DEL", *await state.call("KEYS", keys.sea_operation("*")))
    assert await bottles.throw("ann", "k", "hello", "en") == first
    assert isinstance(await refused(bottles.throw("ann", "k", "other", "en")), KeyReused)
    assert await state.call("HLEN", keys.sea_index()) == 2


async def test_repeats_of_a_pick(bottles: Bottles) -> None:
    for n in range(5):
        await bottles.throw("ann", f"k{n}", f"text {n}", None)
    first = await bottles.pick("bob", "p")
    assert await bottles.pick("bob", "p") == first
    assert first.bottle is not None
    bottle_id = first.bottle.bottle_id
    await bottles.reply("bob", "r", bottle_id, "hi")
    repeat = (await bottles.pick("bob", "p")).bottle
    assert repeat is not None
    assert [reply.text for reply in repeat.replies] == ["hi"]
    second = await picked(bottles, "bob", "p2")
    await bottles.throw_back("bob", second.bottle_id)
    given_back = await bottles.pick("bob", "p2")
    assert (given_back.bottle, given_back.reason, given_back.picks_left) == (None, None, 18)
    await picked(bottles, "bob", "p3")


async def test_repeats_of_a_reply(bottles: Bottles) -> None:
    thrown = await bottles.throw("ann", "k", "hello", None)
    await picked(bottles, "bob")
    first = await bottles.reply("bob", "r", thrown.bottle_id, "hi")
    assert await bottles.reply("bob", "r", thrown.bottle_id, "hi") == first
    assert isinstance(await refused(bottles.reply("bob", "r", thrown.bottle_id, "ho")), KeyReused)
    await bottles.reply("ann", "r", thrown.bottle_id, "yes")
    assert len((await bottles.reply("bob", "r", thrown.bottle_id, "hi")).replies) == 2


async def test_parallel_repeats_take_one_bottle(bottles: Bottles) -> None:
    thrown = await asyncio.gather(*(bottles.throw("ann", "k", "hello", None) for _ in range(50)))
    assert len({answer.bottle_id for answer in thrown}) == 1
    for n in range(9):
        await bottles.throw("ann", f"k{n}", "hello", None)
    answers = await asyncio.gather(*(bottles.pick("bob", "p") for _ in range(50)))
    assert len({answer.bottle.bottle_id for answer in answers if answer.bottle}) == 1
    assert {answer.picks_left for answer in answers} == {19}


# --- quotas, texts, pages ---


async def test_quotas(make: Callable[..., Bottles], crowd: Crowd) -> None:
    await wait_for_a_day()
    crowd.persons = {"ann": "human", "ann2": "human"}
    bottles = make(throws_per_day=3, picks_per_day=2)
    left = [(await bottles.throw(caller, f"k{n}", "x", None)).throws_left for n, caller in enumerate(("ann", "ann2"))]
    left.append((await bottles.throw("ann", "k2", "x", None)).throws_left)
    assert left == [2, 1, 0]
    for caller in ("ann", "ann2"):
        error = await refused(bottles.throw(caller, "k9", "x", None))
        assert isinstance(error, QuotaExceeded)
        assert error.resets_at_ms % DAY_MS == 0
        assert abs(error.resets_at_ms / 1000 - time.time() - error.retry_after_s) < 2
    assert (await bottles.throw("ann", "k2", "x", None)).throws_left == 0
    assert [(await bottles.pick("bob", f"p{n}")).picks_left for n in range(2)] == [1, 0]
    assert isinstance(await refused(bottles.pick("bob", "p9")), QuotaExceeded)
    assert (await bottles.pick("bob", "p1")).bottle is not None


async def test_a_quota_is_whole_again_on_another_day(make: Callable[..., Bottles], state: State) -> None:
    await wait_for_a_day()
    bottles = make(throws_per_day=2)
    assert [(await bottles.throw("ann", f"k{n}", "x", None)).throws_left for n in range(2)] == [1, 0]
    await state.call("HINCRBY", bottles.quota_key("ann"), "day", -1)
    assert [(await bottles.throw("ann", f"l{n}", "x", None)).throws_left for n in range(2)] == [1, 0]
    assert isinstance(await refused(bottles.throw("ann", "m", "x", None)), QuotaExceeded)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t ", "\u200b\u2060", "a\0b", "a\rb", "\x7f", "\x85", "a\ud800", "x" * 501]
)
async def test_texts_refused(bottles: Bottles, text: str) -> None:
    error = await refused(bottles.throw("ann", "k", text, None))
    assert isinstance(error, Invalid)
    assert error.field == "text"
    assert isinstance(await refused(bottles.reply("ann", "k", "0" * 32, text)), Invalid)


@pytest.mark.parametrize("text", ["x", " x ", "海" * 500, "👩‍👩‍👧", "a\n\tb", "שלום"])
async def test_texts_kept_as_they_are(bottles: Bottles, text: str) -> None:
    await bottles.throw("ann", "k", text, None)
    assert (await picked(bottles, "bob")).text == text


@pytest.mark.parametrize("language", ["", "e", "engl", "en_US", "en-", "en-x", "zh-Hans-123456789", "en\n", "ab" * 40])
async def test_languages_refused(bottles: Bottles, language: str) -> None:
    error = await refused(bottles.throw("ann", "k", "x", language))
    assert (type(error), error.field) == (Invalid, "language")


async def test_pages_of_mine(make: Callable[..., Bottles], crowd: Crowd) -> None:
    bottles = make()
    for n in range(12):
        await bottles.throw("ann", f"a{n}", "of ann", None)
        await bottles.throw(("bob", "cat")[n % 2], f"b{n}", ("of bob", "of cat")[n % 2], None)
    views = [await picked(bottles, "ann", f"p{n}") for n in range(12)]
    whole, end = await bottles.mine("ann", 100, None)
    assert [(item.bottle_id, item.role) for item in whole[:12]] == [(view.bottle_id, "picked") for view in views[::-1]]
    assert ({item.role for item in whole[12:]}, len(whole), end) == ({"thrown"}, 24, None)
    crowd.block("ann", "cat")
    of_cat = {view.bottle_id for view in views if view.text == "of cat"}
    shown = [item for item in whole if item.bottle_id not in of_cat]
    assert len(shown) == 18
    for limit in (1, 5, 17, 18, 19, 100):
        paged: list[MineItem] = []
        after: int | None = None
        for _ in range(-(-len(shown) // limit)):
            page, after = await bottles.mine("ann", limit, after)
            assert len(page) == limit or after is None
            paged += page
        assert (paged, after) == (shown, None)


# --- time ---


async def test_a_hold_lapses(make: Callable[..., Bottles], state: State) -> None:
    bottles = make(hold_s=0.3)
    thrown = await bottles.throw("ann", "k", "hello", None)
    await picked(bottles, "bob")
    assert (await bottles.pick("cat", "p")).reason == "sea_empty"
    await asyncio.sleep(0.35)
    assert isinstance(await refused(bottles.reply("bob", "r", thrown.bottle_id, "late")), Conflict)
    assert isinstance(await refused(bottles.get("bob", thrown.bottle_id)), NotFound)
    assert (await bottles.pick("bob", "p")).bottle is None
    assert (await bottles.pick("bob", "pick")).bottle is None
    await bottles.throw_back("bob", thrown.bottle_id)
    assert await states_of(bottles, "ann") == [(thrown.bottle_id, "thrown", "floating")]
    assert isinstance(await refused(bottles.delete("ann", thrown.bottle_id)), Conflict)
    assert (await picked(bottles, "cat", "p")).throw_backs == 0
    await check_sea(state)


async def test_a_bottle_ends_where_it_is(make: Callable[..., Bottles], state: State) -> None:
    bottles = make(life_s=0.4)
    ids = [(await bottles.throw("ann", f"k{n}", "hello", None)).bottle_id for n in range(3)]
    answered = (await picked(bottles, "bob", "p1")).bottle_id
    held = (await picked(bottles, "bob", "p2")).bottle_id
    await bottles.reply("bob", "r", answered, "hi")
    floating = next(bottle_id for bottle_id in ids if bottle_id not in (answered, held))
    await asyncio.sleep(0.25)
    await bottles.reply("ann", "r", answered, "lives on")
    await asyncio.sleep(0.25)
    states = {bottle_id: state for bottle_id, _, state in await states_of(bottles, "ann")}
    assert states == {floating: "expired", held: "expired", answered: "answered"}
    assert await states_of(bottles, "bob") == [(answered, "picked", "answered")]
    assert (await bottles.pick("cat", "p")).reason == "sea_empty"
    assert (await bottles.get("ann", floating)).text == "hello"
    assert isinstance(await refused(bottles.reply("bob", "r9", held, "late")), Conflict)
    assert isinstance(await refused(bottles.delete("ann", floating)), Conflict)
    await asyncio.sleep(0.25)
    assert await states_of(bottles, "bob") == [(answered, "picked", "expired")]
    assert len((await bottles.get("bob", answered)).replies) == 2
    assert isinstance(await refused(bottles.reply("bob", "r2", answered, "late")), Conflict)
    await check_sea(state)


async def test_ended_bottles_are_buried(make: Callable[..., Bottles], state: State) -> None:
    """A day after the end nothing is left; the day is moved, not waited for."""
    bottles = make(life_s=0.2)
    for n in range(20):
        await bottles.throw("ann", f"k{n}", "hello", None)
    answered = await picked(bottles, "bob")
    await bottles.reply("bob", "r", answered.bottle_id, "hi")
    await asyncio.sleep(0.25)
    assert [await bottles.sweep() for _ in range(3)] == [16, 4, 0]
    await check_sea(state)
    for bottle_id in await state.call("ZRANGE", keys.sea_ends(), 0, -1):
        await state.call("ZINCRBY", keys.sea_ends(), -DAY_MS, bottle_id)
    assert [await bottles.sweep() for _ in range(3)] == [16, 4, 0]
    left = {raw.decode().split(":")[1] for raw in await state.call("KEYS", "{sea}:*")}
    assert left == {"op", "quota", "seen"}


async def test_an_unswept_list_drops_bottles_that_their_ttl_took(make: Callable[..., Bottles], state: State) -> None:
    bottles = make(life_s=0.1)
    thrown = await bottles.throw("ann", "k", "hello", None)
    await asyncio.sleep(0.15)
    await bottles.sweep()
    await state.call("DEL", keys.sea_bottle(thrown.bottle_id))
    assert await states_of(bottles, "ann") == []
    assert await state.call("EXISTS", keys.sea_mine("ann")) == 0


async def test_a_backlog_of_lapsed_holds_does_not_read_as_an_empty_sea(make: Callable[..., Bottles]) -> None:
    """The 20 holds that lapsed first are of dan's own bottles: the first sweep of 16 brings back nothing for dan."""
    bottles = make(hold_s=0.5, picks_per_day=40)
    for author in ("dan", "ann"):
        await asyncio.gather(*(bottles.throw(author, f"k{n}", author, None) for n in range(20)))
        await asyncio.gather(*(bottles.pick("bob", f"{author}{n}") for n in range(20)))
    await asyncio.sleep(0.6)
    bottles = make()
    assert {(await picked(bottles, "dan", f"p{n}")).text for n in range(20)} == {"ann"}
    assert (await bottles.pick("cat", "p")).bottle is not None


async def test_a_lapsed_hold_is_over_before_it_is_swept(make: Callable[..., Bottles], state: State) -> None:
    """The sweep is kept from these holds, as by a long backlog: each act must look at the time itself."""
    bottles = make(hold_s=0.5)
    for n in range(5):
        await bottles.throw("ann", f"k{n}", "x", None)
    ids = [(await picked(bottles, "bob", f"p{n}")).bottle_id for n in range(5)]
    await asyncio.sleep(0.6)
    for bottle_id in ids:
        await state.call("ZADD", keys.sea_holds(), "XX", 10**15, bottle_id)
    assert isinstance(await refused(bottles.reply("bob", "r", ids[0], "late")), Conflict)
    assert isinstance(await refused(bottles.get("bob", ids[1])), NotFound)
    assert (await bottles.pick("bob", "p2")).bottle is None
    await bottles.throw_back("bob", ids[3])
    assert (await bottles.get("ann", ids[3])).throw_backs == 0
    assert await states_of(bottles, "bob") == []
    assert {state for _, _, state in await states_of(bottles, "ann")} == {"floating"}
    await check_sea(state)


async def test_a_second_account_of_the_author_is_a_stranger(bottles: Bottles, crowd: Crowd) -> None:
    crowd.persons = {"ann": "human", "ann2": "human"}
    thrown = await bottles.throw("ann", "k", "x", None)
    for act in (
        bottles.get("ann2", thrown.bottle_id),
        bottles.throw_back("ann2", thrown.bottle_id),
        bottles.reply("ann2", "r", thrown.bottle_id, "x"),
        bottles.block_other("ann2", thrown.bottle_id),
        bottles.delete("ann2", thrown.bottle_id),
    ):
        assert isinstance(await refused(act), NotFound)


async def test_a_hold_does_not_show_the_minute_of_the_throw(make: Callable[..., Bottles]) -> None:
    """With less life left than a hold, the holder is shown the full hour before the end, not the end."""
    bottles = make(hold_s=86_400, life_s=20_000)
    thrown = await bottles.throw("ann", "k", "hello", None)
    await picked(bottles, "bob")
    (item,), _ = await bottles.mine("bob", 1, None)
    assert item.expires_at_ms == thrown.expires_at_ms // HOUR_MS * HOUR_MS
    (item,), _ = await bottles.mine("ann", 1, None)
    assert item.expires_at_ms == thrown.expires_at_ms


async def test_a_full_thread(bottles: Bottles) -> None:
    thrown = await bottles.throw("ann", "k", "hello", None)
    await picked(bottles, "bob")
    for n in range(REPLIES_MAX):
        await bottles.reply(("bob", "ann")[n % 2], f"r{n}", thrown.bottle_id, f"{n}")
    assert isinstance(await refused(bottles.reply("bob", "r", thrown.bottle_id, "more")), Conflict)
    view = await bottles.reply("bob", "r0", thrown.bottle_id, "0")
    assert [reply.text for reply in view.replies] == [f"{n}" for n in range(REPLIES_MAX)]
