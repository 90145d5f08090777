"""What feature routes need of the hive: the hive itself, who may use a feature, a point from a body, a fixed choice."""

from typing import Annotated

from fastapi import Depends, Request

from api.auth import Caller, CurrentUser, caller_of
from api.errors import DISK_FULL, NotReady
from api.fail_closed import note_lease, note_life
from discovery.errors import AdultsOnly, Invalid, Suspended
from discovery.hive import Hive
from discovery.suspensions import until_ms
from geo.privacy import ExactPoint


async def _hive(request: Request) -> Hive:
    hive: Hive = request.app.state.hive
    return hive


async def _ready_hive(request: Request) -> Hive:
    """People reads fail closed: a worker that does not follow the feed might show who has hidden since.

    That goes for a full disk too: no tick and no lease can be written, so nobody could be told to hide somebody.
    """
    hive: Hive = request.app.state.hive
    _admit(request, hive)
    ready, reason = hive.ready()
    if not ready or not note_lease(request.scope, hive):
        raise NotReady(DISK_FULL if request.app.state.read_only() else reason)
    return hive


def _admit(request: Request, hive: Hive) -> None:
    """From here on, with the whole request read, the caller acts in this life alone. Raises Erased."""
    caller = caller_of(request)
    if caller is None:
        hive.lives.admit_nobody()
    else:
        note_life(request.scope, hive.lives, caller.user, hive.lives.admit(caller.user, caller.issued_ms))


async def _known_caller(caller: CurrentUser, hive: Annotated[Hive, Depends(_ready_hive)]) -> Caller:
    """The caller, with the human behind the account remembered: blocks, quotas and "seen before" act on the human; and
    an age that hides them."""
    await hive.settings.note_person(caller.user, caller.person)
    await hive.settings.note_lower_age(caller.user, caller.age)
    return caller


KnownCaller = Annotated[Caller, Depends(_known_caller)]
"""For routes by which somebody begins to take part."""
HiveDep = Annotated[Hive, Depends(_ready_hive)]
StoreHive = Annotated[Hive, Depends(_hive)]
"""For store reads, which go on without the state."""


def require_not_suspended(hive: Hive, user: str, feature: str) -> None:
    """Raise Suspended while the app, a moderator or a hold has closed the feature to this person."""
    if until_ms(hive.people.closed_to(user), feature) > hive.now_ms:
        contact = hive.rules.appeal_contact
        raise Suspended(f"{feature} is suspended for you" + (f"; to appeal: {contact}" if contact else ""))


def require_feature(hive: Hive, caller: Caller, feature: str) -> None:
    """For the features among strangers: adults who are not suspended."""
    if not hive.people.adult_with(hive.people.slot(caller.user), caller.age):
        raise AdultsOnly(f"{feature} is for adults")
    require_not_suspended(hive, caller.user, feature)


def exact_point(lat: float, lon: float, accuracy_m: float | None, coord_type: str) -> ExactPoint:
    """The point of a body; Invalid names the field that is wrong."""
    try:
        return ExactPoint.of(lat, lon, accuracy_m, coord_type)
    except ValueError as error:
        field = next((name for name in ("accuracy_m", "lat", "lon") if name in str(error)), "lat")
        raise Invalid("out of range", field=field) from None
