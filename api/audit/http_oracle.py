"""The attackers' view of a running service: the same oracle over HTTP, with accounts made as they are needed.

Every account and victim is made up, visible to everyone while the audit runs, and clears its position at the end.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx2 as httpx

from api.audit.oracle import Observer, Point, Sighting
from api.audit.sites import Victim
from api.failed import Failed
from geo import cells
from geo.privacy import PRECISION_RESOLUTION

_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_AT_ONCE = 8
_PAGE = 100
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_NOT_READY = 503
_TRIES = 10
_WAIT_S = 0.5
_LAPSE_S = 1.5  # beyond the end of a window, for ticks

Mint = Callable[[str], Awaitable[str]]
"""A token of an adult with this id."""

T = TypeVar("T")


class Throttled(Exception):
    """The service limits the audit: only the cost can be told. ``code`` and ``retry_after_s`` are of its answer."""

    def __init__(self, code: str, retry_after_s: str) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_s = retry_after_s


class Service:
    """A running service and the accounts that the audit has there."""

    def __init__(self, client: httpx.AsyncClient, mint: Mint, run: str) -> None:
        self._client = client
        self._mint = mint
        self._run = run
        self._tokens: dict[str, str] = {}
        self._placed: dict[str, None] = {}  # accounts that have a position there, in order
        self._numbers = itertools.count()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.started_s = time.monotonic()
        self.requests = 0

    @property
    def accounts(self) -> int:
        """How many were made."""
        return len(self._tokens)

    async def account(self) -> str:
        """A new id with a token."""
        user = f"audit-{self._run}-{next(self._numbers)}"
        self._tokens[user] = await self._mint(user)
        return user

    async def call(self, user: str, method: str, path: str, body: object = None, **query: object) -> Any:
        """The JSON answer, None for one without. Raises Throttled, Failed."""
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        if method == "POST":
            headers["Idempotency-Key"] = f"{user}-{self.requests}"
        params = {name: str(value) for name, value in query.items() if value is not None}
        async with self._slots:
            self.requests += 1
            answer = await self._answer(method, path, headers, body, params)
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refused(method, path, answer)

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: object, params: dict[str, str]
    ) -> httpx.Response:
        """The answer; of a service that is not ready for a moment the one after that: every act may be repeated."""
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = await self._client.request(method, path, headers=headers, json=body, params=params)
            except httpx.HTTPError as error:
                raise Failed(f"{method} {path}: {error or type(error).__name__}") from None
            if answer.status_code != _NOT_READY or tries_left == 0:
                break
            await asyncio.sleep(_WAIT_S)
        return answer

    async def place(self, user: str, point: Point) -> int:
        """Report once and be visible to everyone; the cell of resolution 7 that is published."""
        self._placed[user] = None
        answer = await self.call(user, "PUT", "/v1/me/position", {"lat": point[0], "lon": point[1]})
        await self.call(user, "PATCH", "/v1/me/settings", {"visibility": "everyone"})
        return cells.from_hex(answer["published"]["cell"])

    async def befriend(self, a: str, b: str, precision: str) -> None:
        """Both ask."""
        for user, other in ((a, b), (b, a)):
            await self.call(user, "PUT", f"/v1/me/friends/{quote(other, safe='')}", {"precision": precision})

    async def clear(self, users: Sequence[str]) -> None:
        """Their positions are gone."""
        await self.each(users, lambda user: self.call(user, "DELETE", "/v1/me/position"))
        for user in users:
            self._placed.pop(user, None)

    async def clear_all(self) -> None:
        """Of every account of the audit that still has one."""
        with contextlib.suppress(Throttled, Failed):
            await self.clear(list(self._placed))

    @staticmethod
    async def each(items: Sequence[T], act: Callable[[T], Awaitable[Any]]) -> list[Any]:
        """``act`` on all, as many at once as the service is given."""
        return list(await asyncio.gather(*(act(item) for item in items)))


@contextlib.asynccontextmanager
async def open_service(url: str, mint: Mint) -> AsyncIterator[Service]:
    """A service at ``url``; at the end all positions of the audit are cleared."""
    here = urlsplit(url).hostname in _LOOPBACK
    async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=_TIMEOUT, trust_env=not here) as client:
        service = Service(client, mint, f"{time.time_ns() // 1000:x}")
        try:
            yield service
        finally:
            await service.clear_all()


class HttpOracle:
    """One victim (``api.audit.oracle.Oracle``)."""

    def __init__(self, service: Service, victim: str, point: Point, window_s: float) -> None:
        self._service = service
        self.victim = victim
        self._point = point
        self._window_s = window_s
        self._shook_at_s = float("-inf")

    @classmethod
    async def of(cls, service: Service, victim: Victim, window_s: float) -> "HttpOracle":
        """The victim's account, placed. Raises Failed when another cell is published than the parent of its own."""
        user = await service.account()
        if await service.place(user, victim.point) != victim.stranger_cell:
            raise Failed("a fresh account is published in another cell than the parent of its own of resolution 8")
        return cls(service, user, victim.point, window_s)

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        return await self._service.each(points, lambda point: self._observer(point, precision))

    async def _observer(self, point: Point, precision: str | None) -> Observer:
        user = await self._service.account()
        cell = await self._service.place(user, point)
        if precision is not None:
            await self._service.befriend(self.victim, user, precision)
        if precision == "near":
            position = await self._service.call(user, "GET", "/v1/me/position")
            cell = cells.from_hex(position["finest"]["cell"])
        elif precision is not None:
            cell = cells.parent(cell, PRECISION_RESOLUTION[precision])
        return Observer(user, *cells.center(cell))

    async def retire(self, observers: Sequence[Observer]) -> None:
        await self._service.clear([one.user for one in observers])

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        async for people in self._pages(observer, radius_m, _PAGE):
            for one in people:
                if one["user"] == self.victim:
                    return Sighting(one["distance_min_m"], one["distance_max_m"])
        return None

    async def listing(self, observer: Observer, radius_m: int, limit: int, pages: int) -> list[str]:
        found: list[str] = []
        async for people in self._pages(observer, radius_m, limit):
            found += [one["user"] for one in people]
            pages -= 1
            if pages == 0:
                break
        return found

    async def _pages(self, observer: Observer, radius_m: int, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
        cursor: str | None = None
        while True:
            query = {"radius_m": radius_m, "limit": limit, "cursor": cursor}
            page = await self._service.call(observer.user, "GET", "/v1/nearby", **query)
            yield page["people"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        answer = await self._service.call(observer.user, "GET", "/v1/radar", radius_m=radius_m)
        for friend in answer["friends"]:
            if friend["user"] == self.victim:
                return Sighting(friend["distance_m"], friend["distance_m"], cells.from_hex(friend["cell"]))
        return None

    async def shake(self, points: Sequence[Point]) -> list[tuple[Observer, Sighting | None]]:
        wait_s = self._shook_at_s + self._window_s + _LAPSE_S - time.monotonic()
        await asyncio.sleep(max(0.0, wait_s))  # who shook before must not be matched again, nor fill anybody's list
        await self._shake(self.victim, self._point)
        found = await self._service.each(points, self._shake_from)
        self._shook_at_s = time.monotonic()
        return found

    async def _shake_from(self, point: Point) -> tuple[Observer, Sighting | None]:
        user = await self._service.account()
        answer = await self._shake(user, point)
        position = await self._service.place(user, point)
        seen = next((match for match in answer["matches"] if match["user"] == self.victim), None)
        observer = Observer(user, *cells.center(position))
        return observer, None if seen is None else Sighting(seen["distance_min_m"], seen["distance_max_m"])

    async def _shake(self, user: str, point: Point) -> Any:
        return await self._service.call(user, "POST", "/v1/shakes", {"lat": point[0], "lon": point[1], "limit": 20})


def _refused(method: str, path: str, answer: httpx.Response) -> Exception:
    try:
        code = str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return Failed(f"{method} {path}: {answer.status_code}, not an answer of Nearhive")
    if answer.status_code == 429:
        return Throttled(code, answer.headers.get("Retry-After", "?"))
    return Failed(f"{method} {path}: {answer.status_code} {code}")
