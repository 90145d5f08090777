"""Moderation, on the admin port: the queue of cases, decisions, and the audit log."""

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.access import HiveDep
from api.auth import OperatorOnly
from api.dependencies import IdPath, Instant, Model, rfc3339
from api.pagination import CursorParam, Cursors, LimitParam
from api.strict_json import StrictRoute
from discovery.moderation import Case, Decision, LogEntry
from discovery.reporting import Target

router = APIRouter(prefix="/v1/moderation", tags=["moderation"], route_class=StrictRoute)

SLA_S = 24 * 3600
_NOTES_SHOWN = 20
_CALLER = "moderation"  # cursors are of no single key: a colleague goes on where one stopped

Feature = Literal["nearby", "shake", "bottles", "radar"]
Action = Literal["dismiss", "remove", "suspend", "lift"]


class TargetOut(BaseModel):
    """Whom or what a case is about."""

    type: Literal["user", "bottle"]
    id: str


class ReplyOut(BaseModel):
    """One line of a bottle's thread; ``by_author``: of the bottle."""

    by_author: bool
    text: str
    at: str


class ContentOut(BaseModel):
    """A bottle as it was at the last report that counted, with its last 50 replies."""

    text: str | None
    language: str | None
    author: str
    holder: str | None
    replies: list[ReplyOut]


class CaseOut(BaseModel):
    """What waits for a decision. ``reporters`` are distinct humans since the last decision; ``accused`` is who wrote
    what was reported; ``suspended``: what is closed to the person now, and until when."""

    report_id: str
    target: TargetOut
    age_s: int
    overdue: bool
    on_hold: bool
    reporters: int
    reasons: dict[str, int]
    notes: list[str]
    content: ContentOut | None
    accused: str | None
    suspended: dict[str, str]
    appeal: str | None


class QueueOut(BaseModel):
    """One page, oldest first; ``waiting`` counts all cases, ``oldest_age_s`` is that of the first."""

    cases: list[CaseOut]
    waiting: int
    oldest_age_s: int
    next_cursor: str | None


class DecisionIn(Model):
    """dismiss: nothing wrong, a hold ends (and an appeal is turned down). remove: a bottle, for good. suspend: who
    wrote it, from ``feature`` or all of them, until ``until`` or without end; a bottle is removed as well. lift: a
    person's hold and moderators' suspensions end."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"action": "suspend", "feature": "bottles", "until": "2027-01-16T09:00:00Z", "note": "spam"}
        }
    )

    action: Action
    feature: Feature | None = None
    until: Instant | None = None
    note: Annotated[str, Field(strict=True, max_length=500)] = ""


class DecisionOut(BaseModel):
    """Decided, and effective on every worker."""

    report_id: str
    target: TargetOut
    action: Action


class LogOut(BaseModel):
    """One decision: whose key, what, when."""

    at: str
    by: str
    action: str
    target: TargetOut
    report_id: str
    feature: str | None
    until: str | None
    note: str


class LogPage(BaseModel):
    """The audit log, newest first."""

    entries: list[LogOut]
    next_cursor: str | None


@router.get("/queue")
async def get_queue(
    _operator: OperatorOnly, hive: HiveDep, limit: LimitParam = 30, cursor: CursorParam = None
) -> QueueOut:
    """What waits for a decision, oldest first."""
    cursors = Cursors(hive.sealer)
    opened = None if cursor is None else cursors.open("moderation", _CALLER, cursor, [int, str])
    after = None if opened is None else (int(opened[0]), str(opened[1]))
    cases, following = await hive.moderation.queue(limit, after)
    waiting, oldest_age_s = await hive.moderation.backlog()
    return QueueOut(
        cases=[_case(case, hive) for case in cases],
        waiting=waiting,
        oldest_age_s=oldest_age_s,
        next_cursor=None if following is None else cursors.seal("moderation", _CALLER, *following),
    )


@router.get("/log")
async def get_log(
    _operator: OperatorOnly, hive: HiveDep, limit: LimitParam = 30, cursor: CursorParam = None
) -> LogPage:
    """Who decided what, and when; newest first, kept for a year."""
    cursors = Cursors(hive.sealer)
    opened = None if cursor is None else cursors.open("moderation log", _CALLER, cursor, [int, int, str])
    before = None if opened is None else (int(opened[0]), int(opened[1]), str(opened[2]))
    entries, following = await hive.moderation.log(limit, before)
    sealed = None if following is None else cursors.seal("moderation log", _CALLER, *following)
    return LogPage(entries=[_entry(entry) for entry in entries], next_cursor=sealed)


@router.post("/{report_id}")
async def post_decision(report_id: IdPath, body: DecisionIn, operator: OperatorOnly, hive: HiveDep) -> DecisionOut:
    """Decide a case by the id of any report or appeal in it. Repeated, it changes nothing."""
    decision = Decision(operator.key_id, report_id, body.action, body.feature, body.until or 0, body.note)
    target = await hive.moderation.decide(decision)
    return DecisionOut(report_id=report_id, target=_target(target), action=body.action)


def _target(target: Target) -> TargetOut:
    return TargetOut(type=target.kind, id=target.id)


def _case(case: Case, hive: Any) -> CaseOut:
    fields = case.fields
    fresh = fields["reports"][: fields["open"]]
    return CaseOut(
        report_id=fields["id"],
        target=_target(case.target),
        age_s=case.waiting_s,
        overdue=case.waiting_s > SLA_S,
        on_hold=fields["held"],
        reporters=fields["open"],
        reasons=Counter(report["reason"] for report in fresh),
        notes=[report["note"] for report in fresh if report["note"]][:_NOTES_SHOWN],
        content=None if fields["content"] is None else _content(fields["content"]),
        accused=fields["accused"],
        suspended=_suspended(case.target, hive),
        appeal=fields["appeal"],
    )


def _content(content: dict[str, Any]) -> ContentOut:
    replies = content["replies"] or []  # an empty list comes from Lua as an object
    return ContentOut(
        text=content["text"] or None,
        language=content["language"] or None,
        author=content["author"],
        holder=content["holder"] or None,
        replies=[ReplyOut(by_author=one[0] == "a", text=one[14:], at=rfc3339(int(one[1:14]))) for one in replies],
    )


def _suspended(target: Target, hive: Any) -> dict[str, str]:
    standing = hive.people.closed_to(target.id) if target.kind == "user" else {}
    return {key: rfc3339(until_ms) for key, until_ms in standing.items() if until_ms > hive.now_ms}


def _entry(entry: LogEntry) -> LogOut:
    fields = entry.fields
    until_ms = int(fields["until"])
    return LogOut(
        at=rfc3339(entry.place[0]),
        by=fields["by"],
        action=fields["action"],
        target=_target(Target.of_name(fields["target"])),
        report_id=fields["report"],
        feature=fields["feature"] or None,
        until=rfc3339(until_ms) if until_ms else None,
        note=fields["note"],
    )
