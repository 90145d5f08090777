"""One evening with attackers: people whose raw histories are given, their acts, and everything that attackers can ask.

Only the histories differ between two runs of a scenario. ``transcript`` runs it on an empty state and gives every
answer to an attacker, byte for byte.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from api.dependencies import rfc3339
from discovery.store.client import State
from geo import cells
from geo.sparse import SparseAreas
from tests.privacy.asgi import Answer, Ask, Asker
from tests.privacy.raw_histories import (
    AUDIENCE_RESOLUTION,
    EPOCHS,
    Act,
    Plan,
    Report,
    draw_areas,
    draw_plan,
    epoch_start_ms,
    moment,
)
from tests.world import HOUR_MS, START_MS, World, open_world

History = list[Report]
Break = Callable[[World], None]
"""Seeds a bug into a running world; see mutations.py."""

SITES: Final = {
    "Paris": (48.8566, 2.3522),
    "Reykjavik": (64.1466, -21.9426),
    "Tromso": (69.6492, 18.9553),
    "Taveuni, at 180 degrees": (-16.85, 179.995),
    "Quito, at the equator": (0.0, -78.5),
}
STRANGERS = ("s1", "s2")
FRIENDS = ("fn", "fa", "fc", "fh")  # each is shown what its second letter says: near, area, city, hidden
_SHOWN = {"fn": "near", "fa": "area", "fc": "city", "fh": "hidden"}
MINOR = "minor"
ATTACKERS = (*STRANGERS, *FRIENDS, MINOR)
_FINEST = ("hidden", "city", "area", "near")
_COARSEST_OF_KIND = {"area": "area", "city": "city", "sparse": "area"}  # of others: near
_VISIBLE_AS = {"city": "friends", "hidden": "nobody"}  # others: everyone
_PRECISE_FOR_MS = 2 * HOUR_MS

_RADII = (3000, 5000, 10_000, 20_000, 50_000)
_RADAR_RADII = (1000, 2000, 5000, 10_000, 25_000, 50_000, 100_000)
_READS_AN_EPOCH = 8
# The sea, and how long the server keeps a key, run on the state server's clock, which two runs cannot share; neither
# knows places.
_SERVER_TIME = re.compile(rb'"(expires_at|resets_at|thrown_at|at|thrown|kept_until|day)":("[^"]*"|[0-9]+)')
_TELL_SERVER_TIME = ("bottles", "/v1/me/export")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What two runs share. ``areas``: the table of sparse areas, where the service has one; ``caps``: whether it counts
    and caps whom it shows."""

    seed: int
    site: int
    plans: tuple[Plan, ...]
    areas: SparseAreas | None = field(default=None, repr=False)
    caps: bool = False


class Said(NamedTuple):
    """One answer that an attacker got."""

    at_ms: int
    ask: Ask
    answer: Answer


def draw_scenario(seed: int, kinds: Sequence[str] = tuple(AUDIENCE_RESOLUTION)) -> Scenario:
    """People of each kind around one of the sites."""
    draws = random.Random(seed)
    lat, lon = SITES[draws.choice(list(SITES))]
    site = cells.cell_of(lat, lon, 8)
    areas = draw_areas(site, draws) if "sparse" in kinds and draws.random() < 0.5 else None
    there = [kind for kind in kinds if kind != "sparse" or areas is not None]
    plans = tuple(draw_plan(f"v-{kind}", kind, site, draws, FRIENDS, areas) for kind in there)
    return Scenario(seed, site, plans, areas, caps=draws.random() < 0.5)


async def transcript(
    state: State, data_dir: Path, scenario: Scenario, histories: Mapping[str, History], seed_bug: Break | None = None
) -> list[Said]:
    """Every answer to an attacker in one run. ``histories`` by user."""
    await state.call("FLUSHALL")
    rules: dict[str, Any] = {"sparse_areas": scenario.areas, "exposure_caps": scenario.caps}
    async with open_world(state, data_dir, **rules) as world:
        if seed_bug is not None:
            seed_bug(world)
        return await _Run(world, scenario).run(histories)


