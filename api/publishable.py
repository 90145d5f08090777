"""Who reads a brand's stores: whoever may write them, and pages with a publishable key, from the origins it is for."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request

from discovery.errors import Invalid, OriginRefused
from discovery.stores.brand_keys import may_use

from .auth import BrandAccess, brand_access, brand_key
from .errors import Forbidden
from .strict_json import guard

ORIGIN_NOTED = "nearhive.origin"
"""In the scope of a request: the origin whose pages may read the answer."""


async def _brand_reader(request: Request) -> BrandAccess:
    """The operator, the brand's secret key, or a publishable one: in the header, or with GET as ``?key=``."""
    headers = request.headers.getlist("x-api-key")
    in_query = request.query_params.getlist("key") if request.method == "GET" else []
    if headers and in_query:
        raise Invalid("given in the header as well", "key")
    key = (headers or in_query or [""])[0]
    if key.startswith("nh_pk_") and len(headers) <= 1 and len(in_query) <= 1:
        return await _publishable(request, key)
    found: BrandAccess = await brand_access(request)
    return found


async def _publishable(request: Request, key: str) -> BrandAccess:
    brand = request.path_params["brand"]
    key_id, known = await brand_key(request, brand, key, "publishable")
    origin = _origin(request)
    if not may_use(known, origin):
        raise OriginRefused("This key is for pages of other origins.")
    request.scope[ORIGIN_NOTED] = origin
    return BrandAccess(brand, by_operator=False, key_id=key_id, publishable=True)


def _origin(request: Request) -> str:
    """Of the page that asks. Browsers leave ``Origin`` out where a page reads from its own origin; then ``Referer``
    names it."""
    given = request.headers.getlist("origin")
    if given:
        return given[0] if len(given) == 1 else ""
    try:
        page = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    return f"{page.scheme}://{page.netloc}"


def require_secret(access: BrandAccess) -> None:
    """Raise Forbidden for a publishable key."""
    if access.publishable:
        raise Forbidden("This takes the brand's secret key: a publishable one can be read by everybody.")


brand_reader = guard(_brand_reader)


async def _reader_by_get(
    access: Annotated[BrandAccess, Depends(brand_reader)],
    key: Annotated[str | None, Query(max_length=200, description="A publishable key, in place of X-API-Key.")] = None,
) -> BrandAccess:
    """``key`` is read by the guard; it stands here so that it is a known parameter."""
    return access


BrandReader = Annotated[BrandAccess, Depends(brand_reader)]
"""For POST routes that read."""
BrandGetReader = Annotated[BrandAccess, Depends(_reader_by_get)]
"""For GET routes: a publishable key may stand in the URL, so that a page needs no preflight."""


def allowed_origins(catalogue: Any, brand: str, origin: str) -> bool:
    """Whether a page of this origin may use any key of the brand: what a preflight, which names no key, asks."""
    found = catalogue.find(brand)
    return found is not None and any(may_use(key, origin) for key in found.keys.values())
