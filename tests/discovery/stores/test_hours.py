"""Opening hours: states and changes written by hand, at DST shifts too."""

from datetime import datetime, timedelta

import pytest

from discovery.stores import hours
from discovery.stores.cards import rfc3339
from discovery.stores.hours import HoursTable, OpenState, hours_key, state_at

PARIS = (48.8566, 2.3522)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def at(text: str, instant: str, zone: str = "Europe/Paris", country: str = "FR") -> OpenState:
    return state_at(hours_key(text, zone, country, *PARIS), ms(instant))


# 2026-06-01 is a Monday; Paris is at +02:00 then. 2026-12-25 is a Friday.
STATES = [
    ("24/7", "2026-06-01T10:00Z", "open", None),
    ("Mo-Fr 09:00-18:00", "2026-06-01T10:00Z", "open", "2026-06-01T16:00:00Z"),
    ("Mo-Fr 09:00-18:00", "2026-06-01T15:59:59.999Z", "open", "2026-06-01T16:00:00Z"),
    ("Mo-Fr 09:00-18:00", "2026-06-01T16:00Z", "closed", "2026-06-02T07:00:00Z"),
    ("Mo-Fr 09:00-18:00", "2026-06-05T16:00Z", "closed", "2026-06-08T07:00:00Z"),
    ("Mo-Fr 09:00-12:00,14:00-18:00", "2026-06-01T10:30Z", "closed", "2026-06-01T12:00:00Z"),
    ("Fr-Sa 22:00-04:00", "2026-06-06T01:59Z", "open", "2026-06-06T02:00:00Z"),  # after midnight
    ("Mo-Fr 09:00-18:00; PH off", "2026-12-25T10:00Z", "closed", "2026-12-28T08:00:00Z"),  # Christmas
    ("Mo-Fr 09:00-18:00; Dec 24 09:00-12:00", "2026-12-24T11:30Z", "closed", "2026-12-25T08:00:00Z"),
    ("Mo-Fr 09:00-18:00 unknown", "2026-06-01T10:00Z", "unknown", "2026-06-01T16:00:00Z"),
    ('Mo 09:00-12:00 "counter", Mo 12:00-18:00 "phone"', "2026-06-01T08:00Z", "open", "2026-06-01T16:00:00Z"),
    ("off", "2026-06-01T10:00Z", "closed", None),
    # After the evening of a text with a fallback rule the package itself names no change at all.
    ('Mo-Fr 06:00-21:00 || "by card"', "2026-06-04T19:30Z", "closed", "2026-06-05T04:00:00Z"),
    # Clocks go from 02:00 to 03:00 at 2026-03-29T01:00Z ...
    ("02:30-03:30", "2026-03-29T00:30Z", "closed", "2026-03-29T01:00:00Z"),
    ("02:30-03:30", "2026-03-29T01:00Z", "open", "2026-03-29T01:30:00Z"),
    ("02:00-02:30", "2026-03-29T00:30Z", "closed", "2026-03-30T00:00:00Z"),  # falls out on that day
    ("Sa 22:00-06:00", "2026-03-29T00:30Z", "open", "2026-03-29T04:00:00Z"),
    # ... and from 03:00 back to 02:00 at 2026-10-25T01:00Z.
    ("02:30-03:30", "2026-10-24T23:30Z", "closed", "2026-10-25T00:30:00Z"),
    ("02:30-03:30", "2026-10-25T00:45Z", "open", "2026-10-25T01:00:00Z"),  # the wall shows 02:00 once more
    ("02:30-03:30", "2026-10-25T01:15Z", "closed", "2026-10-25T01:30:00Z"),
    ("02:00-02:30", "2026-10-25T00:45Z", "closed", "2026-10-25T01:00:00Z"),
    ("Sa 22:00-06:00", "2026-10-24T23:30Z", "open", "2026-10-25T05:00:00Z"),
    ("Oct 26-Oct 30 09:00-18:00", "2026-10-01T10:00Z", "closed", "2026-10-26T08:00:00Z"),  # winter time by then
]


@pytest.mark.parametrize(("text", "instant", "state", "change"), STATES)
def test_state_and_next_change(text: str, instant: str, state: str, change: str | None) -> None:
    found = at(text, instant)
    assert found.state == state
    assert (None if found.next_change_ms is None else rfc3339(found.next_change_ms)) == change


