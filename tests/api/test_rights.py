"""Export and erasure through the API: nothing shows an erased person, nothing of them stays, nothing revives them."""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx2
import pytest

from api.auth import mint_token
from discovery.errors import Erased, RequestsUsedUp
from discovery.exposure import Exposure, Look
from discovery.friends import Friendships
from discovery.people import People
from discovery.presence import Presence
from discovery.request_quota import RequestQuota
from discovery.safety import Blocks
from discovery.shard_packing import pack, unpack
from discovery.shard_state import ShardedPeople, state_of
from discovery.store import keys
from discovery.suspensions import HOLD, by_moderator
from geo import cells
from geo.privacy import ExactPoint
from tests.contract.test_keys import arguments, functions, named
from tests.world import HOUR_MS, PARIS, World, open_world

POINT = {"lat": PARIS[0], "lon": PARIS[1]}


def client(world: World, user: str, issued_s: float) -> httpx2.AsyncClient:
    """With a token of that time: a new person's is later than the erasure."""
    assert world.settings.jwt_secret is not None
    token = mint_token(world.settings.jwt_secret.get_secret_value(), user, "adult", 3600, issued_s)
    return world._client({"Authorization": f"Bearer {token}"})


def later(world: World, user: str) -> httpx2.AsyncClient:
    return client(world, user, time.time() + 30)


async def erase(world: World, user: str) -> dict[str, Any]:
    async with world.client(user) as own:
        answer = await own.delete(f"/v1/me?confirm={user}")
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def full_life(world: World) -> None:
    """Ann does everything once; bob is near, a friend, and has picked her bottle."""
    for user in ("ann", "bob", "cleo"):
        await world.place(user, *PARIS)
        async with world.client(user) as own:
            assert (await own.patch("/v1/me/settings", json={"bottles": "on"})).status_code == 200
    await world.befriend("ann", "bob")
    async with world.client("ann") as ann, world.client("bob") as bob, world.operator() as operator:
        consent = {"version": "v7", "at": "2026-11-22T08:00:00Z"}
        await operator.put("/v1/app/users/ann", json={"consent": consent, "visibility": "everyone", "age": "adult"})
        assert (await ann.put("/v1/me/blocks/dave")).status_code == 204
        assert (await ann.put("/v1/me/friends/dora")).status_code == 200
        shake = {**POINT, "reach": "nearby"}
        for each in (ann, bob):
            answer = await each.post("/v1/shakes", json=shake, headers={"Idempotency-Key": "s"})
            assert answer.status_code == 201, answer.text
        for number in (1, 2):
            said = {"text": f"words of ann {number}"}
            assert (await ann.post("/v1/bottles", json=said, headers={"Idempotency-Key": f"t{number}"})).is_success
        await bob.post("/v1/bottles", json={"text": "words of bob"}, headers={"Idempotency-Key": "t"})
        for each, words in ((bob, "bob answers"), (ann, "ann answers")):
            bottle = (await each.post("/v1/bottles/pick", headers={"Idempotency-Key": "p"})).json()["bottle"]
            path = f"/v1/bottles/{bottle['bottle_id']}/replies"
            assert (await each.post(path, json={"text": words}, headers={"Idempotency-Key": "r"})).is_success


async def holders_of(world: World, text: str) -> list[str]:
    """Keys whose name or content, as the server dumps it, has ``text``."""
    found = []
    cursor: Any = b"0"
    while True:
        cursor, names = await world.state.call("SCAN", cursor, "COUNT", 1000)
        for name in names:
            kind = (await world.state.call("TYPE", name)).decode()
            read = {"hash": ("HGETALL",), "list": ("LRANGE", 0, -1), "set": ("SMEMBERS",), "string": ("GET",)}
            read |= {"zset": ("ZRANGE", 0, -1), "stream": ("XRANGE", "-", "+")}
            command, *more = read[kind]
            if text in repr(name) or text in repr(await world.state.call(command, name, *more)):
                found.append(name.decode())
        if int(cursor) == 0:
            return sorted(found)


