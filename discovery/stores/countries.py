"""Whether a point lies in the country that its row names, by the map of time zones: two of them span two countries.

The boundaries (timezone-boundary-builder, in ``tzfpy``) are simplified by some hundred metres, so that what lies just
outside, or in a harbour, counts as inside. ``zone.tab`` of the IANA database names the country of each zone.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from math import cos, radians

from tzfpy import get_tzs

_NEAR_DEG = 0.05  # 5.5 km; coordinates of two decimals, the coarsest in use, are 0.8 km off at most
_AROUND = tuple((north, east) for north in (-1, 0, 1) for east in (-1, 0, 1) if north or east)
# Whose stores are often filed under another country's code.
_PARTS: Mapping[str, str] = {
    "US": "PR VI GU AS MP UM",
    "FR": "GP MQ GF RE YT PM BL MF NC PF WF TF",
    "GB": "IM JE GG GI BM KY VG TC AI MS FK SH",
    "NL": "AW CW SX BQ",
    "DK": "FO GL",
    "CN": "HK MO",
    "AU": "CX CC NF",
    "NZ": "CK NU TK",
    "FI": "AX",
    "NO": "SJ",
}
# Zones that zone.tab gives to one country: the north of Vietnam keeps Bangkok's time, Kosovo Belgrade's, and Crimea is
# claimed by two.
_ALSO: Mapping[str, str] = {"Asia/Bangkok": "VN", "Europe/Belgrade": "XK", "Europe/Simferopol": "RU"}
_PARTS_OF = {part: country for country, parts in _PARTS.items() for part in parts.split()}


def countries_at(lat: float, lon: float) -> frozenset[str]:
    """ISO 3166-1 alpha-2 codes of the countries that have a claim on the point; none at sea."""
    by_zone = _countries()
    zones = get_tzs(lon, lat)
    owners = {by_zone[zone] for zone in zones if zone in by_zone}
    return frozenset(owners | {_ALSO[zone] for zone in zones if zone in _ALSO})


def country_of_zone(timezone: str) -> str | None:
    """The one country whose zone it is, None for old names and zones of the sea."""
    return _countries().get(timezone)


def is_in(lat: float, lon: float, country: str) -> bool:
    """Whether the point lies in ``country``, a part of it overseas, or within some kilometres of it."""
    if _fits(countries_at(lat, lon), country):
        return True
    wide = _NEAR_DEG / max(cos(radians(lat)), 0.01)
    around = ((lat + north * _NEAR_DEG, lon + east * wide) for north, east in _AROUND)
    return any(_fits(countries_at(max(-90.0, min(90.0, y)), (x + 180) % 360 - 180), country) for y, x in around)


def _fits(found: frozenset[str], country: str) -> bool:
    return country in found or any(_PARTS_OF.get(code) == country for code in found)


@cache
def _countries() -> Mapping[str, str]:
    lines = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {row[2]: row[0] for row in rows}
