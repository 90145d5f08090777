"""Many people who write class A and B over HTTP while things break, and who afterwards read back what is left.

Each person has one act under way at a time, on one keep-alive connection, so that the acts on one register are in
order. Half of them are stubborn: they send an act again, under the same Idempotency-Key, until its outcome is known.
The others let an unknown outcome stand and do the next thing.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.dependencies import rfc3339
from tests.faults.ledger import FAIL, OK, UNKNOWN, Act, Finding, Ledger, Register, Value
from tests.faults.patience import pause_s, within
from tests.faults.subject import Subject
from tests.service import Answer, Connection, for_all

ANSWER_S = 6.0  # above the longest deadline of the service, 3 s
_LAPSE_S = 5.0  # to choose a worker the others are stopped for a moment, which may cost them their lease
_PAUSE_S = 0.1  # after an act that was not done
_BLOCKABLE = 30  # one page of the list
_FRIENDS = 6
_PRECISIONS = ("city", "area", "near", "hidden")
_LOOKS = 0.15  # share of acts after which the person looks at the register at once

ALL_ACTS = {"block": 5, "show": 3, "friend": 3, "place": 2, "throw": 2, "pick": 2, "give": 1, "reply": 1}
BOTTLE_ACTS = {"throw": 4, "pick": 5, "give": 1, "reply": 1}


@dataclass(slots=True)
class Person:
    """One writer and what it knows of its own world."""

    user: str
    headers: dict[str, str]
    stubborn: bool
    draws: random.Random
    turn: int = 0
    blocked: dict[str, bool] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)  # bottles picked and kept
    answered: list[str] = field(default_factory=list)
    connection: Connection | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What an act sends."""

    method: str
    path: str
    body: object = None
    key: str = ""


