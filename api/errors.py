"""How refusals are answered (RFC 9457), by the one table of ``problem_table.py``.

Every answer of 400 and above is ``application/problem+json``. No value that a caller sent is ever echoed: field names
are echoed only when they look like names, messages only from an allow-list of kinds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from discovery import errors as rules
from discovery.store.client import StateFault

from .problem_table import PROBLEMS, Problem


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
DISK_FULL = "the state refuses writes: its disk is full"
log = structlog.get_logger("nearhive.errors")
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
    elif isinstance(error, rules.Erased):
        headers = {"WWW-Authenticate": 'Bearer realm="nearhive", error="invalid_token"'}
    return problem_response(error.code, error.detail, errors=errors, headers=headers, members=members)


def _rfc3339(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# Kinds of pydantic errors whose message holds limits and types only, never the value that was sent.
_SAFE_KINDS = frozenset(
    (
        *("missing", "extra_forbidden", "string_unicode", "string_pattern_mismatch", "finite_number", "none_required"),
        *("float_type", "float_parsing", "int_type", "int_parsing", "int_from_float", "bool_type", "bool_parsing"),
        *("string_type", "list_type", "dict_type", "model_type", "model_attributes_type", "datetime_type"),
        *("string_too_short", "string_too_long", "too_short", "too_long", "literal_error", "enum", "timezone_aware"),
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
    )
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
    if isinstance(error, rules.StateAway):
        return _state_away(request, error)
    return refused_response(error)


def _state_away(request: Request, error: rules.StateAway) -> Response:
    state = request.app.state
    if (metrics := getattr(state, "metrics", None)) is not None:
        metrics.state_error()
    writes = request.method not in ("GET", "HEAD")
    if writes and not error.outcome_unknown and state.read_only():
        return problem_response(error.code, DISK_FULL)
    return refused_response(error)


async def _on_fault(_request: Request, error: Exception) -> Response:
    """The state refused a command half-way (out of memory, disk full) or the script is wrong: the log says which."""
    log.error("state_fault", reason=str(error))
    return problem_response("outcome_unknown")


def field_errors(error: RequestValidationError | ValidationError) -> list[tuple[str, str]]:
    """(field, message) of everything that pydantic found, without any value that was sent."""
    return [(_field(one["loc"]), _message(one)) for one in error.errors()]


def is_short_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out; a thread needs some for its stack, and Python tells that by its words alone."""
    no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return no_thread or isinstance(error, MemoryError)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response("invalid", errors=field_errors(error)[:100])


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if is_short_of_memory(error.__cause__):  # FastAPI calls whatever fails while it reads a body a bad one
        raise MemoryError from None
    code = _OF_STATUS.get(error.status_code)
    if code is None:
        code = "bad_request" if error.status_code < 500 else "internal"
    headers = {"Allow": ", ".join(_allowed(request))} if code == "method_not_allowed" else None
    return problem_response(code, headers=headers)


def _allowed(request: Request) -> list[str]:
    """All methods of a path: the router itself knows only the first route that matches."""
    path = request.scope["path"]
    routes = [route for route in iter_route_contexts(request.app.routes) if hasattr(route, "path_regex")]
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


def install(app: FastAPI) -> None:
    """Register the handlers. Anything unforeseen is answered by the middleware, which also logs it."""
    app.add_exception_handler(rules.Refused, _on_refused)
    app.add_exception_handler(StateFault, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
