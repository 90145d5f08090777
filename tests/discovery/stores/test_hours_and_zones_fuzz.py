"""Hours and zones at random: read or said to be unfit, within a second, and what is kept can be asked."""

import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discovery.errors import Invalid
from discovery.stores.hours import hours_key, state_at, states_between
from discovery.stores.week import day_hours
from discovery.stores.zones import ZoneSet, check_zone
from tests.discovery.stores.fuzzing import CASES, within_a_second

DAY_MS = 86_400_000
WORDS = [
    *("Mo", "Tu-Fr", "Sa,Su", "Mo-Su", "PH", "SH", "PH -1 day", "Su[1]", "Fr[-1]", "week 1-53/2", "easter", "2026"),
    *("Jan-Mar", "Dec 24", "Feb 29", "Oct 25-Mar 29", "2026 Dec 24-2027 Jan 2", "1999-9999", "easter +1 day"),
    *("09:00-18:00", "22:00-04:00", "00:00-24:00", "10:00-48:00", "02:30-02:30", "9-5", "25:61", "10:00+", "24/7"),
    *("sunrise-sunset", "(sunset-02:00)-(dawn+01:00)", "dusk", "off", "closed", "unknown", "open", '"by card"', "9am"),
    *(",", ";", "||", "-", ":", "/", "(", ")", "[", "]", '"', "+", "\x00", "é", "99999999999999999999"),
]
ZONES = ["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]
INSTANTS = [-(10**15), 0, 1_774_746_000_000, 1_777_000_000_000, 1_793_000_000_000, 10**15]

texts = st.one_of(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.text(max_size=30))


@settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
@given(texts, st.randoms(use_true_random=True))
def test_hours(text: str, draw: random.Random) -> None:
    lat, lon = draw.choice([-90.0, 90.0, draw.uniform(-90, 90)]), draw.choice([-180.0, 180.0, draw.uniform(-180, 180)])
    at_ms = draw.choice([*INSTANTS, draw.randrange(2 * 10**12)])
    key = within_a_second(lambda: hours_key(text, draw.choice(ZONES), draw.choice(["", "FR", "US", "XX"]), lat, lon))
    found = within_a_second(lambda: state_at(key, at_ms))
    assert found.state in ("open", "closed", "unknown")
    assert key is not None or found.state == "unknown"
    assert found.next_change_ms is None or found.next_change_ms > at_ms
    if key is not None:
        states = within_a_second(lambda: states_between(key, at_ms, at_ms + 9 * DAY_MS))
        assert states[0] == (at_ms, found.state)
        assert [since for since, _ in states] == sorted({since for since, _ in states})
    written = within_a_second(lambda: day_hours(text))
    assert written is None or hours_key(f"Mo {written}", "Etc/UTC", "", 1, 1) is not None


class ZoneMaker:
    """Shapes at random: stars, boxes, tangles and what is none, some around 180 degrees and the poles."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def number(self, middle: float, spread: float) -> Any:
        draw = self.draw
        if draw.random() < 0.003:
            return draw.choice([None, "1", True, 1e400, 10**400, float("nan"), [], 181, -90.5])
        value = middle + draw.uniform(-spread, spread)
        return round(value) if draw.random() < 0.5 else value

    def ring(self, lon: float, lat: float, spread: float) -> Any:
        draw = self.draw
        positions = [[self.number(lon, spread), self.number(lat, spread)] for _ in range(draw.randrange(2, 12))]
        for position in positions:
            if isinstance(position[0], int | float) and draw.random() < 0.9:
                position[0] = (position[0] + 180) % 360 - 180  # one around 180 degrees is written as it should be
        return [*positions, positions[0]] if draw.random() < 0.8 else positions

    def zone(self) -> Any:
        draw = self.draw
        lon, lat = draw.choice([0.0, 179.0, draw.uniform(-180, 180)]), draw.choice([0.0, 85.0, draw.uniform(-80, 80)])
        spread = draw.choice([0.001, 2.0, 5.0, 100.0])
        polygons = [
            [self.ring(lon, lat, spread / (1 + hole)) for hole in range(draw.randrange(1, 4))]
            for _ in range(draw.randrange(1, 4))
        ]
        kind = draw.choice(["Polygon", "MultiPolygon", "MultiPolygon", "Feature"])
        if kind == "Feature":
            return {"type": kind, "geometry": {"type": "MultiPolygon", "coordinates": polygons}}
        return {"type": kind, "coordinates": polygons[0] if kind == "Polygon" else polygons}


@settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_zones(draw: random.Random) -> None:
    zone = ZoneMaker(draw).zone()
    checked, reason = None, None
    try:
        checked = within_a_second(lambda: check_zone(zone))
    except Invalid as refused:
        reason = refused
    if checked is None:
        assert reason is not None
        assert (reason.field, bool(reason.detail)) == ("zone", True)
        return
    assert check_zone(json.loads(checked.geojson)).repaired == ()
    zones = ZoneSet(1, {"a": checked.geojson})
    lat, lon = draw.uniform(-90, 90), draw.uniform(-180, 180)
    held = within_a_second(lambda: zones.holding(lat, lon))
    away_m = zones.metres_outside("a", lat, lon)
    assert away_m is not None
    assert (held == ["a"]) == (away_m == 0.0)
