"""Reports, holds, moderators' decisions, appeals and mutes, over HTTP on one hive."""

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from api.main import create_admin_app
from api.settings import BadSettings, read_settings
from discovery.export import _day_after
from discovery.mutes import MAX_MUTES
from discovery.shard_packing import pack, unpack
from discovery.shard_state import state_of
from discovery.store import keys
from discovery.suspensions import HOLD, WITHOUT_END_MS
from tests.world import HOUR_MS, PARIS, STRANGER_EPOCH_MS, World

REPORTERS = ("rita", "rolf", "rosa")


class Town:
    """A world with people in Paris who see everybody, and the moderators' port."""

    def __init__(self, world: World) -> None:
        self.world = world
        assert world.settings.admin_key is not None
        headers = {"X-API-Key": world.settings.admin_key.get_secret_value()}
        transport = httpx2.ASGITransport(app=create_admin_app(world.hive, world.settings))
        self.admin = httpx2.AsyncClient(transport=transport, base_url="http://admin", headers=headers)
        self.keys = 0

    async def ask(self, user: str, method: str, path: str, body: Any = None, key: str = "") -> httpx2.Response:
        self.keys += 1
        async with self.world.client(user) as client:
            headers = {"Idempotency-Key": key or f"key-{self.keys}"}
            more = {} if body is None else {"json": body}
            return await client.request(method, path, headers=headers, **more)

    async def report(self, user: str, kind: str, target: str, key: str = "", **more: str) -> httpx2.Response:
        body = {"target": {"type": kind, "id": target}, "reason": "spam", **more}
        return await self.ask(user, "POST", "/v1/reports", body, key)

    async def decide(self, report_id: str, action: str, **more: str) -> httpx2.Response:
        return await self.admin.post(f"/v1/moderation/{report_id}", json={"action": action, **more})

    async def queue(self) -> list[dict[str, Any]]:
        answer = await self.admin.get("/v1/moderation/queue")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["cases"])

    async def nearby(self, user: str) -> list[str]:
        answer = await self.ask(user, "GET", "/v1/nearby?radius_m=3000&limit=100")
        assert answer.status_code == 200, answer.text
        return sorted(row["user"] for row in answer.json()["people"])

    async def throw(self, user: str, text: str = "hello") -> str:
        await self.ask(user, "PATCH", "/v1/me/settings", {"bottles": "on"})
        answer = await self.ask(user, "POST", "/v1/bottles", {"text": text})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["bottle_id"])

    async def pick(self, user: str) -> str | None:
        await self.ask(user, "PATCH", "/v1/me/settings", {"bottles": "on"})
        answer = await self.ask(user, "POST", "/v1/bottles/pick")
        assert answer.status_code == 200, answer.text
        bottle = answer.json()["bottle"]
        return None if bottle is None else str(bottle["bottle_id"])

    async def held_bottle(self, author: str = "ann") -> tuple[str, str]:
        """A bottle that three people picked and reported, one after the other, and the last report's id."""
        bottle_id = await self.throw(author)
        for user in REPORTERS:
            assert await self.pick(user) == bottle_id
            report = await self.report(user, "bottle", bottle_id)
        return bottle_id, report.json()["report_id"]

    async def held_user(self, user: str = "ann") -> str:
        for reporter in REPORTERS:
            answer = await self.report(reporter, "user", user)
        return str(answer.json()["report_id"])


@pytest_asyncio.fixture
async def town(world: World) -> AsyncIterator[Town]:
    made = Town(world)
    for user in ("ann", "bob", *REPORTERS):
        await world.place(user, *PARIS)
    yield made
    await made.admin.aclose()


# --- reports of people ---


async def test_who_reports_no_longer_sees_the_person_and_others_do(town: Town) -> None:
    assert "ann" in await town.nearby("bob")
    answer = await town.report("bob", "user", "ann", note="rude")
    assert answer.status_code == 202
    assert "ann" not in await town.nearby("bob")
    assert "ann" in await town.nearby("rita")
    assert "bob" in await town.nearby("ann"), "who is reported notices nothing"


