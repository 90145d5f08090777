"""One worker's leases on all people shards, renewed beside each other: a slow node holds up its own shards only.

The rules and their proof are in ``shard_lease``.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.feed import EntryId
from discovery.store.scripts import Script
from discovery.store.shard_lease import DEAD_S, FOLDED, LOADED, RENEW_S, VALID_S, ShardLease
from discovery.store.together import run_together

_WITHIN_S = 0.5
_JOIN_PAUSE_S = 0.05  # between looks of a worker that has no lease yet
_RETRY_S = 0.1
WORLD_SHARD = 0
"""Its leases end while the world moves elsewhere. Every worker needs one of each shard to answer anybody."""
_LEAST_GAP_S = 0.002  # class A entries folded so close together share a renewal
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.005, 0.025  # between looks for who waits: a worker folds and tells in 2 to 5 ms

# It waits for no replica, so that people are answered while one is away: see ``shard_lease`` on a change of master.
LEASE = Script("lease", lasting=False)

log = structlog.get_logger("nearhive.leases")


class HasPosition(Protocol):
    """How far something of a shard is done: its follower, or the loading of store sets."""

    @property
    def position(self) -> EntryId:
        """The newest entry of which, and of all before it, this is true."""
        ...


@dataclass(slots=True, eq=False)
class _Wait:
    """Somebody who waits until every worker has ``entry``; only renewals after the ``asked_after``-th count."""

    column: int
    entry: EntryId
    asked_after: int
    done: "asyncio.Future[None]"


class Leases:
    """``worker``: a name that no other process has or had, without ``|``. ``monotonic``: seconds, counting suspended
    time. ``doubt(shard)`` is called when the state turns out not to be the one that was folded.
    """

    def __init__(
        self,
        state: State,
        worker: str,
        monotonic: Callable[[], float],
        doubt: Callable[[int], None] = lambda shard: None,
        *,
        renew_s: float = RENEW_S,
        valid_s: float = VALID_S,
        dead_s: float = DEAD_S,
    ) -> None:
        """Raises ValueError unless ``valid_s < dead_s``."""
        ShardLease(worker, valid_s, dead_s)
        self._state = state
        self._worker = worker
        self._monotonic = monotonic
        self._doubt = doubt
        self._times = renew_s, valid_s, dead_s
        self._shards: list[_Shard] = []
        self._rules: dict[int, ShardLease] = {}

    async def start(self, folded: Sequence[HasPosition], loaded: Sequence[HasPosition]) -> None:
        """Look at every shard once: what stands there now is to be folded before this worker joins (in :meth:`run`).

        ``folded`` and ``loaded``: one for each shard, which keep moving. May be called again; what was held is not held
        any more then. Raises StateAway.
        """
        renew_s, valid_s, dead_s = self._times
        self._shards = [
            _Shard(
                self._state,
                number,
                self._rules.setdefault(number, ShardLease(self._worker, valid_s, dead_s)),  # its beats go on
                (folded[number], loaded[number]),
                self._monotonic,
                self._doubt,
                renew_s,
            )
            for number in range(len(folded))
        ]
        for lease in self._rules.values():
            lease.give_up()
        await self.renew()

    async def renew(self) -> None:
        """Renew, or join, every shard once: right after folding, without waiting for :meth:`run`. Raises StateAway."""
        await asyncio.gather(*(shard.renew() for shard in self._shards), self._ask_who_owns())

    async def run(self) -> None:
        """Keep the leases until cancelled; while the state is away, go on trying."""
        asking = [self._keep_asking()] if self._state.is_cluster else []
        await run_together([*(shard.keep() for shard in self._shards), *asking])

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self._times[0])
            with contextlib.suppress(StateAway):
                await self._ask_who_owns()

    async def _ask_who_owns(self) -> None:
        """On Cluster a lease holds only as long as most masters say that it was renewed at the owner of its shard."""
        if not self._state.is_cluster:
            return
        asked_s = self._monotonic()
        owners = await self._state.agreed_owners([shard.key for shard in self._shards], within_s=_WITHIN_S)
        for shard in self._shards:
            shard.lease.owned_by(owners.get(shard.key, ""), asked_s)

    async def leave(self) -> None:
        """For a graceful stop: take the own rows away, so that nobody waits 2 s for them. Holds nothing from now on.

        :meth:`run` may go on, so that :meth:`everyone_folded` of the last requests does. Raises StateAway.
        """
        await asyncio.gather(*(shard.leave() for shard in self._shards))

    @property
    def generation(self) -> int:
        """How often this worker has joined a shard: it grows when a lease had lapsed."""
        return sum(shard.lease.generation for shard in self._shards)

    def holds(self) -> bool:
        """Whether people may be answered: to be asked last, without an ``await`` before the bytes are handed over."""
        now_s = self._monotonic()
        for shard in self._shards:  # a plain loop: it runs for every answer about people
            lease = shard.lease
            if now_s > lease.until_s or shard.folded.position < lease.floor:
                return False
        return bool(self._shards)

    def missing(self) -> list[int]:
        """The shards without a lease that holds: for ``/readyz``."""
        now_s = self._monotonic()
        return [shard.number for shard in self._shards if not shard.holds(now_s)]

    def nudge(self, shard: int) -> None:
        """Tell the others soon how far this worker is: a class A entry was folded. At most one renewal is in flight."""
        if shard < len(self._shards):
            self._shards[shard].wake.set()

    async def everyone_folded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        """Return when no worker holds that has not folded ``entry``. Raises StateAway(outcome_unknown).

        To be called after the entry was appended, while :meth:`run` runs.
        """
        await self._shards[shard].everyone_has(FOLDED, entry, deadline_s)

    async def everyone_loaded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        """Return when every worker has loaded the stores of ``entry``. As :meth:`everyone_folded`."""
        await self._shards[shard].everyone_has(LOADED, entry, deadline_s)


class _Shard:
    """Sends the renewals of one shard, one at a time, and lets writers wait on what they show."""

    def __init__(
        self,
        state: State,
        number: int,
        lease: ShardLease,
        done: tuple[HasPosition, HasPosition],
        monotonic: Callable[[], float],
        doubt: Callable[[int], None],
        renew_s: float,
    ) -> None:
        self._state = state
        self.number = number
        self.lease = lease
        self.folded, self._loaded = done
        self._monotonic = monotonic
        self._doubt = doubt
        self._renew_s = renew_s
        tag = keys.shard_tag(number)
        self._names = [keys.leases(tag), keys.feed(tag), *([keys.world()] if number == WORLD_SHARD else [])]
        self.key = self._names[0]
        self.wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._sent = 0
        self._waits: list[_Wait] = []
        self._look_gap_s = _FIRST_LOOK_S
        self._failing = False

    def holds(self, now_s: float) -> bool:
        return self.lease.holds(self.folded.position, now_s)

    async def keep(self) -> None:
        while True:
            self.wake.clear()  # whoever asks from here on gets a renewal of its own
            try:
                await self.renew()
                self._failing = False
            except (StateAway, StateFault) as error:
                if not self._failing:
                    log.warning("lease_not_renewed", shard=self.number, error=str(error))
                self._failing = True
            await self._pause()

    async def renew(self) -> None:
        """One renewal, and what follows from its answer. Raises StateAway, StateFault."""
        async with self._one_at_a_time:
            self._sent += 1
            node = self._state.node_of(self.key)
            renewal = self.lease.renewal(self.folded.position, self._loaded.position, self._monotonic(), node)
            args = [self.lease.worker, *renewal.args]
            reply = await self._state.run(LEASE, self._names, args, within_s=_WITHIN_S)
            if self._state.node_of(self.key) != node:
                return  # it may have been sent on to another node: the next one counts
            if reply is None:  # the next renewal takes the row away, so that the copy need not wait for it
                self.lease.give_up()
                raise StateAway("the state is moving to another server")
            if not self.lease.answered(renewal, reply, self._monotonic()):
                log.warning("state_was_replaced", shard=self.number)
                self._doubt(self.number)
            for wait in [wait for wait in self._waits if wait.asked_after < self._sent]:
                here = self.folded.position
                if not wait.done.done() and self.lease.everyone_has(wait.column, wait.entry, renewal, here):
                    wait.done.set_result(None)

    async def leave(self) -> None:
        self.lease.wanted = False
        self.lease.give_up()
        async with self._one_at_a_time:
            self.lease.give_up()  # again, if a renewal was in flight
        await self.renew()

    async def everyone_has(self, column: int, entry: EntryId, deadline_s: float) -> None:
        wait = _Wait(column, entry, self._sent, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        self._look_gap_s = _FIRST_LOOK_S
        self.wake.set()
        try:
            async with asyncio.timeout(deadline_s):
                await wait.done
        except TimeoutError:
            detail = "the change is stored but not yet effective on every worker"
            raise StateAway(detail, outcome_unknown=True) from None
        finally:
            self._waits.remove(wait)

    async def _pause(self) -> None:
        """Until the next renewal is due, or somebody asks for one."""
        await asyncio.sleep(_RETRY_S if self._failing else _LEAST_GAP_S)
        try:
            async with asyncio.timeout(self._gap_s()):
                await self.wake.wait()
        except TimeoutError:
            pass

    def _gap_s(self) -> float:
        if any(not wait.done.done() for wait in self._waits):
            gap_s = self._look_gap_s
            self._look_gap_s = min(1.5 * gap_s, _LONGEST_LOOK_S)
            return gap_s
        return self._renew_s if self.lease.since is not None else _JOIN_PAUSE_S
