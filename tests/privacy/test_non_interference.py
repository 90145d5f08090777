"""T0, non-interference: equal visible histories give equal bytes, whatever the points, numbers and times of reports.

Each scenario holds seven or eight people, whom the attackers see at resolution 8, 7 or 5, precisely, or not at all,
some of them with quiet zones or in sparse areas, some until they erase themselves; each has two raw histories that look
the same to them. The two runs are compared answer by answer: nearby, radar, shakes and their long
polls, friends, blocks, settings, bottles, errors. What differs is made small before it is shown.
"""

import random
from dataclasses import replace
from pathlib import Path

import h3.api.basic_int as h3

from discovery.store.client import State
from tests.privacy.asgi import Ask
from tests.privacy.raw_histories import EPOCHS, raw_history
from tests.privacy.report import reported
from tests.privacy.scenario import Break, History, Said, Scenario, draw_scenario, transcript

SCENARIOS = 4  # of seven or eight history pairs each
SCENARIOS_NIGHTLY = 45
LEAST_PAIRS_NIGHTLY = 300
LEAST_REQUESTS, LEAST_REQUESTS_NIGHTLY = 30, 10_000
_SHRINKING_RUNS = 60
_SHOWING_MUCH = (0, 1, 2)  # seeds of plans that are always among them

Histories = dict[str, History]


def draw_histories(scenario: Scenario, draws: random.Random) -> Histories:
    """One raw history for each plan."""
    return {plan.user: raw_history(plan, draws) for plan in scenario.plans}


def difference(one: list[Said], other: list[Said]) -> tuple[int, Ask] | None:
    """The first answer that differs, and when it was given."""
    if len(one) != len(other):
        return -1, Ask("", "", "the number of answers")
    return next(((a.at_ms, a.ask) for a, b in zip(one, other, strict=True) if a != b), None)


async def differs(
    state: State, data_dir: Path, scenario: Scenario, pair: tuple[Histories, Histories], bug: Break | None = None
) -> tuple[int, Ask] | None:
    """Run a scenario with both histories."""
    one, other = [await transcript(state, data_dir, scenario, histories, bug) for histories in pair]
    assert len(one) >= LEAST_REQUESTS
    return difference(one, other)


async def shrunk(
    state: State, data_dir: Path, scenario: Scenario, pair: tuple[Histories, Histories]
) -> tuple[Histories, Histories]:
    """The same difference with fewer: people who need not differ get one history, then reports go that need not be."""
    one, other = pair
    runs = 0

    async def still(candidate: Histories) -> bool:
        nonlocal runs
        runs += 1
        return runs <= _SHRINKING_RUNS and await differs(state, data_dir, scenario, (one, candidate)) is not None

    for user in one:
        if await still({**other, user: one[user]}):
            other = {**other, user: one[user]}
    for user, history in list(other.items()):
        for report in [report for report in history if report not in one[user] and not report.shake]:
            fewer = {**other, user: [kept for kept in other[user] if kept != report]}
            if await still(fewer):
                other = fewer
    return one, other


def shown(scenario: Scenario, pair: tuple[Histories, Histories]) -> str:
    """A pair in words."""
    plans = [plan for plan in scenario.plans if pair[0][plan.user] != pair[1][plan.user]]
    lines = [f"{plan}\n  one:   {pair[0][plan.user]}\n  other: {pair[1][plan.user]}" for plan in plans]
    return f"scenario {scenario.seed}\n" + "\n".join(lines)


async def test_equal_visible_histories_give_equal_bytes(state: State, tmp_path: Path, seed: int, scale: int) -> None:
    draws = random.Random(seed)
    scenarios = SCENARIOS if scale == 1 else SCENARIOS_NIGHTLY
    said: list[Said] = []
    with reported("T0", seed, 0) as run:
        for number in range(scenarios):
            scenario = draw_scenario(_SHOWING_MUCH[number] if number < len(_SHOWING_MUCH) else draws.getrandbits(32))
            run.n += len(scenario.plans)
            pair = draw_histories(scenario, draws), draw_histories(scenario, draws)
            one, other = [await transcript(state, tmp_path, scenario, histories) for histories in pair]
            said += one
            found = difference(one, other)
            if found is not None:
                small = await shrunk(state, tmp_path, scenario, pair)
                raise AssertionError(f"{found}\n{shown(scenario, small)}")
        run.rows.append({"requests": len(said), "least per pair": len(said) // scenarios, "differing": 0})
    assert scale == 1 or (run.n >= LEAST_PAIRS_NIGHTLY and len(said) >= LEAST_REQUESTS_NIGHTLY)
    check_that_attackers_see(said)


def check_that_attackers_see(said: list[Said]) -> None:
    """The comparison is of something: people are listed, met and drawn on radars, at each precision."""
    nearby = b"".join(one.answer.body for one in said if one.ask.path.startswith("/v1/nearby"))
    radar = b"".join(one.answer.body for one in said if one.ask.path.startswith("/v1/radar"))
    for user, sees in _LISTED:
        assert (f'"{user}"'.encode() in nearby) is sees, user
    for precision in ("near", "area", "city", "precise"):
        assert f'"precision":"{precision}"'.encode() in radar, precision
    for precision in ("near", "city"):  # outside of the quiet zone, and inside
        assert any(_blip(one, "v-quiet") == precision for one in said), precision
    asked = {one.ask.path.partition("?")[0] for one in said}
    assert asked >= {"/v1/me/friends", "/v1/me/export", "/v1/bottles/pick"}
    assert any(b'"matched"' in one.answer.body and "wait_s" in one.ask.path for one in said)
    assert {one.answer.status for one in said} >= {200, 201, 400, 403, 404, 409, 422}


_LISTED = (
    *((f"v-{kind}", True) for kind in ("near", "area", "quiet", "sparse")),
    ("v-city", False),
    ("v-hidden", False),
)


def _blip(one: Said, user: str) -> str | None:
    """At which precision a radar shows somebody."""
    if one.answer.status != 200 or not one.ask.path.startswith("/v1/radar"):
        return None
    return next((str(row["precision"]) for row in one.answer.json["friends"] if row["user"] == user), None)


async def test_other_cells_give_other_bytes(state: State, tmp_path: Path) -> None:
    """Positive control: what attackers may see differs."""
    scenario = draw_scenario(1, ["near"])
    pair = []
    for cell in (scenario.site, int(h3.grid_ring(scenario.site, 5)[0])):
        plan = replace(scenario.plans[0], targets=(cell,) * EPOCHS)
        pair.append({plan.user: raw_history(plan, random.Random(1))})
    assert await differs(state, tmp_path, scenario, (pair[0], pair[1])) is not None
