"""Why other stores are not in an answer: for the nearest of them, each reason with what is missing."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from discovery.stores.candidates import Ring, rising
from discovery.stores.cards import Hit, rfc3339
from discovery.stores.filters import Filter, rows_with_service
from discovery.stores.question import Question, Wanted
from discovery.stores.store_set import StoreSet
from discovery.stores.zones import ZoneSet

MOST = 20  # stores that are explained
_LOOKED_AT = 200


def explained(stores: StoreSet, zones: ZoneSet, question: Question, hits: Sequence[Hit]) -> bytes:
    """JSON array of the nearest stores that are not among ``hits``: {store_id, name, distance_m, reasons}."""
    shown = {hit.row for hit in hits}
    everything = rising(stores, Ring(question.lat, question.lon, 0.0, np.inf), Filter(0, None), _LOOKED_AT)
    rows, distances_m = next(everything)
    others = [
        (row, distance_m)
        for row, distance_m in zip(rows.tolist(), distances_m.tolist(), strict=True)
        if row not in shown
    ]
    return orjson.dumps([_one(stores, zones, question, *other) for other in islice(others, MOST)])


def _one(stores: StoreSet, zones: ZoneSet, question: Question, row: int, distance_m: float) -> dict[str, Any]:
    reasons = [
        *_missing(stores, question.all_wanted(), row),
        *_hours(stores, question, row, distance_m),
        *_zone(stores, zones, question, row),
        *_distance(question, distance_m),
    ]
    card = orjson.loads(stores.cards[row])
    return {
        "store_id": card["store_id"],
        "name": card["name"],
        "distance_m": round(distance_m, 3),
        "reasons": reasons or [{"code": "not_among_the_first"}],
    }


def _missing(stores: StoreSet, wanted: Wanted, row: int) -> Iterator[dict[str, Any]]:
    for name in wanted.services:
        if row not in rows_with_service(stores, name):
            yield {"code": "service_missing", "service": name}
    for name in wanted.without_services:
        if row in rows_with_service(stores, name):
            yield {"code": "service_not_wanted", "service": name}
    for key, value in wanted.tags:
        if row not in stores.index.get().with_tag(key, value):
            yield {"code": "tag_missing", "tag": key if value is None else f"{key}={value}"}
    for key, value in wanted.without_tags:
        if row in stores.index.get().with_tag(key, value):
            yield {"code": "tag_not_wanted", "tag": key if value is None else f"{key}={value}"}
    for word in wanted.words:
        if row not in stores.index.get().with_words((word,)):
            yield {"code": "text_missing", "word": word}


def _hours(stores: StoreSet, question: Question, row: int, distance_m: float) -> Iterator[dict[str, Any]]:
    if not question.only_open:
        return
    state = stores.hours.state_at(int(stores.hours_rows[row]), question.instant_ms(distance_m))
    if state.state == "closed":
        yield {"code": "closed", "until": None if state.next_change_ms is None else rfc3339(state.next_change_ms)}
    elif state.state == "unknown":
        yield {"code": "hours_unknown"}


def _zone(stores: StoreSet, zones: ZoneSet, question: Question, row: int) -> Iterator[dict[str, Any]]:
    if not question.in_zone:
        return
    outside_m = zones.metres_outside(stores.ids[row].decode(), question.lat, question.lon)
    if outside_m is None:
        yield {"code": "no_zone"}
    elif outside_m > 0.0:
        yield {"code": "outside_zone", "by_m": round(outside_m, 1)}


def _distance(question: Question, distance_m: float) -> Iterator[dict[str, Any]]:
    if question.max_distance_m is not None and distance_m > question.max_distance_m:
        yield {"code": "too_far", "by_m": round(distance_m - question.max_distance_m, 1)}
    if distance_m < question.min_distance_m:
        yield {"code": "too_near", "by_m": round(question.min_distance_m - distance_m, 1)}