async def test_a_report_is_one_for_each_human_and_target(town: Town) -> None:
    first = await town.report("bob", "user", "ann", key="a")
    assert (await town.report("bob", "user", "ann", key="a")).content == first.content
    assert (await town.report("bob", "user", "ann", key="b", note="again")).content == first.content
    reused = await town.report("bob", "user", "rita", key="a")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    case = (await town.queue())[0]
    assert (case["reporters"], case["reasons"], case["on_hold"]) == (1, {"spam": 1}, False)
    assert case["notes"] == []


async def test_two_accounts_of_one_human_count_once(town: Town) -> None:
    for user, person in (("bob", "human"), ("bob2", "human"), ("rita", "other")):
        await town.world.hive.settings.note_person(user, person)
    for user in ("bob", "bob2", "rita"):
        await town.report(user, "user", "ann")
    assert [(case["reporters"], case["on_hold"]) for case in await town.queue()] == [(2, False)]
    assert "ann" in await town.nearby("rolf")


async def test_the_answer_is_the_same_for_every_target(town: Town) -> None:
    """Itself, unknown, never held: the same bytes but for the id, which is a keyed hash."""
    bottle_id = await town.throw("ann")
    answers = [
        await town.report("bob", "user", "ann"),
        await town.report("bob", "user", "bob"),
        await town.report("bob", "user", "nobody-knows"),
        await town.report("bob", "bottle", bottle_id),
        await town.report("bob", "bottle", "0" * 32),
        await town.report("bob", "bottle", "no-bottle-at-all"),
    ]
    assert {(answer.status_code, len(answer.content)) for answer in answers} == {(202, len(answers[0].content))}
    assert {tuple(sorted(answer.headers.keys())) for answer in answers} == {tuple(sorted(answers[0].headers.keys()))}
    assert [case["target"] for case in await town.queue()] == [{"type": "user", "id": "ann"}]
    for answer in answers[1:]:
        assert (await town.decide(answer.json()["report_id"], "dismiss")).status_code == 404


