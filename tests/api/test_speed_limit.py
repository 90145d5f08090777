"""The speed cap over HTTP: own reports, shakes and the app's rows; the cell stays, and nobody else can tell."""

from typing import Any

import pytest
import pytest_asyncio

from discovery.speed_cap import SpeedCap
from tests.world import HOUR_MS, PARIS, STRANGER_EPOCH_MS, World

BERLIN = (52.52, 13.405)
LYON = (45.764, 4.8357)


@pytest_asyncio.fixture
async def capped(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose cap is on, as it is by default outside the tests."""
    monkeypatch.setattr(world.hive.positions, "_speed_cap", SpeedCap(world.hive.presence, on=True))
    return world


async def put(world: World, user: str, place: tuple[float, float]) -> Any:
    async with world.client(user) as client:
        return await client.put("/v1/me/position", json={"lat": place[0], "lon": place[1]})


async def shake(world: World, user: str, place: tuple[float, float], key: str) -> Any:
    async with world.client(user, headers={"Idempotency-Key": key}) as client:
        return await client.post("/v1/shakes", json={"lat": place[0], "lon": place[1]})


async def test_a_second_jump_of_a_day_is_refused_and_changes_nothing(capped: World) -> None:
    assert (await put(capped, "ann", PARIS)).status_code == 200
    assert (await put(capped, "ann", BERLIN)).status_code == 200, "the free one"
    pending = int(capped.hive.presence.pending[0])
    refused = await put(capped, "ann", PARIS)
    assert (refused.status_code, refused.json()["code"]) == (409, "implausible_move")
    assert str(PARIS[0]) not in refused.text
    assert int(capped.hive.presence.pending[0]) == pending
    assert (await put(capped, "ann", BERLIN)).status_code == 200
    await capped.later(4 * HOUR_MS)  # 880 km
    assert (await put(capped, "ann", PARIS)).status_code == 200


async def test_a_shake_is_judged_alike_but_a_repeat_moves_nobody(capped: World) -> None:
    first = await shake(capped, "ann", PARIS, "one")
    assert first.status_code == 201
    assert (await put(capped, "ann", BERLIN)).status_code == 200
    refused = await shake(capped, "ann", LYON, "two")
    assert (refused.status_code, refused.json()["code"]) == (409, "implausible_move")
    again = await shake(capped, "ann", PARIS, "one")
    assert (again.status_code, again.json()) == (201, first.json())
    assert (await shake(capped, "ann", BERLIN, "two")).status_code == 201, "the refused one used no key"


async def test_rows_of_the_app_are_refused_one_by_one(capped: World) -> None:
    for user in ("ann", "bob", "cleo"):
        assert (await put(capped, user, PARIS)).status_code == 200
        assert (await put(capped, user, BERLIN)).status_code == 200
    async with capped.client("cleo") as cleo:
        await cleo.delete("/v1/me/position")
    rows = [("ann", PARIS), ("ann", BERLIN), ("bob", PARIS), ("cleo", PARIS), ("dora", PARIS)]
    body = {"positions": [{"user": user, "lat": lat, "lon": lon} for user, (lat, lon) in rows]}
    async with capped.operator() as app:
        answer = (await app.post("/v1/app/positions", json=body)).json()
    codes = {row["index"]: (row["field"], row["code"]) for row in answer["rejected"]}
    assert codes == {
        0: ("lat", "implausible_move"),
        2: ("lat", "implausible_move"),
        3: ("user", "cleared_by_person"),
    }
    assert answer["accepted"] == 2


async def test_nobody_else_can_tell_that_somebody_was_refused(capped: World) -> None:
    """Equal bytes with and without refused reports; an edge passes, which publishes what is pending."""
    for user, place in (("viewer", BERLIN), ("bob", PARIS), ("bob", BERLIN)):
        await put(capped, user, place)
        async with capped.client(user) as client:
            await client.patch("/v1/me/settings", json={"visibility": "everyone"})
    answers = []
    async with capped.client("viewer") as viewer:
        for tries in (0, 3):
            for _ in range(tries):
                assert (await put(capped, "bob", LYON)).status_code == 409
            answers.append((await viewer.get("/v1/nearby")).content)
        assert answers[0] == answers[1]
        await capped.later(STRANGER_EPOCH_MS)
        assert [row["user"] for row in (await viewer.get("/v1/nearby")).json()["people"]] == ["bob"]
