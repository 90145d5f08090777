"""``/openapi.json`` and ``/docs``: FastAPI's own schema, completed, and Swagger UI from files of this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from .auth import brand_access, current_user, operator
from .problem_table import PROBLEMS
from .publishable import brand_reader

ASSETS = "/docs/assets"
_STATIC = Path(fastapi_offline.__file__).parent / "static"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_SECURITY_OF = {
    current_user: "user_token",
    operator: "operator_key",
    brand_access: "brand_or_operator_key",
    brand_reader: "any_brand_or_operator_key",
}
_SCHEMES = {
    "user_token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An end user of the app: HS256, with sub, exp, iat, aud.",
    },
    "operator_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The operator's key."},
    "brand_or_operator_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The brand's secret key (nh_sk_…) or the operator's key.",
    },
    "any_brand_or_operator_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key of the brand, secret (nh_sk_…) or publishable (nh_pk_…, from the origins that it was "
        "made for; with GET also as ?key=), or the operator's key.",
    },
}
_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Some codes add members, as rejected (import_refused) or resets_at (quota_exceeded).",
    "required": ["type", "title", "status", "detail", "code", "errors"],
    "properties": {
        "type": {"type": "string", "description": "A path under /problems/ that documents this kind."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def contexts(app: FastAPI) -> Iterator[RouteContext]:
    """Every API route of the app, with its effective path, name and methods."""
    return (found for found in iter_route_contexts(app.routes) if isinstance(found.original_route, APIRoute))


def install(app: FastAPI) -> None:
    """Add the docs page with its files, and complete the schema when it is first asked for."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(app)
        return app.openapi_schema

    async def docs(_request: Request) -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},  # else the page asks validator.swagger.io
        )

    app.openapi = schema  # type: ignore[method-assign]
    app.add_route("/docs", docs, name="docs", include_in_schema=False)
    app.mount(ASSETS, StaticFiles(directory=_STATIC), name="docs_assets")


def _complete(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for context in contexts(app):
        if context.include_in_schema:
            for method in context.methods or ():
                _complete_operation(schema["paths"][context.path_format][method.lower()], context)
    return schema


def _complete_operation(operation: dict[str, Any], context: RouteContext) -> None:
    security = [_SECURITY_OF[call] for call in _calls(context.dependant) if call in _SECURITY_OF]
    if security:
        operation["security"] = [{name: []} for name in security]
    takes = bool(operation.get("parameters")) or "requestBody" in operation
    for status in _statuses(bool(security), "requestBody" in operation, takes):
        codes = ", ".join(problem.code for problem in PROBLEMS.values() if problem.status == status)
        operation["responses"][str(status)] = {
            "description": f"Problem: {codes}",
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }


def _statuses(secured: bool, has_body: bool, takes_values: bool) -> list[int]:
    """What an operation may answer besides its success; 409 and 429 are declared for every secured one."""
    found = [400, 422, 503] if takes_values else [422, 503]
    found += [401, 403, 404, 409, 429] if secured else []
    found += [408, 413, 415] if has_body else []
    return sorted(found)


def _calls(dependant: Dependant) -> Iterator[Any]:
    for sub in dependant.dependencies:
        yield sub.call
        yield from _calls(sub)
