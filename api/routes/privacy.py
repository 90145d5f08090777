"""What each audience learns of a person's place: in numbers, in plain words, and what is not claimed."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.dependencies import answer
from api.privacy_words import AUDIENCES, NOT_CLAIMED, PROMISE, Audience, epoch_warning
from api.strict_json import StrictRoute
from geo import declared

router = APIRouter(route_class=StrictRoute, tags=["privacy"])


class AudienceOut(BaseModel):
    """One audience. Where it is shown no cell, ``resolution`` and what follows from it are null.

    ``uncertainty_m`` holds all over the globe: it is that of the smallest cells. Who knows the cell and nothing else is
    wrong by at least that much for half of the people in it. ``uncertainty_moving_m`` is the same in the epoch after a
    walker's cell changed, against who has no model of the track.
    """

    audience: str
    resolution: int | None = Field(examples=[7])
    uncertainty_m: float | None = Field(examples=[643.9])
    uncertainty_typical_m: float | None = Field(examples=[906.5])
    uncertainty_moving_m: float | None = Field(examples=[547.4])
    epoch_s: float | None = Field(description="Seconds between the edges at which this moves.", examples=[2700])
    in_words: str


class PrivacyOut(BaseModel):
    """``epoch_s`` is the length of an epoch, ``stranger_epoch_s`` of three: what strangers see moves at their edges."""

    promise: str
    epoch_s: float = Field(examples=[900])
    stranger_epoch_s: float = Field(examples=[2700])
    sparse_areas: bool = Field(description="Whether strangers see a coarser cell where few people live.")
    audiences: list[AudienceOut]
    not_claimed: list[str]
    warning: str | None = None


@router.get("/v1/privacy", summary="What each audience learns", response_model=PrivacyOut)
async def get_privacy(request: Request) -> Response:
    """In numbers and in plain words, for the settings of this deployment. For everybody, without a credential."""
    state = request.app.state
    epoch_s = (state.hive.feeds.epoch_ms or 1000 * state.settings.epoch_s) / 1000
    return answer(
        {
            "promise": PROMISE,
            "epoch_s": epoch_s,
            "stranger_epoch_s": 3 * epoch_s,
            "sparse_areas": state.settings.sparse_areas,
            "audiences": [_audience(one, epoch_s) for one in AUDIENCES],
            "not_claimed": list(NOT_CLAIMED),
            "warning": epoch_warning(epoch_s),
        }
    )


def _audience(audience: Audience, epoch_s: float) -> dict[str, object]:
    resolution = audience.resolution
    live = resolution is None or not audience.at_edges
    found: dict[str, object] = {
        "audience": audience.name,
        "resolution": resolution,
        "uncertainty_m": None,
        "uncertainty_typical_m": None,
        "uncertainty_moving_m": None,
        "epoch_s": None,
        "in_words": audience.in_words,
    }
    if resolution is None:
        return found
    found["uncertainty_m"] = round(declared.least_uncertainty_m(resolution), 1)
    found["uncertainty_typical_m"] = round(declared.typical_uncertainty_m(resolution), 1)
    if not live:
        found["uncertainty_moving_m"] = round(declared.moving_uncertainty_m(resolution, epoch_s), 1)
        found["epoch_s"] = declared.cell_epoch_s(resolution, epoch_s)
    return found