class _Run:
    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.ask = Asker(world, minors=(MINOR,))
        self.said: list[Said] = []
        self.draws = random.Random(scenario.seed)
        self.numbers = iter(range(10**9))
        self.cursors: list[tuple[str, str]] = []
        self.shakes: list[tuple[str, str]] = []

    async def run(self, histories: Mapping[str, History]) -> list[Said]:
        await self._set_up()
        reads = [(moment(self.draws, epoch), 1, "", None) for epoch in range(EPOCHS)]
        acts = [(act.at_ms, 2, plan.user, act) for plan in self.scenario.plans for act in plan.acts]
        reports = [(one.at_ms, 0, user, one) for user, history in histories.items() for one in history if not one.shake]
        self.shake_points = {one.shake: one for history in histories.values() for one in history if one.shake}
        for at_ms, _, user, what in sorted([*reads, *acts, *reports], key=lambda event: event[:3]):
            if START_MS + at_ms != self.world.now_ms:
                await self.world.at(START_MS + at_ms)
            if isinstance(what, Report):
                await self._report(user, what)
            elif isinstance(what, Act):
                await self._act(user, what)
                await self._read(2)
            else:
                await self._read(_READS_AN_EPOCH)
        await self.world.at(START_MS + epoch_start_ms(EPOCHS))
        await self._read(3 * _READS_AN_EPOCH)
        return self.said

    # --- who there is ---

    async def _set_up(self) -> None:
        lat, lon = cells.center(self.scenario.site)
        for number, user in enumerate(ATTACKERS):
            place = {"lat": lat + 0.02 * (number % 3), "lon": lon, "ttl_s": 28_800}
            await self.ask.ok(Ask(user, "PUT", "/v1/me/position", place))
            seen_by = "friends" if user in ("fc", MINOR) else "everyone"
            await self.ask.ok(Ask(user, "PATCH", "/v1/me/settings", {"visibility": seen_by}))
        await self.ask.ok(Ask("s1", "PATCH", "/v1/me/settings", {"bottles": "on"}))
        for plan in self.scenario.plans:
            await self._set_up_person(plan)

    async def _set_up_person(self, plan: Plan) -> None:
        settings: dict[str, Any] = {"visibility": _VISIBLE_AS.get(plan.kind, "everyone"), "bottles": "on"}
        if plan.zone:
            settings["quiet_zones"] = [cells.to_hex(plan.zone)]
        await self.ask.ok(Ask(plan.user, "PATCH", "/v1/me/settings", settings))
        finest = _FINEST.index(_COARSEST_OF_KIND.get(plan.kind, "near"))
        for friend in FRIENDS:
            shown = _FINEST[min(finest, _FINEST.index(_SHOWN[friend]))]
            await self.ask.ok(Ask(plan.user, "PUT", f"/v1/me/friends/{friend}", {"precision": shown}))
            await self.ask.ok(Ask(friend, "PUT", f"/v1/me/friends/{plan.user}", {"precision": "near"}))
        await self.ask.ok(Ask(MINOR, "PUT", f"/v1/me/friends/{plan.user}", {"precision": "city"}))
        if plan.kind == "blocking":
            for attacker in ATTACKERS:
                await self.ask.ok(Ask(plan.user, "PUT", f"/v1/me/blocks/{attacker}"))
        text = {"text": f"from {plan.user}"}
        await self.ask.ok(Ask(plan.user, "POST", "/v1/bottles", text, key="throw"))

    # --- what they do ---

    async def _report(self, user: str, report: Report) -> None:
        await self.ask.ok(Ask(user, "PUT", "/v1/me/position", {**_point(report), "ttl_s": self._ttl_s(user)}))

    def _ttl_s(self, user: str) -> int:
        return next(plan.ttl_s for plan in self.scenario.plans if plan.user == user)

    async def _act(self, user: str, act: Act) -> None:
        if act.name == "visibility":
            await self.ask.ok(Ask(user, "PATCH", "/v1/me/settings", {"visibility": act.value}))
        elif act.name == "clear":
            await self.ask.ok(Ask(user, "DELETE", "/v1/me/position"))
        elif act.name == "share":
            body = {"precision": act.value}
            if act.value == "precise":
                body["until"] = rfc3339(self.world.now_ms + _PRECISE_FOR_MS)
            answer = await self.ask(Ask(user, "PUT", f"/v1/me/friends/{act.other}", body))
            assert answer.status < 300 or (act.value == "precise" and answer.json["code"] == "not_visible"), answer
        elif act.name == "erase":
            await self.ask.ok(Ask(user, "DELETE", f"/v1/me?confirm={user}"))
        elif act.name == "shake":
            await self._shake(user, act)
        else:
            for path in ("/v1/radar?radius_m=100000", "/v1/nearby?radius_m=20000"):
                await self.ask(Ask(user, "GET", path))  # a person looks too: what they ask with must not stay

    async def _shake(self, user: str, act: Act) -> None:
        """Attackers shake first and wait; then the person shakes."""
        polls = []
        for attacker in ("s1", "fn"):
            lat, lon = cells.center(self.scenario.site)
            shake = {"lat": lat, "lon": lon, "reach": act.value}
            answer = await self._note(Ask(attacker, "POST", "/v1/shakes", shake, key=f"{attacker}-{user}-{act.at_ms}"))
            assert answer.status == 201, answer
            self.shakes.append((attacker, answer.json["shake_id"]))
            poll = Ask(attacker, "GET", f"/v1/shakes/{answer.json['shake_id']}?wait_s=10")
            polls.append((poll, asyncio.create_task(self.ask(poll))))
        await asyncio.sleep(0)
        point = self.shake_points[f"{user}-{act.at_ms}"]
        body = {**_point(point), "reach": act.value}
        await self.ask.ok(Ask(user, "POST", "/v1/shakes", body, key=point.shake))
        for poll, task in polls:
            await self._end_poll(poll, task)

    async def _end_poll(self, poll: Ask, task: asyncio.Task[Answer]) -> None:
        """Its answer, if there is anything to tell; else it would wait for the end of the window."""
        now = await self._note(Ask(poll.user, "GET", poll.path.partition("?")[0]))
        if now.json["state"] == "waiting":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            self.said.append(Said(self.world.now_ms, poll, await task))

    # --- what attackers ask ---

    async def _read(self, count: int) -> None:
        for _ in range(count):
            ask = self.draws.choice(_ASKS)(self)
            answer = await self._note(ask)
            if ask.path.startswith("/v1/nearby") and answer.status == 200 and (cursor := answer.json["next_cursor"]):
                self.cursors.append((ask.user, f"{ask.path.partition('&cursor')[0]}&cursor={cursor}"))

    async def _note(self, ask: Ask) -> Answer:
        answer = await self.ask(ask)
        if any(name in ask.path for name in _TELL_SERVER_TIME):
            answer = answer._replace(body=_SERVER_TIME.sub(b"", answer.body))
        self.said.append(Said(self.world.now_ms, ask, answer))
        return answer

    def someone(self) -> str:
        """An attacker who is shown everything there is to see."""
        return self.draws.choice((*STRANGERS, *FRIENDS))

    def target(self) -> str:
        """A person, or nobody."""
        return self.draws.choice([*(plan.user for plan in self.scenario.plans), "no-such-person"])


