"""A state in use, for tests that read it meanwhile: people who change and bottles that go round, with a ledger.

A person's record and the feed change in one script, as everywhere: whoever reads both at one moment finds them equal.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from discovery.bottles import Bottles
from discovery.errors import Refused, StateAway
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.scripts import Script
from discovery.withheld import WithheldNow

_RECORD = Script("record")
_SECRET = b"secret of the tests" * 2
_PEOPLE = 40


class Traffic:
    """Writers. ``acked``: person -> the newest number that was acknowledged; ``sent``: the newest that was sent."""

    def __init__(self, state: State, seed: int, shards: int = 1) -> None:
        self.state = state
        self.shards = keys.Shards(shards)
        self.draws = random.Random(seed)
        self.sent: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.bottles_acked: set[str] = set()
        self.failed: list[Exception] = []
        throws = 10**6
        draws = self.draws
        self.bottles = Bottles(state, self, lambda: draws.getrandbits(32), _SECRET, throws, throws)

    def person_key(self, user: str) -> str:
        return user

    def is_gone(self, user: str) -> bool:
        return False

    def life_arguments(self, user: str) -> list[str | int]:
        return [user, 0, 1]

    def blocked_either_way(self, user: str) -> frozenset[str]:
        return frozenset()

    def withheld(self) -> WithheldNow:
        return WithheldNow(frozenset(), "")

    def muted(self, user: str) -> frozenset[str]:
        return frozenset()

    async def create_world(self) -> None:
        """As a service does at its first start."""
        await self.state.call("HSET", keys.world(), "format", "1", "shards", self.shards.count)

    async def change(self, user: str) -> None:
        """Number the person's record and the feed in one step."""
        number = self.sent[user] = self.sent.get(user, 0) + 1
        feed = keys.feed(keys.shard_tag(self.shards.of(user)))
        payload = b'{"u":"%s","claim":%d}' % (user.encode(), number)
        await self.state.run(_RECORD, [self.shards.person(user), feed], ["s", payload, "claim", number])
        self.acked[user] = number

    async def toss(self, user: str, key: str) -> None:
        """Throw a bottle or pick one."""
        if self.draws.random() < 0.6:
            self.bottles_acked.add((await self.bottles.throw(user, key, "hello", None)).bottle_id)
        else:
            await self.bottles.pick(user, key)

    async def act_for_ever(self, name: str, pause_s: float) -> None:
        """One writer: now a person, now a bottle. It goes on when it is refused."""
        for step in range(10**9):
            user = f"{name}:{self.draws.randrange(_PEOPLE)}"
            try:
                await (self.change(user) if step % 2 else self.toss(user, f"{name}-{step}"))
            except (StateAway, StateFault) as error:
                self.failed.append(error)
            except Refused:  # of a bottle's rules
                pass
            await asyncio.sleep(pause_s)

    @contextlib.asynccontextmanager
    async def running(self, writers: int = 4, pause_s: float = 0.001) -> AsyncIterator[None]:
        """Writers act while the body runs."""
        tasks = [asyncio.create_task(self.act_for_ever(f"w{n}", pause_s)) for n in range(writers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def people_in(state: State, shards: keys.Shards, users: list[str]) -> dict[str, int]:
    """Person -> number in the record; asserts that the feed of each says the same last."""
    told: dict[str, int] = {}
    for shard in shards.all():
        for _, fields in await state.call("XRANGE", keys.feed(keys.shard_tag(shard)), "-", "+"):
            found = _settings(fields)
            if found:
                assert shards.of(found[0]) == shard
                told[found[0]] = found[1]
    records = {user: int(await state.call("HGET", shards.person(user), "claim") or 0) for user in users}
    assert {user: told.get(user, 0) for user in users} == records, "record and feed differ"
    return records


def _settings(fields: list[bytes]) -> tuple[str, Any] | None:
    import orjson

    content = dict(zip(fields[::2], fields[1::2], strict=True))
    if content[b"k"] != b"s":
        return None
    payload = orjson.loads(content[b"d"])
    return payload["u"], payload["claim"]
