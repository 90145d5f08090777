"""My settings: who sees me, and whether I take part in bottles."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access import HiveDep, KnownCaller
from api.auth import CurrentUser
from api.dependencies import Instant, Model, rfc3339
from api.strict_json import StrictRoute
from discovery.errors import NotAvailable
from discovery.settings import SettingsView

router = APIRouter(prefix="/v1/me/settings", tags=["presence"], route_class=StrictRoute)

Visibility = Literal["everyone", "friends", "nobody"]
OnOff = Literal["on", "off"]


class SettingsIn(Model):
    """What to change; what is left out stays."""

    visibility: Visibility | None = None
    visible_until: Instant | None = None
    bottles: OnOff | None = None
    quiet_zones: Annotated[list[str], Field(max_length=100)] | None = None


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
    if body.quiet_zones:
        raise NotAvailable("quiet zones come with a later version", field="quiet_zones")
    view = await hive.settings.change(
        caller.user,
        visibility=body.visibility,
        visible_until_ms=body.visible_until,
        bottles=None if body.bottles is None else body.bottles == "on",
        claim=caller.age,
    )
    return settings_out(view)


def settings_out(view: SettingsView) -> SettingsOut:
    """The answer for one view."""
    return SettingsOut.model_validate(
        {
            "visibility": view.visibility,
            "visible_until": None if view.visible_until_ms is None else rfc3339(view.visible_until_ms),
            "quiet_zones": [],
            "bottles": "on" if view.bottles else "off",
        }
    )
