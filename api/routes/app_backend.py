"""The app's backend: positions, friendships and settings of its users, with the operator key."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from api.access import HiveDep, exact_point
from api.auth import OperatorOnly
from api.dependencies import Instant, Model, UserId, UserPath, rfc3339
from api.errors import field_errors
from api.routes.me_settings import Visibility
from api.routes.position import PositionIn
from api.strict_json import LIST_BODY, StrictRoute, body_limit
from discovery.app_backend import Pair
from discovery.errors import Erased, ImplausibleMove, Refused
from discovery.positions import CLEARED_BY_PERSON, AppPosition, check_accuracy
from discovery.settings import SUSPENDABLE

router = APIRouter(prefix="/v1/app", tags=["app backend"], route_class=StrictRoute)

Rows = Annotated[list[Any], Field(max_length=10_000)]
AppAge = Literal["adult", "minor"]
Feature = Literal["nearby", "shake", "bottles", "radar"]


class PositionRow(PositionIn):
    """One person's position, with the fields and rules of the person's own report."""

    user: UserId


class PositionsIn(Model):
    """Up to 10,000 rows of {user, lat, lon, accuracy_m?, ttl_s?, coord_type?}; each is judged by itself."""

    positions: Rows


class RejectedRow(BaseModel):
    """Why one row was not taken."""

    index: int
    field: str
    code: str
    message: str


class PositionsOut(BaseModel):
    """How many rows were taken, and which not."""

    accepted: int
    rejected: list[RejectedRow]


class PairRow(Model):
    """One friendship to add (accepted at `area` both ways) or remove."""

    a: UserId
    b: UserId
    op: Literal["add", "remove"]
    guardian: bool = False


class PairsIn(Model):
    """Up to 10,000 rows of {a, b, op, guardian?}; each is judged by itself."""

    pairs: Rows


class SkippedRow(BaseModel):
    """Why one pair was left as it is."""

    index: int
    code: str


class PairsOut(BaseModel):
    """How many pairs stand as asked, and which were left."""

    applied: int
    skipped: list[SkippedRow]


class Consent(Model):
    """Which text the person agreed to, and when."""

    version: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    at: Instant


class Suspension(Model):
    """A feature closed to a person until a time."""

    feature: Feature
    until: Instant


class UserIn(Model):
    """What the app sets; widening visibility needs the person's consent."""

    visibility: Visibility | None = None
    consent: Consent | None = None
    age: AppAge | None = None
    suspended: Annotated[list[Suspension], Field(max_length=len(SUSPENDABLE))] | None = None


class UserOut(BaseModel):
    """The person's settings as they stand now."""

    user: str
    visibility: Visibility
    visible_until: str | None


_REFUSED_POSITIONS = {
    CLEARED_BY_PERSON: ("user", CLEARED_BY_PERSON, "the person cleared their own position"),
    ImplausibleMove.code: ("lat", ImplausibleMove.code, "faster than 80 m/s; the earlier position stays"),
}
"""Field, code and message by the code of the rule."""

_POSITION = TypeAdapter(PositionRow)
_PAIR = TypeAdapter(PairRow)
_Row = TypeVar("_Row", bound=Model)


@router.post("/positions")
@body_limit(LIST_BODY)
async def post_positions(body: PositionsIn, _operator: OperatorOnly, hive: HiveDep) -> PositionsOut:
    """Report positions of many users; the same rules as their own report. Of several rows of a user the last taken
    counts."""
    rows, rejected = _judge(_POSITION, body.positions)
    taken: list[tuple[int, AppPosition]] = []
    for index, row in rows:
        try:
            if hive.people.is_gone(row.user):
                raise Erased("the person was erased; PUT /v1/app/users/{user} names them anew", field="user")
            point = exact_point(row.lat, row.lon, row.accuracy_m, row.coord_type)
            check_accuracy(point)
            taken.append((index, AppPosition(row.user, point, row.ttl_s)))
        except Refused as error:
            rejected.append(_rejected(index, error.field or "", error.code, error.detail))
    codes = await hive.positions.report_many([position for _, position in taken])
    for (index, _), code in zip(taken, codes, strict=True):
        if code is not None:
            rejected.append(_rejected(index, *_REFUSED_POSITIONS[code]))
    rejected.sort(key=lambda row: row.index)
    return PositionsOut(accepted=codes.count(None), rejected=rejected)


@router.post("/friendships")
@body_limit(LIST_BODY)
async def post_friendships(body: PairsIn, _operator: OperatorOnly, hive: HiveDep) -> PairsOut:
    """Add or remove friendships; never undoes a person's own unfriend, block, hide or clear."""
    rows, rejected = _judge(_PAIR, body.pairs)
    skipped = [SkippedRow(index=row.index, code=row.code) for row in rejected]
    pairs = [Pair(index, row.a, row.b, row.op, row.guardian) for index, row in rows]
    skipped += [SkippedRow(index=index, code=code) for index, code in await hive.app.pair(pairs)]
    unique = {row.index: row for row in skipped}
    return PairsOut(applied=len(body.pairs) - len(unique), skipped=[unique[index] for index in sorted(unique)])


@router.put("/users/{user}")
async def put_user(user: UserPath, body: UserIn, _operator: OperatorOnly, hive: HiveDep) -> UserOut:
    """Set visibility, age and suspensions of one user."""
    view = await hive.settings.change_by_app(
        user,
        visibility=body.visibility,
        consent=None if body.consent is None else body.consent.model_dump(),
        age=body.age,
        suspended=None if body.suspended is None else {one.feature: one.until for one in body.suspended},
    )
    until = None if view.visible_until_ms is None else rfc3339(view.visible_until_ms)
    return UserOut.model_validate({"user": user, "visibility": view.visibility, "visible_until": until})


def _judge(adapter: TypeAdapter[_Row], raw: Sequence[Any]) -> tuple[list[tuple[int, _Row]], list[RejectedRow]]:
    """The rows that are valid, with their index, and the first fault of each of the others."""
    rows: list[tuple[int, _Row]] = []
    rejected: list[RejectedRow] = []
    for index, value in enumerate(raw):
        try:
            rows.append((index, adapter.validate_python(value)))
        except ValidationError as error:
            field, message = field_errors(error)[0]
            rejected.append(_rejected(index, field, "invalid", message))
    return rows, rejected


def _rejected(index: int, field: str, code: str, message: str) -> RejectedRow:
    return RejectedRow(index=index, field=field, code=code, message=message)
