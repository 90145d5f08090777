"""Answers about people fail closed: none leaves this process unless the lease under which it was made still holds.

A worker whose lease has lapsed may be behind: somebody may have blocked or hidden since, and was told that it is done.
So the dependency of every people route notes the generation of the lease before it reads anything, and the middleware
compares it when the answer starts. Between an endpoint's last look at the arrays and then no other task runs, and the
whole answer goes to the transport in the same step.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from discovery.errors import Erased

from .errors import problem_response, refused_response

_NOTED = "nearhive.lease"
_LIFE = "nearhive.life"
_about_people: ContextVar[bool] = ContextVar("about_people", default=False)


class HasLives(Protocol):
    """What knows who was erased."""

    def standing(self, user: str) -> int:
        """The present life of a person."""
        ...


class Leased(Protocol):
    """What holds the leases of this worker."""

    def lease_generation(self) -> int | None:
        """A number that changes whenever a lease was lost; None while none is held."""


def note_lease(scope: Scope, holder: Leased) -> bool:
    """Bind the answer to this request to the lease held now; False when none is held."""
    generation = holder.lease_generation()
    scope[_NOTED] = (holder, generation)
    _about_people.set(True)
    return generation is not None


def _lapsed(scope: Scope) -> bool:
    if _NOTED not in scope:
        return False
    holder, generation = scope[_NOTED]
    return generation is None or holder.lease_generation() != generation


def note_life(scope: Scope, lives: HasLives, user: str, life: int) -> None:
    """Bind the answer to this request to the caller's present life."""
    scope[_LIFE] = (lives, user, life)


def forget_life(scope: Scope) -> None:
    """The answer says that this life has ended."""
    scope.pop(_LIFE, None)


def _erased(scope: Scope) -> bool:
    if _LIFE not in scope:
        return False
    lives, user, life = scope[_LIFE]
    return bool(lives.standing(user) != life)


class LeaseGate:
    """Replaces an answer whose lease lapsed while it was made. Failures of ours (5xx) tell nothing and stay."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False
        _about_people.set(False)  # a pipelined request begins in the context of the one before

        async def checked(message: Message) -> None:
            nonlocal replaced
            starts = message["type"] == "http.response.start"
            if starts and message["status"] < 500 and _lapsed(scope):
                replaced = True
                await problem_response(_instead(scope, message["status"]))(scope, receive, send)
            elif starts and message["status"] < 500 and _erased(scope):
                replaced = True
                await refused_response(Erased("the person was erased meanwhile"))(scope, receive, send)
            elif not replaced:
                await send(message)

        await self._app(scope, receive, checked)


def _instead(scope: Scope, status: int) -> str:
    """A change that was made must not be called refused: whoever repeats it, with the same key, learns what it did."""
    changed = scope["method"] not in ("GET", "HEAD") and status < 300
    return "outcome_unknown" if changed else "not_ready"


class PromptProtocol(HttpToolsProtocol):
    """HTTP/1.1 where no answer about people waits between the check of its lease and the transport.

    uvicorn holds an answer back while the client does not read the ones before, which only a pipelining client does
    not. Its next request begins when that is over; should an answer have to wait all the same, the connection is broken
    off instead.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: FlowControl = _PromptFlow(transport)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        super()._start_asgi_task(cycle, _once_writable(self.flow, app) if self.flow.write_paused else app)


class _PromptFlow(FlowControl):
    async def drain(self) -> None:
        if _about_people.get():
            self._transport.abort()  # what is written to it from here on goes nowhere
        await super().drain()


def _once_writable(flow: FlowControl, app: Any) -> Callable[..., Awaitable[None]]:
    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await FlowControl.drain(flow)
        await app(scope, receive, send)

    return waiting
