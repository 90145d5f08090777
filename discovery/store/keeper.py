"""Keeping one stream: lead it when nobody else does, and while leading append its ticks.

Every worker keeps every stream; one at a time leads. In silence the ticks (4 a second) renew the leadership too; in
traffic it is renewed twice a second, and each answer shows whether the server's clock was stepped.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.hive_time import STEP_MS, HiveTime
from discovery.store.leader import WITHIN_S, Leader
from discovery.store.ticker import TICK, Sample, TickPlan

_LONGEST_PAUSE_S = 0.25  # also how closely hive time is watched by who does not lead
_SHORTEST_PAUSE_S = 0.005
_RETRY_S = 0.1
_SLOWER = 0.999  # of the own clock: hive time follows the server's, whose rate may be another
_DEAF_S = 2.0  # who has not read the stream for so long cannot say what it holds, and lets another lead

log = structlog.get_logger("nearhive.keeper")


class Followed(Protocol):
    """This worker's follower of the stream."""

    hive: HiveTime
    caught_up: bool

    def idle_s(self) -> float:
        """Seconds since the last entry was folded."""
        ...

    def unread_s(self) -> float:
        """Seconds since a read came back, with entries or without."""
        ...


class StreamKeeper:
    """Leads and ticks the stream of ``tag`` as far as it falls to this worker.

    ``token`` is for all other fenced writes (checkpoints, trims). ``epoch_ms()`` is announced in every tick.
    """

    def __init__(
        self,
        state: State,
        tag: str,
        worker: str,
        followed: Followed,
        epoch_ms: Callable[[], int],
        monotonic: Callable[[], float],
        *,
        by: "StreamKeeper | None" = None,
        furthest_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """``worker`` and ``monotonic`` as for :class:`Leader`.

        A stream whose hive time nobody remembers, for no worker ran, goes on with that of the stream that ``by`` keeps:
        it may live on another server, with another clock, and streams that wait for each other at edges must not be
        apart. A stream without ``by`` goes on with its server's clock, but not behind ``furthest_ms()``.
        """
        self._state = state
        self._leader = Leader(state, tag, worker, monotonic)
        self._followed = followed
        self._epoch_ms = epoch_ms
        self._monotonic = monotonic
        self._by = by
        self._furthest_ms = furthest_ms
        self._plan: TickPlan | None = None
        self._moved: tuple[int, float] | None = None  # hive time as last read, and when it was seen to move
        self._folded_ms = 0

    @property
    def tag(self) -> str:
        """Of the stream."""
        return self._leader.tag

    @property
    def token(self) -> str | None:
        """``worker|token`` while this worker leads the stream, else None."""
        return self._leader.token

    async def run(self) -> None:
        """Keep the stream until cancelled; while the state is away, go on trying."""
        failing = False
        while True:
            pause_s = _RETRY_S
            try:
                pause_s = await self._step()
                failing = False
            except (StateAway, StateFault) as error:
                if not failing:
                    log.warning("stream_not_kept", stream=self._leader.tag, error=str(error))
                failing = True
            await asyncio.sleep(min(max(pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S))

    async def resign(self) -> None:
        """After :meth:`run` was cancelled: let another worker lead at once. Raises StateAway."""
        self._plan = None
        await self._leader.resign()

    async def _step(self) -> float:
        """Do what is due; returns in how many seconds something may be due again."""
        self._watch()
        if not self._followed.caught_up or self._followed.unread_s() > _DEAF_S:
            await self.resign()
            return _LONGEST_PAUSE_S
        if self._leader.due_in_s() <= 0:
            self._took(await self._leader.look())
        token = self._leader.token
        if token is None:
            self._plan = None
        if token is None or self._plan is None:
            return self._leader.due_in_s()
        if self._tick_due_in_s(self._plan) <= 0 and not await self._tick(self._plan, token):
            self._plan = None
            return _RETRY_S
        return min(self._leader.due_in_s(), self._tick_due_in_s(self._plan))

    def _tick_due_in_s(self, plan: TickPlan) -> float:
        return plan.due_in_s(self._monotonic(), self._followed.idle_s())

    def _watch(self) -> None:
        """Remember when hive time was seen to move: whoever takes over reckons from there.

        Entries may be read late, the last ones of a lost master seconds after they were written, but never early: so
        only what is ahead of the reckoning counts. It goes on while the stream is folded anew: a server that took over
        may have lost entries, and have another clock.
        """
        hive_ms = self._followed.hive.now_ms
        if not self._followed.caught_up:
            self._folded_ms = 0
        elif self._folded_ms == 0:
            self._folded_ms = hive_ms
        elif hive_ms != self._folded_ms:
            now_s, self._folded_ms = self._monotonic(), hive_ms
            reckoned_ms = self._reckoned_ms(now_s)
            if reckoned_ms is None or hive_ms >= reckoned_ms:
                self._moved = hive_ms, now_s

    def _reckoned_ms(self, now_s: float) -> int | None:
        """Hive time by the own clock, None if it was not seen to move."""
        if self._moved is None:
            return None
        moved_ms, moved_s = self._moved
        return moved_ms + round((now_s - moved_s) * 1000 * _SLOWER)

    def _took(self, sample: Sample | None) -> None:
        if self._leader.token is None or sample is None:
            return
        if self._plan is None:
            self._plan = self._new_plan(sample)
        else:
            self._plan.look(sample)

    def _new_plan(self, first: Sample) -> TickPlan | None:
        """None while it is not known what time it is."""
        hive = self._followed.hive
        hive_ms = self._reckoned_ms(first.asked_s)
        if hive_ms is None and self._by is not None:
            hive_ms = self._by._reckoned_ms(first.asked_s)
            if hive_ms is None:
                return None
            hive_ms = max(hive_ms, hive.now_ms)
        elif hive_ms is None:
            least_ms = max(hive.now_ms, self._furthest_ms())
            hive_ms = None if first.id_ms + hive.offset_ms >= least_ms else least_ms
        return TickPlan(hive_ms, hive.offset_ms, first)

    async def _tick(self, plan: TickPlan, token: str) -> bool:
        """Append a tick; False when another worker leads."""
        leader, asked_s = self._leader, self._monotonic()
        names = [keys.feed(leader.tag), keys.leader(leader.tag)]
        args: list[bytes | str | int] = [token, leader.next_beat(), plan.hive_ms(asked_s), plan.offset_ms]
        reply = await self._state.run(TICK, names, [*args, self._epoch_ms(), STEP_MS], within_s=WITHIN_S)
        if reply is None:
            leader.lost()
            return False
        _, offset_ms, newest, seconds, micros = reply
        leader.renewed(asked_s)
        seen = leader.sample(newest, seconds, micros, asked_s)
        plan.appended(int(offset_ms), seen is not None and seen.standing, self._monotonic())
        return True
