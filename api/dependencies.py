"""Building blocks of routes: strict models and field types, checked parameters, the Idempotency-Key, ready answers.

In bodies a number is a JSON number: an integer where a float is due is fine, a string or a bool is not. In paths and
query strings everything is text, so that the ``…Param`` types read plain decimal text.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, Header, Path, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.responses import Response

from discovery.errors import Invalid, KeyMissing

from .auth import ID_PATTERN

_WHOLE_ID = f"^{ID_PATTERN}$"
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Model(BaseModel):
    """Base of request bodies: unknown fields are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def decimal_number(value: object) -> object:
    """float() alone also reads "1_0", " 1 " and other scripts' digits."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value) is None:
        raise ValueError("must be a decimal number")
    return value


def whole_number(value: object) -> object:
    """For ``Literal`` choices of numbers; and int() alone also reads "1_0", " 1 " and other scripts' digits."""
    if not isinstance(value, str):
        return value
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise ValueError("must be a whole number")
    return int(value)


def instant_ms(value: object) -> int:
    """Milliseconds since 1970 of RFC 3339 text with an offset; ValueError for anything else."""
    fault = "must be an RFC 3339 time with an offset, as 2026-11-22T08:30:00Z"
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise ValueError(fault)
    try:
        return int(datetime.fromisoformat(value.upper()).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(fault) from None


CoordType = Literal["wgs84", "gcj02", "bd09"]

# In bodies
Lat = Annotated[float, Field(strict=True, ge=-90, le=90, allow_inf_nan=False, description="Degrees, WGS84.")]
Lon = Annotated[float, Field(strict=True, ge=-180, le=180, allow_inf_nan=False, description="Degrees, WGS84.")]
Metres = Annotated[float, Field(strict=True, ge=0, le=100_000_000, allow_inf_nan=False)]
UserId = Annotated[str, Field(strict=True, pattern=_WHOLE_ID, description="The app's id of a user.")]
Limit = Annotated[int, Field(strict=True, ge=1, le=100)]
Instant = Annotated[
    int,
    BeforeValidator(instant_ms),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339 with an offset."}),
]
"""An RFC 3339 time in a body; the value is an int, milliseconds since 1970."""

# In query strings
LatParam = Annotated[float, BeforeValidator(decimal_number), Query(ge=-90, le=90, allow_inf_nan=False)]
LonParam = Annotated[float, BeforeValidator(decimal_number), Query(ge=-180, le=180, allow_inf_nan=False)]
MetresParam = Annotated[float, BeforeValidator(decimal_number), Query(ge=0, le=100_000_000, allow_inf_nan=False)]

# In paths
UserPath = Annotated[str, Path(pattern=_WHOLE_ID, alias="user", description="The app's id of a user.")]
BrandPath = Annotated[str, Path(pattern=_WHOLE_ID, alias="brand", description="Id of a brand.")]
IdPath = Annotated[str, Path(pattern=_WHOLE_ID)]
"""Any other id: name the argument as in the path template."""

_KeyHeader = Annotated[
    str | None, Header(alias="Idempotency-Key", description="1-128 visible ASCII characters; kept for 24 hours.")
]
_KEY = re.compile(r"[\x21-\x7e]{1,128}")


async def _optional_key(request: Request, idempotency_key: _KeyHeader = None) -> str | None:
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Invalid("given more than once", "Idempotency-Key")
    if idempotency_key is not None and _KEY.fullmatch(idempotency_key) is None:
        raise Invalid("1 to 128 visible ASCII characters", "Idempotency-Key")
    return idempotency_key


async def _required_key(key: Annotated[str | None, Depends(_optional_key)]) -> str:
    if key is None:
        raise KeyMissing("Send an Idempotency-Key header.", "Idempotency-Key")
    return key


OptionalKey = Annotated[str | None, Depends(_optional_key)]
RequiredKey = Annotated[str, Depends(_required_key)]


def rfc3339(time_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 UTC; the fraction only where there is one."""
    whole = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time_ms % 1000:03d}Z" if time_ms % 1000 else f"{whole}Z"


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer rendered here: FastAPI neither validates nor copies it. Declare ``response_model`` all the same."""
    return Response(orjson.dumps(content), status, headers, "application/json")
