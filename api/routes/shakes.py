"""Shake: people who shake at the same moment find each other."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from api.access import HiveDep, KnownCaller, exact_point, require_feature
from api.auth import CurrentUser
from api.dependencies import CoordType, IdPath, Lat, Lon, Metres, Model, RequiredKey, decimal_number, rfc3339
from api.strict_json import StrictRoute
from discovery.shake import ShakeAnswer, ShakeRequest

router = APIRouter(prefix="/v1/shakes", tags=["shake"], route_class=StrictRoute)

WaitParam = Annotated[
    float,
    BeforeValidator(decimal_number),
    Query(ge=0, le=10, allow_inf_nan=False, description="Long poll: seconds to wait."),
]


class ShakeIn(Model):
    """Where I shook. It makes no presence and lists me nowhere."""

    lat: Lat
    lon: Lon
    accuracy_m: Metres | None = None
    coord_type: CoordType = "wgs84"
    reach: Literal["nearby", "anywhere"] = "nearby"
    limit: Annotated[int, Field(strict=True, ge=1, le=20)] = 10


class MatchOut(BaseModel):
    """Somebody who shook too; no distance where both reach anywhere."""

    user: str
    distance_min_m: int | None
    distance_max_m: int | None


class ShakeOut(BaseModel):
    """One shake; every match is mutual."""

    shake_id: str
    state: Literal["waiting", "matched", "nobody"]
    matches: list[MatchOut]
    closes_at: str
    moves_at: str


@router.post("", status_code=201)
async def post_shake(body: ShakeIn, key: RequiredKey, caller: KnownCaller, hive: HiveDep) -> ShakeOut:
    """Shake. The same Idempotency-Key renders the first shake as it stands now."""
    require_feature(hive, caller, "shake")
    point = exact_point(body.lat, body.lon, body.accuracy_m, body.coord_type)
    return _out(await hive.shakes.shake(caller.user, key, ShakeRequest(point, body.reach, body.limit), caller.age))


@router.get("/{shake_id}")
async def get_shake(shake_id: IdPath, caller: CurrentUser, hive: HiveDep, wait_s: WaitParam = 0.0) -> ShakeOut:
    """My shake as it stands, readable for 10 minutes."""
    require_feature(hive, caller, "shake")
    return _out(await hive.shakes.look(caller.user, shake_id, wait_s))


def _out(answer: ShakeAnswer) -> ShakeOut:
    return ShakeOut(
        shake_id=answer.shake_id,
        state=answer.state,
        matches=[
            MatchOut(user=match.user, distance_min_m=match.distance_min_m, distance_max_m=match.distance_max_m)
            for match in answer.matches
        ],
        closes_at=rfc3339(answer.closes_at_ms),
        moves_at=rfc3339(answer.moves_at_ms),
    )
