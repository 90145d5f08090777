"""The oracle over HTTP sees what the oracle on the rules sees, and the command says what it found."""

import random
import time

import httpx2
import pytest

from api.audit.bayes import infer
from api.audit.command import audit, mint_by
from api.audit.http_oracle import HttpOracle, Service, Throttled
from api.audit.oracle import Guess, Oracle
from api.audit.report import table
from api.audit.scoring import pooled, score
from api.audit.sites import SITES, draw_victim
from api.auth import mint_token
from api.failed import Failed
from tests.privacy.stage import StageOracle
from tests.world import World

_FRIENDS = ("city", "area", "near")


def service_of(world: World) -> Service:
    assert world.settings.jwt_secret is not None
    secret = world.settings.jwt_secret.get_secret_value()

    async def mint(user: str) -> str:
        return mint_token(secret, user, "adult", 3600, time.time())

    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=world.app), base_url="http://test")
    return Service(client, mint, "t")


async def everything(oracle: Oracle, victim_point: tuple[float, float], origin: tuple[float, float]) -> list[object]:
    """Answers to the same questions, without the names of accounts."""
    seen: list[object] = []
    for place in (victim_point, origin):
        [stranger] = await oracle.observers([place])
        seen += [stranger.point, *[await oracle.nearby(stranger, radius_m) for radius_m in (3000, 20_000, 50_000)]]
        seen.append(oracle.victim in await oracle.listing(stranger, 50_000, 1, 20))
        for precision in _FRIENDS:
            [friend] = await oracle.observers([place], precision)
            seen += [friend.point, await oracle.radar(friend, 100_000), await oracle.radar(friend, 1000)]
    seen += [(one.point, seen_there) for one, seen_there in await oracle.shake([victim_point, origin])]
    return seen


async def test_both_oracles_give_the_same_answers(world: World, seed: int) -> None:
    victim = draw_victim(SITES[seed % len(SITES)], random.Random(seed))
    service = service_of(world)
    over_http = await HttpOracle.of(service, victim, 5.0)
    on_rules = await StageOracle.of(victim.point)
    answers = [await everything(one, victim.point, victim.site.prior.point) for one in (over_http, on_rules)]
    assert answers[0] == answers[1]
    assert any(answers[0])


async def test_the_white_box_finds_the_cell_over_http_and_nothing_is_left_behind(world: World, seed: int) -> None:
    victim = draw_victim(SITES[seed % len(SITES)], random.Random(seed))
    service = service_of(world)
    posterior = await infer(await HttpOracle.of(service, victim, 5.0), victim.site.prior)
    assert posterior.cells.tolist() == [victim.stranger_cell]
    assert world.hive.presence.count_live(world.hive.now_ms) == service.accounts > 1
    await service.clear_all()
    assert world.hive.presence.count_live(world.hive.now_ms) == 0


async def test_refusals_are_told(world: World) -> None:
    service = service_of(world)
    user = await service.account()
    with pytest.raises(Failed, match="409 position_required"):
        await service.call(user, "GET", "/v1/nearby")


async def test_limits_end_it_with_their_code() -> None:
    async def limited(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, json={"code": "rate_limited"}, headers={"Retry-After": "7"})

    async def mint(user: str) -> str:
        return user

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(limited), base_url="http://test")
    service = Service(client, mint, "t")
    with pytest.raises(Throttled) as limit:
        await service.call(await service.account(), "GET", "/v1/nearby")
    assert (limit.value.code, limit.value.retry_after_s) == ("rate_limited", "7")


async def test_tokens_come_from_a_command() -> None:
    assert await mint_by("printf token-of-%s")("somebody") == "token-of-somebody"
    with pytest.raises(Failed, match="printed no token"):
        await mint_by("false")("somebody")


async def test_a_service_that_does_not_answer_is_said_so() -> None:
    async def mint(user: str) -> str:
        return user

    with pytest.raises(Failed, match="/v1/me/position"):
        await audit("http://127.0.0.1:9", mint, 1, 1, False, 5.0)


def test_the_table_names_what_is_broken() -> None:
    draws = random.Random(1)
    victims = [draw_victim(site, draws) for site in SITES]
    found = [score("exact", v.site.name, v.point, v.stranger_cell, Guess(*v.point), 3) for v in victims]
    assert "BROKEN" in table([pooled(found)]).splitlines()[-1]