async def test_nothing_shows_who_was_erased(world: World) -> None:
    await full_life(world)
    async with world.client("bob") as bob, world.client("cleo") as cleo:
        await cleo.put("/v1/me/blocks/eve")
        assert "ann" in (await cleo.get("/v1/nearby")).text
        assert "ann" in (await bob.get("/v1/radar")).text
        shake = (await bob.post("/v1/shakes", json=POINT, headers={"Idempotency-Key": "s"})).json()
        assert [match["user"] for match in shake["matches"]] == ["ann"]
        answer = await erase(world, "ann")
        assert answer["erased_by"].endswith("Z")
        for each, path in ((cleo, "/v1/nearby"), (bob, "/v1/nearby"), (bob, "/v1/radar"), (bob, "/v1/me/bottles")):
            told = await each.get(path)
            assert told.status_code == 200
            assert "ann" not in told.text, path
        assert "ann" not in (await bob.get(f"/v1/shakes/{shake['shake_id']}")).text
        friends = (await bob.get("/v1/me/friends")).json()["friends"]
        assert [(row["user"], row["state"], row["shows_me"]) for row in friends] == [("ann", "requested", None)]
        mine = (await bob.get("/v1/me/bottles")).json()["bottles"]
        for row in mine:
            bottle = (await bob.get(f"/v1/bottles/{row['bottle_id']}")).json()
            assert "ann" not in str(bottle)
            assert "bob" in str(bottle), "the other keeps the own words"
        picked = (await cleo.post("/v1/bottles/pick", headers={"Idempotency-Key": "p"})).json()
        assert picked["bottle"] is None, "the bottle that nobody picked left the sea"


async def test_tokens_made_before_hold_no_more(world: World) -> None:
    await world.place("ann", *PARIS)
    await erase(world, "ann")
    async with world.client("ann") as ann, later(world, "ann") as new:
        for path in ("/v1/me/settings", "/v1/me/friends", "/v1/nearby", "/v1/me/export"):
            answer = await ann.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "erased"), path
        answer = await ann.put("/v1/me/position", json=POINT)
        assert (answer.status_code, answer.json()["code"]) == (401, "erased")
        assert (await ann.delete("/v1/me?confirm=ann")).status_code == 401
        assert (await new.get("/v1/me/settings")).json()["visibility"] == "nobody"
        assert (await new.get("/v1/me/position")).status_code == 404


async def test_a_second_erasure_takes_what_came_since_whatever_the_clock_says(world: World) -> None:
    """The standing one is of a clock that was ahead; a repeat of that one, from a log or after a failover, is none."""
    hive = world.hive
    hive.lives.admit_nobody()
    await world.place("ann", *PARIS)
    ahead_ms = int(1000 * time.time()) + 20_000
    await hive.erasure.erase("ann", ahead_ms)
    async with later(world, "ann") as ann, world.operator() as app:
        assert (await ann.put("/v1/me/position", json=POINT)).status_code == 200
        hive.lives.admit_nobody()
        await hive.erasure.erase_again("ann", ahead_ms)
        assert (await ann.get("/v1/me/position")).status_code == 200
        assert (await app.delete("/v1/app/users/ann")).status_code == 202, "of now, 20 s before the one that stands"
        hive.lives.admit_nobody()
        assert hive.people.is_gone("ann")
        assert (hive.people.tombstone("ann").at_ms, hive.people.life("ann")) == (ahead_ms + 1, 2)  # type: ignore[union-attr]
    assert "{s00}:p:ann" not in await holders_of(world, "ann")


async def test_confirm_must_be_the_own_id(world: World) -> None:
    await world.place("ann", *PARIS)
    async with world.client("ann") as ann:
        assert (await ann.delete("/v1/me")).status_code == 422
        assert (await ann.delete("/v1/me?confirm=bob")).status_code == 422
        assert (await ann.get("/v1/me/position")).status_code == 200


