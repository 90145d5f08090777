"""2,142 real opening_hours texts x 1,344 instants against states computed elsewhere ($NEARHIVE_TEST_DATA)."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from discovery.stores.hours import HoursKey, HoursTable, state_at
from tests.data.real import rows

ZONE = ZoneInfo("Europe/Paris")  # no shift of its clock in the fortnight of the vectors
FIRST_MS = int(datetime(2026, 6, 1, 0, 7, tzinfo=ZONE).timestamp() * 1000)
NOON_MS = int(datetime(2026, 6, 1, 12, tzinfo=ZONE).timestamp() * 1000)
QUARTER_MS = 900_000
LOOK_AHEAD = timedelta(days=366)


def wall(instant_ms: int) -> datetime:
    return datetime.fromtimestamp(instant_ms / 1000, ZONE).replace(tzinfo=None)


def test_states_and_changes_of_real_texts() -> None:
    wrong: list[str] = []
    count = 0
    for row in rows("vectors/oh_golden_states.csv.gz"):
        count += 1
        text = row["opening_hours"]
        key = HoursKey(text, ZONE.key, None, None, None)
        table = HoursTable([key])
        expected = row["state_15min_from_2026_06_01T00_07"]
        instants = range(FIRST_MS, FIRST_MS + len(expected) * QUARTER_MS, QUARTER_MS)
        if "".join(table.state_at(0, instant).state[0].upper() for instant in instants) != expected:
            wrong.append(f"states of {text}")
        if not change_fits(key, expected, row["next_change_after_2026_06_01T12_00"]):
            wrong.append(f"next change of {text}")
    assert count == 2142
    assert wrong == []


def change_fits(key: HoursKey, states: str, named: str) -> bool:
    """Whether our change after noon is the ``named`` one; else it must be the first in the states, and that one none.

    The package's own next change, which the vectors name, may be one of comment alone, lies beyond our look-ahead at
    times, and is missing for texts with a fallback rule (``||``).
    """
    change_ms = state_at(key, NOON_MS).next_change_ms
    before, after = changing_quarter(states)
    if change_ms is None:
        return after is None and (not named or datetime.fromisoformat(named) - wall(NOON_MS) > LOOK_AHEAD)
    if wall(change_ms).isoformat() == named:
        return True
    if "||" not in key.text and not is_comment(key, named):
        return False
    return before < change_ms and (after is None or change_ms <= after)


def changing_quarter(states: str) -> tuple[int, int | None]:
    """The last instant of the vectors that has the state of noon, and the next one (None: it has it too)."""
    index = first = (NOON_MS - FIRST_MS) // QUARTER_MS + 1
    while index < len(states) and states[index] == states[first]:
        index += 1
    before_ms = FIRST_MS + (index - 1) * QUARTER_MS
    return (before_ms if index > first else NOON_MS), (before_ms + QUARTER_MS if index < len(states) else None)


def is_comment(key: HoursKey, named: str) -> bool:
    named_ms = int(datetime.fromisoformat(named).replace(tzinfo=ZONE).timestamp() * 1000)
    return state_at(key, named_ms).state == state_at(key, NOON_MS).state


def test_invalid_real_texts_neither_fail_nor_hang() -> None:
    """91,192 texts that mappers got wrong: each is read or unknown."""
    for row in rows("vectors/oh_invalid_real_strings.csv.gz"):
        assert state_at(HoursKey(row["opening_hours"], ZONE.key, "FR", None, None), NOON_MS).state
