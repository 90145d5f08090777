"""Reports, holds, decisions and appeals on every footing, with two workers: what one answers holds on the other."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from discovery.errors import Suspended
from discovery.moderation import Decision
from discovery.store.client import State
from discovery.suspensions import HOLD
from tests.footings import Footing
from tests.model.people_model import Token
from tests.model.product import Product
from tests.world import PARIS

ADULT = Token("adult", None)
REPORTERS = ("rita", "rolf", "rosa")
USERS = ("ann", "bob", *REPORTERS)


@pytest_asyncio.fixture
async def product(footing: Footing, footing_state: State, tmp_path: Path) -> AsyncIterator[Product]:
    made = Product(footing_state, tmp_path, 16 if footing.name == "cluster" else 1, random.Random(1))
    await made.open()
    for user in USERS:
        await ask(made, user, "PUT", "/v1/me/position", {"lat": PARIS[0], "lon": PARIS[1]})
        await ask(made, user, "PATCH", "/v1/me/settings", {"visibility": "everyone", "bottles": "on"})
    yield made
    await made.close()


async def ask(
    product: Product, user: str, method: str, path: str, body: Any = None, key: str = "k", at: int = 0
) -> Any:
    status, content = await product.ask(at, user, ADULT, method, path, body, key)
    assert status < 300, content
    return orjson.loads(content) if content else None


async def report(product: Product, user: str, kind: str, target: str, at: int) -> str:
    body = {"target": {"type": kind, "id": target}, "reason": "spam"}
    return str(
        (await ask(product, user, "POST", "/v1/reports", body, f"of {target}".replace(" ", "-"), at))["report_id"]
    )


async def nearby(product: Product, user: str, at: int) -> set[str]:
    answer = await ask(product, user, "GET", "/v1/nearby?radius_m=3000&limit=100", at=at)
    return {row["user"] for row in answer["people"]}


@pytest.mark.timeout(120)
async def test_a_person_on_hold(product: Product) -> None:
    for turn, user in enumerate(REPORTERS):
        assert "ann" in await nearby(product, "bob", 1)
        report_id = await report(product, user, "user", "ann", turn % 2)
        assert "ann" not in await nearby(product, user, 1 - turn % 2), "hidden from the reporter on the other worker"
    assert "ann" not in await nearby(product, "bob", 1)
    hives = [worker.hive for worker in product.workers]
    cases, following = await hives[1].moderation.queue(10, None)
    assert [(case.target.id, case.fields["open"], case.fields["held"]) for case in cases] == [("ann", 3, True)]
    assert following is None
    await hives[1].moderation.appeal("ann", "why?")
    assert (await hives[0].moderation.queue(10, None))[0][0].fields["appeal"] == "why?"
    await product.restart([0])
    slot = product.workers[0].hive.people.slot("ann")
    assert slot is not None
    assert HOLD in product.workers[0].hive.people.suspensions[slot]
    decision = Decision("admin", report_id, "lift")
    for _ in range(2):
        await hives[1].moderation.decide(decision)
    assert "ann" in await nearby(product, "bob", 0)
    assert (await hives[1].moderation.queue(10, None)) == ([], None)
    entries, _ = await hives[1].moderation.log(10, None)
    assert [(entry.fields["action"], entry.fields["target"]) for entry in entries] == [("lift", "u:ann")]


@pytest.mark.timeout(120)
async def test_a_bottle_on_hold_and_its_author_suspended(product: Product) -> None:
    bottle_id = (await ask(product, "ann", "POST", "/v1/bottles", {"text": "hello"}))["bottle_id"]
    for turn, user in enumerate(REPORTERS):
        picked = await ask(product, user, "POST", "/v1/bottles/pick", at=turn % 2)
        assert picked["bottle"]["bottle_id"] == bottle_id
        report_id = await report(product, user, "bottle", bottle_id, 1 - turn % 2)
    for at in (0, 1):
        assert (await ask(product, "bob", "POST", "/v1/bottles/pick", at=at))["reason"] == "sea_empty"
    hives = [worker.hive for worker in product.workers]
    case = (await hives[0].moderation.queue(10, None))[0][0]
    assert (case.target.id, case.fields["open"], case.fields["accused"]) == (bottle_id, 3, "ann")
    await hives[0].moderation.decide(Decision("eve", report_id, "suspend", "bottles"))
    status, content = await product.ask(1, "ann", ADULT, "POST", "/v1/bottles", {"text": "x"}, "other")
    assert (status, orjson.loads(content)["code"]) == (403, Suspended.code)
    made = await hives[0].reports.made_by("rita")
    assert [(one.target.id, one.reason, one.note) for one in made] == [(bottle_id, "spam", "")]
    await hives[0].reports.forget("rita", "")
    assert await hives[0].reports.made_by("rita") == []
