"""Reporting people and bottles, and the appeal of who was suspended."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.access import HiveDep, KnownCaller
from api.auth import CurrentUser
from api.dependencies import Model, RequiredKey, UserId
from api.strict_json import StrictRoute
from discovery.reporting import Target

router = APIRouter(prefix="/v1", tags=["safety"], route_class=StrictRoute)


class TargetIn(Model):
    """Whom or what: a user's id, or a bottle's."""

    type: Literal["user", "bottle"]
    id: UserId


class ReportIn(Model):
    """What is wrong. ``reason`` is a word of the app's choice, counted in the moderators' queue."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"target": {"type": "user", "id": "bob"}, "reason": "harassment", "note": "…"}}
    )

    target: TargetIn
    reason: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    note: Annotated[str, Field(strict=True, max_length=500)] = ""


class ReportOut(BaseModel):
    """Taken. The same for every target, whether it exists or not."""

    report_id: str


class AppealIn(Model):
    """Why the suspension should end."""

    model_config = ConfigDict(json_schema_extra={"example": {"text": "It was a misunderstanding."}})

    text: Annotated[str, Field(strict=True, min_length=1, max_length=1000)]


class AppealOut(BaseModel):
    """Stored for the moderators; of several against the same suspension the first."""

    appeal_id: str


@router.post("/reports", status_code=202)
async def post_report(body: ReportIn, key: RequiredKey, caller: KnownCaller, hive: HiveDep) -> ReportOut:
    """Report a person or a bottle: hidden from me at once; three distinct reporters put it on hold."""
    target = Target(body.target.type, body.target.id)
    return ReportOut(report_id=await hive.reports.report(caller.user, key, target, body.reason, body.note))


@router.post("/me/appeal", status_code=202)
async def post_appeal(body: AppealIn, caller: CurrentUser, hive: HiveDep) -> AppealOut:
    """Ask the moderators to look again at my suspension."""
    return AppealOut(appeal_id=await hive.moderation.appeal(caller.user, body.text))