async def test_a_new_person_under_the_id_begins_with_nothing(world: World) -> None:
    """Friends of the old one have to ask anew; who blocked the id stays blocked; the same keys do other acts."""
    await full_life(world)
    async with world.client("cleo") as cleo:
        await cleo.put("/v1/me/blocks/ann")
    await erase(world, "ann")
    async with later(world, "ann") as ann, world.client("bob") as bob:
        assert (await ann.get("/v1/me/friends")).json() == {"friends": []}, "what bob showed was for somebody else"
        assert (await ann.get("/v1/me/blocks")).json()["blocks"] == []
        assert (await ann.put("/v1/me/position", json={"lat": 48.9, "lon": 2.4})).status_code == 200
        assert (await ann.put("/v1/me/friends/bob")).json()["state"] == "requested"
        assert (await bob.get("/v1/me/friends")).json()["friends"][0]["state"] == "incoming"
        await world.later(1000)
        assert (await bob.put("/v1/me/friends/ann")).json()["state"] == "accepted"
        await ann.patch("/v1/me/settings", json={"visibility": "everyone", "bottles": "on"})
        thrown = await ann.post("/v1/bottles", json={"text": "new words"}, headers={"Idempotency-Key": "t1"})
        assert thrown.json()["throws_left"] == 17, "the day's throws are of the human"
        shaken = await ann.post("/v1/shakes", json=POINT, headers={"Idempotency-Key": "s"})
        assert (shaken.status_code, shaken.json()["state"]) == (201, "waiting")
    async with world.client("cleo") as cleo:
        assert "ann" not in (await cleo.get("/v1/nearby")).text


async def test_the_new_person_is_shown_at_the_new_place_at_once(world: World) -> None:
    await world.place("ann", *PARIS)
    await world.place("bob", 48.95, 2.3522)  # 10 km north
    async with world.client("bob") as bob:
        before = (await bob.get("/v1/nearby?radius_m=20000")).json()["people"]
        await erase(world, "ann")
        async with later(world, "ann") as ann:
            assert (await ann.put("/v1/me/position", json={"lat": 48.95, "lon": 2.3522})).status_code == 200
            assert (await ann.patch("/v1/me/settings", json={"visibility": "everyone"})).status_code == 200
        after = (await bob.get("/v1/nearby?radius_m=20000")).json()["people"]
    assert [row["distance_min_m"] for row in before] == [10_000] or before[0]["distance_min_m"] >= 5000
    assert [row["distance_max_m"] for row in after] == [3000]


async def test_only_what_others_typed_keeps_the_id(world: World) -> None:
    await full_life(world)
    assert len(await holders_of(world, "ann")) > 8
    await erase(world, "ann")
    held = [name for name in await holders_of(world, "ann") if name not in ("{s00}:feed", "{shake}:feed")]
    assert held == ["{s00}:erasing", "{s00}:f:bob"], "bob's own half, and the job that the leader ends"
    assert await holders_of(world, "words of ann") == []


async def test_the_apps_backend_erases_and_does_not_revive(world: World) -> None:
    await world.place("ann", *PARIS)
    async with world.operator() as operator:
        assert (await operator.delete("/v1/app/users/ann")).status_code == 202
        assert (await operator.delete("/v1/app/users/nobody-ever")).status_code == 202
        rows = {"positions": [{"user": "ann", **POINT}, {"user": "bob", **POINT}]}
        answer = (await operator.post("/v1/app/positions", json=rows)).json()
        assert (answer["accepted"], [row["code"] for row in answer["rejected"]]) == (1, ["erased"])
        pairs = {"pairs": [{"a": "ann", "b": "bob", "op": "add", "guardian": True}]}
        answer = (await operator.post("/v1/app/friendships", json=pairs)).json()
        assert answer == {"applied": 0, "skipped": [{"index": 0, "code": "erased"}]}
        assert await world.state.call("EXISTS", "{s00}:f:ann") == 0
        assert (await operator.put("/v1/app/users/ann", json={"age": "adult"})).status_code == 200
        assert (await operator.post("/v1/app/positions", json=rows)).json()["accepted"] == 2
        assert (await operator.post("/v1/app/friendships", json=pairs)).json()["applied"] == 1


