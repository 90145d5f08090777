"""Drift Bottle over HTTP: the rules of the routes. The sea itself is tested in tests/discovery/test_bottles*.py."""

import time
from typing import Any

import httpx2
import jwt
import pytest

from tests.sea import wait_for_a_day
from tests.world import PARIS, World

THROWS_A_DAY = 20
UNKNOWN = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
async def _within_a_day() -> None:
    await wait_for_a_day()


async def ready(world: World, *users: str) -> None:
    """Adults with bottles on."""
    for user in users:
        async with world.client(user) as client:
            assert (await client.patch("/v1/me/settings", json={"bottles": "on"})).status_code == 200


async def ask(world: World, user: str, method: str, path: str, key: str = "", **more: Any) -> httpx2.Response:
    headers = {"X-Request-Id": "same", **({"Idempotency-Key": key} if key else {})}
    async with world.client(user, headers=headers) as client:
        return await client.request(method, f"/v1{path}", **more)


async def throw(world: World, user: str, text: str = "hello", key: str = "t1", **more: Any) -> httpx2.Response:
    return await ask(world, user, "POST", "/bottles", key, json={"text": text, **more})


async def pick(world: World, user: str, key: str = "p1") -> httpx2.Response:
    return await ask(world, user, "POST", "/bottles/pick", key)


async def thrown_and_picked(world: World) -> str:
    """Ann threw it, bob holds it."""
    await ready(world, "ann", "bob")
    bottle_id = str((await throw(world, "ann")).json()["bottle_id"])
    assert (await pick(world, "bob")).json()["bottle"]["bottle_id"] == bottle_id
    return bottle_id


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def states(world: World, user: str) -> list[tuple[str, str]]:
    rows = (await ask(world, user, "GET", "/me/bottles")).json()["bottles"]
    return [(row["role"], row["state"]) for row in rows]


async def test_a_bottle_from_hand_to_hand(world: World) -> None:
    await ready(world, "ann", "bob")
    thrown = await throw(world, "ann", "hi there", language="en")
    assert thrown.status_code == 201
    assert thrown.json().keys() == {"bottle_id", "expires_at", "throws_left", "resets_at"}
    assert thrown.json()["throws_left"] == THROWS_A_DAY - 1
    bottle_id = thrown.json()["bottle_id"]
    picked = await pick(world, "bob")
    assert picked.status_code == 200
    assert (picked.json()["reason"], picked.json()["picks_left"]) == (None, 19)
    bottle = picked.json()["bottle"]
    assert bottle["thrown_at"].endswith(":00:00Z"), "to the hour"
    expected = {"bottle_id": bottle_id, "kind": "text", "text": "hi there", "language": "en", "throw_backs": 0}
    assert bottle == {**expected, "thrown_at": bottle["thrown_at"], "mine": False, "replies": []}
    replied = await ask(world, "bob", "POST", f"/bottles/{bottle_id}/replies", "r1", json={"text": "hello you"})
    assert replied.status_code == 201
    seen = (await ask(world, "ann", "GET", f"/bottles/{bottle_id}")).json()
    assert seen["mine"] is True
    assert [(row["mine"], row["kind"], row["text"]) for row in seen["replies"]] == [(False, "text", "hello you")]
    answered = await ask(world, "ann", "POST", f"/bottles/{bottle_id}/replies", "r2", json={"text": "and you"})
    assert [row["mine"] for row in answered.json()["replies"]] == [False, True]
    assert (await states(world, "ann"), await states(world, "bob")) == (
        [("thrown", "answered")],
        [("picked", "answered")],
    )
    for body in (seen, answered.json(), picked.json()):
        assert "ann" not in str(body)
        assert "bob" not in str(body)


async def test_bottles_must_be_switched_on_to_throw_and_pick(world: World) -> None:
    assert refusal(await throw(world, "ann")) == refusal(await pick(world, "ann")) == (403, "bottles_off")
    await ready(world, "ann")
    assert (await throw(world, "ann")).status_code == 201


async def test_bottles_are_for_adults(world: World) -> None:
    await thrown_and_picked(world)
    for age in ("minor", None):
        async with world.client("kid", age, {"Idempotency-Key": "k"}) as kid:
            answers = [
                await kid.post("/v1/bottles", json={"text": "hi"}),
                await kid.post("/v1/bottles/pick"),
                await kid.post(f"/v1/bottles/{UNKNOWN}/replies", json={"text": "hi"}),
                await kid.post(f"/v1/bottles/{UNKNOWN}/throw-back"),
                await kid.get(f"/v1/bottles/{UNKNOWN}"),
            ]
        assert {refusal(answer) for answer in answers} == {(403, "adults_only")}


