"""The acts on one's own position: report, look, clear; and the same reports in bulk by the app's backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from discovery.errors import ImplausibleMove, NotFound, NotVisible, PositionRequired, TooInaccurate
from discovery.friends import PRECISE, Friendships
from discovery.people import AGES, NOBODY, VISIBILITIES, People
from discovery.precise_channel import PreciseChannel
from discovery.presence import Presence
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, Report
from discovery.speed_cap import SpeedCap
from discovery.store.writer import Writer
from geo.privacy import PRECISION_RESOLUTION, ExactPoint, precise_cell, snap, snap_many

DEFAULT_TTL_S = 7200
SHORTEST_TTL_S, LONGEST_TTL_S = 3600, 28_800
WORST_ACCURACY_M = 600.0
CLEARED_BY_PERSON = "cleared_by_person"


@dataclass(slots=True, frozen=True)
class PositionView:
    """What the person is told of their own position."""

    expires_at_ms: int
    next_epoch_at_ms: int
    published: int
    finest: tuple[int, str] | None  # cell and the audience that sees it
    visibility: str
    in_quiet_zone: bool
    published_uncertainty_m: float


@dataclass(slots=True, frozen=True)
class AppPosition:
    """One row of the app's bulk report."""

    user: str
    point: ExactPoint
    ttl_s: int = DEFAULT_TTL_S


def claim_flags(claim: str | None) -> int:
    """Report flags of a token's age claim; a token without one says that nothing is known."""
    return CLAIM_TOLD | {None: 0, "adult": CLAIM_KNOWN | CLAIM_ADULT}.get(claim, CLAIM_KNOWN)


class TakesReports(Protocol):
    """Where reports go: into the feed, gathered (``report_queue``)."""

    async def add(self, reports: Sequence[Report]) -> None:
        """Return once all are durable and folded here. Raises StateAway."""
        ...


class Positions:
    """Reports go through one state machine a person; most change no cell and write nothing."""

    def __init__(
        self,
        people: People,
        presence: Presence,
        friendships: Friendships,
        writer: Writer,
        queues: TakesReports,
        speed_cap: SpeedCap,
        precise: PreciseChannel,
    ) -> None:
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._writer = writer
        self.queues = queues
        self._speed_cap = speed_cap
        self._precise = precise

    @property
    def now_ms(self) -> int:
        """Hive time of this worker."""
        return self._writer.now_ms

    async def report(self, user: str, point: ExactPoint, ttl_s: int, claim: str | None) -> PositionView:
        """The person's own report."""
        check_accuracy(point)
        candidate, jump = await self.candidate(user, point)
        await self._precise.tell([(user, partial(precise_cell, point))])
        slot = self._people.slot(user)
        expiry_ms = self._expiry_ms(slot, ttl_s)
        claimed = slot is not None and self._people.age_claim[slot] == AGES.index(claim)
        if not claimed or self._changes(slot, candidate, expiry_ms):
            await self.queues.add([Report(user, candidate, expiry_ms, self._flags(user, claim) | OWN | jump)])
        self._writer.lives.require(user)
        return self._view(user)

    async def candidate(self, user: str, point: ExactPoint) -> tuple[int, int]:
        """The cell to keep for a point, and ``JUMP`` if that takes the day's free jump, else 0. Raises ImplausibleMove,
        after folding to the tail: the person may have moved through another worker a moment ago."""
        cell, jump = self._snapped(user, point)
        if jump is None:
            await self._writer.look_again(user)
            cell, jump = self._snapped(user, point)
        if jump is None:
            raise ImplausibleMove("faster than 80 m/s; the earlier position stays")
        return cell, jump

    def _snapped(self, user: str, point: ExactPoint) -> tuple[int, int | None]:
        slot = self._people.slot(user)
        cell = snap(point, self.kept_cell(slot))
        return cell, self._speed_cap.flag(slot, cell, self.now_ms)

    def _flags(self, user: str, claim: str | None) -> int:
        return claim_flags(claim) | self._writer.lives.flags(user)

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
            self._presence.stranger_uncertainty_m(slot),
        )

    def _finest(self, slot: int, now_ms: int) -> tuple[int, str] | None:
        if self._people.visibility_at(slot, now_ms) == NOBODY:
            return None
        precise_cell = self._friendships.precise.cell(slot)
        if precise_cell and self._friendships.shares_precisely(slot, now_ms):
            return precise_cell, PRECISE
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

    async def report_many(self, rows: Sequence[AppPosition]) -> list[str | None]:
        """The app's reports; for each row None, or the code for which it is not taken: `cleared_by_person`,
        `implausible_move`.

        Of several rows of one person the last that is taken counts: all are of one instant, and one state machine takes
        one report.
        """
        judged = self._judged(rows)
        suspects = {row.user for row, (_, jump) in zip(rows, judged, strict=True) if jump is None}
        if suspects:
            await self._writer.look_again(*suspects)
            judged = self._judged(rows)
        codes = [self._refusal(row.user, jump) for row, (_, jump) in zip(rows, judged, strict=True)]
        last = {row.user: index for index, (row, code) in enumerate(zip(rows, codes, strict=True)) if code is None}
        await self._precise.tell(
            (rows[index].user, partial(precise_cell, rows[index].point)) for index in last.values()
        )
        reports = []
        for index in last.values():
            row, (cell, jump) = rows[index], judged[index]
            slot = self._people.slot(row.user)
            expiry_ms = self._expiry_ms(slot, row.ttl_s)
            if self._changes(slot, cell, expiry_ms):
                flags = self._writer.lives.flags(row.user) | (jump or 0)
                reports.append(Report(row.user, cell, expiry_ms, flags))
        if reports:
            await self.queues.add(reports)
        return codes

    def _judged(self, rows: Sequence[AppPosition]) -> list[tuple[int, int | None]]:
        """Cell and flag of each row, as of ``SpeedCap``."""
        slots = [self._people.slot(row.user) for row in rows]
        kept = np.array([self.kept_cell(slot) for slot in slots], np.uint64)
        cells = snap_many([row.point for row in rows], kept).tolist()
        now_ms = self.now_ms
        return [(cell, self._speed_cap.flag(slot, cell, now_ms)) for slot, cell in zip(slots, cells, strict=True)]

    def _refusal(self, user: str, jump: int | None) -> str | None:
        """A clear comes first: of who is gone the app learns nothing more."""
        slot = self._people.slot(user)
        if slot is not None and self._people.cleared[slot]:
            return CLEARED_BY_PERSON
        return ImplausibleMove.code if jump is None else None


def check_accuracy(point: ExactPoint) -> None:
    """Worse than 600 m is refused, never coarsened: a coarser cell would be a second lattice."""
    if point.accuracy_m is not None and point.accuracy_m > WORST_ACCURACY_M:
        raise TooInaccurate("accuracy must be 600 m or better", field="accuracy_m")
