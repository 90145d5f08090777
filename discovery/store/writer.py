"""One way to change people: a script that changes a record and tells the feed, then wait for those who fold it.

Class A (what hides or forbids) is answered when every worker that may answer has folded it; class B when this one has.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from discovery.errors import Erased, StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import EntryId, Follower, parse_id
from discovery.store.feeds import Feeds
from discovery.store.life_script import ERASED, LifeScript
from discovery.store.scripts import Script

WRITE_DEADLINE_S = 3.0
FOLD_DEADLINE_S = 1.0  # several shards wait for each other at an edge, for one silence tick of the slowest at most
_LOOK_AGAIN_S = 0.05

_RECORD = LifeScript("record")


class Others(Protocol):
    """The workers that may answer people."""

    async def everyone_folded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        """Return when all have folded ``entry``. Raises StateAway(outcome_unknown)."""
        ...

    async def everyone_loaded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        """Return when all have loaded the store sets told of up to ``entry``. Raises StateAway(outcome_unknown)."""
        ...


class HasLives(Protocol):
    """Whether people were erased."""

    def arguments(self, users: list[str]) -> list[str | int]:
        """What ``lua/life.lua`` wants behind the arguments of a script by which these act."""
        ...

    def acting_in(self, user: str) -> int:
        """The life of a person for which this task acts."""
        ...

    def flags(self, user: str) -> int:
        """The life of a person, as reports carry it."""
        ...

    def require(self, user: str) -> None:
        """Raise Erased when the life for which this task acts has ended."""
        ...


@dataclass(slots=True)
class Writer:
    """Runs scripts of the people shards and waits for their entries."""

    state: State
    feeds: Feeds
    leases: Others
    lives: HasLives

    @property
    def shards(self) -> keys.Shards:
        """Names the keys of people."""
        return self.feeds.shards

    @property
    def now_ms(self) -> int:
        """Hive time of this worker."""
        return self.feeds.now_ms

    def feed_key(self, user: str) -> str:
        """The feed that a script about ``user`` appends to."""
        return self.feeds.of(user).key

    async def run(
        self,
        script: Script,
        names: Sequence[str],
        args: Sequence[bytes | str | int],
        within_s: float | None = None,
        *,
        of: Sequence[str] = (),
    ) -> list[bytes]:
        """Run ``script``; its reply is a list. Durable when it returns. ``of``: who act by it, people of one shard, for
        a :class:`LifeScript`. Raises StateAway, and Erased when one of them was erased: then nothing was changed."""
        if isinstance(script, LifeScript):
            names = [*names, keys.tombstones(keys.shard_tag(self.shards.of(of[0])))]
            args = [*args, *self.lives.arguments(list(of))]
        reply: list[bytes] | bytes = await self.state.run(script, names, args, within_s=within_s)
        if isinstance(reply, bytes):
            assert reply == ERASED
            raise Erased("the person was erased meanwhile")
        return reply

    async def folded(self, user: str, raw_id: bytes, within_s: float = WRITE_DEADLINE_S) -> None:
        """Class B: wait until this worker has folded the entry of the feed of ``user``. Raises StateAway."""
        await self.feeds.of(user).folded(parse_id(raw_id), within_s)

    async def everywhere(self, user: str, raw_id: bytes) -> None:
        """Class A: wait until every worker that may answer has folded the entry. Raises StateAway(outcome_unknown)."""
        entry, shard = parse_id(raw_id), self.shards.of(user)
        here = self.feeds.of(user).folded(entry, WRITE_DEADLINE_S)
        await asyncio.gather(here, self.leases.everyone_folded(shard, entry, WRITE_DEADLINE_S))

    async def enforce(self, user: str, script: Script, names: Sequence[str], args: Sequence[bytes | str | int]) -> int:
        """Class A: run ``script``, which replies {number, entry of the feed of ``user``}, and return the number when
        that entry is effective everywhere, within 3 s in all: 1 if it changed something, 0 if nothing was to be
        changed, -1 if it refused. Raises StateAway, Erased."""
        try:
            async with asyncio.timeout(WRITE_DEADLINE_S):
                changed, entry = await self.run(script, names, args, of=(user,))
                await self.everywhere(user, entry)
        except TimeoutError:
            detail = "the change may be stored, and is not yet effective on every worker"
            raise StateAway(detail, outcome_unknown=True) from None
        if isinstance(script, LifeScript):
            self.lives.require(user)
        return int(cast(int, changed))

    async def settled(self, user: str) -> None:
        """Class A: wait until all that stands in the feed of ``user`` is effective everywhere, for a repeat that finds
        its change made. Raises StateAway."""
        entry = await self.feeds.of(user).tail()
        await self.everywhere(user, b"%d-%d" % entry)

    async def catch_up(self, *users: str) -> None:
        """Fold all that stands in the feeds of ``users`` now: before judging again. Raises StateAway."""
        for feed in self._feeds_of(users):
            await feed.fold_to_tail(WRITE_DEADLINE_S)

    async def look_again(self, *users: str) -> None:
        """``look_again`` at the feeds of ``users``."""
        await asyncio.gather(*(look_again(feed) for feed in self._feeds_of(users)))

    def _feeds_of(self, users: Sequence[str]) -> list[Follower]:
        return [self.feeds.followers[shard] for shard in {self.shards.of(user) for user in users}]

    async def change(self, user: str, record: str, kind: str, payload: bytes, fields: dict[str, str]) -> None:
        """Set (or with '' delete) ``fields`` of a record of ``user``; effective everywhere on return (class A)."""
        flat = [part for pair in fields.items() for part in pair]
        await self.enforce(user, _RECORD, [record, self.feed_key(user)], [kind, payload, *flat])


async def look_again(follower: Follower) -> None:
    """Fold all that stands in the stream now, for 50 ms at most: once before saying that something is not there."""
    with contextlib.suppress(StateAway, TimeoutError):
        async with asyncio.timeout(_LOOK_AGAIN_S):
            await follower.fold_to_tail(_LOOK_AGAIN_S)


async def append(
    state: State, feed: str, kind: str, payload: bytes, within_s: float, *, lasting: bool = True
) -> EntryId:
    """Add one entry that has no record. ``lasting=False`` for what heals by itself: it waits for no replica.

    Raises StateAway.
    """
    command = ("XADD", feed, "*", "k", kind, "d", payload)
    return parse_id(await state.call(*command, within_s=within_s, lasting=lasting))
