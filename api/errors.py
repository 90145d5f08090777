"""The one table of refusals: code -> status, title and meaning, and how each is rendered (RFC 9457).

Every answer of 400 and above is ``application/problem+json``. No value that a caller sent is ever echoed: field names
are echoed only when they look like names, messages only from an allow-list of kinds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from discovery import errors as rules


class Unauthorized(rules.Refused):
    """No credential, or one that does not hold. Never says which part; ``challenge`` is the WWW-Authenticate header."""

    code = "unauthorized"

    def __init__(self, challenge: str) -> None:
        super().__init__()
        self.challenge = challenge


class Forbidden(rules.Refused):
    """A credential of a kind that this route does not take."""

    code = "forbidden"


class BadJson(rules.Refused):
    """The body is not readable as JSON."""

    code = "bad_json"


class TooLarge(rules.Refused):
    """The body is larger than this route takes."""

    code = "too_large"


class HeadersTooLarge(rules.Refused):
    """The request's headers are larger than 16 KB."""

    code = "headers_too_large"


class UnsupportedMediaType(rules.Refused):
    """The body is of a type that this route does not take."""

    code = "unsupported_media_type"


class BodyTimeout(rules.Refused):
    """The body did not arrive in time."""

    code = "body_timeout"


class NotReady(rules.Refused):
    """The worker is starting, or has lost its state."""

    code = "not_ready"


