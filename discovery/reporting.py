"""Reporting a person or a bottle. One report of each human about each target; three distinct humans put it on hold.

Steps, each of them repeated by a repeat and then changing nothing: the reporter's own record (with the quota of the
day), the name under which moderators find the case, what hides the target from the reporter, and the count in the case,
which begins the hold in the same script. So a report is answered when all of it, a hold included, is effective
everywhere. Nobody but moderators learns of it: the answer is the same for a target that does not exist, that is the
reporter, or of a bottle that the reporter never held. For whom nobody knows it takes the same commands and writes as
for who is hidden, or its time would tell them apart; of the former nothing is left.
"""

import contextlib
from dataclasses import dataclass
from typing import Literal

import orjson

from discovery.bottle_records import DAY_MS, is_bottle_id
from discovery.errors import Erased, KeyReused, QuotaExceeded, StillRunning
from discovery.people import People
from discovery.presence import Presence
from discovery.safety import Safety
from discovery.sealed import Sealer
from discovery.store import keys
from discovery.store.life_script import LifeScript
from discovery.store.scripts import Script
from discovery.store.sea_script import SeaScript
from discovery.store.writer import Writer
from discovery.suspensions import HOLD, WITHOUT_END_MS

HOLD_AT = 3  # distinct reporters
_TARGETS = (b"u:", b"b:")
KEPT_MS = 90 * DAY_MS  # reports, cases and what is under review, from the last report on
_BRIEFLY_MS = 1000
_TRIES = 3

_OPEN = Script("report_open")
_FORGET = Script("case_forget")
_USER = LifeScript("report_user", "report_case")
_BOTTLE = SeaScript("bottle_report", "report_case")


@dataclass(slots=True, frozen=True)
class Target:
    """What is reported."""

    kind: Literal["user", "bottle"]
    id: str

    @property
    def name(self) -> str:
        """As it stands in queues and records."""
        return f"{self.kind[0]}:{self.id}"

    @classmethod
    def of_name(cls, name: str) -> "Target":
        """The target of a :attr:`name`."""
        return cls("user" if name[0] == "u" else "bottle", name[2:])


@dataclass(slots=True, frozen=True)
class MadeReport:
    """A report that a person made, for their export."""

    report_id: str
    target: Target
    reason: str
    note: str
    at_ms: int


@dataclass(slots=True, frozen=True)
class _Report:
    """One report on its way: ``person`` is the human behind ``reporter``."""

    reporter: str
    person: str
    target: Target
    reason: str
    note: str
    id: str


