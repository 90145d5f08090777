"""The store finder: the nearest, who serves a point, a page, a cell's, names to complete, one store."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.access import StoreHive
from api.auth import BrandAccess
from api.dependencies import BrandPath, CoordType, IdPath, LatParam, LonParam, MetresParam
from api.etags import etagged
from api.pagination import CursorParam, LimitParam
from api.publishable import BrandGetReader, BrandReader, require_secret
from api.searchers import note_search
from api.store_batch import nearest_of_points
from api.store_questions import (
    FeatureCollection,
    FieldsParam,
    ListParam,
    NearestIn,
    OpenText,
    Pages,
    ServingIn,
    SpeedParam,
    TagsParam,
    TextParam,
    at_ms,
    box_of,
    nearest_question,
    now,
    question_of,
    shown,
    split_names,
    split_tags,
    wanted_of,
)
from api.strict_json import LIST_BODY, StrictRoute, body_limit
from discovery.errors import Invalid, NotFound
from discovery.hive import Hive
from discovery.stores.question import Listing
from geo import cells

router = APIRouter(prefix="/v1/brands/{brand}/stores", tags=["stores"], route_class=StrictRoute)

GEOJSON = "application/geo+json"
# A cell's list is public and the same for all who may ask; a changed set may show up to five minutes late there.
CELL_CACHE = "public, max-age=300, stale-while-revalidate=600"


class SuggestionsOut(BaseModel):
    """Names and cities; `matched` says which characters of `text` were typed."""

    suggestions: list[dict[str, Any]]


@router.post(
    "/nearest",
    response_model=FeatureCollection,
    response_model_exclude_unset=True,
    responses={200: {"content": {"application/json": {}, "text/csv": {}}}},
)
@body_limit(LIST_BODY)
async def post_nearest(request: Request, brand: BrandPath, body: NearestIn, access: BrandReader) -> Response:
    """The nearest stores of one point, nearest first. Where none is inside, `fallback` has the nearest outside.

    With `points` the answer is `{results: [{id, stores}]}`, or CSV for `Accept: text/csv`; that and `explain` take the
    brand's secret key.
    """
    hive: Hive = request.app.state.hive  # as a dependency it would cost more than the search
    if body.explain or body.points is not None:
        require_secret(access)
    if body.points is not None:
        return await nearest_of_points(request, hive, access, body)
    return await _nearest(request, hive, access, body)


@router.get("/nearest", response_model=FeatureCollection, response_model_exclude_unset=True)
async def get_nearest(
    request: Request,
    brand: BrandPath,
    access: BrandGetReader,
    hive: StoreHive,
    lat: LatParam,
    lon: LonParam,
    coord_type: CoordType = "wgs84",
    limit: LimitParam = 5,
    max_distance_m: MetresParam | None = None,
    min_distance_m: MetresParam = 0.0,
    open: OpenText | None = None,
    speed_kmh: SpeedParam | None = None,
    services: ListParam = "",
    tags: TagsParam = "",
    q: TextParam = None,
    in_zone: bool = False,
    fields: FieldsParam = None,
    cursor: CursorParam = None,
) -> Response:
    """The same for quick use. Prefer POST: so no point stands in a URL."""
    body = NearestIn.model_construct(
        lat=lat,
        lon=lon,
        coord_type=coord_type,
        limit=limit,
        max_distance_m=max_distance_m,
        min_distance_m=min_distance_m,
        open=open,
        speed_kmh=speed_kmh,
        services=split_names(services),
        tags=split_tags(tags),
        q=q,
        in_zone=in_zone,
        fields=_names(fields),
        cursor=cursor,
    )
    return await _nearest(request, hive, access, body)


@router.post("/serving", response_model=FeatureCollection, response_model_exclude_unset=True)
async def post_serving(
    request: Request, brand: BrandPath, body: ServingIn, access: BrandReader, hive: StoreHive
) -> Response:
    """The stores whose zone holds the point, nearest first."""
    now_ms = now()
    if body.open == "on_arrival":
        raise Invalid("must be now or an RFC 3339 time: the store comes to the customer", "open")
    question = question_of(body, now_ms)
    answered = await _twice(hive, brand, lambda: hive.stores.reads.serving(brand, question, now_ms))
    note_search(request, hive, access, question)
    return _geojson(answered)


@router.get("", response_model=FeatureCollection, response_model_exclude_unset=True)
async def get_stores(
    request: Request,
    brand: BrandPath,
    _access: BrandGetReader,
    hive: StoreHive,
    bbox: Annotated[
        str | None, Query(max_length=200, description="west,south,east,north; west > east crosses 180 degrees.")
    ] = None,
    tag: TagsParam = "",
    services: ListParam = "",
    q: TextParam = None,
    open: OpenText | None = None,
    fields: FieldsParam = None,
    limit: LimitParam = 100,
    cursor: CursorParam = None,
) -> Response:
    """A page of all stores that fit, in order of store_id."""
    now_ms = now()
    if open == "on_arrival":
        raise Invalid("must be now or an RFC 3339 time: a list has no point to start from", "open")
    pages = Pages(request.app.state.cursors, "stores", brand, repr((bbox, tag, services, q, open)))
    listing = Listing(
        at_ms=now_ms if open in (None, "now") else at_ms(str(open)),
        limit=limit,
        box=None if bbox is None else box_of(bbox),
        wanted=wanted_of(services, tag, q),
        only_open=open is not None,
        fields=shown(_names(fields)),
        after=pages.last_id(cursor),
    )
    body = await _twice(hive, brand, lambda: hive.stores.reads.listed(brand, listing, now_ms, pages.seal_id))
    return etagged(request, body, GEOJSON)


@router.get("/search", response_model=SuggestionsOut)
async def complete_stores(
    request: Request,
    brand: BrandPath,
    _access: BrandGetReader,
    hive: StoreHive,
    q: Annotated[str, Query(min_length=1, max_length=200, description="What was typed so far.")],
    limit: LimitParam = 5,
) -> Response:
    """Completes names of stores and cities while somebody types; those of more stores first."""
    body = await _twice(hive, brand, lambda: hive.stores.reads.complete(brand, q, limit))
    return etagged(request, body, "application/json")


@router.get("/cell/{cell}", response_model=FeatureCollection, response_model_exclude_unset=True)
async def get_cell(
    request: Request,
    brand: BrandPath,
    cell: Annotated[str, Path(pattern="^[0-9a-f]{15}$", description="H3 cell of resolution 7, hexadecimal.")],
    _access: BrandGetReader,
    hive: StoreHive,
) -> Response:
    """Every store that is among the 5 nearest of some point of the cell: for caches, and pages that sort themselves."""
    try:
        number = cells.from_hex(cell)
    except ValueError:
        raise Invalid("must be an H3 cell of resolution 7", "cell") from None
    body = await _twice(hive, brand, lambda: hive.stores.reads.in_cell(brand, number))
    return etagged(request, body, GEOJSON, CELL_CACHE)


@router.get("/{store_id}", response_model=dict[str, Any])
async def get_store(
    request: Request, brand: BrandPath, store_id: IdPath, _access: BrandGetReader, hive: StoreHive
) -> Response:
    """One store as a GeoJSON Feature."""

    async def ask() -> bytes:
        return hive.stores.reads.store(brand, store_id)

    return etagged(request, await _twice(hive, brand, ask), GEOJSON)


async def _nearest(request: Request, hive: Hive, access: BrandAccess, body: NearestIn) -> Response:
    now_ms, brand = now(), access.brand
    question = nearest_question(body, now_ms)
    at = question.at_ms if question.at_ms != now_ms else 0
    asked = question._replace(at_ms=at, limit=0, fields=None, explain=False)
    pages = Pages(request.app.state.cursors, "nearest", brand, repr(asked))
    question = question._replace(after=pages.position(body.cursor))
    answered = await _twice(hive, brand, lambda: hive.stores.reads.nearest(brand, question, now_ms, pages.seal))
    if body.cursor is None:
        note_search(request, hive, access, question)
    return _geojson(answered)


async def _twice(hive: Hive, brand: str, ask: Callable[[], Awaitable[bytes]]) -> bytes:
    """Ask what this worker holds; before a 404 look once into the state."""
    try:
        return await ask()
    except NotFound:
        await hive.stores.look_again(brand)
    return await ask()


def _geojson(body: bytes) -> Response:
    return Response(body, media_type=GEOJSON)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
