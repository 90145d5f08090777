"""What callers ask of the store finder: bodies and query parameters, and the question they make."""

import hashlib
import re
import time
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.dependencies import CoordType, Lat, Limit, Lon, Metres, Model, decimal_number, instant_ms
from api.errors import InvalidFields
from api.pagination import Cursors
from discovery.errors import Invalid
from discovery.stores.points import MAX_POINTS, Points, points_of
from discovery.stores.question import (
    DEFAULT_SPEED_KMH,
    PROPERTIES,
    Position,
    Question,
    Tag,
    Wanted,
    words_wanted,
)
from geo.datums import bd09_to_wgs84, gcj02_to_wgs84

_MAX_ITEMS = 64
_TO_WGS84 = {"gcj02": gcj02_to_wgs84, "bd09": bd09_to_wgs84}
_BOX = re.compile(r"[^,]{1,40}(,[^,]{1,40}){3}")

Name = Annotated[str, Field(strict=True, min_length=1, max_length=100)]
Names = Annotated[list[Name], Field(max_length=_MAX_ITEMS)]
Tags = Annotated[
    dict[Name, Annotated[str, Field(strict=True, max_length=1000)] | None],
    Field(max_length=_MAX_ITEMS, description="All of these; null for any value."),
]
OpenText = Annotated[str, Field(strict=True, max_length=40, description="now, an RFC 3339 time, or on_arrival.")]
Text = Annotated[
    str, Field(strict=True, max_length=200, description="Each word begins one of name, city, postcode or address.")
]
Speed = Annotated[
    float,
    Field(strict=True, ge=1, le=1000, allow_inf_nan=False, description=f"For on_arrival; {DEFAULT_SPEED_KMH:.0f}."),
]
CursorText = Annotated[str, Field(strict=True, max_length=2048, pattern=r"^[A-Za-z0-9_-]+$")]

ListParam = Annotated[str, Query(max_length=4000, description="Separated by `;`.")]
TagsParam = Annotated[str, Query(max_length=4000, description="`key=value`, or `key` for any value; separated by `;`.")]
TextParam = Annotated[str | None, Query(max_length=200, description="Each word begins one of the store's texts.")]
FieldsParam = Annotated[
    str | None, Query(max_length=1000, description="Properties to show, separated by `,`; all when absent.")
]
SpeedParam = Annotated[float, BeforeValidator(decimal_number), Query(ge=1, le=1000, allow_inf_nan=False)]


class PointIn(Model):
    """A place to look from; it is used and forgotten."""

    lat: Lat
    lon: Lon
    coord_type: CoordType = "wgs84"


class NearestIn(Model):
    """Where to look from, which stores count, and what is shown of them. `points` in place of `lat` and `lon`: up to
    10,000 of `{id?, lat, lon}`, each answered by its nearest."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"lat": 48.8566, "lon": 2.3522, "limit": 3, "open": "now", "services": ["wifi"]}]
        }
    )

    lat: Lat | None = None
    lon: Lon | None = None
    points: Annotated[list[Any], Field(max_length=MAX_POINTS)] | None = None
    coord_type: CoordType = "wgs84"
    limit: Limit = 5
    max_distance_m: Metres | None = None
    min_distance_m: Metres = 0.0
    open: OpenText | None = None
    speed_kmh: Speed | None = None
    services: Names = Field(default_factory=list)
    tags: Tags = Field(default_factory=dict)
    without_services: Names = Field(default_factory=list)
    without_tags: Tags = Field(default_factory=dict)
    q: Text | None = None
    in_zone: bool = False
    fields: Names | None = None
    explain: bool = False
    cursor: CursorText | None = None


class ServingIn(PointIn):
    """The place to be served."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"lat": 48.8566, "lon": 2.3522}]})

    limit: Limit = 5
    open: OpenText | None = None
    services: Names = Field(default_factory=list)
    fields: Names | None = None


class FeatureCollection(BaseModel):
    """GeoJSON; each Feature's `id` is the store_id, its properties also `distance_m`, `bearing_deg`, `open`."""

    type: Literal["FeatureCollection"]
    features: list[dict[str, Any]]
    fallback: dict[str, Any] | None = None
    explain: list[dict[str, Any]] | None = None
    next_cursor: str | None = None


def question_of(body: ServingIn, now_ms: int) -> Question:
    """The question of a body. Raises ``Invalid``."""
    return Question(
        *_wgs84(body),
        at_ms=_instant(body, now_ms),
        limit=body.limit,
        only_open=body.open is not None,
        services=tuple(body.services),
        fields=shown(body.fields),
    )


def nearest_question(body: NearestIn, now_ms: int) -> Question:
    """The same of all that the nearest may be asked."""
    on_arrival = body.open == "on_arrival"
    if body.speed_kmh is not None and not on_arrival:
        raise Invalid("goes with open: on_arrival", "speed_kmh")
    return Question(
        *_wgs84(body),
        at_ms=_instant(body, now_ms),
        limit=body.limit,
        only_open=body.open is not None,
        services=tuple(body.services),
        fields=shown(body.fields),
        max_distance_m=body.max_distance_m,
        min_distance_m=body.min_distance_m,
        speed_kmh=(body.speed_kmh or DEFAULT_SPEED_KMH) if on_arrival else None,
        in_zone=body.in_zone,
        explain=body.explain,
        wanted=Wanted(
            tags=tuple(body.tags.items()),
            words=() if body.q is None else words_wanted(body.q),
            without_services=tuple(body.without_services),
            without_tags=tuple(body.without_tags.items()),
        ),
    )


