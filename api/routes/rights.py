"""What a person may ask of us: everything kept of them, and that all of it goes."""

import time
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.access import HiveDep
from api.auth import CurrentUser, OperatorOnly
from api.dependencies import UserPath, answer, rfc3339
from api.fail_closed import forget_life
from api.strict_json import StrictRoute
from discovery.erasure import ERASED_WITHIN_MS
from discovery.errors import Invalid

router = APIRouter(tags=["rights"], route_class=StrictRoute)

_LAST_MS = 253_402_300_799_000  # the end of the year 9999: what has no end in sight

Confirm = Annotated[str, Query(description="The own id, so that nobody erases themselves by a slip.")]


class ErasedOut(BaseModel):
    """Nothing shows the person from now on; by then nothing of them is kept but a keyed hash of the id."""

    erased_by: str


class ExportOut(BaseModel):
    """Everything kept of me, part by part; of what concerns others only my own acts."""

    user: str
    exported_at: str
    parts: dict[str, Any]


@router.get("/v1/me/export", response_model=ExportOut)
async def export_me(caller: CurrentUser, hive: HiveDep) -> Response:
    """Everything kept of me."""
    parts = await hive.export.of(caller.user)
    return answer({"user": caller.user, "exported_at": rfc3339(hive.now_ms), "parts": _with_times(parts)})


@router.delete("/v1/me", status_code=202)
async def delete_me(request: Request, caller: CurrentUser, hive: HiveDep, confirm: Confirm) -> ErasedOut:
    """Erase me: effective everywhere before the answer. This token, and all made before, hold no more."""
    if confirm != caller.user:
        raise Invalid("must be the caller's own id", field="confirm")
    out = await _erase(hive, caller.user, max(_now_ms(), caller.issued_ms))
    forget_life(request.scope)
    return out


@router.delete("/v1/app/users/{user}", status_code=202)
async def delete_user(user: UserPath, _operator: OperatorOnly, hive: HiveDep) -> ErasedOut:
    """Erase a user: effective everywhere before the answer. 202 for any id."""
    return await _erase(hive, user, _now_ms())


async def _erase(hive: HiveDep, user: str, at_ms: int) -> ErasedOut:
    await hive.erasure.erase(user, at_ms)
    return ErasedOut(erased_by=rfc3339(_now_ms() + ERASED_WITHIN_MS))


def _now_ms() -> int:
    """By the clock that tokens are judged by, not by hive time."""
    return time.time_ns() // 1_000_000


def _with_times(value: Any, name: str = "") -> Any:
    """Names that end in ``_ms`` lose that, and their numbers become RFC 3339 times; 0 is none."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key.removesuffix("_ms"): _with_times(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_times(inner) for inner in value]
    if name.endswith("_ms"):
        return rfc3339(min(value, _LAST_MS)) if value else None
    return value