async def test_who_is_suspended_takes_no_part(world: World) -> None:
    await ready(world, "ann")
    async with world.operator() as app:
        suspended = [{"feature": "bottles", "until": "2030-01-01T00:00:00Z"}]
        await app.put("/v1/app/users/ann", json={"suspended": suspended})
    assert refusal(await throw(world, "ann"))[1] == refusal(await pick(world, "ann"))[1] == "suspended"


async def test_twenty_throws_a_day(world: World) -> None:
    await ready(world, "ann")
    for n in range(THROWS_A_DAY):
        answer = await throw(world, "ann", f"text {n}", f"key {n}".replace(" ", ""))
        assert answer.json()["throws_left"] == THROWS_A_DAY - 1 - n
    over = await throw(world, "ann", "one more", "more")
    assert refusal(over) == (429, "quota_exceeded")
    assert over.json()["resets_at"].endswith("T00:00:00Z")
    assert over.json()["resets_at"] == answer.json()["resets_at"]
    assert 0 < int(over.headers["retry-after"]) <= 86_400
    again = await throw(world, "ann", "text 0", "key0")
    assert again.status_code == 201, "a repeat is no new throw"
    assert len(await states(world, "ann")) == THROWS_A_DAY


async def test_twenty_picks_a_day(world: World) -> None:
    await ready(world, "ann", "ben", "bob")
    for n in range(THROWS_A_DAY + 1):
        await throw(world, ("ann", "ben")[n % 2], f"text {n}", f"key{n}")
    for n in range(THROWS_A_DAY):
        assert (await pick(world, "bob", f"pick{n}")).json()["picks_left"] == THROWS_A_DAY - 1 - n
    over = await pick(world, "bob", "more")
    assert refusal(over) == (429, "quota_exceeded")
    assert "retry-after" in over.headers


async def test_two_accounts_of_one_human_share_the_quota(world: World) -> None:
    assert world.settings.jwt_secret is not None
    secret = world.settings.jwt_secret.get_secret_value()
    now_s = int(time.time())
    left = []
    for user in ("ann", "ann2"):
        claims = {"sub": user, "iat": now_s, "exp": now_s + 3600, "aud": "nearhive", "age": "adult", "person": "human"}
        async with world._client({"Authorization": f"Bearer {jwt.encode(claims, secret)}"}) as client:
            await client.patch("/v1/me/settings", json={"bottles": "on"})
            answer = await client.post("/v1/bottles", json={"text": "x"}, headers={"Idempotency-Key": "k"})
            left.append(answer.json()["throws_left"])
    assert left == [THROWS_A_DAY - 1, THROWS_A_DAY - 2]


async def test_a_repeat_changes_nothing_and_answers_the_same(world: World) -> None:
    await ready(world, "ann", "bob")
    for who, act in (("ann", throw), ("bob", pick)):
        first = await act(world, who)
        for _ in range(2):
            again = await act(world, who)
            assert (again.status_code, again.content) == (first.status_code, first.content)
    bottle_id = first.json()["bottle"]["bottle_id"]
    path = f"/bottles/{bottle_id}/replies"
    replied = await ask(world, "bob", "POST", path, "r", json={"text": "yes"})
    assert (await ask(world, "bob", "POST", path, "r", json={"text": "yes"})).content == replied.content
    assert len(replied.json()["replies"]) == 1
    assert (await throw(world, "carl", key="t1")).status_code == 403, "keys belong to their caller"


async def test_another_payload_under_the_same_key_is_refused(world: World) -> None:
    bottle_id = await thrown_and_picked(world)
    reused = (422, "idempotency_key_reused")
    assert refusal(await throw(world, "ann", "other")) == reused
    assert refusal(await throw(world, "ann", "hello", language="en")) == reused
    path = f"/bottles/{bottle_id}/replies"
    await ask(world, "bob", "POST", path, "r", json={"text": "yes"})
    assert refusal(await ask(world, "bob", "POST", path, "r", json={"text": "no"})) == reused
    assert refusal(await throw(world, "bob", key="p1")) == reused, "the key of a pick"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/bottles", {"text": "x"}), ("/bottles/pick", None), (f"/bottles/{UNKNOWN}/replies", {"text": "x"})],
)
async def test_acts_need_a_key(world: World, path: str, body: dict[str, str] | None) -> None:
    await ready(world, "ann")
    options: dict[str, Any] = {} if body is None else {"json": body}
    answer = await ask(world, "ann", "POST", path, **options)
    assert refusal(answer) == (400, "idempotency_key_required")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "x" * 501}, "text"),
        ({"text": 5}, "text"),
        ({}, "text"),
        ({"text": "x", "language": "nonsense language"}, "language"),
        ({"text": "x", "language": "x" * 36}, "language"),
        ({"text": "x", "voice": "y"}, "voice"),
    ],
)
async def test_bad_bottles(world: World, body: dict[str, Any], field: str) -> None:
    await ready(world, "ann")
    answer = await ask(world, "ann", "POST", "/bottles", "k", json=body)
    assert refusal(answer)[0] == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await states(world, "ann") == []
    assert (await throw(world, "ann", "x" * 500, "k")).json()["throws_left"] == THROWS_A_DAY - 1