async def test_what_was_under_way_changes_nothing(world: World) -> None:
    """Each kind of act, begun before the erasure and written after it."""
    await full_life(world)
    hive = world.hive
    late = asyncio.Event()

    async def act(call: Any) -> Any:
        hive.lives.admit("ann", int(1000 * time.time()))
        await late.wait()
        return await asyncio.gather(call(), return_exceptions=True)

    acts = [
        asyncio.create_task(act(call))
        for call in (
            lambda: hive.settings.change("ann", visibility="everyone", claim="adult"),
            lambda: hive.safety.block("ann", "fred"),
            lambda: hive.friends.show("ann", "fred", "area", None, "adult"),
            lambda: hive.positions.clear("ann"),
            lambda: hive.bottles.throw("ann", "late", "late words", None),
            lambda: hive.bottles.pick("ann", "late"),
            lambda: hive.positions.report("ann", _point(), 7200, "adult"),
        )
    ]
    await asyncio.sleep(0)
    await erase(world, "ann")
    async with later(world, "ann") as ann:  # even for who comes anew at once
        assert (await ann.put("/v1/me/position", json={"lat": 10.0, "lon": 10.0})).status_code == 200
        before = await world.state.call("HGETALL", "{s00}:p:ann")
        late.set()
        for task in acts:
            (result,) = await task
            assert type(result).__name__ == "Erased", result
        assert await world.state.call("HGETALL", "{s00}:p:ann") == before
        assert await world.state.call("EXISTS", "{s00}:f:ann", "{s00}:x:ann", "{sea}:mine:ann") == 0
        export = (await ann.get("/v1/me/export")).json()["parts"]
        assert export["position"]["pending"] == export["position"]["friends_at_most"]


def _point() -> Any:
    return ExactPoint.of(*PARIS, None, "wgs84")


async def test_an_answer_that_was_being_made_is_not_given(world: World) -> None:
    """A long poll of the person themselves."""
    await world.place("ann", *PARIS)
    async with world.client("ann") as ann:
        shake = (await ann.post("/v1/shakes", json=POINT, headers={"Idempotency-Key": "s"})).json()
        polling = asyncio.create_task(ann.get(f"/v1/shakes/{shake['shake_id']}?wait_s=2"))
        await asyncio.sleep(0.05)
        await erase(world, "ann")
        answer = await polling
    assert (answer.status_code, answer.json()["code"]) == (401, "erased")


async def test_export_has_everything(world: World) -> None:
    await full_life(world)
    async with world.client("ann") as ann:
        answer = await ann.get("/v1/me/export")
        assert answer.status_code == 200, answer.text
        told = answer.json()
        parts = told["parts"]
        assert told["user"] == "ann"
        assert parts["record"]["consent"]["version"] == "v7"
        assert parts["position"]["live"] is True
        assert {row["user"]: row["precision"] for row in parts["friends"]} == {"bob": "area", "dora": "area"}
        assert parts["blocks"] == ["dave"]
        assert {row["text"] for row in parts["bottles"] if row["role"] == "thrown"} == {
            "words of ann 1",
            "words of ann 2",
        }
        picked = [row for row in parts["bottles"] if row["role"] == "picked"]
        assert [(row["text"], [reply["text"] for reply in row["replies"]]) for row in picked] == [
            (None, ["ann answers"])
        ]
        assert "bob answers" not in answer.text, "never others' words"
        assert parts["bottle_quota"]["throws"] == 2
        assert len(parts["bottles_seen"]) == 3
        assert len(parts["shakes"]) == 1
        assert [row["operation"] for row in parts["idempotency_keys"]] == ["op:shake"]
        assert (await world.hive.export.of("ann"))["kept"].keys() == {*People.FOLDED, *Presence.FOLDED}
        await ann.delete("/v1/me/position")
        cleared = (await ann.get("/v1/me/export")).json()["parts"]["position"]
        assert (cleared["live"], cleared["friends_at_most"]) == (False, parts["position"]["friends_at_most"])


