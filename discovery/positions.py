"""The acts on one's own position: report, look, clear; and the same reports in bulk by the app's backend."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from discovery.errors import NotFound, NotVisible, PositionRequired, TooInaccurate
from discovery.friends import Friendships
from discovery.people import AGES, NOBODY, VISIBILITIES, People
from discovery.presence import Presence
from discovery.report_queue import ReportQueues
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, Report
from discovery.store.writer import Writer
from geo.privacy import PRECISION_RESOLUTION, ExactPoint, snap, snap_many

DEFAULT_TTL_S = 7200
SHORTEST_TTL_S, LONGEST_TTL_S = 3600, 28_800
WORST_ACCURACY_M = 600.0


@dataclass(slots=True, frozen=True)
class PositionView:
    """What the person is told of their own position."""

    expires_at_ms: int
    next_epoch_at_ms: int
    published: int
    finest: tuple[int, str] | None  # cell and the audience that sees it
    visibility: str
    in_quiet_zone: bool


@dataclass(slots=True, frozen=True)
class AppPosition:
    """One row of the app's bulk report."""

    user: str
    point: ExactPoint
    ttl_s: int = DEFAULT_TTL_S


def claim_flags(claim: str | None) -> int:
    """Report flags of a token's age claim; a token without one says that nothing is known."""
    return CLAIM_TOLD | {None: 0, "adult": CLAIM_KNOWN | CLAIM_ADULT}.get(claim, CLAIM_KNOWN)


class Positions:
    """Reports go through one state machine a person; most change no cell and write nothing."""

    def __init__(
        self, people: People, presence: Presence, friendships: Friendships, writer: Writer, queues: ReportQueues
    ) -> None:
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._writer = writer
        self._queues = queues

    @property
    def now_ms(self) -> int:
        """Hive time of this worker."""
        return self._writer.now_ms

    async def report(self, user: str, point: ExactPoint, ttl_s: int, claim: str | None) -> PositionView:
        """The person's own report."""
        check_accuracy(point)
        slot = self._people.slot(user)
        expiry_ms = self._expiry_ms(slot, ttl_s)
        candidate = snap(point, self.kept_cell(slot))
        claimed = slot is not None and self._people.age_claim[slot] == AGES.index(claim)
        if not claimed or self._changes(slot, candidate, expiry_ms):
            await self._queues.add([Report(user, candidate, expiry_ms, claim_flags(claim) | OWN)])
        return self._view(user)

    def kept_cell(self, slot: int | None) -> int:
        """The anchor of hysteresis, 0 when the person was never placed."""
        return 0 if slot is None or slot >= len(self._presence.published) else int(self._presence.published[slot])

    def _changes(self, slot: int | None, candidate: int, expiry_ms: int) -> bool:
        """Whether the feed must hear of it: a new pending cell, liveness, another expiry."""
        if slot is None or not self._presence.is_live(slot, self.now_ms) or self._people.cleared[slot]:
            return True
        return int(self._presence.pending[slot]) != candidate or int(self._presence.live_until_ms[slot]) != expiry_ms

    def _expiry_ms(self, slot: int | None, ttl_s: int) -> int:
        """An edge, so that vanishing tells no report's time; and the same whether or not the report moves the cell.

        It is extended by an eighth or more, once an epoch, and shortened at once.
        """
        wanted_ms = self._presence.epochs.edge_from(self.now_ms + 1000 * ttl_s)
        if slot is None or not self._presence.is_live(slot, self.now_ms):
            return wanted_ms
        standing_ms = int(self._presence.live_until_ms[slot])
        fresh = int(self._presence.extended_edge_ms[slot]) < self._presence.edge_ms
        extends = fresh and wanted_ms - standing_ms >= 1000 * ttl_s // 8
        return wanted_ms if extends or wanted_ms < standing_ms else standing_ms

    async def view(self, user: str) -> PositionView:
        """The live position of ``user``; NotFound when there is none."""
        if not self._is_live(user):
            await self._writer.look_again(user)
        if not self._is_live(user):
            raise NotFound("no live position")
        return self._view(user)

    def _is_live(self, user: str) -> bool:
        slot = self._people.slot(user)
        return slot is not None and self._presence.is_live(slot, self.now_ms)

    def _view(self, user: str) -> PositionView:
        slot = self._people.slot(user)
        assert slot is not None
        now_ms = self.now_ms
        return PositionView(
            int(self._presence.live_until_ms[slot]),
            self._presence.epochs.next_stranger_edge(now_ms),
            self._presence.stranger_cell(slot),
            self._finest(slot, now_ms),
            VISIBILITIES[self._people.visibility_at(slot, now_ms)],
            self._presence.in_quiet_zone(slot),
        )

    def _finest(self, slot: int, now_ms: int) -> tuple[int, str] | None:
        if self._people.visibility_at(slot, now_ms) == NOBODY:
            return None
        seen = {
            self._presence.coarsened(slot, other, self._friendships.seen_at(slot, other, now_ms))
            for other in self._friendships.friends(slot)
        }
        seen.discard("hidden")
        if not seen:
            return None
        precision = max(seen, key=PRECISION_RESOLUTION.__getitem__)
        return self._presence.cell_at(slot, precision), precision

    async def clear(self, user: str) -> None:
        """Gone everywhere; the app cannot bring the person back, only their own next report."""
        record = self._writer.shards.person(user)
        await self._writer.change(user, record, "c", user.encode(), {"cleared_at": str(self.now_ms)})

    async def require_live(self, user: str) -> int:
        """Slot of a person with a live position; PositionRequired when there is none, after folding to the tail."""
        if not self._is_live(user):
            await self._writer.look_again(user)
        slot = self._people.slot(user)
        if slot is None or not self._presence.is_live(slot, self.now_ms):
            raise PositionRequired("send your position first: PUT /v1/me/position")
        return slot

    async def require_visibility(self, slot: int, least: int) -> None:
        """Raise NotVisible unless the person shows themselves at least so widely, after folding to the tail."""
        if self._people.visibility_at(slot, self.now_ms) < least:
            await self._writer.look_again(self._people.ids[slot])
        if self._people.visibility_at(slot, self.now_ms) < least:
            raise NotVisible(f"only who is visible to {VISIBILITIES[least]} sees this")

    async def report_many(self, rows: Sequence[AppPosition]) -> list[bool]:
        """The app's reports; False marks a row whose person has cleared their position themselves.

        Of several rows of one person the last counts: all are of one instant, and one state machine takes one report.
        """
        last = {row.user: index for index, row in enumerate(rows)}
        slots = [self._people.slot(row.user) for row in rows]
        kept = np.array([self.kept_cell(slot) for slot in slots], np.uint64)
        candidates = snap_many([row.point for row in rows], kept)
        allowed = [slot is None or not self._people.cleared[slot] for slot in slots]
        reports = []
        for index, (row, slot, cell, may) in enumerate(zip(rows, slots, candidates, allowed, strict=True)):
            if not may or last[row.user] != index:
                continue
            expiry_ms = self._expiry_ms(slot, row.ttl_s)
            if self._changes(slot, int(cell), expiry_ms):
                reports.append(Report(row.user, int(cell), expiry_ms, 0))
        if reports:
            await self._queues.add(reports)
        return allowed


def check_accuracy(point: ExactPoint) -> None:
    """Worse than 600 m is refused, never coarsened: a coarser cell would be a second lattice."""
    if point.accuracy_m is not None and point.accuracy_m > WORST_ACCURACY_M:
        raise TooInaccurate("accuracy must be 600 m or better", field="accuracy_m")
