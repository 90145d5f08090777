"""Hours of a week, said day by day, as one text in OSM syntax."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

CLOSED, UNKNOWN, ALL_DAY = "off", "unknown", "00:00-24:00"

_NAMES = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOSED_WORDS = "closed close geschlossen ruhetag zu ferme fermé cerrado chiuso gesloten fechado off none x - – —"
_ALL_DAY_WORDS = frozenset(
    {"24h", "24hours", "24hrs", "open24hours", "open24h", "24/7", "24stunden", "24h/24", "allday"}
)
_TIME = r"(\d{1,2})(?:\s*[:.h]\s*([0-5]\d)(?::[0-5]\d)?)?\s*(?:uhr|hrs?|h)?\s*([ap])?(?:\.?m\.?)?"
_RANGE = re.compile(rf"{_TIME}\s*(?:-|–|—|~|\bto\b|\bbis\b|\buntil\b|\bà\b|\ba\b|\btot\b)\s*{_TIME}")
_BETWEEN = re.compile(r"\s*(?:[,;/&|+\n]|\band\b|\bund\b|\bet\b|\by\b|\be\b|\s)\s*")
_MAX_CHARS = 200
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T.*)?")


class SpecialDay(NamedTuple):
    """Hours of the days ``first`` to ``last`` (``YYYY-MM-DD``) in the form of a day of the week."""

    first: str
    last: str
    hours: str


def day_hours(text: str) -> str | None:
    """OSM hours of one day from what people write ('9am-5:30pm', '9:00 - 12:00, 14 - 18h', 'closed', '24 hours').

    None when it cannot be read with certainty.
    """
    said = text.strip().lower()
    if said in _CLOSED_WORDS.split():
        return CLOSED
    if re.sub(r"\s", "", said) in _ALL_DAY_WORDS:
        return ALL_DAY
    spans: list[str] = []
    place = 0
    while place < len(said) <= _MAX_CHARS:
        found = _RANGE.match(said, place)
        span = found and _span(found.groups())
        if not found or not span:
            return None
        spans.append(span)
        place = found.end()
        if place < len(said):
            gap = _BETWEEN.match(said, place)
            if not gap:
                return None
            place = gap.end()
    return ",".join(spans) or None


def span(opens: str, closes: str) -> str | None:
    """OSM hours of one interval of 24-hour times ``HH:MM`` (seconds are dropped). None when it is none."""
    return day_hours(f"{opens[:5]}-{closes[:5]}")


def week_hours(days: Mapping[int, str], special: Iterable[SpecialDay] = (), holidays: str = "") -> str:
    """OSM text of the hours of days 0 (Monday) to 6, of public ``holidays`` and of ``special`` days.

    Days that are not in ``days`` are unknown. '' when nothing is said at all.
    """
    rules = [f"{name} {hours}" for name, hours in _groups([days.get(day, UNKNOWN) for day in range(7)])] if days else []
    if rules == [f"Mo-Su {ALL_DAY}"]:
        rules = ["24/7"]
    if holidays:
        rules.append(f"PH {holidays}")
    for day in special:
        dates = _dates(day.first, day.last)
        if dates:
            rules.append(f"{dates} {day.hours}")
    return "; ".join(rules)


def _groups(hours: Sequence[str]) -> list[tuple[str, str]]:
    groups: list[tuple[int, int, str]] = []
    for day, text in enumerate(hours):
        if groups and groups[-1][2] == text:
            groups[-1] = groups[-1][0], day, text
        else:
            groups.append((day, day, text))
    return [(_NAMES[a] if a == b else f"{_NAMES[a]}-{_NAMES[b]}", text) for a, b, text in groups]


def _dates(first: str, last: str) -> str | None:
    one, two = _DATE.fullmatch(first), _DATE.fullmatch(last)
    if not one or not two or not 1 <= int(one[2]) <= 12 or not 1 <= int(two[2]) <= 12:
        return None
    begin, end = (f"{date[1]} {_MONTHS[int(date[2]) - 1]} {date[3]}" for date in (one, two))
    return begin if begin == end else f"{begin}-{end}"


def _span(parts: Sequence[str | None]) -> str | None:
    from_hour, from_minute, from_half, to_hour, to_minute, to_half = parts
    if to_half and not from_half:
        return _span_without_half(parts)
    begin, end = _minute(from_hour, from_minute, from_half), _minute(to_hour, to_minute, to_half)
    if begin is None or end is None or begin == end or begin >= 1440:
        return None
    if end == 0 or (begin, end) == (0, 1439):  # 23:59 is how forms without 24:00 say it
        end = 1440
    return f"{_clock(begin)}-{_clock(end)}"


def _span_without_half(parts: Sequence[str | None]) -> str | None:
    """'1-5pm' is in one half of the day, '9-5pm' and '11-2am' are in two: the first is what comes before the second."""
    from_hour, from_minute, _, to_hour, to_minute, to_half = parts
    same, other = (to_half or "a"), "p" if to_half == "a" else "a"
    begin, end = _minute(from_hour, from_minute, same), _minute(to_hour, to_minute, to_half)
    half = same if begin is not None and end is not None and begin < end else other
    return _span((from_hour, from_minute, half, to_hour, to_minute, to_half))


def _minute(hour: str | None, minute: str | None, half: str | None) -> int | None:
    hours, minutes = int(hour or 0), int(minute or 0)
    if half is not None:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half == "p" else 0)
    total = 60 * hours + minutes
    return total if total <= 1440 else None


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