async def test_consent_is_recorded_and_export_of_nobody_is_empty(world: World) -> None:
    async with world.client("zoe") as zoe:
        parts = (await zoe.get("/v1/me/export")).json()["parts"]
    assert all(not value for name, value in parts.items() if name != "settings"), parts


HELD = {
    # function of keys.py that names a person -> parts of the export that have it, and how an erasure ends it
    "Shards.person": ({"record", "settings"}, "at once"),
    "Shards.friend_halves": ({"friends", "precise_shares"}, "at once"),
    "Shards.blocks": ({"blocks"}, "at once"),
    "Shards.mutes": ({"mutes"}, "at once"),
    "Shards.operation": ({"idempotency_keys"}, "at once"),
    "Shards.operations": ({"idempotency_keys"}, "at once"),
    "Shards.reports": ({"reports"}, "at once"),
    "Shards.case": ({"appeal"}, "the own appeal at once; what others reported is evidence, kept 90 days and not shown"),
    "sea_seen": ({"bottles_seen"}, "at once"),
    "sea_mine": ({"bottles"}, "at once"),
}
INSIDE = {
    # function of keys.py whose content names people -> how it forgets who was erased
    "feed": "trimmed within 30 s; shakes lose the name in theirs",
    "feed_copy": "names but who was erased, for the seconds of writing the feed anew",
    "checkpoint_chunk": "written anew within 30 s",
    "erasing": "a job, done within 30 s",
    "tombstones": "a keyed hash alone, kept",
    "requests": "named by a keyed hash; goes after two days, so that an erasure does not bring back the day's requests",
    "sea_quota": "named by a keyed hash; goes after the day, likewise",
    "sea_bottle": "the name at once; one that nobody answered goes whole",
    "sea_replies": "the own words at once",
    "sea_holds": "at once: bottles alone",
    "sea_withheld": "the name at once",
    "sea_case": "evidence, kept 90 days and not shown",
    "cases": "until a moderator decides about what others reported",
    "moderation_log": "decisions, a year",
    "report_target": "evidence, kept 90 days and not shown",
}
NOBODY = (
    {"world", "workers", "demo_ready", "feed_lock", "leader", "fence", "leases", "checkpoint"}
    | {"sea_index", "sea_ends", "sea_operation"}
    | {"brands", "stores_changing", "brand_meta", "brand_keys", "brand_versions", "brand_current", "brand_chunk"}
    | {"brand_zones", "brand_zone_order", "brand_usage"}
    | {"demand_key", "demand_days", "demand_counts", "demand_searchers", "demand_rows"}
)


def test_every_record_of_a_person_is_exported_and_erased(world: World) -> None:
    """A new key fails here until it has its row; one that names a person below, too, until it is erased."""
    naming = {name for name, each in functions().items() if {"user", "person"} & set(arguments(each))}
    assert naming == HELD.keys()
    assert functions().keys() - naming == INSIDE.keys() | NOBODY
    parts = set().union(*(parts for parts, _ in HELD.values()))
    assert parts <= world.hive.export.readers.keys()