class InvalidFields(rules.Invalid):
    """Several fields that are not allowed, each with its message."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("The request is readable but not valid; see errors.")
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of the table. ``meaning`` says what happened, ``remedy`` what the caller does about it."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    retry_after_s: int | None = None


_ROWS = (
    Problem(
        "bad_json",
        400,
        "The body is not readable as JSON",
        "The body is empty, is not UTF-8 or not JSON (NaN and Infinity are not), is nested too deeply, or has a key twice.",
        "Send one JSON value as RFC 8259 defines it, each key once.",
    ),
    Problem(
        "bad_cursor",
        400,
        "The cursor is not one of ours",
        "The cursor was not given out by this service for this caller and this list.",
        "Start again without a cursor, and pass on next_cursor unchanged.",
    ),
    Problem(
        "cursor_expired",
        400,
        "The cursor is of a past epoch",
        "The list moved on since the first page was read, so its pages no longer fit together.",
        "Start again without a cursor.",
    ),
    Problem(
        "idempotency_key_required",
        400,
        "An Idempotency-Key is required",
        "This act must not happen twice when a request is repeated, so each act needs its own key.",
        "Send Idempotency-Key with 1 to 128 visible ASCII characters, the same one when repeating.",
    ),
    Problem(
        "bad_request",
        400,
        "The request is not readable",
        "The request is not well-formed HTTP for this service.",
        "See detail.",
    ),
    Problem(
        "unauthorized",
        401,
        "A valid credential is required",
        "The credential is missing, expired, or does not hold. The answer does not say which part is wrong.",
        "Send Authorization: Bearer with a fresh token, or X-API-Key; see the security schemes in /openapi.json.",
    ),
    Problem(
        "forbidden",
        403,
        "Not with this kind of credential",
        "The credential is of a kind that this route does not take.",
        "Use an end user's token for /v1/me and the features, the operator's or the brand's key for the rest.",
    ),
    Problem(
        "adults_only",
        403,
        "For adults only",
        "The feature is for adults, and the caller is not known to be one.",
        "The app states the age in the token (age) or with PUT /v1/app/users/{user}.",
    ),
    Problem(
        "suspended",
        403,
        "Suspended",
        "The app suspended this feature for the caller.",
        "Only the app can lift it.",
    ),
    Problem(
        "bottles_off",
        403,
        "Bottles are off",
        "Throwing and picking need the caller's own setting bottles: on.",
        "PATCH /v1/me/settings with bottles: on.",
    ),
    Problem(
        "not_found",
        404,
        "Not found",
        "There is no such thing, or it is not for this caller: the answer is the same for both.",
        "Check the path and the id.",
    ),
    Problem(
        "method_not_allowed",
        405,
        "Method not allowed",
        "The path exists, but not with this method.",
        "Use one of the methods in the Allow header.",
    ),
    Problem(
        "body_timeout",
        408,
        "The body did not arrive in time",
        "The whole body must arrive within 10 seconds; uploads of files, each part of it.",
        "Repeat the request.",
    ),
    Problem(
        "position_required",
        409,
        "An own position is required",
        "The caller has no live position, so there is no place to look from.",
        "PUT /v1/me/position first.",
    ),
    Problem(
        "not_visible",
        409,
        "See and be seen",
        "The caller's own visibility does not allow looking: only who may be seen sees.",
        "PATCH /v1/me/settings with a wider visibility.",
    ),
    Problem(
        "implausible_move",
        409,
        "Implausible move",
        "The move between cells is faster than 80 m/s. The earlier position stays.",
        "Send the next real position; one jump a day is free.",
    ),
    Problem(
        "still_running",
        409,
        "Still running",
        "The first request with this Idempotency-Key has not ended.",
        "Repeat in a second, with the same key.",
        retry_after_s=1,
    ),
    Problem(
        "conflict",
        409,
        "No longer in that state",
        "The thing is no longer in the state that the act needs.",
        "Read it again, then decide.",
    ),
    Problem(
        "too_large",
        413,
        "The body is too large",
        "Bodies are limited: 16 KB, 4 MB where a list of up to 10,000 is taken, 512 MB for a store import.",
        "Send fewer at a time.",
    ),
    Problem(
        "unsupported_media_type",
        415,
        "Unsupported media type",
        "The Content-Type is missing or not one that this route takes.",
        "Send Content-Type: application/json, or what the route's documentation names.",
    ),
    Problem(
        "invalid",
        422,
        "Not valid",
        "The request is readable, but a value, a field or a parameter is not allowed; errors names each of them.",
        "Correct the named fields. Unknown fields and parameters are refused, never ignored.",
    ),
    Problem(
        "not_available",
        422,
        "Not available in this version",
        "The contract has it, this version of the service does not.",
        "Leave it out for now.",
    ),
    Problem(
        "too_inaccurate",
        422,
        "Too inaccurate",
        "An accuracy worse than 600 m says too little; the earlier position stays.",
        "Wait for a better fix.",
    ),
    Problem(
        "idempotency_key_reused",
        422,
        "The Idempotency-Key was used for something else",
        "The same Idempotency-Key came with another payload within 24 hours.",
        "Use a new key for a new act.",
    ),
    Problem(
        "import_refused",
        422,
        "The import is refused",
        "At least one row is rejected and on_error is refuse; nothing was changed. rejected and warnings list the rows.",
        "Correct the rows, or send on_error=skip.",
    ),
    Problem(
        "quota_exceeded",
        429,
        "The quota is used up",
        "The quota of this act is used up until resets_at.",
        "Wait for the seconds in Retry-After.",
        retry_after_s=60,
    ),
    Problem(
        "headers_too_large",
        431,
        "The headers are too large",
        "All headers together are limited to 16 KB.",
        "Send fewer or shorter headers.",
    ),
    Problem(
        "internal",
        500,
        "A fault of ours",
        "Something failed that should not. It is in the log under the request's X-Request-Id.",
        "Report the X-Request-Id to the operator.",
    ),
    Problem(
        "state_away",
        503,
        "The state is not answering",
        "The service cannot reach its state, and answers nothing it cannot stand for. Nothing was changed.",
        "Repeat after the seconds in Retry-After.",
        retry_after_s=1,
    ),
    Problem(
        "outcome_unknown",
        503,
        "The outcome is not known",
        "The state stopped answering while it was writing: the change may or may not have happened.",
        "Repeat with the same Idempotency-Key, or read the thing again.",
        retry_after_s=1,
    ),
    Problem(
        "not_ready",
        503,
        "Not ready yet",
        "The worker is starting or reloading its state.",
        "Repeat after the seconds in Retry-After.",
        retry_after_s=1,
    ),
)

PROBLEMS: Mapping[str, Problem] = {row.code: row for row in _ROWS}

_OF_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    431: "headers_too_large",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_CLOSES = {408, 413, 431}  # the rest of the body is not read, so the connection cannot be used again


class ProblemResponse(Response):
    """A rendered problem; ``code`` stays readable for the metrics and the log."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, content: bytes, headers: Mapping[str, str] | None) -> None:
        super().__init__(content, problem.status, headers)
        self.code = problem.code


