"""Who is open, compiled: bitmaps and timelines agree with the hours of each store, at shifts of the clock too."""

import random
from datetime import datetime

import numpy as np
import pytest

from discovery.stores.cards import rfc3339
from discovery.stores.hours import HoursKey, hours_key, state_at, states_between
from discovery.stores.timelines import DAY_MS, Timelines, Windows
from geo.kernels import open_hours as kernels
from tests.naive_stores import haversine_m, naive_states_at, rows_in_box

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"

# Written by hand. Berlin: 02:00 becomes 03:00 at 2026-03-29T01:00Z, 03:00 becomes 02:00 at 2026-10-25T01:00Z. New York:
# 02:00 becomes 03:00 at 2026-03-08T07:00Z, 02:00 becomes 01:00 at 2026-11-01T06:00Z. What the wall shows twice is open
# twice; what it never shows falls out.
SHIFTS = [
    ("Sa 22:00-04:00", BERLIN, "2026-03-29T00:30Z", "open", "2026-03-29T02:00:00Z"),
    ("Sa 22:00-02:30", BERLIN, "2026-03-29T00:59Z", "open", "2026-03-29T01:00:00Z"),
    ("Su 02:00-06:00", BERLIN, "2026-03-29T00:30Z", "closed", "2026-03-29T01:00:00Z"),
    ("Su 02:15-02:45", BERLIN, "2026-03-29T00:30Z", "closed", "2026-04-05T00:15:00Z"),
    ("09:00-18:00", BERLIN, "2026-03-29T06:59Z", "closed", "2026-03-29T07:00:00Z"),
    ("09:00-18:00", BERLIN, "2026-03-28T12:00Z", "open", "2026-03-28T17:00:00Z"),
    ("24/7", BERLIN, "2026-03-29T01:00Z", "open", None),
    ("Sa 22:00-04:00", BERLIN, "2026-10-25T00:30Z", "open", "2026-10-25T03:00:00Z"),
    ("Sa 22:00-02:30", BERLIN, "2026-10-25T00:29Z", "open", "2026-10-25T00:30:00Z"),
    ("Sa 22:00-02:30", BERLIN, "2026-10-25T00:45Z", "closed", "2026-10-25T01:00:00Z"),
    ("Sa 22:00-02:30", BERLIN, "2026-10-25T01:15Z", "open", "2026-10-25T01:30:00Z"),
    ("Su 03:00-05:00", BERLIN, "2026-10-25T00:59Z", "closed", "2026-10-25T02:00:00Z"),
    ("Oct 25 02:00-03:00", BERLIN, "2026-10-25T00:00Z", "open", "2026-10-25T02:00:00Z"),
    ("Mo-Sa 08:00-20:00", BERLIN, "2026-10-24T18:30Z", "closed", "2026-10-26T07:00:00Z"),
    ("Sa 20:00-03:00", NEW_YORK, "2026-03-08T06:30Z", "open", "2026-03-08T07:00:00Z"),
    ("Su 02:00-10:00", NEW_YORK, "2026-03-08T06:59Z", "closed", "2026-03-08T07:00:00Z"),
    ("Mo-Su 07:00-23:00", NEW_YORK, "2026-03-08T10:30Z", "closed", "2026-03-08T11:00:00Z"),
    ("Sa 18:00-01:30", NEW_YORK, "2026-11-01T05:15Z", "open", "2026-11-01T05:30:00Z"),
    ("Sa 18:00-01:30", NEW_YORK, "2026-11-01T05:45Z", "closed", "2026-11-01T06:00:00Z"),
    ("Sa 18:00-05:00", NEW_YORK, "2026-11-01T05:45Z", "open", "2026-11-01T10:00:00Z"),
    ("Su 02:00-04:00", NEW_YORK, "2026-11-01T06:59Z", "closed", "2026-11-01T07:00:00Z"),
]
TEXTS = [
    "24/7",
    "off",
    "Mo-Fr 09:00-18:00; Sa 10:00-14:00",
    "Mo-Su 22:00-04:00",
    "Mo-Fr 09:00-12:00,14:00-18:00; PH off; Dec 24 09:00-12:00",
    "sunrise-sunset",
    "Fr-Sa 18:00-26:30",
    "02:10-02:40",
    'Mo-Su 06:00-21:00 || "by card"',
    "Mo-Fr 08:00-16:00 unknown; Sa,Su 10:00+",
    "week 1-53/2 Mo 09:00-18:00",
    "Jan-Mar 09:00-17:00; Oct 25 01:00-03:00",
]
ZONES = [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia", "Etc/UTC"]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def key_of(text: str, zone: str, country: str = "DE", lat: float = 52.5, lon: float = 13.4) -> HoursKey:
    key = hours_key(text, zone, country, lat, lon)
    assert key is not None
    return key


@pytest.mark.parametrize(("text", "zone", "instant", "state", "change"), SHIFTS)
def test_shifts_of_the_clock(text: str, zone: str, instant: str, state: str, change: str | None) -> None:
    key = key_of(text, zone)
    found = state_at(key, ms(instant))
    assert found.state == state
    assert (None if found.next_change_ms is None else rfc3339(found.next_change_ms)) == change
    compiled = Timelines([key], ms(instant) - 4 * DAY_MS, ms(instant) + 8 * DAY_MS)
    row = np.zeros(1, dtype=np.int32)
    assert compiled.open_rows(row, ms(instant)).count == (state == "open")
    if change is not None:
        assert compiled.open_rows(row, ms(change) - 1).count == (state == "open")
        assert compiled.open_rows(row, ms(change)).count == (state != "open")


def test_a_bitmap_agrees_with_the_hours_of_each_store(seed: int, scale: int) -> None:
    """10,000 store-times, 1e5 nightly, over windows that hold every kind of shift."""
    rng = random.Random(seed)
    keys = [
        key_of(text, zone, rng.choice(["DE", "US", ""]), rng.uniform(-60, 60), rng.uniform(-179, 179))
        for text in TEXTS
        for zone in ZONES
    ]
    hours_rows = np.array([rng.randrange(-1, len(keys)) for _ in range(1000)], dtype=np.int32)
    for day in ("2026-03-06", "2026-03-27", "2026-10-01", "2026-10-23", "2026-12-20"):
        start = ms(f"{day}T00:00Z")
        compiled = Timelines(keys, start, start + 10 * DAY_MS)
        for _ in range(4):
            at_ms = start + rng.randrange(10 * DAY_MS)
            opened = compiled.open_rows(hours_rows, at_ms)
            sample = rng.sample(range(1000), 500 if scale == 1 else 1000)
            for row in sample:
                index = int(hours_rows[row])
                state = "unknown" if index < 0 else state_at(keys[index], at_ms).state
                assert (row in opened) == (state == "open"), (keys[index], at_ms)
        for _ in range(250 * scale):
            rows = np.array(rng.sample(range(1000), 4), dtype=np.int64)
            times = np.array([start + rng.randrange(10 * DAY_MS) for _ in rows], dtype=np.int64)
            among = compiled.open_among(hours_rows, rows, times).tolist()
            for row, at_ms, held in zip(rows.tolist(), times.tolist(), among, strict=True):
                index = int(hours_rows[row])
                assert held == (index >= 0 and state_at(keys[index], at_ms).state == "open"), (index, at_ms)


def test_states_of_a_window_are_those_of_its_minutes() -> None:
    """Three days around the end of summer time, minute by minute: the starts named are where the state changes."""
    start = ms("2026-10-24T00:00Z")
    for text in ("02:10-02:40,05:00-23:50", 'Mo-Su 06:00-21:00 || "by card"', "Sa 22:00-02:30"):
        key = key_of(text, BERLIN)
        named = dict(states_between(key, start, start + 3 * DAY_MS))
        state = None
        for at_ms in range(start, start + 3 * DAY_MS, 60_000):
            if named.get(at_ms, state) != state:
                state = named[at_ms]
            assert state == state_at(key, at_ms).state, (text, rfc3339(at_ms))


def test_a_moment_is_kept_until_a_state_changes() -> None:
    start = ms("2026-06-01T00:00Z")
    compiled = Timelines([key_of("10:00-12:00", "Etc/UTC"), key_of("11:00-13:00", "Etc/UTC")], start, start + DAY_MS)
    rows = np.arange(2, dtype=np.int32)
    half = DAY_MS // 48
    moments = [compiled.open_rows(rows, start + 20 * half + step) for step in (0, 1, 2 * half - 1, 2 * half, 3 * half)]
    assert moments[0] is moments[1] is moments[2]
    assert moments[3] is moments[4] is not moments[0]
    assert [moment.count for moment in moments] == [1, 1, 1, 2, 2]


def test_windows_go_on_with_time() -> None:
    windows = Windows([key_of("10:00-12:00", "Etc/UTC")])
    now = ms("2026-06-01T10:30Z")
    assert windows.is_due(now)
    assert now not in windows
    windows.renew(now)
    first = windows.at(now)
    assert first is not None
    windows.renew(now + DAY_MS)
    assert windows.at(now) is first, "nothing is made before it is due"
    assert windows.is_due(now + 3 * DAY_MS)
    assert now + 3 * DAY_MS in windows, "the next is made long before the last ends"
    windows.renew(now + 3 * DAY_MS)
    assert now + 11 * DAY_MS in windows
    assert windows.is_due(now), "the clock was put back"


def test_kernels_equal_their_slow_twins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, 50)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    starts = np.concatenate([np.concatenate([[0], np.sort(rng.choice(99, n - 1, False) + 1)]) for n in counts])
    states = rng.integers(0, 3, len(starts)).astype(np.uint8)
    for at_ms in (0, 1, 50, 99, 120):
        out = np.empty(50, dtype=np.uint8)
        since, until = kernels.states_at(offsets, starts.astype(np.int64), states, at_ms, 121, out)
        expected, bounds = naive_states_at(offsets.tolist(), starts.tolist(), states.tolist(), at_ms, 121)
        assert out.tolist() == expected
        assert (since, until) == bounds
        hours_rows = rng.integers(-1, 50, 130).astype(np.int32)
        words = np.zeros(3, dtype=np.uint64)
        count = kernels.open_rows(out, hours_rows, words)
        opened = [row for row in range(130) if hours_rows[row] >= 0 and expected[hours_rows[row]] == 1]
        assert [row for row in range(192) if int(words[row // 64]) >> row % 64 & 1] == opened
        assert count == len(opened)
    assert kernels.states_at.signatures  # compiled, not a plain function


def test_kernels_of_rows_equal_their_slow_twins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lats = np.concatenate([rng.uniform(-90, 90, 300), [90.0, -90.0, 0.0, 0.0]])
    lons = np.concatenate([rng.uniform(-180, 180, 300), [0.0, 180.0, 180.0, -180.0]])
    rows = rng.integers(0, len(lats), 200)
    for _ in range(20):
        lat, lon = rng.uniform(-90, 90), rng.uniform(-180, 180)
        _, metres = kernels.distances_of_rows(lat, lon, lats, lons, rows)
        expected = [haversine_m(lat, lon, lats[row], lons[row]) for row in rows]
        assert metres == pytest.approx(expected, rel=1e-9, abs=1e-3)
    for _ in range(200):
        (west, east), (south, north) = rng.choice([*lons, -180.0, 180.0], 2), np.sort(rng.choice(lats, 2))
        words = np.zeros(5, dtype=np.uint64)
        count = kernels.rows_in_box(lats, lons, west, south, east, north, words)
        inside = [row for row in range(len(lats)) if int(words[row // 64]) >> row % 64 & 1]
        assert inside == rows_in_box(lats.tolist(), lons.tolist(), (west, south, east, north))
        assert count == len(inside)
    assert kernels.rows_in_box.signatures


def test_states_of_rows_equal_the_slow_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets, starts = np.array([0, 2, 3, 6], np.int64), np.array([0, 40, 0, 0, 10, 70], np.int64)
    states = rng.integers(0, 3, len(starts)).astype(np.uint8)
    hours_rows = rng.integers(-1, 3, 80).astype(np.int32)
    rows, times = rng.integers(0, 80, 500), rng.integers(0, 100, 500)
    out = np.empty(len(rows), np.uint8)
    kernels.states_of_rows(offsets, starts, states, hours_rows, rows, times, out)
    for row, at_ms, state in zip(rows, times, out, strict=True):
        each, _ = naive_states_at(offsets.tolist(), starts.tolist(), states.tolist(), int(at_ms), 100)
        assert state == (each[hours_rows[row]] if hours_rows[row] >= 0 else 2)
    assert kernels.states_of_rows.signatures
