"""Routes about the service itself: the landing page, liveness and readiness."""

from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, Response

from api.dependencies import answer
from api.errors import DISK_FULL, problem_response
from api.strict_json import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["service"])

_LANDING = (Path(__file__).parent.parent / "web" / "index.html").read_text("utf-8")


class Health(BaseModel):
    """``durability`` is there only when it is ``weak``: the state may lose what it acknowledged.

    ``read_only`` is there, and true, only while the disk of the state is full and it refuses writes.
    """

    status: str
    durability: str | None = None
    read_only: bool | None = None


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
    """200 when this worker may answer, else 503 ``not_ready``."""
    state = request.app.state
    marks: dict[str, object] = {"read_only": True} if state.read_only() else {}
    ready, reason = state.hive.ready()
    if not ready:
        return problem_response("not_ready", DISK_FULL if marks else reason, members=marks)
    if state.settings.durability == "weak":
        marks["durability"] = "weak"
    return answer({"status": "ok", **marks})
