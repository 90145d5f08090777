"""What may be asked of the finder, and the bounds of it."""

import math
from typing import NamedTuple

from discovery.errors import Invalid
from discovery.stores.rows import TEXT_FIELDS
from discovery.stores.text_index import words_of

MAX_LIMIT = 100
MAX_WORDS = 10
DEFAULT_SPEED_KMH = 30.0
ADDED = ("distance_m", "bearing_deg", "open", "arrives_at")
"""What an answer adds to the properties of a store."""
PROPERTIES = ("store_id", *TEXT_FIELDS, "services", "tags", *ADDED)

Tag = tuple[str, str | None]
"""A key and its value, None for any."""


class Position(NamedTuple):
    """Where the next page of an answer begins: after ``seen`` stores at exactly ``distance_m``, states as of
    ``at_ms``."""

    at_ms: int
    distance_m: float
    seen: int


class Wanted(NamedTuple):
    """What a store must have: all of ``services`` and ``tags``, a word beginning with each of ``words`` (folded); and
    none of the rest."""

    services: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    words: tuple[str, ...] = ()
    without_services: tuple[str, ...] = ()
    without_tags: tuple[Tag, ...] = ()


class Question(NamedTuple):
    """What is asked of one point (degrees).

    ``min_distance_m <= distance <= max_distance_m``, None = no limit. ``at_ms``: the instant of the states shown;
    ``only_open`` keeps stores whose state is ``open`` then. With ``speed_kmh`` the instant is another for each store:
    ``at_ms`` and the time it takes to get there in a straight line. ``in_zone``: only stores whose zone holds the
    point. ``fields``: the properties shown, None for all. ``after``: where a page before ended.
    """

    lat: float
    lon: float
    at_ms: int
    limit: int = 5
    max_distance_m: float | None = None
    only_open: bool = False
    services: tuple[str, ...] = ()
    min_distance_m: float = 0.0
    wanted: Wanted = Wanted()
    speed_kmh: float | None = None
    in_zone: bool = False
    fields: frozenset[str] | None = None
    explain: bool = False
    after: Position | None = None

    def all_wanted(self) -> Wanted:
        """``wanted``, with ``services`` among it."""
        if not self.services:
            return self.wanted
        return Wanted((*self.services, *self.wanted.services), *self.wanted[1:])

    def instant_ms(self, distance_m: float) -> int:
        """When somebody who leaves at ``at_ms`` is so far away."""
        return self.at_ms if self.speed_kmh is None else self.at_ms + round(distance_m * 3600.0 / self.speed_kmh)


class Listing(NamedTuple):
    """A page of stores in order of store_id, from after ``after``. ``box``: west, south, east, north in degrees;
    ``west > east`` crosses 180."""

    at_ms: int
    limit: int = 100
    box: tuple[float, float, float, float] | None = None
    wanted: Wanted = Wanted()
    only_open: bool = False
    fields: frozenset[str] | None = None
    after: str = ""


def check_question(question: Question) -> None:
    """Raises ``Invalid`` for what is out of bounds, naming it."""
    for name, value, bound in (("lat", question.lat, 90), ("lon", question.lon, 180)):
        if not -bound <= value <= bound:
            raise Invalid(f"must be from -{bound} to {bound}", name)
    _check_limit(question.limit)
    far = question.max_distance_m
    if far is not None and not 0 <= far < math.inf:
        raise Invalid("must be a number of metres >= 0", "max_distance_m")
    if not 0 <= question.min_distance_m < math.inf:
        raise Invalid("must be a number of metres >= 0", "min_distance_m")
    if far is not None and far < question.min_distance_m:
        raise Invalid("must not be less than min_distance_m", "max_distance_m")
    if question.speed_kmh is not None and not 1 <= question.speed_kmh <= 1000:
        raise Invalid("must be from 1 to 1000", "speed_kmh")


def check_listing(listing: Listing) -> None:
    """Raises ``Invalid`` for what is out of bounds, naming it."""
    _check_limit(listing.limit)
    if listing.box is None:
        return
    west, south, east, north = listing.box
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise Invalid("must be west,south,east,north in degrees, south <= north", "bbox")


def words_wanted(text: str) -> tuple[str, ...]:
    """The words of a text to look for. Raises ``Invalid`` where it has none, or more than 10."""
    words = tuple(dict.fromkeys(words_of(text)))
    if not 1 <= len(words) <= MAX_WORDS:
        raise Invalid(f"must have 1 to {MAX_WORDS} words of letters or digits", "q")
    return words


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"must be from 1 to {MAX_LIMIT}", "limit")
