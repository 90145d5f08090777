"""Drift bottles against a plain dict model: any order of acts, lapses, ends and blocks (Hypothesis, stateful)."""

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from discovery.bottles import Bottles
from discovery.errors import Conflict, KeyReused, NotFound, Refused
from discovery.store import keys
from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer
from tests.naive_bottles import NaiveBottle, NaiveSea, check_sea
from tests.sea import SECRET, Crowd

PERSON_OF = {"ann": "ann", "bob": "bob", "bob2": "bob", "cat": "cat", "dan": "dan"}
USERS = st.sampled_from(sorted(PERSON_OF))
NUMBERS = st.integers(0, 11)  # which of the bottles so far
STATES = {"f": "floating", "p": "picked", "a": "answered", "e": "expired"}


class SeaMachine(RuleBasedStateMachine):
    """The product and the model, side by side. Time is moved in the state: a hold or an end is set to the past."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.state = State(self.url)
        self.crowd = Crowd()
        self.crowd.persons = dict(PERSON_OF)
        self.model = NaiveSea(PERSON_OF)
        self.order: list[str] = []
        self.throws: dict[tuple[str, int], tuple[str, str]] = {}
        self.picks: dict[tuple[str, int], str] = {}
        self.replies: dict[tuple[str, int], tuple[str, str]] = {}

    @initialize(seed=st.integers(0, 2**32 - 1))
    def open(self, seed: int) -> None:
        source = random.Random(seed)
        limits = {"throws_per_day": 10_000, "picks_per_day": 10_000}
        self.bottles = Bottles(self.state, self.crowd, lambda: source.getrandbits(32), SECRET, **limits)
        self.run(self.state.open())
        self.run(self.state.call("FLUSHALL"))

    def teardown(self) -> None:
        self.run(self.state.close())
        self.runner.close()

    def run(self, act: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await act

        return self.runner.run(awaited())

    def outcome(self, act: Awaitable[Any]) -> Any:
        """The answer, or the class of the refusal."""
        try:
            return self.run(act)
        except Refused as refusal:
            return type(refusal)

    def one(self, number: int) -> str | None:
        return self.order[number % len(self.order)] if self.order else None

    @rule(user=USERS, key=st.integers(0, 9), text=st.sampled_from(["x", "y"]))
    def throw(self, user: str, key: int, text: str) -> None:
        answer = self.outcome(self.bottles.throw(user, f"t{key}", text, None))
        first = self.throws.get((user, key))
        if first is not None:
            assert answer is KeyReused if first[1] != text else answer.bottle_id == first[0]
            return
        self.throws[user, key] = answer.bottle_id, text
        self.order.append(answer.bottle_id)
        self.model.bottles[answer.bottle_id] = NaiveBottle(user, text)
        self.model.seen.add((PERSON_OF[user], answer.bottle_id))

    @rule(user=USERS, key=st.integers(0, 19))
    def pick(self, user: str, key: int) -> None:
        answer = self.run(self.bottles.pick(user, f"p{key}"))
        first = self.picks.get((user, key))
        if first is not None:
            assert answer.reason is None
            there = self.model.bottles[first].holder == user and self.model.may_read(user, first)
            assert (answer.bottle and answer.bottle.bottle_id) == (first if there else None)
            return
        admissible = self.model.admissible(user)
        assert answer.reason == (None if admissible else "sea_empty")
        if admissible:
            assert answer.bottle.bottle_id in admissible
            assert answer.bottle.text == self.model.bottles[answer.bottle.bottle_id].text
            assert answer.bottle.throw_backs == self.model.bottles[answer.bottle.bottle_id].backs
            self.picks[user, key] = answer.bottle.bottle_id
            self.model.picked(user, answer.bottle.bottle_id)

    @rule(user=USERS, number=NUMBERS, holder=st.booleans())
    def throw_back(self, user: str, number: int, holder: bool) -> None:
        if (bottle_id := self.one(number)) is None:
            return
        bottle = self.model.bottles[bottle_id]
        user = bottle.holder or user if holder else user
        answer = self.outcome(self.bottles.throw_back(user, bottle_id))
        if bottle.state == "deleted":
            assert answer is NotFound
        elif user == bottle.author or (user == bottle.holder and bottle.state != "picked"):
            assert answer is Conflict
        elif user == bottle.holder:
            assert answer is None
            bottle.backs += 1
            self.model.to_sea(bottle_id)
        else:
            assert answer is self.late(user, bottle_id, None)

    @rule(user=USERS, number=NUMBERS, key=st.integers(0, 9), text=st.sampled_from(["x", "y"]), holder=st.booleans())
    def reply(self, user: str, number: int, key: int, text: str, holder: bool) -> None:
        if (bottle_id := self.one(number)) is None:
            return
        bottle = self.model.bottles[bottle_id]
        user = bottle.holder or user if holder else user
        answer = self.outcome(self.bottles.reply(user, f"r{key}", bottle_id, text))
        first = self.replies.get((user, key))
        if first is not None and first != (bottle_id, text):
            assert answer is KeyReused
            return
        expected = self.expected_of_reply(user, bottle_id, repeat=first is not None)
        if expected is not None:
            assert answer is expected
            return
        if first is None:
            self.replies[user, key] = bottle_id, text
            bottle.state = "answered"
            bottle.replies.append((user, text))
        self.check_view(user, bottle_id, answer)

    def expected_of_reply(self, user: str, bottle_id: str, repeat: bool) -> Any:
        bottle = self.model.bottles[bottle_id]
        if bottle.state == "deleted":
            return NotFound
        if user == bottle.author and not self.model.may_read(user, bottle_id):
            return NotFound
        if not self.model.has(user, bottle_id):
            return self.late(user, bottle_id, Conflict)
        if not self.model.may_read(user, bottle_id):
            return Conflict
        if repeat:
            return None
        allowed = {"answered"} if user == bottle.author else {"picked", "answered"}
        return None if bottle.state in allowed else Conflict

    def late(self, user: str, bottle_id: str, answer: Any) -> Any:
        """``answer`` for who once held the bottle, NotFound for everybody else who has it not."""
        once = self.model.once_had(user, bottle_id) and not self.model.of_authors_person(user, bottle_id)
        return answer if once else NotFound

    @rule(user=USERS, number=NUMBERS)
    def delete(self, user: str, number: int) -> None:
        if (bottle_id := self.one(number)) is None:
            return
        bottle = self.model.bottles[bottle_id]
        answer = self.outcome(self.bottles.delete(user, bottle_id))
        if user != bottle.author:
            assert answer is NotFound
        elif bottle.state == "deleted" or (bottle.state == "floating" and not bottle.was_picked):
            assert answer is None
            bottle.state = "deleted"
        else:
            assert answer is Conflict

    @rule(user=USERS, number=NUMBERS)
    def block_other(self, user: str, number: int) -> None:
        if (bottle_id := self.one(number)) is None:
            return
        bottle = self.model.bottles[bottle_id]
        answer = self.outcome(self.bottles.block_other(user, bottle_id))
        if bottle.state == "deleted":
            assert answer is NotFound
        elif user == bottle.author:
            assert answer == (bottle.holder if bottle.holder and bottle.state != "picked" else Conflict)
        elif user == bottle.holder:
            assert answer == bottle.author
            if bottle.state == "picked":
                self.model.to_sea(bottle_id)
        else:
            assert answer == self.late(user, bottle_id, bottle.author)

    @rule(one=USERS, two=USERS, on=st.booleans())
    def block(self, one: str, two: str, on: bool) -> None:
        if one != two:
            for pairs in (self.crowd.pairs, self.model.blocks):
                (pairs.add if on else pairs.discard)(frozenset((one, two)))

    @rule(number=NUMBERS)
    def lapse(self, number: int) -> None:
        bottle_id = self.one(number)
        if bottle_id is not None and self.model.bottles[bottle_id].state == "picked":
            self.run(self.state.call("HSET", keys.sea_bottle(bottle_id), "until", 1))
            self.run(self.state.call("ZADD", keys.sea_holds(), 1, bottle_id))
            self.model.to_sea(bottle_id)

    @rule(number=NUMBERS)
    def end(self, number: int) -> None:
        bottle_id = self.one(number)
        if bottle_id is not None and self.model.bottles[bottle_id].state not in ("expired", "deleted"):
            self.run(self.state.call("HSET", keys.sea_bottle(bottle_id), "ends", 1))
            self.run(self.state.call("ZADD", keys.sea_ends(), 1, bottle_id))
            self.model.end(bottle_id)

    @rule(user=USERS, number=NUMBERS)
    def get(self, user: str, number: int) -> None:
        if (bottle_id := self.one(number)) is None:
            return
        answer = self.outcome(self.bottles.get(user, bottle_id))
        if self.model.bottles[bottle_id].state == "deleted" or not self.model.may_read(user, bottle_id):
            assert answer is NotFound
        else:
            self.check_view(user, bottle_id, answer)

    def check_view(self, user: str, bottle_id: str, view: Any) -> None:
        bottle = self.model.bottles[bottle_id]
        assert (view.bottle_id, view.text, view.throw_backs) == (bottle_id, bottle.text, bottle.backs)
        assert view.mine == (user == bottle.author)
        assert [(reply.mine, reply.text) for reply in view.replies] == [(who == user, t) for who, t in bottle.replies]

    @rule(user=USERS)
    def mine(self, user: str) -> None:
        items, after = self.run(self.bottles.mine(user, 100, None))
        expected = {
            (bottle_id, "thrown" if bottle.author == user else "picked", bottle.state)
            for bottle_id, bottle in self.model.bottles.items()
            if bottle.state != "deleted" and self.model.may_read(user, bottle_id)
        }
        assert {(item.bottle_id, item.role, item.state) for item in items} == expected
        assert (len(items), after) == (len(expected), None)

    @invariant()
    def the_sea_holds_together(self) -> None:
        """Swept first, so that lapses and ends told to the model are in the state too."""
        if hasattr(self, "bottles"):
            while self.run(self.bottles.sweep()):
                pass
            stored = self.run(check_sea(self.state))
            states = {bottle_id: STATES.get(bottle["state"], "deleted") for bottle_id, bottle in stored.items()}
            assert states == {bottle_id: bottle.state for bottle_id, bottle in self.model.bottles.items()}


class UnsweptSeaMachine(SeaMachine):
    """Without the sweep after each step: every script must itself notice that time has passed."""

    @invariant()
    def the_sea_holds_together(self) -> None:
        """Checked by the answers alone."""


def _run(machine: type[SeaMachine], server: EmbeddedServer, seed: int) -> None:
    """Without shrinking, which on a real server outlasts the time limit; the seed replays, then add Phase.shrink."""
    machine.url = server.url
    limits = settings(
        max_examples=30,
        stateful_step_count=50,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=limits)


def test_every_order_of_acts(state_server: EmbeddedServer, seed: int) -> None:
    _run(SeaMachine, state_server, seed)


def test_every_order_of_acts_without_a_sweeper(state_server: EmbeddedServer, seed: int) -> None:
    _run(UnsweptSeaMachine, state_server, seed)
