"""My position: report, look, clear."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.access import HiveDep, KnownCaller, exact_point
from api.auth import CurrentUser
from api.dependencies import CoordType, Lat, Lon, Metres, Model, rfc3339
from api.strict_json import StrictRoute
from discovery.positions import DEFAULT_TTL_S, LONGEST_TTL_S, SHORTEST_TTL_S, PositionView
from geo import cells
from geo.privacy import uncertainty_m

router = APIRouter(prefix="/v1/me/position", tags=["presence"], route_class=StrictRoute)

Ttl = Annotated[int, Field(strict=True, ge=SHORTEST_TTL_S, le=LONGEST_TTL_S)]


class PositionIn(Model):
    """Where I am. The exact point ends with this request: what is kept is a cell."""

    lat: Lat
    lon: Lon
    accuracy_m: Metres | None = None
    ttl_s: Ttl = DEFAULT_TTL_S
    coord_type: CoordType = "wgs84"


class PublishedCell(BaseModel):
    """A cell as others may learn it, and how far off its centre a person in it typically is."""

    cell: str
    resolution: int
    uncertainty_m: float


class FinestCell(PublishedCell):
    """The finest cell that any friend sees now."""

    audience: str


class PositionOut(BaseModel):
    """What is shown of me, and until when. In a quiet zone of mine strangers are shown nothing, whatever `published`
    is, and friends `city`."""

    expires_at: str
    next_epoch_at: str
    published: PublishedCell
    finest: FinestCell | None
    visibility: str
    in_quiet_zone: bool


@router.put("")
async def put_position(body: PositionIn, caller: KnownCaller, hive: HiveDep) -> PositionOut:
    """Report where I am."""
    point = exact_point(body.lat, body.lon, body.accuracy_m, body.coord_type)
    return _out(await hive.positions.report(caller.user, point, body.ttl_s, caller.age))


@router.get("")
async def get_position(caller: CurrentUser, hive: HiveDep) -> PositionOut:
    """My live position as others may learn it."""
    return _out(await hive.positions.view(caller.user))


@router.delete("", status_code=204, response_class=Response)
async def delete_position(caller: CurrentUser, hive: HiveDep) -> Response:
    """Clear my location: gone everywhere before the answer."""
    await hive.positions.clear(caller.user)
    return Response(status_code=204)


def _cell(cell: int, view: PositionView) -> dict[str, str | int | float]:
    shown_m = view.published_uncertainty_m if cell == view.published else uncertainty_m(cell)
    return {
        "cell": cells.to_hex(cell),
        "resolution": cells.resolution_of(cell),
        "uncertainty_m": round(shown_m, 1),
    }


def _out(view: PositionView) -> PositionOut:
    return PositionOut.model_validate(
        {
            "expires_at": rfc3339(view.expires_at_ms),
            "next_epoch_at": rfc3339(view.next_epoch_at_ms),
            "published": _cell(view.published, view),
            "finest": None if view.finest is None else {**_cell(view.finest[0], view), "audience": view.finest[1]},
            "visibility": view.visibility,
            "in_quiet_zone": view.in_quiet_zone,
        }
    )
