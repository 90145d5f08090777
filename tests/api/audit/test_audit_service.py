"""``nearhive audit-privacy`` against a real service of two workers finds what the attacks on the rules find."""

import math
import random
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from api.audit import command
from api.audit.http_oracle import Mint
from api.audit.oracle import Oracle
from api.audit.scoring import Result, Score, pooled
from api.audit.sites import SITES, Victim, draw_victim
from api.audit.suite import ATTACKS, Attack, attack_victims, spread
from api.auth import mint_token
from tests.privacy.report import reported
from tests.privacy.stage import StageOracle
from tests.service import Service, serving

SMALL = ("A1 trilateration, 3 places", "A1 trilateration by radar, area friends", "AX white box, Bayesian")
VICTIMS, VICTIMS_NIGHTLY = 3, 36  # 36: three at each of the sites, about ten minutes
WINDOW_S = 2.0
_ORDERS = ("A5", "A6")  # told by keyed orders, in which other accounts stand elsewhere: here chance differs
_ERROR_OF_MEDIAN = 0.0141 * math.sqrt(200)  # of error / sqrt(A) of who knows the cell, times sqrt(n)
_MEDIAN_OVER_MEAN = 1.2533  # standard error of a median over that of a mean
_ROUNDING = 1e-6


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {"rate_limits": "off", "speed_limit": "off", "exposure_caps": "off"}
    more = {"epoch_s": "3600", "log_level": "warning", "shake_window_s": str(WINDOW_S)}
    with serving(tmp_path_factory.mktemp("service"), **limits, **more) as running:
        yield running


def mint_of(service: Service) -> Mint:
    async def mint(user: str) -> str:
        return mint_token(service.secret("jwt_secret"), user, "adult", 43_200, time.time())

    return mint


async def on_rules(attack: Attack, victims: list[Victim]) -> list[Score]:
    """The same attack on the same victims, without a service."""

    async def oracle_of(victim: Victim) -> Oracle:
        return await StageOracle.of(victim.point)

    return await attack_victims(attack, spread(victims, attack.share), oracle_of)


def most_difference(attack: Attack, scores: Sequence[Score]) -> float:
    """Three standard errors of the difference of two medians; for orders from how far the errors spread."""
    n = len(scores)
    if not attack.name.startswith(_ORDERS):
        return 3 * _ERROR_OF_MEDIAN / math.sqrt(n)
    spread_of_errors = float(np.std([one.error for one in scores]))
    return 3 * math.sqrt(2 / n) * max(_ERROR_OF_MEDIAN, _MEDIAN_OVER_MEAN * spread_of_errors)


@pytest.mark.timeout(3600)
async def test_the_command_finds_over_http_what_is_found_on_the_rules(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int, scale: int
) -> None:
    """The victims are the same: medians differ by no more than chance, in the small cut by nothing."""
    attacks = tuple(one for one in ATTACKS if scale > 1 or one.name in SMALL)
    victims = VICTIMS if scale == 1 else VICTIMS_NIGHTLY
    found: list[list[Score]] = []

    def noted(scores: list[Score]) -> Result:
        found.append(scores)
        return pooled(scores)

    monkeypatch.setattr(command, "ATTACKS", attacks)
    monkeypatch.setattr(command, "pooled", noted)
    with reported("audit-privacy over HTTP and on the rules", seed, victims) as run:
        await command.audit(service.url, mint_of(service), victims, seed, True, WINDOW_S)
        printed = capsys.readouterr().out
        print(printed)
        draws = random.Random(seed)
        drawn = [draw_victim(SITES[index % len(SITES)], draws) for index in range(victims)]
        for attack, scores in zip(attacks, found, strict=True):
            over_http, here = pooled(scores), pooled(await on_rules(attack, drawn))
            run.rows.append(
                {
                    "attack": attack.name,
                    "n": over_http.n,
                    "questions": over_http.queries,
                    "error / √A over HTTP": over_http.median,
                    "on the rules": here.median,
                    "at most apart": _ROUNDING if scale == 1 else most_difference(attack, scores),
                }
            )
    for row in run.rows:
        assert row["attack"] in printed
        assert abs(row["error / √A over HTTP"] - row["on the rules"]) <= row["at most apart"], row


async def test_with_limits_on_it_tells_the_cost_only(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seed: int,
    scale: int,
) -> None:
    """The victim of rays by radar asks for more friendships a day than one account may."""
    if scale == 1:
        monkeypatch.setattr(command, "ATTACKS", [one for one in ATTACKS if one.name == "A3 on the radar or not"])
    limits = {"rate_limits": "on", "speed_limit": "on", "exposure_caps": "on"}
    with serving(tmp_path_factory.mktemp("limited"), epoch_s="3600", log_level="warning", **limits) as service:
        assert await command.audit(service.url, mint_of(service), 1, seed, False, WINDOW_S)
    printed = capsys.readouterr().out
    print(printed)
    assert "Limits are on" in printed
    assert "That is a cost, no bound." in printed
    assert "The bound held" not in printed