async def test_foreign_unknown_and_malformed_ids_are_the_same_bytes(world: World) -> None:
    """Else ids could be tried, and a bottle's holders be counted."""
    bottle_id = await thrown_and_picked(world)
    await ready(world, "eve")
    ids = (bottle_id, UNKNOWN, "nonsense", UNKNOWN.upper(), "a" * 128, f"{bottle_id}0")
    acts: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("GET", "", {}),
        ("DELETE", "", {}),
        ("POST", "/throw-back", {}),
        ("POST", "/block", {}),
        ("POST", "/replies", {"key": "k", "json": {"text": "x"}}),
    )
    for method, rest, more in acts:
        answers = [await ask(world, "eve", method, f"/bottles/{one}{rest}", **more) for one in ids]
        assert {refusal(answer) for answer in answers} == {(404, "not_found")}
        assert len({(answer.content, str(sorted(answer.headers.items()))) for answer in answers}) == 1, (method, rest)
    async with world.client("eve") as eve:
        assert (await eve.get("/v1/me/blocks")).json()["blocks"] == []


async def test_thrown_back_it_drifts_on(world: World) -> None:
    bottle_id = await thrown_and_picked(world)
    for _ in range(2):  # giving back twice is done already
        assert (await ask(world, "bob", "POST", f"/bottles/{bottle_id}/throw-back")).status_code == 204
    assert await states(world, "ann") == [("thrown", "floating")]
    assert (await pick(world, "bob", "p2")).json()["reason"] == "sea_empty", "who gave it back never gets it again"
    await ready(world, "carl")
    assert (await pick(world, "carl")).json()["bottle"]["throw_backs"] == 1
    late = await ask(world, "bob", "POST", f"/bottles/{bottle_id}/replies", "r", json={"text": "late"})
    assert late.status_code in (404, 409)
    assert refusal(await ask(world, "ann", "POST", f"/bottles/{bottle_id}/throw-back")) == (409, "conflict")


async def test_an_empty_sea(world: World) -> None:
    await ready(world, "ann", "bob")
    empty = (await pick(world, "ann")).json()
    assert (empty["bottle"], empty["reason"], empty["picks_left"]) == (None, "sea_empty", 20)
    await throw(world, "ann")
    assert (await pick(world, "ann")).json()["reason"] == "sea_empty", "one's own is never drawn"
    await throw(world, "bob")
    assert (await pick(world, "ann")).json()["bottle"] is not None, "the key of an empty pick is free"


async def test_the_author_takes_back_what_nobody_has_picked(world: World) -> None:
    await ready(world, "ann", "bob")
    first = (await throw(world, "ann", "one", "1")).json()["bottle_id"]
    assert (await ask(world, "ann", "DELETE", f"/bottles/{first}")).status_code == 204
    assert await states(world, "ann") == []
    assert (await pick(world, "bob")).json()["reason"] == "sea_empty"
    assert refusal(await ask(world, "ann", "GET", f"/bottles/{first}")) == (404, "not_found")
    second = (await throw(world, "ann", "two", "2")).json()["bottle_id"]
    await pick(world, "bob")
    assert refusal(await ask(world, "ann", "DELETE", f"/bottles/{second}")) == (409, "conflict")
    assert refusal(await ask(world, "bob", "DELETE", f"/bottles/{second}")) == (404, "not_found")


@pytest.mark.parametrize("blocker", ["ann", "bob"])
async def test_a_block_through_a_bottle_names_nobody_and_holds_everywhere(world: World, blocker: str) -> None:
    bottle_id = await thrown_and_picked(world)
    await ask(world, "bob", "POST", f"/bottles/{bottle_id}/replies", "r", json={"text": "yes"})
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    other = "bob" if blocker == "ann" else "ann"
    assert len((await ask(world, other, "GET", "/nearby")).json()["people"]) == 1
    for _ in range(2):
        assert (await ask(world, blocker, "POST", f"/bottles/{bottle_id}/block")).status_code == 204
    listed = await ask(world, blocker, "GET", "/me/blocks")
    assert listed.json() == {"blocks": [{"user": f"bottle:{bottle_id}"}], "next_cursor": None}
    for user in ("ann", "bob"):
        assert (await ask(world, user, "GET", "/nearby")).json()["people"] == []
        assert await states(world, user) == [], "the thread is over for both"
        assert refusal(await ask(world, user, "GET", f"/bottles/{bottle_id}")) == (404, "not_found")
        here = {"lat": PARIS[0], "lon": PARIS[1]}
        shaken = await ask(world, user, "POST", "/shakes", f"s-{user}", json=here)
        assert (shaken.status_code, shaken.json()["matches"]) == (201, [])
    assert (await throw(world, other, "again", "t9")).status_code == 201
    assert (await pick(world, blocker, "p9")).json()["reason"] == "sea_empty"
    assert (await ask(world, blocker, "DELETE", f"/me/blocks/bottle:{bottle_id}")).status_code == 204
    assert len((await ask(world, other, "GET", "/nearby")).json()["people"]) == 1