def test_closes_in_s_only_while_open() -> None:
    assert at("Mo-Fr 09:00-18:00", "2026-06-01T15:59:58.500Z").closes_in_s == 1
    assert at("Mo-Fr 09:00-18:00", "2026-06-01T16:00Z").closes_in_s is None
    assert at("24/7", "2026-06-01T16:00Z").closes_in_s is None


@pytest.mark.parametrize("text", ["", "  ", "24/24", "Mo-Fr 9-18", "call us", "Mo 25:61-99:99"])
def test_bad_hours_are_unknown(text: str) -> None:
    assert at(text, "2026-06-01T10:00Z") == hours.UNKNOWN


def test_the_stores_zone_decides_not_the_servers() -> None:
    instant = "2026-06-01T20:00Z"
    assert at("09:00-18:00", instant, "Europe/Paris").state == "closed"
    assert at("09:00-18:00", instant, "America/New_York").state == "open"


def test_zone_from_the_coordinates() -> None:
    key = hours_key("09:00-18:00", "", "US", 40.7, -74.0)
    assert key is not None
    assert key.timezone == "America/New_York"
    assert hours_key("09:00-18:00", "", "", 90.0, 0.0) is None  # the poles have no zone


def test_country_from_the_coordinates_where_holidays_matter() -> None:
    assert at("Mo-Fr 09:00-18:00; PH off", "2026-07-14T10:00Z", country="").state == "closed"  # Bastille Day


def test_sun_events_are_those_of_the_place() -> None:
    north = state_at(hours_key("sunrise-sunset", "Europe/Paris", "FR", 50.9, 1.8), ms("2026-06-01T19:35Z"))
    south = state_at(hours_key("sunrise-sunset", "Europe/Paris", "FR", 42.7, 2.9), ms("2026-06-01T19:35Z"))
    assert (north.state, south.state) == ("open", "closed")  # about 19:50Z in Calais, 19:20Z in Perpignan


def test_equal_hours_share_a_key() -> None:
    assert hours_key("09:00-18:00", "Europe/Paris", "FR", 48.0, 2.0) == hours_key(
        "09:00-18:00", "Europe/Paris", "FR", 49.0, 3.0
    )


@pytest.mark.parametrize("instant_ms", [-(10**15), 10**15, hours._FIRST_MS, hours._LAST_MS])
def test_far_instants_do_not_fail(instant_ms: int) -> None:
    assert state_at(hours_key("Mo-Su 09:00-18:00", "Asia/Tokyo", "JP", 35.0, 139.0), instant_ms).state in (
        "unknown",
        "closed",
        "open",
    )


@pytest.mark.parametrize(
    "text", ["Mo-Fr 09:00-12:00,14:00-18:00; Sa 22:00-05:00", "02:30-03:30", "24/7", "Oct 25 01:00-02:15", "off"]
)
def test_a_table_answers_as_a_single_question_whatever_the_order(text: str) -> None:
    """Its remembered intervals must not leak into other instants; changes are where the state really changes."""
    key = hours_key(text, "Europe/Paris", "FR", *PARIS)
    assert key is not None
    table = HoursTable([key])
    start = ms("2026-10-23T22:00Z")
    instants = [start + (step * 2_654_435_761 % (96 * 3_600_000)) for step in range(400)]
    for instant in instants:
        found = table.state_at(0, instant)
        assert found == state_at(key, instant)
        if found.next_change_ms is not None:
            assert state_at(key, found.next_change_ms).state != found.state
            assert state_at(key, found.next_change_ms - 1).state == found.state
    assert table.state_at(-1, start) == hours.UNKNOWN


def test_changes_by_minute_agree_with_states_by_minute() -> None:
    """Minute by minute over the end of summer time: the next change is the first minute of another state."""
    key = hours_key("02:10-02:40,05:00-23:50", "Europe/Paris", "FR", *PARIS)
    start = ms("2026-10-24T00:00Z")
    minutes = [start + step * 60_000 for step in range(2 * 24 * 60)]
    states = [state_at(key, minute).state for minute in minutes]
    for index in range(0, len(minutes) - 24 * 60, 7):
        later = next(step for step in range(index, len(states)) if states[step] != states[index])
        assert state_at(key, minutes[index]).next_change_ms == minutes[later]


def test_holidays_for_every_day_answer_soon() -> None:
    """Unbounded, this one takes the package seconds: it looks for a change up to the year 9999."""
    key = hours_key("PH,Mo-Su 00:00-24:00", "Europe/Paris", "FR", *PARIS)
    began = datetime.now()
    assert state_at(key, ms("2026-06-01T10:00Z")).state == "open"
    assert datetime.now() - began < timedelta(seconds=1)
