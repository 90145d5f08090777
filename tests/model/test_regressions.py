"""What the differential test found once, as the few acts that showed it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from discovery.store.embedded import EmbeddedServer
from tests.model.acts import AGELESS, MINOR, Act
from tests.model.machine import run_acts
from tests.model.product import Product
from tests.model.test_differential import open_product
from tests.world import PARIS

HERE, THERE = PARIS, (48.9, 2.5)


@pytest_asyncio.fixture
async def product(state_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Product]:
    async with open_product(state_server.url, tmp_path, 1, seed=1) as opened:
        yield opened


def act(name: str, u: int = 0, **args: Any) -> Act:
    return name, {"w": 0, "u": u, **args}


def move(u: int = 0, point: tuple[float, float] = HERE) -> Act:
    return act("move", u, point=point, accuracy_m=None, ttl_s=7200)


def by_app(u: int = 0, visibility: str | None = None, consent: bool = False, age: str | None = None) -> Act:
    return act("app_user", u, visibility=visibility, consent=consent, age=age, suspended=None)


def shows(u: int, visibility: str, until_s: int | None = None) -> Act:
    return act("settings", u, visibility=visibility, until_s=until_s, bottles=None)


async def test_the_age_of_the_token_counts_when_the_app_shows_somebody_to_everyone(product: Product) -> None:
    await run_acts(product, [move(), by_app(visibility="everyone", consent=True)])
    await run_acts(product, [move(MINOR), by_app(MINOR, visibility="everyone", consent=True, age="adult")])
    grown = [by_app(AGELESS, age="minor"), by_app(AGELESS, visibility="everyone", consent=True, age="adult")]
    await run_acts(product, [move(AGELESS), *grown])


async def test_a_refused_act_of_a_minor_tells_their_age(product: Product) -> None:
    shake = act("shake", others=[MINOR], point=HERE, reach="anywhere", limit=10, again=False)
    row = {"a": MINOR, "b": 0, "op": "add", "guardian": False}
    await run_acts(product, [move(), by_app(MINOR, age="adult"), shake, act("app_pairs", rows=[row])])


async def test_without_consent_the_app_lets_nobody_be_seen_for_longer(product: Product) -> None:
    for visibility in ("everyone", "friends"):
        acts = [move(), shows(0, visibility, 3600), by_app(visibility=visibility), act("later", ms=3_600_001)]
        met = await run_acts(product, [*acts, act("settings", visibility=None, until_s=None, bottles=None)])
        assert met["200"] == 6


async def test_of_several_rows_of_one_person_the_last_counts(product: Product) -> None:
    rows = [{"u": 0, "point": point, "accuracy_m": None, "ttl_s": 7200} for point in (THERE, HERE)]
    await run_acts(product, [move(), act("app_positions", rows=rows)])


async def test_a_clear_that_the_person_has_taken_back_is_not_said_again(product: Product) -> None:
    acts = [move(), act("clear"), move(), act("checkpoint", share=1.0), act("doubt", n=0), act("see_position")]
    met = await run_acts(product, acts)
    assert met["404"] == 0