async def test_a_report_of_nobody_takes_the_same_work_and_leaves_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its time would tell who is hidden from who was erased or never came: it was half as long."""
    hive = town.world.hive
    await town.ask("ann", "PATCH", "/v1/me/settings", {"visibility": "nobody"})
    await town.report("rita", "user", "rosa")  # so that one case of somebody erased stands
    await hive.erasure.erase("rosa", 1)
    done: list[str] = []
    asking = ContextVar("asking", default=False)  # tasks that keep leases and follow feeds were begun outside
    asking.set(True)
    real_run, real_call = hive.state.run, hive.state.call

    async def run(script: Any, *args: Any, **more: Any) -> Any:
        if asking.get():
            done.append(script.name)
        return await real_run(script, *args, **more)

    async def call(*command: Any, **more: Any) -> Any:
        if asking.get():
            done.append(command[0])
        return await real_call(*command, **more)

    monkeypatch.setattr(hive.state, "run", run)
    monkeypatch.setattr(hive.state, "call", call)
    work = {}
    for target in ("ann", "rosa", "nobody-knows"):
        done.clear()
        assert (await town.report("bob", "user", target)).status_code == 202
        work[target] = done.copy()
    assert work["ann"] == work["rosa"] == work["nobody-knows"] != []
    for target, reports in (("ann", 1), ("rosa", 1), ("nobody-knows", 0)):
        case = await real_call("HGETALL", hive.shards.case(target))
        assert sum(name.startswith(b"r:") for name in case[::2]) == reports
        assert (await real_call("ZSCORE", keys.cases("s00"), f"u:{target}") is None) == (reports == 0)


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_hold_in_a_race_with_an_erasure_writes_no_record_of_who_was_erased(
    town: Town, comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reporter in REPORTERS[:2]:
        assert (await town.report(reporter, "user", "ann")).status_code == 202
    name_case = town.world.hive.reports._name_case

    async def late(*report: Any, **more: Any) -> None:
        await name_case(*report, **more)
        act = asyncio.create_task(town.ask("ann", "DELETE", "/v1/me?confirm=ann"))  # a task, for a request of its own
        assert (await act).status_code == 202
        if comes_back:
            await town.world.hive.settings.note_person("ann", "somebody")

    monkeypatch.setattr(town.world.hive.reports, "_name_case", late)
    assert (await town.report(REPORTERS[2], "user", "ann")).status_code == 202
    record = await town.world.state.call("HGETALL", "{s00}:p:ann")
    assert (HOLD.encode() in record, bool(record)) == (comes_back, comes_back)
    assert (HOLD in town.world.hive.people.closed_to("ann")) == comes_back


async def test_three_humans_put_a_person_on_hold_until_a_moderator_decides(town: Town) -> None:
    await town.report("rita", "user", "ann")
    await town.report("rolf", "user", "ann")
    assert "ann" in await town.nearby("bob")
    report_id = (await town.report("rosa", "user", "ann")).json()["report_id"]
    assert "ann" not in await town.nearby("bob")
    for path, body in (("/v1/bottles", {"text": "x"}), ("/v1/shakes", {"lat": 1, "lon": 1})):
        refused = await town.ask("ann", "POST", path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "suspended")
    assert (await town.ask("ann", "GET", "/v1/radar?radius_m=1000")).status_code == 200, "friends are no strangers"
    case = (await town.queue())[0]
    assert (case["reporters"], case["on_hold"], case["overdue"]) == (3, True, False)
    assert (await town.decide(report_id, "dismiss")).status_code == 200
    assert "ann" in await town.nearby("bob")
    assert await town.queue() == []
    assert "ann" not in await town.nearby("rosa"), "who reported still does not want to see them"


async def test_an_export_tells_the_day_of_a_hold_and_no_moment_in_it(town: Town) -> None:
    """Two runs of a day in which the third report comes at another moment export the same ends."""
    world, day_ms = town.world, 24 * HOUR_MS
    ends = []
    for user, moment_ms in (("ann", 3_600_001), ("bob", 8 * HOUR_MS + 17)):
        await world.at((world.now_ms // day_ms + (user == "ann")) * day_ms + moment_ms)
        await town.held_user(user)
        report_id = (await town.queue())[-1]["report_id"]
        assert (await town.decide(report_id, "suspend", feature="nearby")).status_code == 200
        await world.hive.settings.moderate(user, {HOLD: world.now_ms + WITHOUT_END_MS})
        parts = (await town.ask(user, "GET", "/v1/me/export")).json()["parts"]
        told = {row["feature"]: row["until"] for row in parts["settings"]["suspensions"]}
        assert set(told) == {"hold", "moderator nearby"}
        stored = {name: parts["record"][name] for name in told}
        assert all(end_ms % day_ms == 0 and end_ms > world.now_ms + WITHOUT_END_MS for end_ms in stored.values())
        assert all(until.endswith("T00:00:00Z") for until in told.values())
        ends.append((told, stored))
    assert ends[0] == ends[1]
    assert _day_after(day_ms) == day_ms


async def test_a_hold_hides_what_floats_and_freezes_threads(town: Town) -> None:
    thread = await town.throw("ann")
    assert await town.pick("bob") == thread
    assert (await town.ask("bob", "POST", f"/v1/bottles/{thread}/replies", {"text": "hi"})).status_code == 201
    await town.throw("ann")
    report_id = await town.held_user()
    assert await town.pick("rita") is None
    assert (await town.ask("bob", "GET", f"/v1/bottles/{thread}")).status_code == 404
    await town.decide(report_id, "lift")
    assert await town.pick("bob") is not None
    assert (await town.ask("bob", "GET", f"/v1/bottles/{thread}")).status_code == 200


async def test_a_hold_outlives_a_restart_from_a_checkpoint(town: Town) -> None:
    await town.held_user()
    await town.ask("bob", "PUT", "/v1/me/mutes/rolf")
    hive = town.world.hive
    follower = hive.feeds.followers[0]
    packed = pack(state_of(hive._sharded.snapshot(0, follower.place, hive._sharded.room(0))))
    hive._sharded.drop(0)
    assert hive.people.mutes.standing() == {}
    hive._sharded.load(unpack(packed))
    assert "ann" not in await town.nearby("bob")
    assert "rolf" not in await town.nearby("bob")


async def test_reports_of_a_day_are_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.hive.reports, "_per_day", 2)
    town = Town(world)
    assert [(await town.report("bob", "user", name)).status_code for name in "xyz"] == [202, 202, 429]
    assert (await town.report("bob", "user", "x")).status_code == 202, "a repeat needs no quota"
    refused = await town.report("bob", "user", "z")
    assert refused.json()["code"] == "quota_exceeded"
    assert int(refused.headers["Retry-After"]) <= 86_400
    await town.admin.aclose()


async def test_reporters_at_once_make_one_hold(town: Town) -> None:
    answers = await asyncio.gather(*(town.report(user, "user", "ann") for user in REPORTERS for _ in range(3)))
    assert {answer.status_code for answer in answers} == {202}
    assert [(case["reporters"], case["on_hold"]) for case in await town.queue()] == [(3, True)]


# --- reports of bottles ---


async def test_a_reported_bottle_goes_back_to_the_sea_and_not_to_the_reporter(town: Town) -> None:
    bottle_id = await town.throw("ann")
    assert await town.pick("rita") == bottle_id
    assert (await town.report("rita", "bottle", bottle_id)).status_code == 202
    assert (await town.ask("rita", "GET", f"/v1/bottles/{bottle_id}")).status_code == 404
    assert (await town.ask("rita", "GET", "/v1/me/bottles")).json()["bottles"] == []
    assert await town.pick("rolf") == bottle_id


async def test_only_who_held_a_bottle_counts(town: Town) -> None:
    bottle_id = await town.throw("ann")
    for user in ("bob", "rita", "rolf", "rosa", "ann"):
        assert (await town.report(user, "bottle", bottle_id)).status_code == 202
    assert await town.queue() == []
    assert await town.pick("bob") == bottle_id


async def test_three_holders_take_a_bottle_out_of_the_sea(town: Town) -> None:
    bottle_id, report_id = await town.held_bottle()
    assert await town.pick("bob") is None
    mine = (await town.ask("ann", "GET", "/v1/me/bottles")).json()["bottles"]
    assert [one["state"] for one in mine] == ["floating"], "the author learns nothing"
    assert (await town.ask("ann", "GET", f"/v1/bottles/{bottle_id}")).json()["text"] == "hello"
    case = (await town.queue())[0]
    assert (case["reporters"], case["accused"]) == (3, "ann")
    assert (case["content"]["text"], case["content"]["author"], case["content"]["replies"]) == ("hello", "ann", [])
    assert (await town.decide(report_id, "dismiss")).status_code == 200
    assert await town.pick("bob") == bottle_id


async def test_a_thread_on_hold_is_hidden_from_both_and_comes_back(town: Town) -> None:
    bottle_id = await town.throw("ann")
    for user in ("rita", "rolf"):
        assert await town.pick(user) == bottle_id
        await town.report(user, "bottle", bottle_id)
    assert await town.pick("bob") == bottle_id
    await town.ask("bob", "POST", f"/v1/bottles/{bottle_id}/replies", {"text": "hi"})
    report_id = (await town.report("ann", "bottle", bottle_id)).json()["report_id"]  # of the reply, by its other side
    for user, refused in (("ann", 404), ("bob", 409)):
        assert (await town.ask(user, "GET", f"/v1/bottles/{bottle_id}")).status_code == 404
        assert (await town.ask(user, "GET", "/v1/me/bottles")).json()["bottles"] == []
        answer = await town.ask(user, "POST", f"/v1/bottles/{bottle_id}/replies", {"text": "more"})
        assert answer.status_code == refused, answer.text
    case = (await town.queue())[0]
    assert [(one["by_author"], one["text"]) for one in case["content"]["replies"]] == [(False, "hi")]
    await town.decide(report_id, "dismiss")
    assert (await town.ask("bob", "GET", f"/v1/bottles/{bottle_id}")).status_code == 200
    assert (await town.ask("ann", "GET", f"/v1/bottles/{bottle_id}")).status_code == 404, "who reported it does not"


async def test_remove_ends_a_bottle_for_everybody(town: Town) -> None:
    bottle_id, report_id = await town.held_bottle()
    for _ in range(2):
        assert (await town.decide(report_id, "remove")).status_code == 200
    assert (await town.ask("ann", "GET", f"/v1/bottles/{bottle_id}")).status_code == 404
    assert (await town.ask("ann", "GET", "/v1/me/bottles")).json()["bottles"] == []
    assert len((await town.admin.get("/v1/moderation/log")).json()["entries"]) == 1


async def test_suspend_for_a_bottle_closes_bottles_to_its_author(town: Town) -> None:
    _, report_id = await town.held_bottle()
    await town.throw("ann", "another")
    until = "2027-02-16T09:00:00Z"
    assert (await town.decide(report_id, "suspend", feature="bottles", until=until)).status_code == 200
    refused = await town.ask("ann", "POST", "/v1/bottles", {"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "suspended")
    assert await town.pick("bob") is None
    assert (await town.ask("ann", "GET", "/v1/nearby?radius_m=3000")).status_code == 200


# --- decisions ---


async def test_app_and_moderator_do_not_lift_each_others_suspensions(town: Town) -> None:
    report_id = await town.held_user()
    soon, later = "2027-01-15T10:00:00Z", "2027-01-15T12:00:00Z"
    assert (await town.decide(report_id, "suspend", feature="radar", until=soon)).status_code == 200
    path = "/v1/app/users/ann"
    async with town.world.operator() as operator:
        await operator.put(path, json={"suspended": [{"feature": "radar", "until": later}]})
        await operator.put(path, json={"suspended": []})
    radar = "/v1/radar?radius_m=1000"
    assert (await town.ask("ann", "GET", radar)).status_code == 403
    async with town.world.operator() as operator:
        await operator.put(path, json={"suspended": [{"feature": "radar", "until": later}]})
    assert (await town.decide(report_id, "lift")).status_code == 200
    assert (await town.ask("ann", "GET", radar)).status_code == 403
    assert (await town.ask("ann", "GET", "/v1/nearby?radius_m=3000")).status_code == 200


async def test_a_suspension_without_end_and_its_end(town: Town) -> None:
    report_id = await town.held_user()
    await town.decide(report_id, "suspend", feature="nearby")
    await town.world.later(40 * 24 * HOUR_MS)
    await town.world.place("bob", *PARIS)
    await town.world.place("ann", *PARIS)
    assert "ann" not in await town.nearby("bob")
    await town.decide(report_id, "lift", feature="nearby")
    assert "ann" in await town.nearby("bob")


async def test_three_new_reports_after_a_dismissal_hold_again(town: Town) -> None:
    report_id = await town.held_user()
    await town.decide(report_id, "dismiss")
    for user in ("new-1", "new-2"):
        await town.report(user, "user", "ann")
    for user in REPORTERS:
        await town.report(user, "user", "ann")
    assert [(case["reporters"], case["on_hold"]) for case in await town.queue()] == [(2, False)]
    await town.report("new-3", "user", "ann")
    assert (await town.queue())[0]["on_hold"]
    assert "ann" not in await town.nearby("bob")
    await town.decide(report_id, "dismiss")
    entries = (await town.admin.get("/v1/moderation/log")).json()["entries"]
    assert [entry["action"] for entry in entries] == ["dismiss", "dismiss"], "the same again is a decision of its own"


async def test_what_does_not_fit_a_target_is_refused(town: Town) -> None:
    user = (await town.report("bob", "user", "ann")).json()["report_id"]
    bottle_id = await town.throw("ann")
    await town.pick("rita")
    bottle = (await town.report("rita", "bottle", bottle_id)).json()["report_id"]
    until = "2027-01-15T10:00:00Z"
    for report_id, body in (
        (user, {"action": "remove"}),
        (bottle, {"action": "lift"}),
        (user, {"action": "dismiss", "feature": "nearby"}),
        (user, {"action": "dismiss", "until": until}),
        (user, {"action": "ban"}),
    ):
        refused = await town.admin.post(f"/v1/moderation/{report_id}", json=body)
        assert refused.status_code == 422, body
    assert len(await town.queue()) == 2
    assert (await town.decide("0" * 32, "dismiss")).status_code == 404


async def test_a_case_that_is_no_longer_kept_leaves_the_queue(town: Town) -> None:
    """Nobody decided in 90 days: it has no report left by which anybody could."""
    for user in ("ann", "rita"):
        await town.report("bob", "user", user)
    await town.world.state.call("UNLINK", town.world.hive.shards.case("ann"))
    assert [case["target"]["id"] for case in await town.queue()] == ["rita"]
    assert await town.world.state.call("ZRANGE", keys.cases("s00"), 0, -1) == [b"u:rita"]


async def test_pages_of_the_queue_and_the_log(town: Town) -> None:
    users = [f"p{n}" for n in range(5)]
    ids = []
    for user in users:
        await town.world.place(user, *PARIS)
        ids.append((await town.report("bob", "user", user)).json()["report_id"])
    bottle_id = await town.throw("ann")
    await town.pick("rita")
    ids.append((await town.report("rita", "bottle", bottle_id)).json()["report_id"])
    assert await _all_pages(town, "queue", "cases") == ids
    answer = (await town.admin.get("/v1/moderation/queue?limit=1")).json()
    assert (answer["waiting"], answer["oldest_age_s"]) == (6, answer["cases"][0]["age_s"])
    metrics = (await town.admin.get("/metrics")).text
    assert "nearhive_moderation_queue 6.0" in metrics
    for report_id in ids:
        await town.decide(report_id, "dismiss", note=f"of {report_id}")
    assert await _all_pages(town, "log", "entries") == ids[::-1]
    first = (await town.admin.get("/v1/moderation/log?limit=1")).json()["entries"][0]
    assert (first["by"], first["action"], first["note"]) == ("admin", "dismiss", f"of {ids[-1]}")


async def _all_pages(town: Town, path: str, rows: str) -> list[str]:
    found, cursor = [], ""
    while True:
        page = (await town.admin.get(f"/v1/moderation/{path}?limit=2{cursor}")).json()
        found += [row["report_id"] for row in page[rows]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


# --- appeals ---


async def test_an_appeal_stands_in_the_queue_once_for_each_suspension(town: Town) -> None:
    assert (await town.ask("ann", "POST", "/v1/me/appeal", {"text": "why?"})).status_code == 409
    report_id = await town.held_user()
    await town.decide(report_id, "suspend", feature="nearby")
    first = await town.ask("ann", "POST", "/v1/me/appeal", {"text": "it was not me"})
    again = await town.ask("ann", "POST", "/v1/me/appeal", {"text": "really"})
    assert (first.status_code, again.content) == (202, first.content)
    case = (await town.queue())[0]
    assert (case["appeal"], case["report_id"]) == ("it was not me", first.json()["appeal_id"])
    assert list(case["suspended"]) == ["moderator nearby"]
    assert (await town.decide(case["report_id"], "dismiss")).status_code == 200
    assert (await town.ask("ann", "GET", "/v1/nearby?radius_m=3000")).status_code == 403, "it was turned down"
    assert (await town.ask("ann", "POST", "/v1/me/appeal", {"text": "once more"})).content == first.content
    assert await town.queue() == []
    await town.decide(report_id, "suspend", feature="shake")
    await town.ask("ann", "POST", "/v1/me/appeal", {"text": "and this?"})
    assert [case["appeal"] for case in await town.queue()] == ["and this?"]
    assert (await town.decide(report_id, "lift")).status_code == 200
    assert (await town.ask("ann", "GET", "/v1/nearby?radius_m=3000")).status_code == 200


async def test_who_is_suspended_is_told_whom_to_ask(town: Town) -> None:
    hive = town.world.hive
    hive.rules = dataclasses.replace(hive.rules, appeal_contact="safety@example.org")
    await town.held_user()
    refused = await town.ask("ann", "GET", "/v1/nearby?radius_m=3000")
    assert refused.status_code == 403
    assert "safety@example.org" in refused.json()["detail"]


# --- mutes ---


async def test_a_mute_is_one_sided(town: Town) -> None:
    await town.world.befriend("bob", "rita")
    before = {user: await _seen_by(town, user) for user in ("ann", "rita", "rolf")}
    for user in ("ann", "rita"):
        assert (await town.ask("bob", "PUT", f"/v1/me/mutes/{user}")).status_code == 204
    await town.ask("ann", "PUT", "/v1/me/friends/bob", {})
    assert "ann" not in await town.nearby("bob")
    assert (await town.ask("bob", "GET", "/v1/radar?radius_m=1000")).json()["friends"] == []
    friends = (await town.ask("bob", "GET", "/v1/me/friends")).json()["friends"]
    assert [one["user"] for one in friends] == ["rita"], "a request of who is muted is not shown, a friendship stays"
    await town.throw("ann")
    assert await town.pick("bob") is None
    await town.ask("ann", "DELETE", "/v1/me/friends/bob")
    assert {user: await _seen_by(town, user) for user in ("ann", "rita", "rolf")} == before
    assert (await town.ask("bob", "GET", "/v1/me/mutes?limit=1")).json()["mutes"] == [{"user": "ann"}]
    await town.ask("bob", "DELETE", "/v1/me/mutes/ann")
    assert "ann" in await town.nearby("bob")


async def _seen_by(town: Town, user: str) -> list[bytes]:
    paths = ("/v1/nearby?radius_m=5000&limit=100", "/v1/radar?radius_m=5000", "/v1/me/friends")
    return [(await town.ask(user, "GET", path)).content for path in paths]


async def test_mutes_are_limited_and_a_report_finds_room(town: Town) -> None:
    hive = town.world.hive
    slot = hive.people.slot("bob")
    assert slot is not None
    hive.people.mutes.put(slot, [f"m{n}" for n in range(MAX_MUTES)])
    assert (await town.ask("bob", "PUT", "/v1/me/mutes/ann")).status_code == 409
    assert (await town.ask("bob", "PUT", "/v1/me/mutes/m7")).status_code == 204
    await town.report("bob", "user", "ann")
    assert "ann" not in await town.nearby("bob")


async def test_a_shake_with_who_is_held_since_is_not_shown(town: Town) -> None:
    point = {"lat": PARIS[0], "lon": PARIS[1]}
    await town.ask("ann", "POST", "/v1/shakes", point)
    shake = (await town.ask("bob", "POST", "/v1/shakes", point)).json()
    assert [match["user"] for match in shake["matches"]] == ["ann"]
    await town.held_user()
    later = (await town.ask("bob", "GET", f"/v1/shakes/{shake['shake_id']}")).json()
    assert later["matches"] == []


async def test_the_longest_hold_is_looked_at_after_stranger_edges(town: Town) -> None:
    await town.held_user()
    await town.world.later(STRANGER_EPOCH_MS)
    assert "ann" not in await town.nearby("bob")


# --- who may moderate ---


KEY = "nh_op_" + "k" * 40
_ADMIN_ROUTES = (("GET", "queue"), ("GET", "log"), ("POST", "0" * 32))


def _with_keys(town: Town, scopes: str, key: str = KEY) -> httpx2.AsyncClient:
    """The moderators' port of a deployment that has one more operator key."""
    keys = f"eve:{scopes}:{hashlib.sha256(KEY.encode()).hexdigest()}"
    settings = town.world.settings.model_copy(update={"operator_keys": keys})
    transport = httpx2.ASGITransport(app=create_admin_app(town.world.hive, settings))
    return httpx2.AsyncClient(transport=transport, base_url="http://admin", headers={"X-API-Key": key})


