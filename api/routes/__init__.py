"""The routes, one module a feature, each exposing ``router``. How to write one:

1. ``router = APIRouter(route_class=StrictRoute, tags=["shake"])`` with whole paths (``/v1/shakes``); names of endpoint
   functions are unique: they are the ``operation`` of the metrics.
2. Who calls: an argument ``caller: CurrentUser``, ``_: OperatorOnly`` or ``access: BrandAdmin`` (path ``{brand}``), of
   ``api.auth``. It runs before the body is read. Rules about age belong to ``discovery``.
3. Bodies are subclasses of ``api.dependencies.Model`` with its types (Lat, Lon, UserId, Limit, Instant, CoordType).
   Of the query use LatParam, LonParam, LimitParam, CursorParam; of the path UserPath, BrandPath, IdPath.
4. ``@body_limit(LIST_BODY)`` below the route decorator where a list of 10,000 comes (16 KB otherwise);
   ``@raw_body(IMPORT_BODY)`` where the endpoint reads ``body_chunks(request, IMPORT_BODY)`` itself.
5. ``key: RequiredKey`` or ``OptionalKey`` is the Idempotency-Key.
6. ``hive = request.app.state.hive``; ``request.app.state.cursors`` seals and opens cursors per list and caller.
7. Answer ``answer({...})`` (rendered once, by orjson) and declare ``response_model=`` for the schema; 204 by
   ``Response(status_code=204)``. Times by ``rfc3339(ms)``, cells as hex.
8. Refuse by raising a class of ``discovery.errors``; never put a coordinate, id, token or text that came in into
   ``detail``. A new class needs its row in ``api/problem_table.py``; a test says so.
9. A validator's ValueError text is shown to the caller: fixed text, without the value.
10. Log no argument. /v1 answers are ``Cache-Control: no-store`` unless the endpoint sets the header itself.
"""

from fastapi import APIRouter

from . import (
    app_backend,
    blocks,
    bottles,
    brands,
    demand,
    friends,
    me_settings,
    moderation,
    mutes,
    nearby,
    position,
    preflight,
    privacy,
    radar,
    reports,
    rights,
    service,
    shakes,
    status,
    store_find,
    store_points,
    store_zones,
    stores,
)

ROUTERS: tuple[APIRouter, ...] = (
    store_points.router,  # before the next, whose address it shares: for CSV alone
    store_find.router,  # first: the pages of shops ask it most, and routes are tried one by one
    service.router,
    privacy.router,
    position.router,
    me_settings.router,
    friends.router,
    blocks.router,
    mutes.router,
    reports.router,
    rights.router,
    nearby.router,
    radar.router,
    shakes.router,
    bottles.router,
    app_backend.router,
    status.router,
    brands.router,
    stores.router,
    store_zones.router,
    preflight.router,
    demand.router,
)
"""Every feature's router; a path with a fixed last part goes before one with ``{id}`` in that place."""

ADMIN_ROUTERS: tuple[APIRouter, ...] = (moderation.router,)
"""Those of the admin port, beside the metrics."""