def problem_response(
    code: str,
    detail: str = "",
    *,
    errors: Iterable[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> ProblemResponse:
    """Render the problem ``code``. ``errors`` are (field, message); ``members`` are further top-level members."""
    row = PROBLEMS[code]
    body = {
        "type": f"/problems/{code}",
        "title": row.title,
        "status": row.status,
        "detail": detail or row.meaning,
        "code": code,
        "errors": [{"field": field, "message": message} for field, message in errors],
        **(members or {}),
    }
    fixed: dict[str, str] = {}
    if row.retry_after_s is not None:
        fixed["Retry-After"] = str(row.retry_after_s)
    if row.status in _CLOSES:
        fixed["Connection"] = "close"
    return ProblemResponse(row, orjson.dumps(body), {**fixed, **(headers or {})})


def safe_name(name: object) -> str:
    """A field or parameter name as sent, or ``?`` when it does not look like a name (it could be a value)."""
    text = str(name)
    return text if isinstance(name, int) or _NAME.fullmatch(text) else "?"


def refused_response(error: rules.Refused) -> ProblemResponse:
    """The answer to one refusal of the rules."""
    errors: Sequence[tuple[str, str]] = ()
    members: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, InvalidFields):
        errors = error.errors
    elif error.field is not None:
        errors = ((error.field, error.detail or PROBLEMS[error.code].title),)
    if isinstance(error, rules.ImportRefused):
        members = {"rejected": error.rejected, "warnings": error.warnings}
    elif isinstance(error, rules.QuotaExceeded):
        members = {"resets_at": _rfc3339(error.resets_at_ms)}
        headers = {"Retry-After": str(max(1, error.retry_after_s))}
    elif isinstance(error, Unauthorized):
        headers = {"WWW-Authenticate": error.challenge}
    return problem_response(error.code, error.detail, errors=errors, headers=headers, members=members)


def _rfc3339(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# Kinds of pydantic errors whose message holds limits and types only, never the value that was sent.
_SAFE_KINDS = frozenset(
    "missing extra_forbidden float_type float_parsing int_type int_parsing int_from_float string_type string_unicode "
    "string_too_short string_too_long string_pattern_mismatch bool_type bool_parsing list_type dict_type model_type "
    "model_attributes_type greater_than greater_than_equal less_than less_than_equal finite_number too_short too_long "
    "literal_error enum none_required timezone_aware datetime_type missing_argument".split()
)


def _message(error: Mapping[str, Any]) -> str:
    kind = str(error["type"])
    if kind in _SAFE_KINDS:
        return str(error["msg"])
    if kind == "value_error":  # a validator of ours; its text is fixed, without the value
        return str(error["msg"]).removeprefix("Value error, ")
    return "not valid"


def _field(loc: Sequence[Any]) -> str:
    return ".".join(safe_name(part) for part in (loc[1:] if len(loc) > 1 else loc))


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, rules.Refused)
    if isinstance(error, rules.StateAway) and (metrics := getattr(request.app.state, "metrics", None)) is not None:
        metrics.state_error()
    return refused_response(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [(_field(one["loc"]), _message(one)) for one in error.errors()]
    return problem_response("invalid", errors=found[:100])


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _OF_STATUS.get(error.status_code)
    if code is None:
        code = "bad_request" if error.status_code < 500 else "internal"
    headers = {"Allow": ", ".join(_allowed(request))} if code == "method_not_allowed" else None
    return problem_response(code, headers=headers)


def _allowed(request: Request) -> list[str]:
    """All methods of a path: the router itself knows only the first route that matches."""
    path = request.scope["path"]
    return sorted({method for pattern, methods in request.app.state.methods if pattern.match(path) for method in methods})


def method_table(routes: Iterable[tuple[str, Iterable[str]]]) -> list[tuple[re.Pattern[str], frozenset[str]]]:
    """(path pattern, methods) of every route, for the Allow header; ``routes`` are (path template, methods)."""
    return [(compile_path(path)[0], frozenset(methods)) for path, methods in routes]


def install(app: FastAPI) -> None:
    """Register the handlers. Anything unforeseen is answered by the middleware, which also logs it."""
    app.add_exception_handler(rules.Refused, _on_refused)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
