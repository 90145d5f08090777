"""A route that reads requests strictly: JSON as RFC 8259 says, known parameters only, bounded in bytes and time.

``StrictRoute`` uses FastAPI's own extension point (``APIRoute.get_route_handler``). Order of its checks: credential,
query parameters, content type, size, arrival in time, JSON; then FastAPI validates the models.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from discovery.errors import Invalid

from .errors import BadJson, BodyTimeout, InvalidFields, TooLarge, UnsupportedMediaType, safe_name

SMALL_BODY = 16 * 1024
LIST_BODY = 4 * 1024 * 1024
IMPORT_BODY = 512 * 1024 * 1024

_PARSED_AT_ONCE = 64 * 1024  # 4 MB take 60 ms, in which this worker would answer nobody

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_LIMIT = "__nearhive_body_limit__"
_RAW = "__nearhive_raw_body__"
_GUARD = "__nearhive_guard__"


def body_limit(max_bytes: int) -> Callable[[_Endpoint], _Endpoint]:
    """Mark an endpoint (below the route decorator): its JSON body may have ``max_bytes``; 16 KB without the mark."""
    return _mark(_LIMIT, max_bytes)


def raw_body(max_bytes: int) -> Callable[[_Endpoint], _Endpoint]:
    """Mark an endpoint that reads its body itself, with :func:`body_chunks`, up to ``max_bytes``."""
    return _mark(_RAW, max_bytes)


def guard(check: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Any]]:
    """Make a dependency that StrictRoute runs before it reads anything of the body, once per request."""

    async def checked(request: Request) -> Any:
        done: dict[Any, Any] = request.scope.setdefault("nearhive.guards", {})
        if checked not in done:
            done[checked] = await check(request)
        return done[checked]

    checked.__doc__ = check.__doc__
    checked.__name__ = check.__name__
    setattr(checked, _GUARD, check)
    return checked


def is_guard(call: object) -> bool:
    """Whether a dependency was made by :func:`guard`."""
    return hasattr(call, _GUARD)


def _mark(name: str, value: int) -> Callable[[_Endpoint], _Endpoint]:
    def mark(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, name, value)
        return endpoint

    return mark


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("A key occurs twice in one object.")
    return found


_DEPTH_MAX = 32  # GeoJSON needs 7
_KEYS_ONCE = json.JSONDecoder(object_pairs_hook=_no_repeats)


def parse_json(raw: bytes) -> Any:
    """The value of one JSON text. BadJson for anything else, a repeated key included.

    orjson is the judge of syntax: it refuses NaN, Infinity, numbers beyond a double, bad UTF-8, a byte order mark and
    lone surrogates, but keeps the last of repeated keys. The standard parser sees those; it is asked where there may be
    one, or a text with a colon.
    """
    try:
        value = orjson.loads(raw)
        if raw.count(b"{") + raw.count(b"[") > _DEPTH_MAX and _deeper(value, _DEPTH_MAX):
            raise BadJson(f"Nested deeper than {_DEPTH_MAX} levels.")
        # Each key of the text has a colon: where there are no more of these than keys in the value, none is repeated.
        if b"{" in raw and raw.count(b":") != _keys(value):
            _KEYS_ONCE.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        if "Not enough memory" in str(error):  # orjson calls that a syntax error; the body may be a good one
            raise MemoryError from None
        raise BadJson from None
    return value


def _keys(value: Any) -> int:
    """How many keys the objects in ``value`` have, itself included."""
    inner = value.values() if isinstance(value, dict) else value
    within = sum(_keys(one) for one in inner if isinstance(one, dict | list))
    return within + len(value) if isinstance(value, dict) else within


def _deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects in ``value``, itself included, nest more than ``levels`` deep."""
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_deeper(one, levels - 1) for one in inner if isinstance(one, dict | list))


