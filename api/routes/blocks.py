"""My blocks: both directions, all features."""

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from api.access import HiveDep, KnownCaller
from api.auth import CurrentUser
from api.dependencies import UserPath
from api.pagination import CursorParam, Cursors, LimitParam
from api.strict_json import StrictRoute

router = APIRouter(prefix="/v1/me/blocks", tags=["people"], route_class=StrictRoute)


class BlockOut(BaseModel):
    """Somebody I blocked; `bottle:<id>` where I never learned who it is."""

    user: str


class BlocksOut(BaseModel):
    """One page, by id."""

    blocks: list[BlockOut]
    next_cursor: str | None


@router.put("/{user}", status_code=204, response_class=Response)
async def put_block(user: UserPath, caller: KnownCaller, hive: HiveDep) -> Response:
    """Block: effective in every feature before the answer. 204 for any id."""
    await hive.safety.block(caller.user, user)
    return Response(status_code=204)


@router.delete("/{user}", status_code=204, response_class=Response)
async def delete_block(user: UserPath, caller: CurrentUser, hive: HiveDep) -> Response:
    """Take a block back. 204 for any id."""
    await hive.safety.unblock(caller.user, user)
    return Response(status_code=204)


@router.get("")
async def get_blocks(
    caller: CurrentUser, hive: HiveDep, limit: LimitParam = 30, cursor: CursorParam = None
) -> BlocksOut:
    """Whom I blocked."""
    names = hive.safety.blocked(caller.user)
    page, following = Cursors(hive.sealer).page_of_names("blocks", caller.user, names, limit, cursor)
    return BlocksOut(blocks=[BlockOut(user=name) for name in page], next_cursor=following)
