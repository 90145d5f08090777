"""Which acts wait for every worker, at a repeat too; and which look again before they say no."""

from collections.abc import Iterator
from typing import Any

import pytest

from discovery.errors import StateAway
from discovery.store.feed import EntryId
from tests.world import PARIS, World


class Others:
    """The leases of the only worker; keeps what was waited for, and may say that somebody does not fold."""

    def __init__(self, leases: Any) -> None:
        self.leases = leases
        self.waited: list[EntryId] = []
        self.hang = False

    async def everyone_folded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        if self.hang:
            raise StateAway("somebody does not fold", outcome_unknown=True)
        self.waited.append(entry)
        await self.leases.everyone_folded(shard, entry, deadline_s)


@pytest.fixture
def others(world: World) -> Iterator[Others]:
    leases = world.hive.leases
    found = Others(leases)
    world.hive.writer.leases = found  # type: ignore[assignment]
    yield found
    world.hive.writer.leases = leases


async def test_a_repeated_unfriend_waits_as_the_first(world: World, others: Others) -> None:
    """The first may have timed out while it waited: a 204 must not come before the others have folded it."""
    async with world.client("ann") as client:
        assert (await client.put("/v1/me/friends/bob")).status_code == 200
        others.hang = True
        assert (await client.delete("/v1/me/friends/bob")).status_code == 503
        await world.hive.feeds.followers[0].fold_to_tail(3.0)
        declined = world.hive.feeds.followers[0].position
        others.hang, others.waited = False, []
        assert (await client.delete("/v1/me/friends/bob")).status_code == 204
    assert others.waited
    assert others.waited[-1] >= declined


@pytest.mark.parametrize("age", ["minor", None])
async def test_who_turns_minor_by_a_token_is_hidden_everywhere_before_the_answer(
    world: World, others: Others, age: Any
) -> None:
    """A report of a position does not wait for other workers; what hides somebody has to."""
    await world.place("ann", *PARIS)
    await world.place("bob", *PARIS)
    others.waited = []
    lat, lon = PARIS
    async with world.client("ann", age=age) as client:
        assert (await client.put("/v1/me/position", json={"lat": lat, "lon": lon})).status_code == 200
    assert others.waited
    async with world.client("bob") as client:
        assert (await client.get("/v1/nearby")).json()["people"] == []
    others.waited = []
    for said in (age, "adult"):
        async with world.client("ann", age=said) as client:
            assert (await client.put("/v1/me/position", json={"lat": lat, "lon": lon})).status_code == 200
    assert others.waited == [], "it is known, and what widens waits for nobody"


async def test_before_bottles_are_off_the_callers_own_feed_is_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[str, ...]] = []

    async def look_again(_writer: object, *users: str) -> None:
        looked.append(users)

    monkeypatch.setattr(type(world.hive.writer), "look_again", look_again)
    async with world.client("ann") as client:
        answer = await client.post("/v1/bottles/pick", headers={"Idempotency-Key": "1"})
    assert answer.status_code == 403
    assert looked == [("ann",)]