async def _statuses(client: httpx2.AsyncClient) -> list[int]:
    body = {"POST": {"action": "dismiss"}}
    return [
        (await client.request(method, f"/v1/moderation/{path}", json=body.get(method))).status_code
        for method, path in _ADMIN_ROUTES
    ]


@pytest.mark.parametrize(
    ("scopes", "key", "expected"),
    [
        ("moderation", KEY, [200, 200, 404]),
        ("app+moderation", KEY, [200, 200, 404]),
        ("app+brands", KEY, [403, 403, 403]),
        ("moderation", KEY + "x", [401, 401, 401]),
        ("moderation", "nh_sk_" + "k" * 40, [403, 403, 403]),
    ],
)
async def test_a_key_moderates_if_its_scope_says_so(town: Town, scopes: str, key: str, expected: list[int]) -> None:
    async with _with_keys(town, scopes, key) as client:
        assert await _statuses(client) == expected


async def test_the_log_names_the_key(town: Town) -> None:
    report_id = (await town.report("bob", "user", "ann")).json()["report_id"]
    async with _with_keys(town, "moderation") as client:
        await client.post(f"/v1/moderation/{report_id}", json={"action": "dismiss"})
        assert [entry["by"] for entry in (await client.get("/v1/moderation/log")).json()["entries"]] == ["eve"]
    assert KEY not in str((await town.admin.get("/v1/moderation/log")).text)