def _instant(body: NearestIn | ServingIn, now_ms: int) -> int:
    return now_ms if body.open in (None, "now", "on_arrival") else at_ms(str(body.open))


def _wgs84(body: NearestIn | ServingIn) -> tuple[float, float]:
    if body.lat is None or body.lon is None:
        raise InvalidFields([(name, "Field required") for name in ("lat", "lon") if getattr(body, name) is None])
    return _point_wgs84(body.coord_type, body.lat, body.lon)


def _point_wgs84(coord_type: CoordType, lat: float, lon: float) -> tuple[float, float]:
    if coord_type in _TO_WGS84:
        lat, lon = _TO_WGS84[coord_type](lat, lon)
    return max(-90.0, min(90.0, lat)), max(-180.0, min(180.0, lon))


def points_question(body: NearestIn, now_ms: int) -> tuple[Points, Question]:
    """The points of a body with ``points``, and what is asked of each. Raises ``Invalid``.

    For a thread: 10,000 points take about 10 ms, those of a Chinese datum 100.
    """
    for name in ("lat", "lon", "explain", "fields", "cursor"):
        if getattr(body, name):
            raise Invalid("does not go with points", name)
    points = points_of(body.points or ())
    if body.coord_type in _TO_WGS84:
        pairs = zip(points.lats.tolist(), points.lons.tolist(), strict=True)
        moved = np.array([_point_wgs84(body.coord_type, lat, lon) for lat, lon in pairs])
        points = points._replace(lats=moved[:, 0].copy(), lons=moved[:, 1].copy())
    return points, nearest_question(body.model_copy(update={"lat": 0.0, "lon": 0.0}), now_ms)


def at_ms(text: str) -> int:
    """The instant of ``open``. Raises ``Invalid``."""
    try:
        return instant_ms(text)
    except ValueError:
        raise Invalid("must be now, on_arrival, or an RFC 3339 time with an offset", field="open") from None


def now() -> int:
    """Milliseconds since 1970. Shops open by the world's clock, not by hive time."""
    return time.time_ns() // 1_000_000


def split_names(text: str) -> list[str]:
    """The names of a query parameter."""
    return [name.strip() for name in text.split(";") if name.strip()]


def split_tags(text: str) -> dict[str, str | None]:
    """The tags of a query parameter."""
    pairs = [name.partition("=") for name in split_names(text)]
    return {key.strip(): value.strip() if equals else None for key, equals, value in pairs}


def wanted_of(services: str, tags: str, q: str | None) -> Wanted:
    """What query parameters ask of stores. Raises ``Invalid``."""
    names, pairs = split_names(services), split_tags(tags)
    for field, items in (("services", names), ("tag", pairs)):
        if len(items) > _MAX_ITEMS:
            raise Invalid(f"more than {_MAX_ITEMS}", field)
    words = () if q is None else words_wanted(q)
    return Wanted(services=tuple(names), tags=tuple[Tag, ...](pairs.items()), words=words)


def shown(names: list[str] | None) -> frozenset[str] | None:
    """The properties to show, None for all. Raises ``Invalid`` for one that there is not."""
    if names is None:
        return None
    if not set(names) <= set(PROPERTIES):
        raise Invalid(f"must be of: {', '.join(PROPERTIES)}", "fields")
    return frozenset(names)


def box_of(text: str) -> tuple[float, float, float, float]:
    """west, south, east, north. Raises ``Invalid``."""
    try:
        if not _BOX.fullmatch(text):
            raise ValueError
        west, south, east, north = (float(str(decimal_number(part.strip()))) for part in text.split(","))
    except ValueError:
        raise Invalid("must be west,south,east,north in degrees", "bbox") from None
    return west, south, east, north


class Pages:
    """Cursors of one question of one brand: they hold for no other."""

    def __init__(self, cursors: Cursors, list_name: str, brand: str, asked: str) -> None:
        """``asked``: all that decides which stores are listed; it is kept as a hash."""
        self._cursors = cursors
        self._list = list_name
        self._caller = brand + " " + hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()

    def position(self, cursor: str | None) -> Position | None:
        """Where the page begins. Raises ``BadCursor``."""
        if cursor is None:
            return None
        at, distance, seen = self._cursors.open(self._list, self._caller, cursor, (int, str, int))
        return Position(int(at), float.fromhex(str(distance)), int(seen))

    def seal(self, position: Position) -> str:
        """The cursor of a position."""
        at, distance, seen = position
        return self._cursors.seal(self._list, self._caller, at, distance.hex(), seen)

    def last_id(self, cursor: str | None) -> str:
        """The id after which the page begins. Raises ``BadCursor``."""
        return "" if cursor is None else str(self._cursors.open(self._list, self._caller, cursor, (str,))[0])

    def seal_id(self, store_id: str) -> str:
        """The cursor of an id."""
        return self._cursors.seal(self._list, self._caller, store_id)