async def test_the_holder_may_block_unanswered_the_author_only_who_answered(world: World) -> None:
    bottle_id = await thrown_and_picked(world)
    assert refusal(await ask(world, "ann", "POST", f"/bottles/{bottle_id}/block")) == (409, "conflict")
    assert (await ask(world, "bob", "POST", f"/bottles/{bottle_id}/block")).status_code == 204
    assert await states(world, "ann") == [("thrown", "floating")], "it drifts on"
    assert (await ask(world, "bob", "POST", f"/bottles/{bottle_id}/block")).status_code == 204
    await ready(world, "carl")
    assert (await pick(world, "carl")).json()["bottle"]["bottle_id"] == bottle_id


async def test_who_answers_with_bottles_off_still_may(world: World) -> None:
    """Only throwing and picking need the switch."""
    bottle_id = await thrown_and_picked(world)
    await ask(world, "bob", "PATCH", "/me/settings", json={"bottles": "off"})
    replied = await ask(world, "bob", "POST", f"/bottles/{bottle_id}/replies", "r", json={"text": "yes"})
    assert replied.status_code == 201


async def test_my_bottles_are_paged_newest_first(world: World) -> None:
    await ready(world, "ann", "bob")
    await throw(world, "bob", "for ann", "b")
    thrown = [(await throw(world, "ann", f"text {n}", f"k{n}")).json()["bottle_id"] for n in range(6)]
    picked = (await pick(world, "ann")).json()["bottle"]["bottle_id"]
    newest_first = [picked, *reversed(thrown)]
    for limit in (1, 2, 3, 7, 100):
        found: list[str] = []
        query = f"?limit={limit}"
        while query:
            page = (await ask(world, "ann", "GET", f"/me/bottles{query}")).json()
            assert len(page["bottles"]) <= limit
            found += [row["bottle_id"] for row in page["bottles"]]
            query = f"?limit={limit}&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        assert found == newest_first, limit
    cursor = (await ask(world, "ann", "GET", "/me/bottles?limit=2")).json()["next_cursor"]
    foreign = await ask(world, "bob", "GET", f"/me/bottles?cursor={cursor}")
    assert refusal(foreign) == refusal(await ask(world, "ann", "GET", "/me/bottles?cursor=abc")) == (400, "bad_cursor")


@pytest.mark.parametrize("kept_apart", ["held", "blocked"])
async def test_an_erasure_brings_nobodys_bottle_back_before_the_sea_is_cleared(
    world: World, kept_apart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The author was on hold, or had blocked who picks: neither stands once the erasure is folded."""
    await ready(world, "ann", "bob")
    assert (await throw(world, "ann")).status_code == 201
    if kept_apart == "held":
        await world.hive.settings.moderate("ann", {"hold": world.now_ms + 10**12})
    else:
        assert (await ask(world, "ann", "PUT", "/me/blocks/bob")).status_code == 204
    assert (await pick(world, "bob")).json()["reason"] == "sea_empty"
    erase, between = world.hive.bottles.erase, list[Any]()

    async def late(*args: Any) -> None:
        between.append((await pick(world, "bob", "p2")).json())
        await erase(*args)

    with monkeypatch.context() as patch:
        patch.setattr(world.hive.bottles, "erase", late)
        assert (await ask(world, "ann", "DELETE", "/me?confirm=ann")).status_code == 202
    assert [answer["reason"] for answer in between] == ["sea_empty"]


async def test_a_hold_folded_while_a_reply_is_written_is_as_one_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bottle_id = await thrown_and_picked(world)
    run = world.hive.bottles._run

    async def late(*act: Any) -> Any:
        reply = await run(*act)
        await world.hive.settings.moderate("ann", {"hold": world.now_ms + 10**12})
        return reply

    monkeypatch.setattr(world.hive.bottles, "_run", late)
    answer = await ask(world, "bob", "POST", f"/bottles/{bottle_id}/replies", "r", json={"text": "yes"})
    assert refusal(answer) == (409, "conflict")
