"""What browsers ask before a page of another origin posts to the store finder."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import StoreHive
from api.dependencies import BrandPath
from api.publishable import ORIGIN_NOTED, allowed_origins
from api.strict_json import StrictRoute

router = APIRouter(tags=["stores"], route_class=StrictRoute)

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Content-Type, X-API-Key, If-None-Match, X-Request-Id",
    "Access-Control-Max-Age": "7200",
}


@router.options("/v1/brands/{brand}/stores/{rest:path}", status_code=204, include_in_schema=False)
async def preflight(request: Request, brand: BrandPath, rest: str, hive: StoreHive) -> Response:
    """CORS: 204, with leave for pages that a publishable key of the brand is bound to."""
    origin = request.headers.get("origin", "")
    if not allowed_origins(hive.stores.catalogue, brand, origin):
        return Response(status_code=204, headers={"Vary": "Origin"})
    request.scope[ORIGIN_NOTED] = origin
    return Response(status_code=204, headers=_ALLOWED)
