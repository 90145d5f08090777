"""Fixtures and helpers of the bottle tests: people, and bottles on the real server."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from discovery.bottle_records import BottleView
from discovery.bottles import Bottles
from discovery.errors import Refused
from discovery.sealed import Sealer
from discovery.store.client import State
from discovery.withheld import Withheld, WithheldNow
from tests.naive_bottles import check_sea

SECRET = b"secret of the tests" * 2
DEADLINE_S = 10


class Crowd:
    """People of a test: who is whose second account, who has blocked whom."""

    def __init__(self) -> None:
        self.persons: dict[str, str] = {}
        self.pairs: set[frozenset[str]] = set()
        self.gone: set[str] = set()
        self.held = Withheld(Sealer(SECRET))
        self.asked = 0
        self.on_ask: Callable[[int], None] = lambda _: None

    def block(self, one: str, two: str) -> None:
        self.pairs.add(frozenset((one, two)))

    def person_key(self, user: str) -> str:
        return self.persons.get(user, user)

    def is_gone(self, user: str) -> bool:
        return user in self.gone

    def life_arguments(self, user: str) -> list[str | int]:
        return [user, 0, 1]

    def blocked_either_way(self, user: str) -> frozenset[str]:
        self.asked += 1
        self.on_ask(self.asked)
        return frozenset(next(iter(pair - {user})) for pair in self.pairs if user in pair)

    def withheld(self) -> WithheldNow:
        return self.held.at(1)

    def muted(self, user: str) -> frozenset[str]:
        return frozenset()


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def make(state: State, crowd: Crowd, rng: random.Random) -> Callable[..., Bottles]:
    def made(**settings: Any) -> Bottles:
        return Bottles(state, crowd, lambda: rng.getrandbits(32), SECRET, **settings)

    return made


@pytest_asyncio.fixture
async def bottles(make: Callable[..., Bottles], state: State) -> AsyncIterator[Bottles]:
    """Bottles with the settings of the product; the sea is checked when the test is done."""
    await wait_for_a_day()
    yield make()
    await check_sea(state)


async def wait_for_a_day() -> None:
    """Quotas end at midnight: do not begin a test in the last seconds of a day."""
    left_s = 86_400 - time.time() % 86_400
    if left_s < DEADLINE_S:
        await asyncio.sleep(left_s + 0.1)


async def picked(bottles: Bottles, caller: str, key: str = "pick") -> BottleView:
    bottle = (await bottles.pick(caller, key)).bottle
    assert bottle is not None
    return bottle


async def states_of(bottles: Bottles, caller: str) -> list[tuple[str, str, str]]:
    items, _ = await bottles.mine(caller, 100, None)
    return [(item.bottle_id, item.role, item.state) for item in items]


async def refused(awaitable: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await awaitable
    return caught.value
