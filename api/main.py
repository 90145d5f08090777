"""The two HTTP applications. The worker makes the hive and owns it; nothing is started or stopped here."""

import contextlib
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from discovery.errors import StateAway
from discovery.sealed import Sealer

from . import errors, openapi, problems
from .auth import OperatorOnly, Tokens
from .fail_closed import LeaseGate
from .metrics import Metrics
from .middleware import Envelope
from .operator_keys import parse_operator_keys
from .pagination import Cursors
from .routes import ADMIN_ROUTERS, ROUTERS
from .settings import Settings
from .strict_json import StrictRoute
from .text_check import TextCheck

_TITLE = "Nearhive"
_DESCRIPTION = (
    "Shake, Radar, Drift Bottle and a store finder on one H3-indexed proximity engine. Nobody learns where a person is "
    "more finely than the cell that person agreed to show. Errors are RFC 9457 problems, documented under /problems."
)


def create_app(
    hive: Any, settings: Settings, clock: Callable[[], float] = time.time, metrics: Metrics | None = None
) -> FastAPI:
    """The public application.

    ``settings`` must hold its secrets (``load_settings``); ``clock`` gives seconds since 1970, for tokens only.
    Routes find ``hive``, ``settings``, ``tokens``, ``cursors`` and ``metrics`` in ``request.app.state``; who runs the
    application may set ``draining`` there (each answer then closes its connection) and ``read_only`` (a full disk).
    """
    app = _bare_app(hive, settings, clock, metrics or Metrics())
    for router in (problems.router, *ROUTERS):
        _add_routes(app, router)
    return _finish(app)


def create_admin_app(
    hive: Any, settings: Settings, clock: Callable[[], float] = time.time, metrics: Metrics | None = None
) -> FastAPI:
    """The application of NEARHIVE_ADMIN_BIND: /metrics and moderation, with an operator's key."""
    app = _bare_app(hive, settings, clock, metrics or Metrics())
    for router in (_admin, *ADMIN_ROUTERS):
        _add_routes(app, router)
    return _finish(app)


_admin = APIRouter(route_class=StrictRoute, tags=["admin"])


@_admin.get("/metrics", summary="Prometheus metrics of all workers")
async def metrics_text(request: Request, _operator: OperatorOnly) -> Response:
    """Prometheus text format."""
    with contextlib.suppress(StateAway):  # then the last figures stand
        request.app.state.metrics.moderation(*await request.app.state.hive.moderation.backlog())
    return Response(request.app.state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _bare_app(hive: Any, settings: Settings, clock: Callable[[], float], metrics: Metrics) -> FastAPI:
    app = FastAPI(
        title=_TITLE,
        version=version("nearhive"),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    if settings.jwt_secret is None or settings.admin_key is None or settings.privacy_secret is None:
        raise ValueError("the settings lack their secrets: use load_settings()")
    app.state.hive = hive
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.draining = False
    app.state.read_only = lambda: False
    app.state.tokens = Tokens(
        settings.jwt_secret.get_secret_value(), settings.jwt_audience, settings.jwt_issuer or None, clock
    )
    sealer = Sealer(settings.privacy_secret.get_secret_value().encode())
    app.state.cursors = Cursors(sealer)
    app.state.operator_keys = parse_operator_keys(settings.operator_keys)
    app.state.text_check = TextCheck(settings, sealer)
    return app


def _add_routes(app: FastAPI, router: APIRouter) -> None:
    """Add the routes themselves: they have whole paths, and include_router's indirection costs more than an answer
    (FastAPI 0.165 matches an included route in about 10 times the time of an own one, and tries them one by one).
    """
    app.router.routes.extend(router.routes)


def _finish(app: FastAPI) -> FastAPI:
    errors.install(app)
    openapi.install(app)
    app.add_middleware(LeaseGate)
    app.add_middleware(Envelope, metrics=app.state.metrics)
    return app
