"""2,000 bottles, 200 people at once, two workers: each bottle gets exactly one holder, over a kill -9 of all too."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.service import Answer, Connection, Service, serving

PEOPLE = 200
THROWS = 10  # each
BOTTLES = PEOPLE * THROWS
_A_DAY = "1000"  # the last bottles may need many looks into a sea that only its own throwers still see
_GIVEN_BACK = 0.15  # of the bottles picked: each goes to somebody who never had it
_EMPTY_PAUSE_S = 0.05
_RETRY_PAUSE_S = 0.2
_DEADLINE_S = 120.0


@dataclass
class Entry:
    """A throw or a pick: written down before it is sent. ``bottle``: its id, "" when the sea was empty."""

    user: str
    kind: str
    key: str
    text: str = ""
    tries: int = 0
    bottle: str | None = None  # None: the outcome is not known
    given_back: bool = False


@dataclass
class Ledger:
    """What all clients did, in the order in which they decided to."""

    entries: list[Entry] = field(default_factory=list)
    held: int = 0

    def intend(self, user: str, kind: str, text: str = "") -> Entry:
        entry = Entry(user, kind, f"{kind}-{len(self.entries)}", text)
        self.entries.append(entry)
        return entry

    def done(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind and entry.bottle]


class Client:
    """Somebody's app: one connection, opened again whenever the service went away; every act is tried to its end."""

    def __init__(self, service: Service, user: str, ledger: Ledger) -> None:
        self.user = user
        self._service = service
        self._headers = service.person(user)
        self._ledger = ledger
        self._connection: Connection | None = None

    async def act(self, entry: Entry) -> str:
        """Send the entry under its one key until an answer says what became of it."""
        path = "/v1/bottles" if entry.kind == "throw" else "/v1/bottles/pick"
        body = {"text": entry.text} if entry.kind == "throw" else None
        answer = await self._answered(entry, "POST", path, body)
        if entry.kind == "throw":
            entry.bottle = str(answer.ok(201)["bottle_id"])
        else:
            bottle = answer.ok()["bottle"]
            entry.bottle = "" if bottle is None else str(bottle["bottle_id"])
        return entry.bottle

    async def give_back(self, entry: Entry) -> None:
        """Throw a picked bottle back. To be sent again it needs no key: it is done already."""
        entry.given_back = True
        (await self._answered(Entry(self.user, "back", ""), "POST", f"/v1/bottles/{entry.bottle}/throw-back", None)).ok(
            204
        )

    async def switch_on(self) -> None:
        """Take part in bottles."""
        answer = await self._answered(Entry(self.user, "settings", ""), "PATCH", "/v1/me/settings", {"bottles": "on"})
        assert answer.ok()["bottles"] == "on"

    async def mine(self) -> Counter[tuple[str, str, str]]:
        """(role, state, bottle id) of all bottles on the person's own list."""
        found: Counter[tuple[str, str, str]] = Counter()
        cursor = ""
        while cursor is not None:
            path = f"/v1/me/bottles?limit=100{'&cursor=' * bool(cursor)}{cursor}"
            page = (await self._answered(Entry(self.user, "mine", ""), "GET", path, None)).ok()
            found.update((one["role"], one["state"], one["bottle_id"]) for one in page["bottles"])
            cursor = page["next_cursor"]
        return found

    async def _answered(self, entry: Entry, method: str, path: str, body: object) -> Answer:
        headers = self._headers | ({"Idempotency-Key": entry.key} if entry.key else {})
        deadline_s = time.monotonic() + _DEADLINE_S
        while True:
            entry.tries += 1
            try:
                self._connection = self._connection or await Connection.open(self._service.port)
                answer = await self._connection.ask(method, path, body, headers)
                if answer.status != 503:  # 503: the state is away, the outcome may be unknown
                    return answer
            except OSError:
                self.close()
            assert time.monotonic() < deadline_s, f"no answer to {entry.kind} of {entry.user}"
            await asyncio.sleep(_RETRY_PAUSE_S)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    settings = {"bottle_throws_per_day": _A_DAY, "bottle_picks_per_day": _A_DAY, "log_level": "warning"}
    with serving(tmp_path, **settings) as running:
        yield running


@asynccontextmanager
async def crowd(service: Service, ledger: Ledger) -> AsyncIterator[list[Client]]:
    """200 people who take part in bottles."""
    clients = [Client(service, f"sailor-{number}", ledger) for number in range(PEOPLE)]
    try:
        await asyncio.gather(*(client.switch_on() for client in clients))
        yield clients
    finally:
        for client in clients:
            client.close()


