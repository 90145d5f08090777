"""Stores as GeoJSON: whole, or with the properties asked for; as the bytes that are sent."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from discovery.stores.hours import OpenState
from discovery.stores.question import Question
from discovery.stores.store_set import StoreSet

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Hit(NamedTuple):
    """One store of an answer; ``open`` as of ``at_ms``."""

    row: int
    distance_m: float
    bearing_deg: float
    open: OpenState
    at_ms: int


def collection(features: Sequence[bytes], more: Mapping[str, bytes]) -> bytes:
    """A FeatureCollection, with further members."""
    members = b"".join(b',"%b":%b' % (name.encode(), value) for name, value in more.items())
    return b'{"type":"FeatureCollection","features":[%b]%b}' % (b",".join(features), members)


def feature_of(stores: StoreSet, hit: Hit, question: Question) -> bytes:
    """The Feature of a hit, with the properties that the question asks for."""
    added = _added(hit, question)
    if question.fields is None:
        return stores.feature(hit.row, b"," + orjson.dumps(added)[1:-1])
    return _picked(stores, hit.row, question.fields, added)


def listed_feature(stores: StoreSet, row: int, fields: frozenset[str] | None) -> bytes:
    """The Feature of a store, seen from nowhere."""
    return stores.feature(row) if fields is None else _picked(stores, row, fields, {})


def _picked(stores: StoreSet, row: int, fields: frozenset[str], added: Mapping[str, Any]) -> bytes:
    card = {**orjson.loads(stores.cards[row]), **added}
    shown = orjson.dumps({name: value for name, value in card.items() if name in fields})
    return stores.feature_with(row, shown[:-1])


def _added(hit: Hit, question: Question) -> dict[str, Any]:
    """What an answer adds to a store's own properties; distances in millimetres, bearings in hundredths of a degree."""
    added: dict[str, Any] = {
        "distance_m": round(hit.distance_m, 3),
        "bearing_deg": round(hit.bearing_deg, 2) % 360.0,
        "open": open_json(hit.open),
    }
    if question.speed_kmh is not None:
        added["arrives_at"] = rfc3339(hit.at_ms)
    return added


def open_json(state: OpenState) -> dict[str, Any]:
    """A state as the API shows it."""
    change = None if state.next_change_ms is None else rfc3339(state.next_change_ms)
    return {"state": state.state, "next_change": change, "closes_in_s": state.closes_in_s}


@lru_cache(maxsize=4096)  # stores that close together are asked for together
def rfc3339(instant_ms: int) -> str:
    """UTC, to the second, or to the millisecond where there is a fraction."""
    timespec = "milliseconds" if instant_ms % 1000 else "seconds"
    instant = _EPOCH + timedelta(milliseconds=instant_ms)
    return instant.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