class Writers:
    """``count`` people; ``run`` them, then ``verify``."""

    def __init__(
        self, service: Subject, ledger: Ledger, seed: int, count: int = 64, acts: dict[str, int] = ALL_ACTS
    ) -> None:
        self.service = service
        self.ledger = ledger
        self.acts = acts
        self.statuses: Counter[int] = Counter()  # of all tries; 0 = no answer
        self.slowest_s = 0.0
        self.pause_s = pause_s(count)
        self._stopping = False
        self._until_base_ms = (time.time_ns() // 1_000_000_000 + 10 * 3600) * 1000
        self.people = [self._person(seed, number) for number in range(count)]

    def _person(self, seed: int, number: int) -> Person:
        user = f"w{seed:x}.{number}"
        draws = random.Random(seed * 1000 + number)
        self.ledger.registers[f"show:{user}"] = Register(initial="nobody None")
        return Person(user, self.service.person(user), number % 2 == 0, draws)

    # --- life ---

    async def prepare(self) -> None:
        """Everybody takes part in bottles."""
        for person in self.people:
            answer = await self._try(person, Request("PATCH", "/v1/me/settings", {"bottles": "on"}))
            assert answer is not None
            answer.ok()

    async def run(self) -> None:
        """Until ``stop``; ends with the acts under way."""
        async with asyncio.TaskGroup() as group:
            for person in self.people:
                group.create_task(self._live(person))

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    async def run_for(self, seconds: float) -> None:
        """``run`` with an end."""
        asyncio.get_running_loop().call_later(seconds, self.stop)
        await self.run()

    def acknowledged(self, prefix: str = "") -> int:
        """How many acts on such registers were ok."""
        return sum(act.outcome == OK and act.key.startswith(prefix) for act in self.ledger.acts)

    def close(self) -> None:
        """Let go of the connections."""
        for person in self.people:
            _drop(person)

    async def _live(self, person: Person) -> None:
        names, weights = list(self.acts), list(self.acts.values())
        while not self._stopping:
            person.turn += 1
            await getattr(self, f"_{person.draws.choices(names, weights)[0]}")(person)
            await asyncio.sleep(self.pause_s)

    # --- acts ---

    async def _block(self, person: Person) -> None:
        target = f"{person.user}.b{person.draws.randrange(_BLOCKABLE)}"
        blocked = not person.blocked.get(target, False)
        method = "PUT" if blocked else "DELETE"
        act = self.ledger.begin(f"block:{person.user}:{target}", "blocked" if blocked else None)
        await self._do(person, act, Request(method, f"/v1/me/blocks/{target}"))
        person.blocked[target] = blocked
        await self._look(person, act, self.blocks)

    async def _show(self, person: Person) -> None:
        until = rfc3339(self._until_base_ms + person.turn * 1000)
        hidden = person.draws.random() < 0.3
        body = {"visibility": "nobody"} if hidden else {"visibility": "friends", "visible_until": until}
        act = self.ledger.begin(f"show:{person.user}", "nobody None" if hidden else f"friends {until}")
        await self._do(person, act, Request("PATCH", "/v1/me/settings", body))
        await self._look(person, act, self.shown)

    async def _friend(self, person: Person) -> None:
        friend = f"{person.user}.f{person.draws.randrange(_FRIENDS)}"
        precision = person.draws.choice((*_PRECISIONS, None))
        act = self.ledger.begin(f"friend:{person.user}:{friend}", precision)
        body = None if precision is None else {"precision": precision}
        method = "DELETE" if precision is None else "PUT"
        await self._do(person, act, Request(method, f"/v1/me/friends/{friend}", body))
        await self._look(person, act, self.friends)

    async def _place(self, person: Person) -> None:
        clear = person.draws.random() < 0.5
        act = self.ledger.begin(f"place:{person.user}", None if clear else "somewhere", weak=not clear)
        point = {"lat": person.draws.uniform(-60, 60), "lon": person.draws.uniform(-180, 180)}
        request = Request("DELETE", "/v1/me/position") if clear else Request("PUT", "/v1/me/position", point)
        await self._do(person, act, request)
        await self._look(person, act, self.place)

    async def _throw(self, person: Person) -> None:
        text = f"{person.user} throws {person.turn}"
        act = self.ledger.begin(f"bottle:{person.user}:{text}", "thrown")
        await self._do(person, act, Request("POST", "/v1/bottles", {"text": text}, f"t{person.turn}"))

    async def _pick(self, person: Person) -> None:
        act = self.ledger.begin(f"pick:{person.user}:{person.turn}", None)
        answer = await self._do(person, act, Request("POST", "/v1/bottles/pick", None, f"p{person.turn}"))
        bottle = None if answer is None else answer.json()["bottle"]
        if bottle is not None:
            act.detail = bottle["bottle_id"]
            person.held.append(bottle["bottle_id"])

    async def _give(self, person: Person) -> None:
        if not person.held:
            return
        bottle = person.held.pop(person.draws.randrange(len(person.held)))
        act = self.ledger.begin(f"give:{person.user}:{bottle}", "given")
        await self._do(person, act, Request("POST", f"/v1/bottles/{bottle}/throw-back"))

    async def _reply(self, person: Person) -> None:
        if not person.held:
            return
        bottle = person.held.pop(person.draws.randrange(len(person.held)))
        person.answered.append(bottle)
        text = f"{person.user} answers {person.turn}"
        act = self.ledger.begin(f"reply:{bottle}:{text}", "1")
        request = Request("POST", f"/v1/bottles/{bottle}/replies", {"text": text}, f"r{person.turn}")
        await self._do(person, act, request)

    # --- one act to its end ---

    async def _do(self, person: Person, act: Act, request: Request) -> Answer | None:
        """Its answer when it was acknowledged."""
        await self.ledger.on_disk()
        while True:
            answer = await self._try(person, request)
            outcome = _outcome(answer)
            self.ledger.end(act, outcome, "" if answer is None else str(answer.status))
            if outcome == OK:
                return answer
            await asyncio.sleep(_PAUSE_S)
            if outcome == FAIL or self._stopping or not person.stubborn:
                return None

    async def _try(self, person: Person, request: Request) -> Answer | None:
        """One answer; None when nobody answered (the connection is gone then)."""
        headers = person.headers | ({"Idempotency-Key": request.key} if request.key else {})
        answer: Answer | None = None
        started_s = 0.0
        try:
            if person.connection is None:
                person.connection = await self._connect()
            started_s = time.monotonic()
            async with asyncio.timeout(ANSWER_S):
                answer = await person.connection.ask(request.method, request.path, request.body, headers)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)
        except OSError:  # TimeoutError too
            _drop(person)
        status = 0 if answer is None else answer.status
        self.statuses[status] += 1
        if status >= 500 and status != 503:
            self.ledger.findings.append(Finding("status", request.path, "no 5xx but 503", str(status)))
        return answer

    async def _connect(self) -> Connection:
        """Nothing is sent before there is a connection, so waiting for one leaves no doubt."""
        while True:
            try:
                return await Connection.open(self.service.port)
            except OSError:
                if self._stopping:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _look(self, person: Person, act: Act, read: "Reader") -> None:
        """A person sees what that person just did, on the worker that acknowledged it."""
        if act.outcome == OK and person.connection is not None and person.draws.random() < _LOOKS:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await read(person, person.connection)
            except OSError:
                _drop(person)

    # --- reading back ---

    async def verify(self, connections: int = 8) -> None:
        """Every register, as every worker tells it, and all bottles. To be called when all workers are ready."""
        async with self.service.by_worker(connections) as groups:
            for group in groups:
                await for_all(group, self.people, self._read_all)
            await self._verify_bottles(groups[0])

    async def verify_through(self, connections: Sequence[Connection]) -> None:
        """The same over given connections."""
        await for_all(connections, self.people, self._read_all)
        await self._verify_bottles(connections)

    async def _read_all(self, connection: Connection, person: Person) -> None:
        for read in (self.blocks, self.shown, self.friends, self.place):
            ends_s = time.monotonic() + within(_LAPSE_S)
            while not await read(person, connection):
                assert time.monotonic() < ends_s, "a worker that is ready answers"
                await asyncio.sleep(_PAUSE_S)

    async def blocks(self, person: Person, connection: Connection) -> bool:
        """Whom the person blocked."""
        page = await _page(connection, "/v1/me/blocks?limit=100", person)
        if page is None:
            return False
        found: dict[str, Value] = {f"block:{person.user}:{one['user']}": "blocked" for one in page["blocks"]}
        self.ledger.saw_all(found, f"block:{person.user}:")
        return True

    async def shown(self, person: Person, connection: Connection) -> bool:
        """Visibility."""
        page = await _page(connection, "/v1/me/settings", person)
        if page is None:
            return False
        self.ledger.saw(f"show:{person.user}", f"{page['visibility']} {page['visible_until']}")
        return True

    async def friends(self, person: Person, connection: Connection) -> bool:
        """What the person shows whom."""
        page = await _page(connection, "/v1/me/friends", person)
        if page is None:
            return False
        found: dict[str, Value] = {f"friend:{person.user}:{one['user']}": one["i_show"] for one in page["friends"]}
        self.ledger.saw_all(found, f"friend:{person.user}:")
        return True

    async def place(self, person: Person, connection: Connection) -> bool:
        """Whether the person is somewhere."""
        answer = await connection.ask("GET", "/v1/me/position", None, person.headers)
        if answer.status not in {200, 404}:
            return False
        self.ledger.saw(f"place:{person.user}", "somewhere" if answer.status == 200 else None)
        return True

    async def _verify_bottles(self, connections: Sequence[Connection]) -> None:
        lists = await for_all(connections, self.people, _all_bottles)
        await for_all(connections, zip(self.people, lists, strict=True), self._read_thrown)
        hands = [{one["bottle_id"] for one in rows if one["role"] == "picked"} for rows in lists]
        self._judge_holders(hands)
        for rows, hand in zip(lists, hands, strict=True):
            assert hand.isdisjoint(one["bottle_id"] for one in rows if one["role"] == "thrown"), "one's own bottle"
        await for_all(connections, self.people, self._read_replies)

    async def _read_thrown(self, connection: Connection, row: tuple[Person, list[dict[str, Any]]]) -> None:
        """The texts of the person's own bottles."""
        person, rows = row
        found: dict[str, Value] = {}
        for bottle_id in (one["bottle_id"] for one in rows if one["role"] == "thrown"):
            bottle = (await _answered(connection, f"/v1/bottles/{bottle_id}", person)).ok()
            key = f"bottle:{person.user}:{bottle['text']}"
            found[key] = "thrown" if key not in found else "twice"
        self.ledger.saw_all(found, f"bottle:{person.user}:")

    async def _read_replies(self, connection: Connection, person: Person) -> None:
        for bottle in person.answered:
            answer = await _answered(connection, f"/v1/bottles/{bottle}", person)
            replies = answer.json()["replies"] if answer.status == 200 else []
            texts = Counter(one["text"] for one in replies)
            found: dict[str, Value] = {f"reply:{bottle}:{text}": str(count) for text, count in texts.items()}
            self.ledger.saw_all(found, f"reply:{bottle}:")

    def _judge_holders(self, listed: list[set[str]]) -> None:
        """No bottle in two hands; who picked and did not give back has it; nobody has what they never picked."""
        mine: dict[str, list[Act]] = {person.user: [] for person in self.people}
        answered = set()
        for act in self.ledger.acts:
            kind, whose = act.key.split(":")[:2]
            if kind == "pick":
                mine[whose].append(act)
            elif kind == "reply" and act.outcome == OK:
                answered.add(whose)
        owners = Counter(bottle for hand in listed for bottle in hand)
        report = self.ledger.findings.append
        for bottle in (bottle for bottle, count in owners.items() if count > 1):
            report(Finding("double", f"bottle {bottle}", "one holder", str(owners[bottle])))
        for person, hand in zip(self.people, listed, strict=True):
            picks = mine[person.user]
            picked = {act.detail for act in picks if act.outcome == OK}
            unsure = sum(act.outcome == UNKNOWN for act in picks)
            kept = {*person.held, *answered.intersection(person.answered)}
            for bottle in kept - hand:
                report(Finding("lost", f"bottle {bottle}", f"held by {person.user}", None))
            if len(hand - picked) > unsure:
                report(Finding("phantom", f"bottles of {person.user}", f"at most {unsure} unasked", str(hand - picked)))