async def sail(client: Client, ledger: Ledger, draws: random.Random) -> None:
    """Throw ten bottles between picks, give some back, and pick until each bottle is in somebody's hand."""
    left = THROWS
    while left or ledger.held < BOTTLES:
        if left and draws.random() < 0.6:
            left -= 1
            await client.act(ledger.intend(client.user, "throw", f"{client.user} throws {left}"))
            continue
        entry = ledger.intend(client.user, "pick")
        if not await client.act(entry):
            await asyncio.sleep(_EMPTY_PAUSE_S)  # nothing there that this one may have
        elif draws.random() < _GIVEN_BACK:
            await client.give_back(entry)
        else:
            ledger.held += 1


async def test_2000_bottles_each_picked_by_exactly_one(service: Service, seed: int) -> None:
    ledger, draws = Ledger(), random.Random(seed)
    async with crowd(service, ledger) as clients:
        started_s = time.monotonic()
        async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(sail(client, ledger, draws))
        print(f"{len(ledger.entries)} acts in {time.monotonic() - started_s:.1f} s")
        assert {entry.tries for entry in ledger.entries} == {1}, "nothing failed here, so nothing was repeated"
        await _check_world(clients, ledger)


@pytest.mark.parametrize("share", [0.25, 0.6])
async def test_after_kill_9_none_is_lost_and_none_doubled(service: Service, seed: int, share: float) -> None:
    """The service dies when a share of all bottles is thrown, with acts of 200 clients under way."""
    ledger, draws = Ledger(), random.Random(seed)
    async with crowd(service, ledger) as clients:
        async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(sail(client, ledger, draws))
            await _until(lambda: len(ledger.done("throw")) >= share * BOTTLES)
            service.kill()
            before = [(entry, entry.bottle) for entry in ledger.entries]
            await asyncio.to_thread(service.start)
        repeated = Counter(entry.kind for entry in ledger.entries if entry.tries > 1)
        print(f"{len(ledger.entries)} acts; repeated after the kill: {dict(repeated)}")
        assert min(repeated["throw"], repeated["pick"]) > PEOPLE // 10, "the kill must meet acts under way"
        await _check_world(clients, ledger)
        await _check_repeats(clients, [entry for entry, bottle in before if bottle and not entry.given_back])


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the clients know nothing of who waits
        await asyncio.sleep(0)


async def _check_world(clients: list[Client], ledger: Ledger) -> None:
    """By the ledger and by everybody's own list: 2,000 bottles, each with one author and one other holder."""
    author_of = {entry.bottle: entry.user for entry in ledger.done("throw")}
    assert len(ledger.done("throw")) == len(author_of) == BOTTLES
    picks = ledger.done("pick")
    assert len({(entry.user, entry.bottle) for entry in picks}) == len(picks), "a bottle came to one person twice"
    held = [entry for entry in picks if not entry.given_back]
    holder_of = {entry.bottle: entry.user for entry in held}
    assert len(held) == len(holder_of) == BOTTLES, "a bottle has two holders"
    assert len(picks) > BOTTLES
    assert holder_of.keys() == author_of.keys()
    assert [entry for entry in picks if author_of[entry.bottle] == entry.user] == []
    lists = await asyncio.gather(*(client.mine() for client in clients))
    for client, listed in zip(clients, lists, strict=True):
        expected = [("thrown", "picked", bottle) for bottle, author in author_of.items() if author == client.user]
        expected += [("picked", "picked", bottle) for bottle, holder in holder_of.items() if holder == client.user]
        assert listed == Counter(expected), client.user


async def _check_repeats(clients: list[Client], known: list[Entry]) -> None:
    """What was answered before the kill is answered the same under the same key, and makes nothing new."""
    by_user: dict[str, list[Entry]] = {client.user: [] for client in clients}
    for entry in known:
        by_user[entry.user].append(entry)

    async def repeat(client: Client) -> list[tuple[Any, Any]]:
        again = [Entry(one.user, one.kind, one.key, one.text) for one in by_user[client.user]]
        return [(one.bottle, await client.act(copy)) for one, copy in zip(by_user[client.user], again, strict=True)]

    pairs = list(itertools.chain.from_iterable(await asyncio.gather(*map(repeat, clients))))
    assert len(pairs) == len(known) > 0
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    lists = await asyncio.gather(*(client.mine() for client in clients))
    assert sum(map(Counter.total, lists)) == 2 * BOTTLES
