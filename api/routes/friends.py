"""My friends: what I show each of them, and what each shows me."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from api.access import HiveDep, KnownCaller
from api.auth import CurrentUser
from api.dependencies import Instant, Model, UserPath, rfc3339
from api.strict_json import StrictRoute
from discovery.friends import FriendView

router = APIRouter(prefix="/v1/me/friends", tags=["people"], route_class=StrictRoute)


class FriendIn(Model):
    """How finely this friend may see me."""

    precision: Literal["hidden", "city", "area", "near", "precise"] = "area"
    until: Instant | None = None


_DEFAULT = FriendIn()


class FriendOut(BaseModel):
    """One friendship as it stands for me."""

    user: str
    state: Literal["incoming", "requested", "accepted"]
    i_show: str | None
    shows_me: str | None
    until: str | None


class FriendsOut(BaseModel):
    """All of mine, by id."""

    friends: list[FriendOut]


@router.put("/{user}")
async def put_friend(user: UserPath, caller: KnownCaller, hive: HiveDep, body: FriendIn = _DEFAULT) -> FriendOut:
    """Ask for a friendship, accept one, or change what I show. The same bytes for any id, existing or not."""
    await hive.settings.note_age(caller.user, caller.age)
    return _out(await hive.friends.show(caller.user, user, body.precision, body.until, caller.age))


@router.delete("/{user}", status_code=204, response_class=Response)
async def delete_friend(user: UserPath, caller: CurrentUser, hive: HiveDep) -> Response:
    """End a friendship or decline a request."""
    await hive.friends.unfriend(caller.user, user)
    return Response(status_code=204)


@router.get("")
async def get_friends(caller: CurrentUser, hive: HiveDep) -> FriendsOut:
    """My friends and requests."""
    return FriendsOut(friends=[_out(view) for view in hive.friends.listed(caller.user)])


def _out(view: FriendView) -> FriendOut:
    return FriendOut.model_validate(
        {
            "user": view.user,
            "state": view.state,
            "i_show": view.i_show,
            "shows_me": view.shows_me,
            "until": None if view.until_ms is None else rfc3339(view.until_ms),
        }
    )
