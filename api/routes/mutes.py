"""My mutes: one-sided; who is muted notices nothing."""

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from api.access import HiveDep, KnownCaller
from api.auth import CurrentUser
from api.dependencies import UserPath
from api.pagination import CursorParam, Cursors, LimitParam
from api.strict_json import StrictRoute

router = APIRouter(prefix="/v1/me/mutes", tags=["people"], route_class=StrictRoute)


class MuteOut(BaseModel):
    """Somebody I muted."""

    user: str


class MutesOut(BaseModel):
    """One page, by id."""

    mutes: list[MuteOut]
    next_cursor: str | None


@router.put("/{user}", status_code=204, response_class=Response)
async def put_mute(user: UserPath, caller: KnownCaller, hive: HiveDep) -> Response:
    """Mute: no longer shown to me in nearby, radar and friend requests, and their bottles do not come to me. 204 for
    any id."""
    await hive.safety.mute(caller.user, user)
    return Response(status_code=204)


@router.delete("/{user}", status_code=204, response_class=Response)
async def delete_mute(user: UserPath, caller: CurrentUser, hive: HiveDep) -> Response:
    """Take a mute back. 204 for any id."""
    await hive.safety.unmute(caller.user, user)
    return Response(status_code=204)


@router.get("")
async def get_mutes(caller: CurrentUser, hive: HiveDep, limit: LimitParam = 30, cursor: CursorParam = None) -> MutesOut:
    """Whom I muted."""
    names = hive.safety.muted(caller.user)
    page, following = Cursors(hive.sealer).page_of_names("mutes", caller.user, names, limit, cursor)
    return MutesOut(mutes=[MuteOut(user=name) for name in page], next_cursor=following)