@pytest.mark.parametrize("name", sorted(HELD.keys() - {"Shards.operation"}))
async def test_whoever_has_any_record_is_found_when_the_log_says_they_were_erased(world: World, name: str) -> None:
    """After an older copy was put back; operations are found by their list."""
    values = dict.fromkeys(arguments(functions()[name]), "lonely")
    await world.state.call("SET", named(name, world.hive.shards, values), "")
    tombstone = world.hive.people.tombstones.name("lonely")
    assert await world.hive.erasure._users_like([tombstone]) == {"lonely"}


async def test_what_one_keeps_to_oneself_is_exported_and_goes(world: World) -> None:
    """Mutes, quiet zones, exact shares, reports, an appeal, and whom one was shown and asked."""
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    in_an_hour = datetime.fromtimestamp((world.now_ms + HOUR_MS) / 1000, UTC).isoformat()
    zone = cells.to_hex(cells.cell_of(48.0, 2.0, 5))
    await world.befriend("ann", "bob", "near")
    hive = world.hive
    async with world.client("ann") as ann, world.operator() as app:
        precise = {"precision": "precise", "until": in_an_hour}
        assert (await ann.put("/v1/me/friends/bob", json=precise)).status_code == 200
        assert (await ann.patch("/v1/me/settings", json={"quiet_zones": [zone]})).status_code == 200
        assert (await ann.put("/v1/me/mutes/carl")).status_code == 204
        report = {"target": {"type": "user", "id": "bob"}, "reason": "spam", "note": "said by ann"}
        assert (await ann.post("/v1/reports", json=report, headers={"Idempotency-Key": "r"})).status_code == 202
        closed = {"suspended": [{"feature": "radar", "until": in_an_hour}]}
        assert (await app.put("/v1/app/users/ann", json=closed)).status_code == 200
        assert (await ann.post("/v1/me/appeal", json={"text": "why, asks ann"})).status_code == 202
        await RequestQuota(hive.people, hive.writer, on=True).take("ann", "dora")
        Exposure(hive.people).count(Look("ann", world.now_ms, True, 77, ("bob",)))
        parts = (await ann.get("/v1/me/export")).json()["parts"]
        assert parts["settings"]["quiet_zones"] == [zone]
        assert [row["feature"] for row in parts["settings"]["suspensions"]] == ["radar"]
        assert parts["precise_shares"] == ["bob"]
        assert parts["mutes"] == ["carl", "bob"]
        assert [(row["target"], row["note"]) for row in parts["reports"]] == [("u:bob", "said by ann")]
        assert parts["appeal"] == "why, asks ann"
        assert parts["friend_requests"] == 1
        assert (parts["kept"]["looks"], parts["kept"]["cell_mark"]) != (0, 0)
    await erase(world, "ann")
    async with later(world, "ann") as new:
        parts = (await new.get("/v1/me/export")).json()["parts"]
    assert all(not parts[name] for name in ("precise_shares", "mutes", "reports", "appeal"))
    assert parts["friend_requests"] == 1, "of the day, by a keyed name"
    assert parts["settings"]["quiet_zones"] == []
    assert [row["feature"] for row in parts["settings"]["suspensions"]] == ["radar"], (
        "until its end, under a keyed name"
    )
    assert hive.people.shown == {}
    for words in ("said by ann", "why, asks ann", "carl", "dora"):
        held = [name for name in await holders_of(world, words) if not name.endswith(":feed")]
        assert held == (["{s00}:case:bob"] if words == "said by ann" else []), "of what was reported, the evidence"
    held = [name for name in await holders_of(world, "ann") if not name.endswith((":feed", ":erasing"))]
    assert held == ["{s00}:case:bob", "{s00}:f:bob"], "nobody reported ann: her case is gone with her appeal"


async def shaken(world: World, user: str, key: str) -> int:
    async with later(world, user) as own:
        answer = await own.post("/v1/shakes", json=POINT, headers={"Idempotency-Key": key})
    if answer.status_code == 403:
        assert answer.json()["code"] == "suspended"
    return answer.status_code


