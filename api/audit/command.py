"""``nearhive audit-privacy``: all attacks against a running service."""

import asyncio
import random
import shlex
import time

from api.audit import report
from api.audit.http_oracle import HttpOracle, Mint, Service, Throttled, open_service
from api.audit.oracle import Oracle
from api.audit.scoring import Result, failures, pooled
from api.audit.sites import SITES, Victim, draw_victim
from api.audit.suite import ATTACKS, Attack, attack_victims, spread
from api.failed import Failed

_NEAREST_M = 3000


def mint_by(command: str) -> Mint:
    """Tokens printed by ``command USER``."""
    words = shlex.split(command)

    async def mint(user: str) -> str:
        process = await asyncio.create_subprocess_exec(*words, user, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        if process.returncode != 0 or not out.strip():
            raise Failed(f"--mint: `{command} {user}` ended with status {process.returncode} and printed no token")
        return out.decode().strip()

    return mint


async def audit(url: str, mint: Mint, victims: int, seed: int, shakes: bool, window_s: float) -> bool:
    """Attack ``victims`` made-up people and print the table as it grows; whether the bound held. Raises Failed."""
    draws = random.Random(seed)
    drawn = [draw_victim(SITES[index % len(SITES)], draws) for index in range(victims)]
    print(f"{url}: {victims} victims at {min(victims, len(SITES))} places, seed {seed}")
    async with open_service(url, mint) as service:
        try:
            await _require_visible(service, drawn[0], window_s)
            results = [await _run(service, one, drawn, window_s) for one in ATTACKS if shakes or not one.shakes]
        except Throttled as limit:
            _print_cost(service, limit)
            return True
    print(report.explained(victims))
    crossed = [line for result in results for line in failures(result)]
    print("\n".join(crossed) if crossed else "The bound held: no attack came closer than the cells allow.")
    return not crossed


async def _require_visible(service: Service, victim: Victim, window_s: float) -> None:
    """An attacker in the victim's own cell must see them: else errors would be large for another reason."""
    oracle = await HttpOracle.of(service, victim, window_s)
    [observer] = await oracle.observers([victim.point])
    if await oracle.nearby(observer, _NEAREST_M) is None:
        raise Failed("the audit's victim is not shown to somebody in the same cell: nothing can be measured")
    await oracle.retire([observer])


async def _run(service: Service, attack: Attack, victims: list[Victim], window_s: float) -> Result:
    async def oracle_of(victim: Victim) -> Oracle:
        return await HttpOracle.of(service, victim, window_s)

    scores = await attack_victims(attack, spread(victims, attack.share), oracle_of)
    result = pooled(scores)
    print(report.table([result]).splitlines()[-1] if attack is not ATTACKS[0] else report.table([result]), flush=True)
    await service.clear_all()
    return result


def _print_cost(service: Service, limit: Throttled) -> None:
    seconds = time.monotonic() - service.started_s
    print(
        f"Limits are on ({limit.code}): after {service.accounts} accounts and {service.requests} requests in "
        f"{seconds:.0f} s the service asks to wait {limit.retry_after_s} s.\n"
        "That is a cost, no bound. To measure metres, audit a copy with NEARHIVE_RATE_LIMITS=off, "
        "NEARHIVE_EXPOSURE_CAPS=off and NEARHIVE_SPEED_LIMIT=off."
    )
