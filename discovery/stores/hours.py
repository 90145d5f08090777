"""Opening hours in OSM syntax: the state of a store at an instant, and when it changes next.

The ``opening_hours`` package evaluates wall-clock time; the step between wall clock and UTC is done here, because the
package answers a change inside a repeated hour (end of summer time) with the second occurrence, which is an hour late.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from opening_hours import OpeningHours, State, validate
from tzfpy import get_tz

OpenWord = Literal["open", "closed", "unknown"]

# Without a bound one ``next_change`` of "Mo-Su, PH 00:00-24:00" takes 2.7 s (it looks through every year to 9999); with
# it, 0.8 ms. A change further away is answered as none.
LOOK_AHEAD_DAYS = 366
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# Steps over midnights, comments and shifts of offset that leave the state as it is.
_MAX_STEPS = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Instants that the package can evaluate: 1900-01-02 to 9998-12-30, whatever the zone.
_FIRST_MS = -2_208_902_400_000
_LAST_MS = 253_370_592_000_000
_WORDS: dict[State, OpenWord] = {State.OPEN: "open", State.CLOSED: "closed", State.UNKNOWN: "unknown"}
_SUN_WORDS = ("sunrise", "sunset", "dawn", "dusk")
_HOLIDAY_WORDS = ("PH", "SH")


class HoursKey(NamedTuple):
    """All that the state of a store depends on. ``lat, lon`` only where they matter (sun events, country unknown)."""

    text: str
    timezone: str
    country: str | None
    lat: float | None
    lon: float | None


class OpenState(NamedTuple):
    """State at an instant; ``next_change_ms`` (UTC) when known, ``closes_in_s`` only while open."""

    state: OpenWord
    next_change_ms: int | None
    closes_in_s: int | None


UNKNOWN = OpenState("unknown", None, None)


def hours_key(text: str, timezone: str, country: str, lat: float, lon: float) -> HoursKey | None:
    """Key of a store's hours, with the zone from the coordinates when ``timezone`` is ''. None: the state is unknown.

    Two stores of equal hours, zone and country share one key, so that a set of 191,806 rows keeps few.
    """
    if not is_valid(text):
        return None
    zone = timezone or zone_at(lat, lon)
    if zone is None:
        return None
    known_country = country if has_holidays(country) else None
    by_sun = any(word in text for word in _SUN_WORDS)
    by_place = known_country is None and any(word in text for word in _HOLIDAY_WORDS)
    where = (lat, lon) if by_sun or by_place else (None, None)
    return HoursKey(text, zone, known_country, *where)


@lru_cache(maxsize=8192)
def is_valid(text: str) -> bool:
    """Whether ``text`` is opening hours in OSM syntax; '' is not."""
    return bool(text.strip()) and validate(text)


@lru_cache(maxsize=1024)
def has_holidays(code: str) -> bool:
    """Whether the package has a calendar of public holidays for the country (ISO 3166-1 alpha-2, upper case)."""
    try:
        OpeningHours("24/7", country=code)
    except Exception:  # the package's UnknownCountryError is not importable
        return False
    return True


def zone_at(lat: float, lon: float) -> str | None:
    """IANA zone of a point, at sea that of its offset; None at the poles.

    ``tzfpy`` takes 1 us; asking the hours package, whose map is the same (equal at 4,500 of 4,500 points), takes 220.
    """
    return None if abs(lat) == 90.0 else get_tz(lon, lat) or None


class HoursTable:
    """The distinct hours of one store set, each with the interval that was evaluated last.

    ``state_at`` costs 1 us inside that interval and about 30 us outside. Safe to call from any thread: an interval is
    replaced in one assignment.
    """

    def __init__(self, keys: Sequence[HoursKey]) -> None:
        self.keys = tuple(keys)
        self._intervals: list[_Interval | None] = [None] * len(self.keys)

    def state_at(self, index: int, at_ms: int) -> OpenState:
        """State of entry ``index`` at ``at_ms``; a negative index means no (usable) hours: unknown."""
        if index < 0 or not _FIRST_MS <= at_ms <= _LAST_MS:
            return UNKNOWN
        interval = self._intervals[index]
        if interval is None or not interval.from_ms <= at_ms < interval.until_ms:
            interval = _interval_at(self.keys[index], at_ms)
            self._intervals[index] = interval
        return _answer(interval, at_ms)

    def open_at(self, at_ms: int) -> NDArray[np.bool_]:
        """Whether each entry is open at ``at_ms``, bool[entries + 1]; the last, which index -1 names, is False."""
        return np.array([self.state_at(index, at_ms).state == "open" for index in [*range(len(self.keys)), -1]])


def state_at(key: HoursKey | None, at_ms: int) -> OpenState:
    """State of one store's hours at ``at_ms`` (UTC milliseconds since 1970)."""
    if key is None or not _FIRST_MS <= at_ms <= _LAST_MS:
        return UNKNOWN
    return _answer(_interval_at(key, at_ms), at_ms)


