"""People nearby, in bands."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator

from api.access import HiveDep, require_feature
from api.auth import CurrentUser
from api.dependencies import rfc3339, whole_number
from api.pagination import CursorParam, LimitParam
from api.strict_json import StrictRoute

router = APIRouter(prefix="/v1/nearby", tags=["nearby"], route_class=StrictRoute)

Radius = Annotated[
    Literal[3000, 5000, 10_000, 20_000, 50_000],
    BeforeValidator(whole_number),
    Query(description="Outer edge of the last band."),
]


class Neighbour(BaseModel):
    """One person: the band between our published cells, never metres, never a cell."""

    user: str
    distance_min_m: int
    distance_max_m: int


class NearbyOut(BaseModel):
    """One page; `epoch_at` is the edge that fixed the cells."""

    people: list[Neighbour]
    radius_m: int
    epoch_at: str
    next_cursor: str | None


@router.get("")
async def get_nearby(
    caller: CurrentUser,
    hive: HiveDep,
    radius_m: Radius = 5000,
    limit: LimitParam = 30,
    cursor: CursorParam = None,
) -> NearbyOut:
    """Who is near, nearest band first. Only who is visible to everyone sees this list, and nobody
    does in a quiet zone of their own."""
    require_feature(hive, caller, "nearby")
    page = await hive.nearby.page(caller.user, radius_m, limit, cursor)
    return NearbyOut(
        people=[
            Neighbour(user=one.user, distance_min_m=one.distance_min_m, distance_max_m=one.distance_max_m)
            for one in page.people
        ],
        radius_m=radius_m,
        epoch_at=rfc3339(page.edge_ms),
        next_cursor=page.next_cursor,
    )
