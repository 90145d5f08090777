"""My settings: who sees me, and whether I take part in bottles."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access import HiveDep, KnownCaller
from api.auth import CurrentUser
from api.dependencies import Instant, Model, rfc3339
from api.strict_json import StrictRoute
from discovery.errors import Invalid
from discovery.quiet_zones import MAX_ZONES
from discovery.settings import SettingsView
from geo import cells

router = APIRouter(prefix="/v1/me/settings", tags=["presence"], route_class=StrictRoute)

Visibility = Literal["everyone", "friends", "nobody"]
OnOff = Literal["on", "off"]


class SettingsIn(Model):
    """What to change; what is left out stays. ``quiet_zones`` replaces all of them."""

    visibility: Visibility | None = None
    visible_until: Instant | None = None
    bottles: OnOff | None = None
    quiet_zones: (
        Annotated[
            list[Annotated[str, Field(strict=True, max_length=16)]],
            Field(
                max_length=MAX_ZONES,
                description="H3 cells of resolution 5. In one of them strangers do not see me and friends see `city`.",
                examples=[["851fb467fffffff"]],
            ),
        ]
        | None
    ) = None


class SettingsOut(BaseModel):
    """The settings as they stand now; `everyone` lapses to what was set before."""

    visibility: Visibility
    visible_until: str | None
    quiet_zones: list[str]
    bottles: OnOff


@router.get("")
async def get_settings(caller: CurrentUser, hive: HiveDep) -> SettingsOut:
    """My settings."""
    return settings_out(hive.settings.view(caller.user))


@router.patch("")
async def patch_settings(body: SettingsIn, caller: KnownCaller, hive: HiveDep) -> SettingsOut:
    """Change my settings."""
    view = await hive.settings.change(
        caller.user,
        visibility=body.visibility,
        visible_until_ms=body.visible_until,
        bottles=None if body.bottles is None else body.bottles == "on",
        quiet_zones=None if body.quiet_zones is None else [_zone(text) for text in body.quiet_zones],
        claim=caller.age,
    )
    return settings_out(view)


def _zone(text: str) -> int:
    try:
        return cells.from_hex(text)
    except ValueError:
        raise Invalid("each must be an H3 cell of resolution 5, as text", field="quiet_zones") from None


def settings_out(view: SettingsView) -> SettingsOut:
    """The answer for one view."""
    return SettingsOut.model_validate(
        {
            "visibility": view.visibility,
            "visible_until": None if view.visible_until_ms is None else rfc3339(view.visible_until_ms),
            "quiet_zones": [cells.to_hex(zone) for zone in view.quiet_zones],
            "bottles": "on" if view.bottles else "off",
        }
    )