def started_anew(world: World) -> tuple[People, list[str]]:
    """From the checkpoint alone, as a worker that never heard the ids; and the ids in the checkpoint."""
    sharded, people = world.hive._sharded, People(world.hive.sealer, require_age=True)
    packed = unpack(pack(state_of(sharded.snapshot(0, world.hive.feeds.followers[0].place, sharded.room(0)))))
    blocks = Blocks(people)
    presence = Presence(people, world.hive.sealer.epoch_key)
    ShardedPeople(people, presence, Friendships(people, blocks), blocks).load(packed)
    return people, [*packed.ids, *packed.mentioned]


async def test_who_is_banned_does_not_get_rid_of_it_by_an_erasure(world: World) -> None:
    """A hold of moderation, an end by the app: they last to their ends, by a keyed name alone."""
    hive = world.hive
    for user in ("ann", "bob"):
        await world.place(user, *PARIS)
    for key, in_ms in ((HOLD, 3 * HOUR_MS), (by_moderator("radar"), HOUR_MS)):
        await hive.settings.moderate("ann", {key: world.now_ms + in_ms})
    await erase(world, "ann")
    assert [name for name in await holders_of(world, "ann") if not name.endswith((":feed", ":erasing"))] == []
    assert hive.people.withheld_bottles.at(world.now_ms).users == frozenset(), "no bottle is theirs"
    people, ids = started_anew(world)
    assert "ann" not in ids
    assert people.slot("ann") is None
    assert dict(people.closed_to("ann")) == dict(hive.people.closed_to("ann")) != {}
    assert people.withheld_bottles.at(world.now_ms) == hive.people.withheld_bottles.at(world.now_ms)

    assert await shaken(world, "ann", "1") == 403
    async with later(world, "ann") as ann, world.client("bob") as bob:
        await ann.put("/v1/me/position", json=POINT)
        assert (await ann.patch("/v1/me/settings", json={"visibility": "everyone", "bottles": "on"})).is_success
        for path in ("/v1/nearby", "/v1/radar"):
            assert (await ann.get(path)).status_code == 403, path
        assert (await bob.get("/v1/nearby")).json()["people"] == []
    assert hive.people.withheld_bottles.at(world.now_ms).users == {"ann"}
    people, ids = started_anew(world)
    assert "ann" in ids
    slot = people.slot("ann")
    assert slot is not None
    assert people.suspensions[slot] == hive.people.closed_to("ann")
    assert people.tombstones.rows(0) == hive.people.tombstones.rows(0), "it stands in one place"
    assert people.withheld_bottles.at(world.now_ms) == hive.people.withheld_bottles.at(world.now_ms)
    await hive.settings.moderate("ann", {HOLD: 0})
    assert await shaken(world, "ann", "2") == 201
    assert not started_anew(world)[0].suspended(slot, "shake", world.now_ms), "what was lifted is lifted"


async def test_a_suspension_that_has_ended_leaves_nothing(world: World) -> None:
    await world.place("ann", *PARIS)
    await world.hive.settings.moderate("ann", {by_moderator("shake"): world.now_ms + HOUR_MS})
    await erase(world, "ann")
    assert len(started_anew(world)[0].tombstones.rows(0)[0]) == 5
    await world.later(2 * HOUR_MS)
    assert await shaken(world, "ann", "1") == 201
    assert [len(row) for row in started_anew(world)[0].tombstones.rows(0)] == [4]


