"""Rows of objects whose members are the fields of a store, under their own or other usual names."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from discovery.stores import json_values
from discovery.stores.addresses import street_address
from discovery.stores.column_names import HOUSE_NUMBER, MORE_ADDRESS, STREET, field_of, rank_of
from discovery.stores.column_names import plain as plain_name
from discovery.stores.rows import FIELDS, Findings, Row, Unfit

_IGNORED = "not a property of a store: ignored, here and in later features"
_NESTED = ("address", "location", "geo", "coordinates", "position", "contact")
_PARTS = (STREET, HOUSE_NUMBER, MORE_ADDRESS)


class _Plan(NamedTuple):
    """What objects with the same member names mean: name and field of each that is read, then what to say once."""

    read: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]
    guessed: tuple[tuple[str, str], ...]


def plain_row(number: int, properties: Mapping[str, Any], known: Mapping[str, str], findings: Findings) -> Row:
    """Row of ``properties``; ``known`` are values from elsewhere, which win. Raises ``Unfit``."""
    plan = _plan(tuple(properties), frozenset(known))
    for name in plan.ignored:
        findings.warn_once(number, name, _IGNORED)
    for name, field in plan.guessed:
        findings.warn_once(number, name, f"read as {field}, here and in later features")
    values: dict[str, str] = {}
    services: Any = None
    tags: Any = None
    for name, field in plan.read:
        if field == "services":
            services = properties[name]
        elif field == "tags":
            tags = properties[name]
        elif field in ("lat", "lon"):
            values[field] = json_values.degrees(field, properties[name])
        else:
            values[field] = json_values.text(name, properties[name])
    values.update(known)
    _compose_address(values)
    return Row(number, values, json_values.services(services), json_values.tags(tags))


def flattened(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """``record`` with the members of what it nests (``address``, ``location``, …) as its own."""
    inner = [record[name] for name in record if plain_name(name) in _NESTED and isinstance(record[name], dict)]
    if not inner:
        return record
    outer = {name: value for name, value in record.items() if not isinstance(value, dict) or name == "tags"}
    flat = {name: value for nested in inner for name, value in nested.items()}
    return flat | outer


def _compose_address(values: dict[str, str]) -> None:
    street, house, more = (values.pop(part, "") for part in _PARTS)
    if not values.get("address") and (street or house):
        values["address"] = street_address(street, house, values.get("country", ""))
    if more:
        values["address"] = ", ".join(filter(None, (values.get("address", ""), more)))


@lru_cache(maxsize=4096)
def _plan(names: tuple[str, ...], known: frozenset[str]) -> _Plan:
    best: dict[str, str] = {}
    for name in names:
        field = field_of(name)
        if field is None or field not in (*FIELDS, *_PARTS) or (field in known and field != "store_id"):
            continue
        if field not in best or rank_of(name) < rank_of(best[field]):
            best[field] = name
    ignored = tuple(sorted(name for name in names if best.get(field_of(name) or "") != name))
    guessed = tuple(
        (name, "a part of address" if field in _PARTS else field)
        for field, name in best.items()
        if plain_name(name) not in (field.replace("_", ""), "tz")
    )
    return _Plan(tuple((name, field) for field, name in best.items()), ignored, guessed)


def require_object(value: Any) -> Mapping[str, Any]:
    """``value`` when it is a JSON object. Raises ``Unfit``."""
    if not isinstance(value, dict):
        raise Unfit(None, "not an object")
    return value