def _point(report: Report) -> dict[str, Any]:
    accuracy = {} if report.accuracy_m is None else {"accuracy_m": report.accuracy_m}
    return {"lat": report.point[0], "lon": report.point[1], **accuracy}


def _nearby(run: _Run) -> Ask:
    limit = run.draws.choice([1, 2, 3, 100])
    return Ask(run.someone(), "GET", f"/v1/nearby?radius_m={run.draws.choice(_RADII)}&limit={limit}")


def _next_page(run: _Run) -> Ask:
    if not run.cursors:
        return _nearby(run)
    user, path = run.draws.choice(run.cursors[-6:])
    return Ask(user, "GET", path)


def _radar(run: _Run) -> Ask:
    return Ask(run.draws.choice(FRIENDS), "GET", f"/v1/radar?radius_m={run.draws.choice(_RADAR_RADII)}")


def _old_shake(run: _Run) -> Ask:
    if not run.shakes:
        return _radar(run)
    owner, shake_id = run.draws.choice(run.shakes)
    return Ask(run.draws.choice([owner, run.someone()]), "GET", f"/v1/shakes/{shake_id}")


def _befriend(run: _Run) -> Ask:
    """Says again what is shown, or asks in vain."""
    user = run.draws.choice((*FRIENDS, "s2"))
    return Ask(user, "PUT", f"/v1/me/friends/{run.target()}", {"precision": "near"})


def _throw(run: _Run) -> Ask:
    return Ask("s1", "POST", "/v1/bottles/pick", key=f"pick-{next(run.numbers)}")


def _refused(run: _Run) -> Ask:
    """Requests that end in an error, which must not tell more than an answer."""
    user, target = run.someone(), run.target()
    point = {"lat": 91, "lon": 0}
    return run.draws.choice(
        [
            Ask(user, "GET", "/v1/nearby?radius_m=4321"),
            Ask(user, "GET", f"/v1/nearby?radius_m=3000&near={target}"),
            Ask(user, "GET", "/v1/nearby?cursor=bm8"),
            Ask(MINOR, "GET", "/v1/nearby"),
            Ask("fc", "GET", "/v1/nearby"),
            Ask("nobody-yet", "GET", "/v1/radar"),
            Ask(user, "GET", "/v1/radar?radius_m=3"),
            Ask(user, "GET", f"/v1/shakes/{'0' * 32}"),
            Ask(user, "GET", f"/v1/users/{target}"),
            Ask(user, "PUT", f"/v1/me/friends/{target}", {"precision": "exact"}),
            Ask(user, "PUT", f"/v1/me/friends/{target}", {"precision": "area", "until": "2020-01-01T00:00:00Z"}),
            Ask(user, "PUT", "/v1/me/position", point),
            Ask("s2", "POST", "/v1/bottles/pick", key="off"),
            Ask(user, "GET", "/v1/bottles/0123456789abcdef0123456789abcdef"),
        ]
    )


_OWN_PAGES = (
    *("/v1/me/friends", "/v1/me/friends", "/v1/me/blocks", "/v1/me/settings", "/v1/me/position", "/v1/me/bottles"),
    *("/v1/privacy", "/v1/me/export", "/v1/me/radar"),
)


def _own_page(run: _Run) -> Ask:
    return Ask(run.someone(), "GET", run.draws.choice(_OWN_PAGES))


_ASKS: Final = (
    *(_nearby,) * 5,
    *(_radar,) * 5,
    *(_next_page, _next_page, _old_shake, _befriend, _throw, _refused, _refused, _own_page, _own_page),
)
