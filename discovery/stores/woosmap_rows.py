"""Rows of Woosmap's stores: of its data API, and of the features that its search answers with."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from discovery.stores import json_values
from discovery.stores.rows import Findings, Row
from discovery.stores.week import ALL_DAY, CLOSED, SpecialDay, span, week_hours

_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def is_asset(record: Mapping[str, Any]) -> bool:
    """Whether ``record`` is a store of the data API."""
    location = record.get("location")
    named = "storeId" in record or any(
        name in record for name in ("userProperties", "openingHours", "contact", "types")
    )
    return named and isinstance(location, dict) and "lat" in location


def is_properties(properties: Mapping[str, Any]) -> bool:
    """Whether ``properties`` are those of a feature of its search."""
    return isinstance(properties.get("contact"), dict) or isinstance(properties.get("opening_hours"), dict)


def asset_row(number: int, record: Mapping[str, Any], findings: Findings) -> Row:
    """Row of a store of the data API. Raises ``Unfit``."""
    location = json_values.member("location", record.get("location"))
    lon = location.get("lng", location.get("lon"))
    point = {"lat": json_values.degrees("lat", location.get("lat")), "lon": json_values.degrees("lon", lon)}
    return properties_row(number, {_snake(name): value for name, value in record.items()}, point, findings)


def properties_row(number: int, properties: Mapping[str, Any], known: Mapping[str, str], findings: Findings) -> Row:
    """Row of a store's properties; ``known`` is its point. Types and tags are services, user properties are tags."""
    address = _inner("address", properties)
    contact = _inner("contact", properties)
    hours = _inner("opening_hours", properties)
    lines = json_values.texts("address", address.get("lines"))
    values = {
        "store_id": json_values.text("store_id", properties.get("store_id")),
        "name": json_values.text("name", properties.get("name")),
        "address": ", ".join(lines),
        "city": json_values.text("city", address.get("city")),
        "country": json_values.text("country_code", address.get("country_code")),
        "postcode": json_values.text("zipcode", address.get("zipcode")),
        "phone": json_values.text("phone", contact.get("phone")),
        "website": json_values.text("website", contact.get("website")),
        "timezone": json_values.text("timezone", hours.get("timezone")),
        "opening_hours": _hours(number, hours, findings),
    }
    values.update(known)
    offered = [*json_values.texts("types", properties.get("types")), *json_values.texts("tags", properties.get("tags"))]
    own = json_values.loose_texts(json_values.member("user_properties", properties.get("user_properties")))
    return Row(number, values, offered, own)


def _inner(name: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {_snake(key): value for key, value in json_values.member(name, properties.get(name)).items()}


def _snake(name: str) -> str:
    return _SNAKE.sub("_", name).lower()


def _hours(number: int, hours: Mapping[str, Any], findings: Findings) -> str:
    """``usual``: '1' (Monday) to '7' and ``default`` for other days; ``special``: by date; [] is closed."""
    usual = json_values.member("opening_hours", hours.get("usual"))
    week: dict[int, str] = {}
    for day in range(7):
        slots = usual.get(str(day + 1), usual.get("default"))
        said = _slots(slots)
        if said is not None:
            week[day] = said
        elif slots is not None:
            findings.warn(number, "opening_hours", f"usual.{day + 1} cannot be read: that day is unknown")
    return week_hours(week, _special(number, hours, findings))


def _special(number: int, hours: Mapping[str, Any], findings: Findings) -> Iterator[SpecialDay]:
    for date, slots in json_values.member("opening_hours", hours.get("special")).items():
        said = _slots(slots)
        if said is None:
            findings.warn(number, "opening_hours", "a special day cannot be read: it is as any other")
        else:
            yield SpecialDay(date, date, said)


def _slots(slots: Any) -> str | None:
    if not isinstance(slots, list):
        return None
    spans = [_slot(slot) for slot in slots]
    found = [one for one in spans if one is not None]
    return None if len(found) < len(spans) else ",".join(found) or CLOSED


def _slot(slot: Any) -> str | None:
    if not isinstance(slot, dict):
        return None
    if slot.get("all-day") is True or slot.get("all_day") is True:
        return ALL_DAY
    start, end = slot.get("start"), slot.get("end")
    return span(start, end) if isinstance(start, str) and isinstance(end, str) else None