class _Interval(NamedTuple):
    """A state that holds for ``from_ms <= t < until_ms``."""

    state: OpenWord
    from_ms: int
    until_ms: int
    next_change_ms: int | None


def _answer(interval: _Interval, at_ms: int) -> OpenState:
    change = interval.next_change_ms
    closes = (change - at_ms) // 1000 if change is not None and interval.state == "open" else None
    return OpenState(interval.state, change, closes)


class _Clock(NamedTuple):
    """Parsed hours on the wall of a zone. ``daily``: the package's next change holds up to the next midnight only."""

    hours: OpeningHours
    zone: ZoneInfo
    daily: bool


def _interval_at(key: HoursKey, at_ms: int) -> _Interval:
    clock = _parsed(key)
    if clock is None:
        return _Interval("unknown", at_ms, at_ms + _DAY_MS, None)
    state = _state(clock, at_ms)
    change = _next_change_ms(clock, at_ms, state)
    # "No change within the look-ahead" stays true for a day less than the look-ahead, not for ever.
    return _Interval(state, at_ms, at_ms + _DAY_MS if change is None else change, change)


@lru_cache(maxsize=16384)
def _parsed(key: HoursKey) -> _Clock | None:
    zone = ZoneInfo(key.timezone)
    try:
        hours = OpeningHours(
            key.text,
            timezone=zone,
            country=key.country,
            # With auto_timezone off the package forgets the coordinates; an explicit zone wins over the automatic one.
            coords=None if key.lat is None or key.lon is None else (key.lat, key.lon),
            max_interval_days=LOOK_AHEAD_DAYS,
        )
    except Exception:  # the package's error classes share no base but Exception; what cannot be read is unknown
        return None
    return _Clock(hours, zone, "||" in key.text)


def _plain(wall_ms: int) -> datetime:
    return (_EPOCH + timedelta(milliseconds=wall_ms)).replace(tzinfo=None)


def _wall(zone: ZoneInfo, at_ms: int) -> datetime:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).replace(tzinfo=None, fold=0)


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).utcoffset()
    return 0 if offset is None else offset // timedelta(milliseconds=1)


def _state(clock: _Clock, at_ms: int) -> OpenWord:
    return _WORDS[clock.hours.state(_wall(clock.zone, at_ms))[0]]


def _next_change_ms(clock: _Clock, at_ms: int, state: OpenWord) -> int | None:
    """First instant after ``at_ms`` at which the state differs, None when there is none within the look-ahead.

    Between two shifts of the UTC offset wall clock and UTC run in step, so that a change on the wall is a change in
    UTC. Only a shift within a day of ``at_ms`` or of the change can alter which comes first (none exceeds a day).
    """
    instant = at_ms
    for _ in range(_MAX_STEPS):
        end = _change_on_the_wall_ms(clock, instant)
        near = instant + 2 * _DAY_MS
        shift = _first_shift_ms(clock.zone, instant, near if end is None else min(end, near))
        if shift is not None:
            instant = shift
        elif end is None:
            return None
        else:
            instant = end if end <= near else end - _DAY_MS
        if _state(clock, instant) != state:
            return instant
    return None


