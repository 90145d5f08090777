"""Radar: my friends inside a radius that I choose."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator

from api.access import HiveDep, require_not_suspended
from api.auth import CurrentUser
from api.dependencies import rfc3339, whole_number
from api.strict_json import StrictRoute
from geo import cells

router = APIRouter(prefix="/v1/radar", tags=["radar"], route_class=StrictRoute)

Radius = Annotated[
    Literal[1000, 2000, 5000, 10_000, 25_000, 50_000, 100_000],
    BeforeValidator(whole_number),
    Query(description="Between the centres of published cells."),
]


class FriendNear(BaseModel):
    """One friend, at the coarser of what we show each other; the distance is between cell centres."""

    user: str
    precision: str
    distance_m: float
    cell: str
    geometry: dict[str, Any]


class RadarOut(BaseModel):
    """Friends by distance, ties by id."""

    friends: list[FriendNear]
    epoch_at: str


@router.get("")
async def get_radar(caller: CurrentUser, hive: HiveDep, radius_m: Radius = 10_000) -> RadarOut:
    """Which friends are inside the radius."""
    require_not_suspended(hive, caller.user, "radar")
    view = await hive.radar.around(caller.user, radius_m)
    return RadarOut(
        friends=[
            FriendNear(
                user=blip.user,
                precision=blip.precision,
                distance_m=round(blip.distance_m, 3),
                cell=cells.to_hex(blip.cell),
                geometry=cells.polygon(blip.cell),
            )
            for blip in view.friends
        ],
        epoch_at=rfc3339(view.edge_ms),
    )
