"""The people feeds of one worker: one follower a shard, all in step at every epoch edge.

While a shard is restored (checkpoint, then the tail) it crosses edges alone. In step, a shard whose next entry lies
behind an edge waits until every shard stands there; then all cross at once. So what is published at an edge is the
same in every worker, whatever order the shards' entries came in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.feed import FeedGap, Follower, Place
from discovery.store.together import run_together
from geo.privacy import Epochs

_RETRY_S = 0.2

log = structlog.get_logger("nearhive.feeds")


class FoldedPeople(Protocol):
    """What the feeds fold into."""

    def fold(self, shard: int, kind: str, payload: bytes, now_ms: int) -> None:
        """Apply one entry."""
        ...

    def settle(self) -> None:
        """Apply what was held back of the entries told: nothing may be once a read is folded."""
        ...

    def edge_of(self, shard: int) -> int:
        """The last edge (ms) that this shard has crossed."""
        ...

    def announce(self, shard: int, epoch_ms: int) -> None:
        """Ticks of this shard say how long an epoch is."""
        ...

    def cross_alone(self, shard: int, now_ms: int) -> None:
        """A shard being restored passes all edges up to ``now_ms``."""
        ...

    def cross_together(self, edge_ms: int) -> bool:
        """Every shard that has not crossed ``edge_ms`` yet crosses it, if it has an edge there; False when none has."""
        ...


class Feeds:
    """``restore(shard)`` drops what is folded of a shard, loads its checkpoint and says where that stands;
    ``restored(shard)`` is called when its tail is folded too."""

    def __init__(
        self,
        state: State,
        shards: keys.Shards,
        people: FoldedPeople,
        restore: Callable[[int], Awaitable[Place | None]],
        monotonic: Callable[[], float],
        restored: Callable[[int], None] = lambda shard: None,
    ) -> None:
        self._state = state
        self.shards = shards
        self._people = people
        self._restore = restore
        self._monotonic = monotonic
        self._on_restored = restored
        self.followers: list[Follower] = []
        self._in_step: set[int] = set()
        self._waiting_at: dict[int, int] = {}  # shard -> the edge before which its next entry waits
        self._reached_ms = 0  # hive time when the last shard fell out of step: it must not stand back meanwhile

    def open(self) -> None:
        """Make the followers: the number of shards is known by now."""
        self.followers = [self._follower(shard) for shard in self.shards.all()]
        self._in_step.clear()
        self._waiting_at.clear()
        self._reached_ms = 0

    async def start(self) -> None:
        """Restore every shard, however long the state is away."""
        await asyncio.gather(*(self._restore_until_done(shard) for shard in self.shards.all()))

    async def follow(self) -> None:
        """Follow every shard until cancelled; raises what ends one (an entry that cannot be folded)."""
        await run_together(self._follow(shard) for shard in self.shards.all())

    # --- questions ---

    @property
    def now_ms(self) -> int:
        """Hive time of this worker: what every shard has reached; at least the edge that all crossed together.

        It never runs back. A shard that is restored passes its past again: a report to another shard judged by that
        would expire, and a share or a hold end, by as much too early.
        """
        if not self.followers:
            return 0
        edge_ms = min(self._people.edge_of(shard) for shard in self.shards.all())
        return max(self._reached_ms, edge_ms, min(follower.now_ms for follower in self.followers))

    @property
    def epoch_ms(self) -> int:
        """Length of an epoch, 0 while a shard has seen no tick."""
        return min((follower.epoch_ms for follower in self.followers), default=0)

    @property
    def restored(self) -> bool:
        """Whether every shard is folded to where its feed ended, and all stand in the same epoch."""
        edges = {self._people.edge_of(shard) for shard in self.shards.all()}
        return bool(self.followers) and self.whole and len(edges) == 1

    @property
    def whole(self) -> bool:
        """Whether no shard is being restored."""
        return len(self._in_step) == self.shards.count

    def is_followed(self, shard: int) -> bool:
        """Whether a shard stands, and is not being restored."""
        return shard in self._in_step

    def of(self, user: str) -> Follower:
        """The feed of a person's shard."""
        return self.followers[self.shards.of(user)]

    def lag_s(self) -> float:
        """Seconds since all that stood in the feed was folded, of the shard that is the furthest behind."""
        return max((follower.lag_s() for follower in self.followers), default=float("inf"))

    # --- life of one shard ---

    def _follower(self, shard: int) -> Follower:
        def fold(kind: str, payload: bytes, now_ms: int) -> None:
            self._people.fold(shard, kind, payload, now_ms)

        def on_time(now_ms: int, epoch_ms: int) -> bool:
            return self._may_pass(shard, now_ms, epoch_ms)

        return Follower(
            self._state, keys.feed(keys.shard_tag(shard)), fold, on_time, self._monotonic, self._people.settle
        )

    async def _follow(self, shard: int) -> None:
        while True:
            try:
                await self.followers[shard].follow()
            except FeedGap:
                log.warning("feed_gap", shard=shard)
                await self._restore_until_done(shard)

    def doubt(self, shard: int) -> None:
        """What is folded of this shard may be void: restore it at its next read."""
        self.followers[shard].doubt()

    async def _restore_until_done(self, shard: int) -> None:
        while True:
            try:
                await self._restore_once(shard)
                return
            except (FeedGap, StateAway, StateFault) as error:  # gap: trimmed meanwhile, there is a newer checkpoint
                log.warning("shard_not_restored", shard=shard, error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _restore_once(self, shard: int) -> None:
        self._reached_ms = self.now_ms
        self._in_step.discard(shard)
        self._waiting_at.pop(shard, None)
        follower = self.followers[shard]
        follower.restart(None)  # at once: who leads, holds or snapshots by its place must not while it is put back
        follower.restart(await self._restore(shard))
        await follower.catch_up()
        self._in_step.add(shard)
        self._cross_if_all_are_there()
        self._on_restored(shard)

    # --- edges ---

    def _may_pass(self, shard: int, now_ms: int, epoch_ms: int) -> bool:
        """Whether the next entry of this shard, at ``now_ms``, may be folded now."""
        if epoch_ms == 0:
            return True
        self._people.announce(shard, epoch_ms)
        if shard not in self._in_step:
            self._people.cross_alone(shard, now_ms)
            return True
        edge_ms = Epochs(epoch_ms).last_edge(now_ms)
        if edge_ms <= self._people.edge_of(shard):
            return True
        self._waiting_at[shard] = edge_ms
        self._cross_if_all_are_there()
        return edge_ms <= self._people.edge_of(shard)

    def _cross_if_all_are_there(self) -> None:
        """Cross the edge that every shard has crossed alone or waits at; then let those who waited go on."""
        if len(self._in_step) < self.shards.count:
            return
        reached = [max(self._waiting_at.get(s, 0), self._people.edge_of(s)) for s in self.shards.all()]
        edge_ms = min(reached)
        behind = edge_ms > min(self._people.edge_of(shard) for shard in self.shards.all())
        if behind and self._people.cross_together(edge_ms):
            waiting, self._waiting_at = self._waiting_at, {}
            for shard in waiting:
                asyncio.get_running_loop().call_soon(self.followers[shard].resume)