async def test_moderators_decide_about_who_was_erased_and_write_no_record(world: World) -> None:
    await world.place("ann", *PARIS)
    await world.hive.settings.moderate("ann", {HOLD: world.now_ms + HOUR_MS})
    await erase(world, "ann")
    people = world.hive.people
    world.hive.lives.admit_nobody()  # as in a request of its own
    await world.hive.settings.moderate("ann", {HOLD: 0, by_moderator("nearby"): world.now_ms + HOUR_MS})
    assert await world.state.call("EXISTS", "{s00}:p:ann") == 0
    assert people.is_gone("ann")
    assert "ann" not in started_anew(world)[1]
    assert dict(started_anew(world)[0].closed_to("ann")) == {by_moderator("nearby"): world.now_ms + HOUR_MS}
    assert await shaken(world, "ann", "1") == 201
    async with later(world, "ann") as ann:
        assert (await ann.get("/v1/nearby")).json()["code"] == "suspended"
        assert (await ann.delete("/v1/me?confirm=ann")).status_code == 202
    assert dict(people.closed_to("ann")) == {by_moderator("nearby"): world.now_ms + HOUR_MS}, "in every life"


async def test_an_erasure_does_not_bring_back_what_a_day_allows(world: World) -> None:
    """Throws, picks and friend requests; and the account is new again."""
    quota = RequestQuota(world.hive.people, world.hive.writer, on=True)
    for life in range(2):
        async with client(world, "ann", time.time() + 30 * life) as ann:
            assert (await ann.patch("/v1/me/settings", json={"bottles": "on"})).is_success
            for number in range(10):
                key = {"Idempotency-Key": f"t{number}"}
                assert (await ann.post("/v1/bottles", json={"text": "words"}, headers=key)).status_code == 201
                await quota.take("ann", f"somebody {life} {number}")
            if life == 0:
                assert (await ann.delete("/v1/me?confirm=ann")).status_code == 202
    async with client(world, "ann", time.time() + 30) as ann:
        answer = await ann.post("/v1/bottles", json={"text": "words"}, headers={"Idempotency-Key": "more"})
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    with pytest.raises(RequestsUsedUp):
        await quota.take("ann", "one more")
    left = [name for name in await holders_of(world, "ann") if "rq:" in name or "quota:" in name]
    assert left == [], "by keyed names"


async def test_counters_that_an_earlier_version_named_by_ids_go(world: World) -> None:
    """As they stand for up to two days after an upgrade; of the human behind the account, too."""
    await world.place("ann", *PARIS)
    await world.hive.settings.note_person("ann", "P")
    names = [of(person) for person in ("ann", "person P") for of in (keys.sea_quota, partial(keys.requests, "s00"))]
    for name in names:
        await world.state.call("HSET", name, "day", 1)
    await erase(world, "ann")
    assert [name for name in names if await world.state.call("EXISTS", name)] == []


async def test_every_folded_fact_goes(world: World) -> None:
    """Whatever column there is or comes."""
    await full_life(world)
    slot = world.hive.people.slot("ann")
    assert slot is not None
    for part in (world.hive.people, world.hive.presence):
        for name in part.FOLDED:
            getattr(part, name)[slot] = 1
    await erase(world, "ann")
    for part in (world.hive.people, world.hive.presence):
        for name in part.FOLDED:
            assert getattr(part, name)[slot] == 0, name
    sharded = world.hive._sharded
    taken = state_of(sharded.snapshot(0, world.hive.feeds.followers[0].place, sharded.room(0)))
    assert "ann" not in taken.ids
    assert "ann" in taken.mentioned, "by bob's own half"


async def test_an_erasure_is_kept_by_who_starts_anew(world: World, tmp_path: Any) -> None:
    """From the checkpoint and the tail, with the tombstone in either."""
    await full_life(world)
    await erase(world, "ann")
    async with open_world(world.state, tmp_path / "second", world.now_ms + HOUR_MS) as second:
        assert second.hive.people.is_gone("ann")
        assert not second.hive.people.is_gone("bob")
        with pytest.raises(Erased):
            second.hive.lives.admit("ann", int(1000 * time.time()) - 1000)


async def test_a_tombstone_names_nobody(world: World) -> None:
    await erase(world, "ann")
    (name,) = (each.decode() for each in await world.state.call("HKEYS", keys.tombstones("s00")))
    assert name == world.hive.people.tombstones.name("ann")
    assert "ann" not in name
