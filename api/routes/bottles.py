"""Drift Bottle: a text to one random person anywhere, who answers or throws it back."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.access import HiveDep, KnownCaller, require_feature
from api.auth import Caller, CurrentUser
from api.dependencies import IdPath, Model, RequiredKey, rfc3339
from api.pagination import CursorParam, Cursors, LimitParam
from api.strict_json import StrictRoute
from api.text_check import Kind, TextCheck
from discovery.bottle_records import BottleView, check_language, check_text
from discovery.errors import BottlesOff, FeatureOff
from discovery.hive import Hive


async def _require_on(request: Request) -> None:
    if not request.app.state.settings.bottles:
        raise FeatureOff("drift bottles are switched off in this deployment")


router = APIRouter(prefix="/v1", tags=["bottles"], route_class=StrictRoute, dependencies=[Depends(_require_on)])

Text = Annotated[str, Field(strict=True, min_length=1, max_length=500)]


class BottleIn(Model):
    """What to throw."""

    text: Text
    language: Annotated[str, Field(strict=True, max_length=35)] | None = None


class ReplyIn(Model):
    """What to answer."""

    text: Text


class ThrownOut(BaseModel):
    """The bottle is in the sea."""

    bottle_id: str
    expires_at: str
    throws_left: int
    resets_at: str


class ReplyOut(BaseModel):
    """One line of the thread."""

    mine: bool
    kind: str
    text: str
    at: str


class BottleOut(BaseModel):
    """A bottle as one of the two sees it; nobody is named."""

    bottle_id: str
    kind: str
    text: str
    language: str | None
    thrown_at: str
    throw_backs: int
    mine: bool
    replies: list[ReplyOut]


class PickedOut(BaseModel):
    """What came out of the sea."""

    bottle: BottleOut | None
    reason: Literal["sea_empty"] | None
    picks_left: int
    resets_at: str


class MineOut(BaseModel):
    """One of my bottles."""

    bottle_id: str
    role: Literal["thrown", "picked"]
    state: Literal["floating", "picked", "answered", "expired"]
    expires_at: str


class MinePage(BaseModel):
    """My bottles, newest first."""

    bottles: list[MineOut]
    next_cursor: str | None


@router.post("/bottles", status_code=201)
async def throw_bottle(
    request: Request, body: BottleIn, key: RequiredKey, caller: KnownCaller, hive: HiveDep
) -> ThrownOut:
    """Throw a bottle into the sea."""
    await _require_bottles(hive, caller)
    check_language(body.language)
    await _require_allowed(request, hive, "bottle", caller, body.text, body.language)
    thrown = await hive.bottles.throw(caller.user, key, body.text, body.language)
    return ThrownOut(
        bottle_id=thrown.bottle_id,
        expires_at=rfc3339(thrown.expires_at_ms),
        throws_left=thrown.throws_left,
        resets_at=rfc3339(thrown.resets_at_ms),
    )


@router.post("/bottles/pick")
async def pick_bottle(key: RequiredKey, caller: KnownCaller, hive: HiveDep) -> PickedOut:
    """Take one bottle out of the sea, every one that I may have equally likely."""
    await _require_bottles(hive, caller)
    picked = await hive.bottles.pick(caller.user, key)
    return PickedOut(
        bottle=None if picked.bottle is None else _bottle(picked.bottle),
        reason=picked.reason,
        picks_left=picked.picks_left,
        resets_at=rfc3339(picked.resets_at_ms),
    )


@router.post("/bottles/{bottle_id}/throw-back", status_code=204, response_class=Response)
async def throw_back(bottle_id: IdPath, caller: CurrentUser, hive: HiveDep) -> Response:
    """Give a bottle back to the sea."""
    require_feature(hive, caller, "bottles")
    await hive.bottles.throw_back(caller.user, bottle_id)
    return Response(status_code=204)


@router.post("/bottles/{bottle_id}/replies", status_code=201)
async def reply(
    request: Request, bottle_id: IdPath, body: ReplyIn, key: RequiredKey, caller: CurrentUser, hive: HiveDep
) -> BottleOut:
    """Answer. From then on the bottle belongs to the two of us."""
    require_feature(hive, caller, "bottles")
    await _require_allowed(request, hive, "reply", caller, body.text, None)
    return _bottle(await hive.bottles.reply(caller.user, key, bottle_id, body.text))


@router.post("/bottles/{bottle_id}/block", status_code=204, response_class=Response)
async def block_other(bottle_id: IdPath, caller: CurrentUser, hive: HiveDep) -> Response:
    """Block the other one, who stays unnamed."""
    other = await hive.bottles.block_other(caller.user, bottle_id)
    await hive.safety.block(caller.user, other, name=f"bottle:{bottle_id}")
    return Response(status_code=204)


@router.get("/bottles/{bottle_id}")
async def get_bottle(bottle_id: IdPath, caller: CurrentUser, hive: HiveDep) -> BottleOut:
    """A bottle and its thread, for the two of us only."""
    require_feature(hive, caller, "bottles")
    return _bottle(await hive.bottles.get(caller.user, bottle_id))


@router.delete("/bottles/{bottle_id}", status_code=204, response_class=Response)
async def delete_bottle(bottle_id: IdPath, caller: CurrentUser, hive: HiveDep) -> Response:
    """Take back my bottle that nobody has picked."""
    await hive.bottles.delete(caller.user, bottle_id)
    return Response(status_code=204)


@router.get("/me/bottles")
async def my_bottles(
    caller: CurrentUser, hive: HiveDep, limit: LimitParam = 30, cursor: CursorParam = None
) -> MinePage:
    """What I threw and picked."""
    cursors = Cursors(hive.sealer)
    after = None if cursor is None else int(cursors.open("bottles", caller.user, cursor, [int])[0])
    items, last = await hive.bottles.mine(caller.user, limit, after)
    return MinePage(
        bottles=[
            MineOut(bottle_id=one.bottle_id, role=one.role, state=one.state, expires_at=rfc3339(one.expires_at_ms))
            for one in items
        ],
        next_cursor=None if last is None else cursors.seal("bottles", caller.user, last),
    )


async def _require_bottles(hive: Hive, caller: Caller) -> None:
    require_feature(hive, caller, "bottles")
    if not hive.settings.view(caller.user).bottles:
        await hive.writer.look_again(caller.user)
    if not hive.settings.view(caller.user).bottles:
        raise BottlesOff("switch bottles on first: PATCH /v1/me/settings")


async def _require_allowed(
    request: Request, hive: Hive, kind: Kind, caller: Caller, text: str, language: str | None
) -> None:
    """Have the text judged, which may take as long as the deployment's own service takes: then look again whether the
    caller may still write."""
    check: TextCheck = request.app.state.text_check
    await check.require_allowed(kind, caller.user, check_text(text), language)
    require_feature(hive, caller, "bottles")


def _bottle(view: BottleView) -> BottleOut:
    return BottleOut(
        bottle_id=view.bottle_id,
        kind=view.kind,
        text=view.text,
        language=view.language,
        thrown_at=rfc3339(view.thrown_at_ms),
        throw_backs=view.throw_backs,
        mine=view.mine,
        replies=[ReplyOut(mine=one.mine, kind=one.kind, text=one.text, at=rfc3339(one.at_ms)) for one in view.replies],
    )
