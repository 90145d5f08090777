"""Requests straight into an ASGI application: a tenth of what an HTTP client costs, and every byte of the answer."""

import asyncio
import json
import time
from typing import Any, NamedTuple

from api.auth import Age, mint_token
from tests.world import World

_TRIES = 20
_AGAIN_S = 0.05


class Ask(NamedTuple):
    """One request. ``path`` with its query; ``body`` is sent as JSON; ``key``: the Idempotency-Key."""

    user: str
    method: str
    path: str
    body: Any = None
    key: str = ""


class Answer(NamedTuple):
    """One answer, headers sorted, without the Date."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Asker:
    """Asks one application as anybody, with the same request id each time."""

    def __init__(self, world: World, minors: tuple[str, ...] = ()) -> None:
        self.app: Any = world.app
        self._secret = world.settings.jwt_secret
        self._minors = minors
        self._tokens: dict[str, bytes] = {}

    def _token(self, user: str) -> bytes:
        if user not in self._tokens:
            assert self._secret is not None
            age: Age = "minor" if user in self._minors else "adult"
            token = mint_token(self._secret.get_secret_value(), user, age, 3600, time.time())
            self._tokens[user] = f"Bearer {token}".encode()
        return self._tokens[user]

    def scope(self, ask: Ask, body: bytes) -> dict[str, Any]:
        """What the server would hand over."""
        path, _, query = ask.path.partition("?")
        headers = [(b"host", b"test"), (b"authorization", self._token(ask.user)), (b"x-request-id", b"same")]
        if body:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if ask.key:
            headers.append((b"idempotency-key", ask.key.encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": ask.method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }

    async def __call__(self, ask: Ask) -> Answer:
        """The answer to one request; a 503 is asked again, as clients do: a busy machine is late now and then."""
        for _ in range(_TRIES):
            answer = await self._once(ask)
            if answer.status != 503:
                break
            await asyncio.sleep(_AGAIN_S)
        return answer

    async def _once(self, ask: Ask) -> Answer:
        body = b"" if ask.body is None else json.dumps(ask.body).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        status, headers, content = 0, [], bytearray()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.get_running_loop().create_future()  # the client stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
            else:
                content.extend(message.get("body", b""))

        await self.app(self.scope(ask, body), receive, send)
        kept = sorted((bytes(name).lower(), bytes(value)) for name, value in headers if name.lower() != b"date")
        return Answer(status, tuple(kept), bytes(content))

    async def ok(self, ask: Ask) -> Answer:
        """An answer that must not be a refusal."""
        answer = await self(ask)
        assert answer.status < 300, (ask, answer.status, answer.body)
        return answer
