"""Rows of things of schema.org in JSON-LD: a store with its address, point, and either form of opening hours."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from discovery.stores import json_values
from discovery.stores.rows import Findings, Row
from discovery.stores.week import CLOSED, SpecialDay, span, week_hours

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_OF = {name[:2].lower(): day for day, name in enumerate(_DAYS)}
_HOLIDAYS = "PublicHolidays"
_NESTING = ("@graph", "itemListElement", "item")
_OF_A_PLACE = ("geo", "latitude", "address", "openingHours", "openingHoursSpecification", "telephone")
_READ_NAMES = """
    @id @type @context name branchCode globalLocationNumber identifier geo latitude longitude address telephone url
    openingHours openingHoursSpecification specialOpeningHoursSpecification amenityFeature priceRange servesCuisine
    paymentAccepted currenciesAccepted
"""
_READ = frozenset(_READ_NAMES.split())
_NO = ("false", "False", "no")
_TAGS = {"priceRange": "price_range", "servesCuisine": "cuisine", "paymentAccepted": "payment_accepted"}


def is_thing(record: Mapping[str, Any]) -> bool:
    """Whether ``record`` is a node of JSON-LD."""
    return "@type" in record or "@graph" in record


def things(record: Any, levels: int = 4) -> Iterator[Any]:
    """The nodes of ``record``: of a graph, of a list and of a list's item, else itself."""
    nested = isinstance(record, dict) and next((name for name in _NESTING if name in record), "")
    if not nested or levels == 0:
        yield record
        return
    inner = record[nested]
    for one in inner if isinstance(inner, list) else [inner]:
        yield from things(one, levels - 1)


def thing_row(number: int, record: Mapping[str, Any], findings: Findings) -> Row | None:
    """Row of a place; None (and one warning a type) for what is none, as pages and breadcrumbs. Raises ``Unfit``."""
    thing = _unprefixed(record)
    if not any(name in thing for name in _OF_A_PLACE):
        kind = _word("@type", thing.get("@type")) or "?"
        findings.warn_once(number, "@type", f"{kind[:60]} is no place: left out, here and later")
        return None
    for name in sorted(thing.keys() - _READ):
        findings.warn_once(number, name, "not a property of a store: ignored, here and later")
    address = thing.get("address")
    values = {
        "store_id": _identifier(thing),
        "name": _word("name", thing.get("name")),
        "phone": _word("telephone", thing.get("telephone")),
        "website": _word("url", thing.get("url")),
        "opening_hours": _hours(number, thing, findings),
        **_point(thing),
        **(_address(address) if isinstance(_one(address), dict) else {"address": _word("address", address)}),
    }
    tags = {own: _word(name, thing[name]) for name, own in _TAGS.items() if thing.get(name)}
    return Row(number, values, _services(thing.get("amenityFeature")), {key: tag for key, tag in tags.items() if tag})


def _unprefixed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Names without ``schema:`` or ``https://schema.org/`` before them."""
    return {name.rsplit("/", 1)[-1].removeprefix("schema:"): value for name, value in record.items()}


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _word(field: str, value: Any) -> str:
    """A text, also the first of several, and that of a value object or a named thing."""
    one = _one(value)
    if isinstance(one, dict):
        one = next((one[name] for name in ("@value", "value", "name", "@id") if name in one), None)
    return str(one) if isinstance(one, float) else json_values.text(field, one)


def _identifier(thing: Mapping[str, Any]) -> str:
    names = ("branchCode", "globalLocationNumber", "identifier", "@id")
    return next((found for name in names if (found := _word(name, thing.get(name)))), "")


def _point(thing: Mapping[str, Any]) -> dict[str, str]:
    geo = _one(thing.get("geo"))
    where = _unprefixed(geo) if isinstance(geo, dict) else thing
    names = {"lat": "latitude", "lon": "longitude"}
    return {field: json_values.degrees(field, _one(where.get(name))) for field, name in names.items()}


def _address(address: Any) -> dict[str, str]:
    parts = _unprefixed(_one(address))
    names = {
        "address": "streetAddress",
        "city": "addressLocality",
        "postcode": "postalCode",
        "country": "addressCountry",
    }
    return {field: _word(name, parts.get(name)) for field, name in names.items()}


def _services(value: Any) -> Sequence[str]:
    features = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    offered = [
        one for one in map(_unprefixed, features) if one.get("value", True) not in (False, "false", "False", "no")
    ]
    return [name for one in offered if (name := _word("amenityFeature", one.get("name")))]


def _hours(number: int, thing: Mapping[str, Any], findings: Findings) -> str:
    """Text rules add up: 'Mo 09:00-12:00' and 'Mo 14:00-18:00' are both of Monday, so they are joined by commas."""
    said = ", ".join(json_values.texts("openingHours", thing.get("openingHours")))
    usual = _specifications(thing.get("openingHoursSpecification"))
    special = _specifications(thing.get("specialOpeningHoursSpecification"))
    if not usual and not special:
        return said
    week: dict[int, list[str]] = {}
    dated: dict[tuple[str, str], list[str]] = {}
    holidays: list[str] = []
    for one in (*usual, *special):
        hours = _interval(one)
        if hours is None:
            findings.warn(number, "openingHoursSpecification", "opens and closes are not times: left out")
            continue
        if "validFrom" in one and "validThrough" in one and (one in special or not one.get("dayOfWeek")):
            dates = _word("validFrom", one["validFrom"]), _word("validThrough", one["validThrough"])
            dated.setdefault(dates, []).append(hours)
        elif _HOLIDAYS in str(one.get("dayOfWeek")):
            holidays.append(hours)
        else:
            for day in _days(number, one.get("dayOfWeek"), findings):
                week.setdefault(day, []).append(hours)
    days = {day: _joined(week.get(day, [CLOSED])) for day in range(7)} if week else {}
    specials = (SpecialDay(first, last, _joined(hours)) for (first, last), hours in dated.items())
    return week_hours(days, specials, _joined(holidays)) or said


def _joined(hours: Sequence[str]) -> str:
    """Intervals of one day; 'closed' beside an interval says nothing."""
    opened = dict.fromkeys(one for one in hours if one != CLOSED)
    return ",".join(opened) or ",".join(hours[:1])


def _specifications(value: Any) -> list[dict[str, Any]]:
    return [_unprefixed(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _interval(one: Mapping[str, Any]) -> str | None:
    """As search engines read it: no times, or 00:00 to 00:00, is closed all day."""
    opens, closes = _word("opens", one.get("opens")), _word("closes", one.get("closes"))
    if opens[:5] == closes[:5] and opens[:5] in ("", "00:00"):
        return CLOSED
    return span(opens, closes)


def _days(number: int, value: Any, findings: Findings) -> Iterator[int]:
    """Days of the week; all of them where none is named."""
    named = json_values.texts("dayOfWeek", value)
    if not named:
        yield from range(7)
    for name in named:
        day = _DAY_OF.get(name.rsplit("/", 1)[-1].removeprefix("schema:")[:2].lower())
        if day is None:
            findings.warn(number, "openingHoursSpecification", "a dayOfWeek is not a day: left out")
        else:
            yield day
