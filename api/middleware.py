"""One plain ASGI middleware around every request: size caps, request id, headers, one log line, the last resort."""

import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import HeadersTooLarge, NotReady, TooLarge, is_short_of_memory, problem_response, refused_response
from .metrics import Metrics
from .publishable import ORIGIN_NOTED
from .strict_json import IMPORT_BODY, LIST_BODY

HEADERS_MAX = 16 * 1024
CLIENT_GONE = 499  # in the log and the metrics only: nobody is left to read an answer

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STORE_IMPORT = re.compile(r"/v1/brands/[^/]+/stores")
_EXPOSED = (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-Id")
_log = structlog.get_logger("api.access")


class _Exchange:
    """One request on its way: counts what comes in, completes what goes out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.status = 0
        self.received_bytes = 0
        self.limit_bytes = _body_cap(scope)
        self.length_bytes = 0
        self.headers_bytes = 0
        self.request_id = b""
        self._read_headers()

    def _read_headers(self) -> None:
        for name, value in self.scope["headers"]:
            self.headers_bytes += len(name) + len(value)
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.request_id = value
            elif name == b"content-length" and value.isdigit():
                self.length_bytes = int(value[:20])
        self.request_id = self.request_id or secrets.token_hex(8).encode()

    async def receive(self) -> Message:
        message = await self._receive()
        self.received_bytes += len(message.get("body", b""))
        if self.received_bytes > self.limit_bytes:
            raise TooLarge
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._complete(list(message.get("headers", ())))
        await self._send(message)

    def _complete(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers.append((b"x-request-id", self.request_id))
        if self.scope["app"].state.draining:
            headers.append((b"connection", b"close"))
        headers.append((b"x-content-type-options", b"nosniff"))
        if (origin := self.scope.get(ORIGIN_NOTED)) is not None:
            headers += [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"), _EXPOSED]
        if self.scope["path"].startswith("/v1/") and not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))
        return headers

    def check_size(self) -> None:
        """HeadersTooLarge or TooLarge by what the headers say, before anything is read."""
        if self.headers_bytes > HEADERS_MAX:
            raise HeadersTooLarge
        if self.length_bytes > self.limit_bytes:
            raise TooLarge


def _body_cap(scope: Scope) -> int:
    """Most bytes of any body; routes set lower limits of their own (api/strict_json.py)."""
    if scope["method"] in ("PUT", "PATCH") and _STORE_IMPORT.fullmatch(scope["path"]):
        return IMPORT_BODY
    return LIST_BODY


class Envelope:
    """The outermost layer. ``seconds`` is a monotonic clock, for durations only."""

    def __init__(self, app: ASGIApp, metrics: Metrics, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = self._seconds()
        exchange = _Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        finally:
            self._record(exchange, self._seconds() - started_s)

    async def _answer(self, exchange: _Exchange) -> None:
        scope = exchange.scope
        try:
            exchange.check_size()
            await self._app(scope, exchange.receive, exchange.send)
        except (HeadersTooLarge, TooLarge) as error:
            await refused_response(error)(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_GONE
        except Exception as error:
            if is_short_of_memory(error) and not exchange.status:
                short = refused_response(NotReady("this worker is short of memory"))
                await short(scope, exchange.receive, exchange.send)
                return
            _log.error("failure", request_id=exchange.request_id.decode(), exc_info=error)
            if exchange.status:  # the answer has begun: all that is left is to break it off, without the message
                raise RuntimeError("the answer broke off") from None
            await problem_response("internal")(scope, exchange.receive, exchange.send)

    def _record(self, exchange: _Exchange, seconds: float) -> None:
        route: Any = exchange.scope.get("route")
        operation = getattr(route, "name", None) or "other"
        status = exchange.status or CLIENT_GONE
        self._metrics.request(operation, status, seconds)
        _log.info(
            "request",
            method=exchange.scope["method"] if route is not None else "-",
            route=getattr(route, "path_format", "-"),
            status=status,
            duration_ms=round(seconds * 1000, 3),
            request_id=exchange.request_id.decode(),
        )