async def test_moderation_is_not_on_the_public_port(town: Town) -> None:
    async with town.world.operator() as operator:
        assert await _statuses(operator) == [404, 404, 404]


async def test_hostile_requests_to_moderators(town: Town) -> None:
    for method, path in _ADMIN_ROUTES:
        for query in ("?limit=0", "?limit=x", "?cursor=AAAA", "?nonsense=1"):
            answer = await town.admin.request(method, f"/v1/moderation/{path}{query}")
            assert 400 <= answer.status_code < 500, (path, query)
            assert answer.headers["content-type"] == "application/problem+json"
    bodies: list[Any] = [{}, {"action": 1}, {"action": "suspend", "until": "soon"}, {"action": "dismiss", "x": 1}, []]
    for body in bodies:
        assert (await town.admin.post(f"/v1/moderation/{'0' * 32}", json=body)).status_code == 422
    cursor = (await town.admin.get("/v1/moderation/queue?limit=1")).json()["next_cursor"]
    assert cursor is None


@pytest.mark.parametrize(
    "keys",
    ["eve", "eve:moderation", "eve:god:" + "0" * 64, "eve:app:" + "0" * 63, "admin:app:" + "0" * 64, "e f:app:x"],
)
def test_operator_keys_that_cannot_be_read_are_refused(keys: str) -> None:
    with pytest.raises(BadSettings, match="OPERATOR_KEYS"):
        read_settings(operator_keys=keys)