Reader = Callable[[Person, Connection], Awaitable[bool]]


def _outcome(answer: Answer | None) -> str:
    if answer is None or answer.status >= 500:
        return UNKNOWN
    return OK if answer.status < 300 else FAIL


def _drop(person: Person) -> None:
    if person.connection is not None:
        person.connection.close()
    person.connection = None


async def _page(connection: Connection, path: str, person: Person) -> Any:
    """The JSON of a list; None when the worker is not ready for it."""
    answer = await connection.ask("GET", path, None, person.headers)
    return None if answer.status == 503 else answer.ok()


async def _answered(connection: Connection, path: str, person: Person) -> Answer:
    """What a read of bottles says: they are read from the state, whose answer may come late when many ask at once."""
    ends_s = time.monotonic() + within(_LAPSE_S)
    while (answer := await connection.ask("GET", path, None, person.headers)).status == 503:
        assert time.monotonic() < ends_s, answer.body
        await asyncio.sleep(_PAUSE_S)
    return answer


async def _all_bottles(connection: Connection, person: Person) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"/v1/me/bottles?limit=100{'&cursor=' * bool(cursor)}{cursor}"
        page = (await _answered(connection, path, person)).ok()
        rows += page["bottles"]
        cursor = page["next_cursor"]
    return rows