async def body_chunks(
    request: Request, max_bytes: int, chunk_deadline_s: float = 10.0, start_bytes: int = 0
) -> AsyncIterator[bytes]:
    """The body as it arrives. TooLarge beyond ``max_bytes``, BodyTimeout when a part takes longer than the deadline."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise TooLarge(f"The limit of this route is {max_bytes} bytes.")
    total = start_bytes
    while True:
        try:
            async with asyncio.timeout(chunk_deadline_s):
                message = await request.receive()
        except TimeoutError:
            raise BodyTimeout from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        total += len(chunk)
        if total > max_bytes:
            raise TooLarge(f"The limit of this route is {max_bytes} bytes.")
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def _whole_body(request: Request, max_bytes: int, deadline_s: float) -> bytes:
    try:
        async with asyncio.timeout(deadline_s):
            return b"".join([chunk async for chunk in body_chunks(request, max_bytes, deadline_s)])
    except TimeoutError:
        raise BodyTimeout from None


def _check_media_type(request: Request) -> None:
    given = request.headers.getlist("content-type")
    kind, _, rest = (given[0] if len(given) == 1 else "").partition(";")
    charset = rest.strip().lower()
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise UnsupportedMediaType("Send Content-Type: application/json.")


class _ReadRequest(Request):
    """A request whose body was read and parsed already."""

    def __init__(self, request: Request, raw: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._body = raw
        self._json = value


class _Query:
    """The query parameters that a route knows; none may be repeated (a list is one value, separated by commas)."""

    def __init__(self, dependant: Dependant) -> None:
        fields = get_flat_params(dependant)
        self.known = frozenset(field.alias for field in fields if isinstance(field.field_info, params.Query))

    def check(self, request: Request) -> None:
        """InvalidFields that names every unknown and every repeated parameter."""
        if not request.scope["query_string"]:
            return
        names = [name for name, _ in request.query_params.multi_items()]
        errors = [(safe_name(name), "unknown parameter") for name in dict.fromkeys(names) if name not in self.known]
        errors += [(name, "given more than once") for name in self.known if names.count(name) > 1]
        if errors:
            raise InvalidFields(errors[:20])


def _guards(dependant: Dependant) -> list[Callable[[Request], Awaitable[Any]]]:
    found: list[Callable[[Request], Awaitable[Any]]] = []
    for sub in dependant.dependencies:
        if sub.call is not None and is_guard(sub.call):
            found.append(sub.call)
        found += _guards(sub)
    return found


class StrictRoute(APIRoute):
    """The route class of every router of this service: ``APIRouter(route_class=StrictRoute)``."""

    body_deadline_s = 10.0

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Routes are tried one by one: the literal start of the path settles most of them without a pattern."""
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        if not path.startswith(self._literal):
            return Match.NONE, {}
        return super().matches(scope)

    @cached_property
    def _literal(self) -> str:
        return self.path.partition("{")[0]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the checks named in the module's docstring."""
        handle = super().get_route_handler()
        guards = _guards(self.dependant)
        query = _Query(self.dependant)
        read = self._reader()

        async def strict(request: Request) -> Response:
            for check in guards:
                await check(request)
            query.check(request)
            return await handle(await read(request))

        return strict

    def _reader(self) -> Callable[[Request], Awaitable[Request]]:
        if hasattr(self.endpoint, _RAW):
            return _leave_body
        if self.body_field is None:
            return self._refuse_body
        required = self.body_field.field_info.is_required()
        limit = getattr(self.endpoint, _LIMIT, SMALL_BODY)

        async def read(request: Request) -> Request:
            if not _has_body(request):
                if required:
                    raise BadJson("A JSON body is required.")
                return request
            _check_media_type(request)
            raw = await _whole_body(request, limit, self.body_deadline_s)
            value = parse_json(raw) if len(raw) <= _PARSED_AT_ONCE else await asyncio.to_thread(parse_json, raw)
            return _ReadRequest(request, raw, value)

        return read

    async def _refuse_body(self, request: Request) -> Request:
        """Nothing is ignored: where no body is expected, none or an empty object may come."""
        if not _has_body(request):
            return request
        raw = await _whole_body(request, SMALL_BODY, self.body_deadline_s)
        if raw.strip() not in (b"", b"{}"):
            raise Invalid("This route takes no body.", "body")
        return _ReadRequest(request, raw, None)


async def _leave_body(request: Request) -> Request:
    return request


def _has_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def known_query(route: APIRoute) -> Sequence[str]:
    """Names of the query parameters that ``route`` takes (for tests and documentation)."""
    return sorted(_Query(route.dependant).known)