def _change_on_the_wall_ms(clock: _Clock, at_ms: int) -> int | None:
    """The next change as if the offset of ``at_ms`` stayed; it may turn out to be none (a comment, a midnight)."""
    wall = _wall(clock.zone, at_ms)
    change = clock.hours.next_change(wall)
    if clock.daily:
        # At 21:00 the package (2.1.4) sees no change ever after in 'Mo-Su 06:00-21:00 || "by card"', from midnight on
        # it does. So midnights are looked at one by one.
        midnight = datetime.combine(wall.date() + timedelta(days=1), time())
        change = midnight if change is None else min(change.replace(tzinfo=None), midnight)
    if change is None:
        return None
    wall_ms = (change.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
    return wall_ms - _offset_ms(clock.zone, at_ms)


def _first_shift_ms(zone: ZoneInfo, after_ms: int, until_ms: int) -> int | None:
    """The instant in ``after_ms < t <= until_ms`` (two days at most) at which the UTC offset shifts, if it does."""
    before = _offset_ms(zone, after_ms)
    if _offset_ms(zone, until_ms) == before:
        return None
    low, high = after_ms, until_ms
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def states_between(key: HoursKey, start_ms: int, end_ms: int) -> list[tuple[int, OpenWord]]:
    """The states of ``start_ms <= t < end_ms`` as (from, state), each other than the one before, the first from
    ``start_ms``. Costs about 8 us a day; a window of days, not of years."""
    clock = None if start_ms < _FIRST_MS or end_ms > _LAST_MS else _parsed(key)
    if clock is None:
        return [(start_ms, "unknown")]
    found: list[tuple[int, OpenWord]] = []
    for from_ms, until_ms in _even_spans(clock.zone, start_ms, end_ms, clock.daily):
        for instant, state in _states_of_span(clock, from_ms, until_ms):
            if not found or found[-1][1] != state:
                found.append((instant, state))
    return found


def _states_of_span(clock: _Clock, start_ms: int, end_ms: int) -> Iterator[tuple[int, OpenWord]]:
    """States on a wall whose offset does not shift in between: there wall clock and UTC run in step."""
    offset_ms = _offset_ms(clock.zone, start_ms)
    for begins, _, state, _ in clock.hours.intervals(_plain(start_ms + offset_ms), _plain(end_ms + offset_ms)):
        instant = (begins.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1) - offset_ms
        if instant < end_ms:
            yield max(instant, start_ms), _WORDS[state]


@lru_cache(maxsize=4096)
def _even_spans(zone: ZoneInfo, start_ms: int, end_ms: int, daily: bool) -> tuple[tuple[int, int], ...]:
    """The window cut where the UTC offset of the zone shifts; with ``daily`` at midnights of the wall too (for the
    reason told in ``_change_on_the_wall_ms``)."""
    cuts = [start_ms]
    while cuts[-1] < end_ms:
        until_ms = min(cuts[-1] + _DAY_MS, end_ms)
        if daily:
            midnight = -(-(cuts[-1] + 1 + _offset_ms(zone, cuts[-1])) // _DAY_MS) * _DAY_MS
            until_ms = min(until_ms, midnight - _offset_ms(zone, cuts[-1]))
        shift = _first_shift_ms(zone, cuts[-1], until_ms)
        cuts.append(until_ms if shift is None else shift)
    if daily:
        return tuple(pairwise(cuts))
    shifts = [cut for cut in cuts[1:-1] if _offset_ms(zone, cut) != _offset_ms(zone, cut - 1)]
    return tuple(pairwise([start_ms, *shifts, end_ms]))
