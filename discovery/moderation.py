"""What moderators do: a queue of cases, decisions, an audit log; and the appeals of people who are suspended.

A case gathers what was reported about one target, and an appeal. It stands in the queue of its target's hash tag while
anything in it waits for a decision. A decision is written into the audit log of the same tag, then carried out, then
closes the case unless it was reported again meanwhile; each step may be repeated. A case and what is under review are
kept for 90 days after the last report or decision; the text of what was dismissed goes with the decision.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from discovery.errors import Conflict, Invalid, NotFound
from discovery.people import People
from discovery.reporting import KEPT_MS, Target
from discovery.sealed import Sealer
from discovery.settings import SUSPENDABLE, Settings
from discovery.store import keys
from discovery.store.scripts import Script
from discovery.store.sea_script import SeaScript
from discovery.store.writer import Writer
from discovery.suspensions import HOLD, WITHOUT_END_MS, by_moderator

Action = Literal["dismiss", "remove", "suspend", "lift"]

LOG_ENTRIES = 10_000  # of each tag
LOG_KEPT_MS = 365 * 86_400_000

_DECIDE = Script("case_decide")
_CLOSE = Script("case_close")
_APPEAL = Script("case_appeal")
_BOTTLE = SeaScript("bottle_decide")
_SEA = (keys.sea_index(), keys.sea_holds(), keys.sea_ends())

Place = tuple[int, str]
"""Where a page of the queue goes on: time of the case (us) and its tag. No two cases of one tag have one time."""

LogPlace = tuple[int, int, str]
"""Where a page of the log goes on: id of the entry and its tag."""


@dataclass(slots=True, frozen=True)
class Case:
    """One target that waits for a decision. ``fields`` as :func:`_read_case` makes them."""

    place: Place
    target: Target
    waiting_s: int
    fields: dict[str, Any]


@dataclass(slots=True, frozen=True)
class Decision:
    """What a moderator decided; ``until_ms`` 0 = without end. ``moderator`` is the id of their key."""

    moderator: str
    report_id: str
    action: Action
    feature: str | None = None
    until_ms: int = 0
    note: str = ""


@dataclass(slots=True, frozen=True)
class LogEntry:
    """One decision of the audit log."""

    place: LogPlace
    fields: dict[str, str]


class Moderation:
    """The queue, the decisions and the log."""

    def __init__(self, people: People, settings: Settings, writer: Writer, sealer: Sealer) -> None:
        self._people = people
        self._settings = settings
        self._writer = writer
        self._sealer = sealer

    # --- the queue ---

    async def queue(self, limit: int, after: Place | None) -> tuple[list[Case], Place | None]:
        """The cases that wait, oldest first, from behind ``after``; and where the next page starts. StateAway."""
        rows = await asyncio.gather(*(self._waiting(tag, limit + 1, after) for tag in self._tags()))
        found = sorted(row for page in rows for row in page)[: limit + 1]
        now_us = await self._now_us()
        cases = await asyncio.gather(*(self._case(row, now_us) for row in found[:limit]))
        return [case for case in cases if case is not None], found[limit - 1][:2] if len(found) > limit else None

    async def _waiting(self, tag: str, count: int, after: Place | None) -> list[tuple[int, str, str]]:
        """(us, tag, target name) of one tag's queue."""
        start = "-inf" if after is None else f"({after[0]}" if tag <= after[1] else str(after[0])
        command = ("ZRANGEBYSCORE", keys.cases(tag), start, "+inf", "WITHSCORES", "LIMIT", 0, count)
        flat = await self._writer.state.call(*command)
        return [(int(score), tag, name.decode()) for name, score in zip(flat[::2], flat[1::2], strict=True)]

    async def _case(self, row: tuple[int, str, str], now_us: int) -> Case | None:
        """None for a case that is no longer kept: it leaves the queue."""
        since_us, tag, name = row
        target = Target.of_name(name)
        flat = await self._writer.state.call("HGETALL", self._case_key(target))
        if not flat:
            await self._writer.state.run(_CLOSE, [self._case_key(target), keys.cases(tag)], [name, 0, "", 0, KEPT_MS])
            return None
        return Case((since_us, tag), target, max(0, now_us - since_us) // 1_000_000, _read_case(flat))

    async def backlog(self) -> tuple[int, int]:
        """How many cases wait, and since how many seconds the oldest. Raises StateAway."""
        call = self._writer.state.call
        counts = await asyncio.gather(*(call("ZCARD", keys.cases(tag)) for tag in self._tags()))
        oldest = [row for tag in self._tags() for row in await self._waiting(tag, 1, None)]
        waiting_us = await self._now_us() - min(oldest)[0] if oldest else 0
        return sum(map(int, counts)), max(0, waiting_us) // 1_000_000

    def _tags(self) -> list[str]:
        return [*(keys.shard_tag(shard) for shard in self._writer.shards.all()), keys.SEA_TAG]

    async def _now_us(self) -> int:
        seconds, micros = await self._writer.state.call("TIME")
        return int(seconds) * 1_000_000 + int(micros)

    # --- decisions ---

    async def decide(self, decision: Decision) -> Target:
        """Carry out a decision: effective everywhere on return. Repeated, it changes nothing.

        Raises Invalid, NotFound (no such report, or its case is no longer kept), StateAway.
        """
        target = await self._target(decision.report_id)
        _check(decision, target)
        case, tag = self._case_key(target), self._tag(target)
        reply = await self._writer.run(_DECIDE, [case, keys.moderation_log(tag)], await self._logged(decision, target))
        if not reply:
            raise NotFound("no such report")
        total, accused, appeal_id = (part.decode() for part in reply)
        await self._carry_out(decision, target, accused)
        dismissed = int(decision.action == "dismiss")
        args: list[bytes | str | int] = [target.name, total, appeal_id, dismissed, KEPT_MS]
        await self._writer.state.run(_CLOSE, [case, keys.cases(tag)], args)
        return target

    async def _target(self, report_id: str) -> Target:
        name = await self._writer.state.call("GET", keys.report_target(report_id))
        if name is None:
            raise NotFound("no such report")
        return Target.of_name(name.decode())

    async def _logged(self, decision: Decision, target: Target) -> list[str | int]:
        fields = {
            "by": decision.moderator,
            "action": decision.action,
            "target": target.name,
            "report": decision.report_id,
            "feature": decision.feature or "",
            "until": str(decision.until_ms),
            "note": decision.note,
        }
        what = (decision.action, fields["feature"], fields["until"], decision.note)
        oldest_ms = await self._now_us() // 1000 - LOG_KEPT_MS
        flat = [part for pair in fields.items() for part in pair]
        return [self._sealer.id128("decision", *what), LOG_ENTRIES, oldest_ms, *flat]

    async def _carry_out(self, decision: Decision, target: Target, accused: str) -> None:
        if target.kind == "bottle":
            act = "free" if decision.action == "dismiss" else "remove"
            names = [*_SEA, keys.sea_bottle(target.id), keys.sea_case(target.id)]
            await self._writer.state.run(_BOTTLE, names, [target.id, act])
        if decision.action == "suspend":
            user = accused if target.kind == "bottle" else target.id
            if user:
                await self._settings.moderate(user, self._suspension(decision) | _without_hold(target))
        elif target.kind == "user" and decision.action == "dismiss":
            await self._settings.moderate(target.id, {HOLD: 0})
        elif decision.action == "lift":
            features = SUSPENDABLE if decision.feature is None else (decision.feature,)
            await self._settings.moderate(target.id, {HOLD: 0, **{by_moderator(feature): 0 for feature in features}})

    def _suspension(self, decision: Decision) -> dict[str, int]:
        until_ms = decision.until_ms or self._writer.now_ms + WITHOUT_END_MS
        features = SUSPENDABLE if decision.feature is None else (decision.feature,)
        return {by_moderator(feature): until_ms for feature in features}

    # --- the audit log ---

    async def log(self, limit: int, before: LogPlace | None) -> tuple[list[LogEntry], LogPlace | None]:
        """Decisions, newest first, from before ``before``; and where the next page starts. Raises StateAway."""
        pages = await asyncio.gather(*(self._log_of(tag, limit + 1, before) for tag in self._tags()))
        found = sorted((entry for page in pages for entry in page), key=lambda entry: entry.place, reverse=True)
        return found[:limit], found[limit - 1].place if len(found) > limit else None

    async def _log_of(self, tag: str, count: int, before: LogPlace | None) -> list[LogEntry]:
        newest = "+"
        if before is not None:
            newest = f"{before[0]}-{before[1]}" if tag < before[2] else f"({before[0]}-{before[1]}"
        rows = await self._writer.state.call("XREVRANGE", keys.moderation_log(tag), newest, "-", "COUNT", count)
        return [_read_entry(tag, entry, flat) for entry, flat in rows]

    # --- appeals ---

    async def appeal(self, user: str, text: str) -> str:
        """Store the appeal of a suspended person; one for each suspension, of which the first stays. Returns its id.

        Raises Conflict when nothing is suspended, StateAway.
        """
        standing = self._people.closed_to(user)
        lasting = {key: end for key, end in standing.items() if end > self._writer.now_ms}
        if not lasting:
            raise Conflict("nothing is suspended for you")
        target = Target("user", user)
        which = self._sealer.id128("suspension", orjson.dumps(lasting, option=orjson.OPT_SORT_KEYS))
        appeal_id = self._sealer.id128("appeal", user, which)
        await self._writer.state.call("SET", keys.report_target(appeal_id), target.name, "PX", KEPT_MS)
        names = [self._case_key(target), keys.cases(self._tag(target))]
        stands: bytes = await self._writer.state.run(_APPEAL, names, [target.name, which, appeal_id, text, KEPT_MS])
        return stands.decode()

    async def appealed(self, user: str) -> str | None:
        """The text of the appeal that waits, for an export of its person. Raises StateAway."""
        text = await self._writer.state.call("HGET", self._writer.shards.case(user), "appeal")
        return None if text is None else text.decode()

    # --- keys ---

    def _case_key(self, target: Target) -> str:
        return self._writer.shards.case(target.id) if target.kind == "user" else keys.sea_case(target.id)

    def _tag(self, target: Target) -> str:
        return keys.shard_tag(self._writer.shards.of(target.id)) if target.kind == "user" else keys.SEA_TAG


def _check(decision: Decision, target: Target) -> None:
    if decision.action == "remove" and target.kind == "user":
        raise Invalid("only a bottle can be removed; suspend the person", field="action")
    if decision.action == "lift" and target.kind == "bottle":
        raise Invalid("only a person's suspension can be lifted", field="action")
    if decision.action in ("dismiss", "remove") and decision.feature is not None:
        raise Invalid("only for suspend and lift", field="feature")
    if decision.action != "suspend" and decision.until_ms:
        raise Invalid("only for suspend", field="until")


def _without_hold(target: Target) -> dict[str, int]:
    """What a moderator decided takes the place of a person's hold."""
    return {HOLD: 0} if target.kind == "user" else {}


def _read_case(flat: list[bytes]) -> dict[str, Any]:
    """The fields of a case as text; ``reports`` are its rows, newest first, each {id, reason, note, at_ms}."""
    fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    rows = [value for name, value in fields.items() if name.startswith("r:")]
    reports = [orjson.loads(value[13:]) | {"at_ms": int(value[:13])} for value in rows]
    return {
        "id": fields.get("id", b"").decode(),
        "open": int(fields.get("open", 0)),
        "held": fields.get("held") == b"1",
        "appeal": fields["appeal"].decode() if "appeal" in fields else None,
        "content": orjson.loads(fields["content"]) if "content" in fields else None,
        "accused": fields["accused"].decode() if "accused" in fields else None,
        "reports": sorted(reports, key=lambda report: -report["at_ms"]),
    }


def _read_entry(tag: str, entry: bytes, flat: list[bytes]) -> LogEntry:
    ms, _, number = entry.decode().partition("-")
    fields = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    return LogEntry((int(ms), int(number), tag), fields)
