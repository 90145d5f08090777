"""Routes about the service itself: the landing page, liveness and readiness."""

import math
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, Response

from api.dependencies import answer
from api.errors import DISK_FULL, problem_response
from api.metrics import half_seconds
from api.strict_json import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["service"])

_LANDING = (Path(__file__).parent.parent / "web" / "index.html").read_text("utf-8")


class Health(BaseModel):
    """``durability`` is there only when it is ``weak``: the state may lose what it acknowledged.

    ``read_only`` is there, and true, only while the disk of the state is full and it refuses writes. ``lag_s`` is since
    when this worker has not folded all that stands in the feeds, in steps of 0.5 s; absent before it has done so once.
    """

    status: str
    durability: str | None = None
    read_only: bool | None = None
    lag_s: float | None = None


@router.get("/", summary="Landing page", response_class=HTMLResponse)
async def landing() -> Response:
    """What this is, with links to the documentation."""
    return HTMLResponse(_LANDING)


@router.get("/healthz", summary="Alive", response_model=Health)
async def healthz() -> Response:
    """200 while the process answers at all."""
    return answer({"status": "ok"})


@router.get("/readyz", summary="Ready", response_model=Health, response_model_exclude_none=True)
async def readyz(request: Request) -> Response:
    """200 when this worker may answer, else 503 ``not_ready`` with the reason; ``lag_s`` in both."""
    state = request.app.state
    marks: dict[str, object] = {"read_only": True} if state.read_only() else {}
    lag_s = half_seconds(state.hive.lag_s())
    if math.isfinite(lag_s):
        marks["lag_s"] = lag_s
    ready, reason = state.hive.ready()
    if not ready:
        return problem_response("not_ready", DISK_FULL if state.read_only() else reason, members=marks)
    if state.settings.durability == "weak":
        marks["durability"] = "weak"
    return answer({"status": "ok", **marks})