class Reports:
    """The act of reporting."""

    def __init__(
        self, people: People, presence: Presence, writer: Writer, safety: Safety, sealer: Sealer, per_day: int
    ) -> None:
        self._people = people
        self._presence = presence
        self._writer = writer
        self._safety = safety
        self._sealer = sealer
        self._per_day = per_day

    async def report(self, reporter: str, key: str, target: Target, reason: str, note: str) -> str:
        """Report once; the same target again is the first report again. Returns its id.

        Raises KeyReused, QuotaExceeded, Erased, StillRunning, StateAway.
        """
        person = self._people.person_key(reporter)
        report_id = self._sealer.id128("report", person, target.name)
        report = _Report(reporter, person, target, reason, note, report_id)
        await self._open(report, key)
        if target.kind == "user":
            await self._report_user(report)
        elif is_bottle_id(target.id):
            await self._report_bottle(report)
        await self._require_alive(report)
        return report_id

    async def _require_alive(self, report: _Report) -> None:
        """Who was erased meanwhile leaves no record behind. Raises Erased."""
        try:
            self._writer.lives.require(report.reporter)
        except Erased:
            await self.forget(report.reporter, "")
            raise

    async def _open(self, report: _Report, key: str) -> None:
        shards, person, target = self._writer.shards, report.person, report.target
        operation = self._sealer.id128("report operation", person, key)
        fingerprint = self._sealer.id128("report fingerprint", target.name, report.reason, report.note)
        row = orjson.dumps({"id": report.id, "reason": report.reason, "note": report.note})
        args: list[bytes | str | int] = [operation, fingerprint, target.name, row, self._per_day, KEPT_MS]
        status, now_ms = await self._writer.run(_OPEN, [shards.reports(person)], args)
        if status == b"reused":
            raise KeyReused("this Idempotency-Key was used for another report")
        if status == b"quota":
            resets_at_ms = (int(now_ms) // DAY_MS + 1) * DAY_MS
            retry_after_s = -((int(now_ms) - resets_at_ms) // 1000)
            raise QuotaExceeded("the reports of this day are used up", resets_at_ms, retry_after_s)

    async def _report_user(self, report: _Report) -> None:
        user = report.target.id
        if user == report.reporter:
            return
        known = self._took_part(user)
        await self._safety.mute(report.reporter, user, make_room=True)
        if self._people.person_key(user) == report.person:
            return
        await self._name_case(report, known=known)
        for _ in range(_TRIES):
            with contextlib.suppress(Erased):  # a moment ago: no record of theirs may be written anew
                await self._count(report)
                return
            await self._writer.catch_up(user)
        raise StillRunning("the person is being erased")

    async def _count(self, report: _Report) -> None:
        """In the case of the person reported, with the hold. Judged in the life that the script then looks for: raises
        Erased when another worker has ended it."""
        user = report.target.id
        known = self._took_part(user)
        held_until_ms = self._writer.now_ms + WITHOUT_END_MS
        payload = orjson.dumps({"u": user, "moderated": {HOLD: held_until_ms}})
        shards = self._writer.shards
        cases = keys.cases(keys.shard_tag(shards.of(user)))
        names = [shards.case(user), cases, shards.person(user), self._writer.feed_key(user)]
        args = [*self._counted(report), payload, HOLD, held_until_ms, int(known)]
        await self._writer.enforce(user, _USER, names, args)

    def _took_part(self, user: str) -> bool:
        """Whether this is somebody, and not only a name that others mentioned."""
        slot = self._people.slot(user)
        if slot is None:
            return False
        placed = slot < len(self._presence.published) and bool(self._presence.published[slot])
        return placed or any(getattr(self._people, name)[slot] for name in People.FOLDED)

    async def _report_bottle(self, report: _Report) -> None:
        """All that shows a bottle asks the one slot of the sea, so this is effective everywhere when it is done."""
        await self._name_case(report)
        bottle_id = report.target.id
        names = [
            *(keys.sea_index(), keys.sea_holds(), keys.sea_ends()),
            *(keys.sea_bottle(bottle_id), keys.sea_seen(report.person)),
            *(keys.sea_case(bottle_id), keys.cases(keys.SEA_TAG)),
        ]
        args = [bottle_id, report.reporter, report.person, *self._counted(report)]
        await self._writer.state.run(_BOTTLE, names, args)

    async def _name_case(self, report: _Report, *, known: bool = True) -> None:
        name, target = keys.report_target(report.id), report.target.name
        lasts: tuple[str | int, ...] = ("PX", KEPT_MS) if known else ("PX", _BRIEFLY_MS, "NX")
        await self._writer.state.call("SET", name, target, *lasts)

    def _counted(self, report: _Report) -> list[str | int]:
        """What both counting scripts take. The reporter is a keyed hash: moderators see how many, not who."""
        reporter = self._sealer.id128("reporter", report.person)
        return [report.target.name, reporter, report.reason, report.note, report.id, HOLD_AT, KEPT_MS]

    # --- rights ---

    async def made_by(self, user: str) -> list[MadeReport]:
        """Every report that this human made and that is still kept, newest first. Raises StateAway."""
        flat = await self._writer.state.call("HGETALL", self._writer.shards.reports(self._people.person_key(user)))
        found = [
            _made(name.decode(), value)
            for name, value in zip(flat[::2], flat[1::2], strict=True)
            if name[:2] in _TARGETS
        ]
        return sorted(found, key=lambda made: -made.at_ms)

    async def exported(self, user: str) -> list[dict[str, object]]:
        """:meth:`made_by` as rows of an export."""
        return [
            {"report_id": made.report_id, "target": made.target.name, "reason": made.reason, "note": made.note}
            | {"at_ms": made.at_ms}
            for made in await self.made_by(user)
        ]

    async def forget(self, user: str, human: str) -> None:
        """For an erasure: the reports that the account (or ``human``, when given) made, and what of its own case is of
        its person. What others reported stays, as evidence, for as long as cases are kept. Raises StateAway."""
        shards, call = self._writer.shards, self._writer.state.call
        for person in {user, human} - {""}:
            await call("DEL", shards.reports(person))
        case = [shards.case(user), keys.cases(keys.shard_tag(shards.of(user)))]
        appeal_id: bytes = await self._writer.state.run(_FORGET, case, [Target("user", user).name])
        if appeal_id:
            await call("DEL", keys.report_target(appeal_id.decode()))


def _made(name: str, value: bytes) -> MadeReport:
    row = orjson.loads(value[13:])
    return MadeReport(row["id"], Target.of_name(name), row["reason"], row["note"], int(value[:13]))
