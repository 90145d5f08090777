"""What workers count beside answering goes to the state in batches: never a command for each request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from discovery.errors import StateAway
from discovery.store.client import StateFault

PAUSE_S = 1.0

log = structlog.get_logger("nearhive.stores")


async def tally(flushes: Sequence[Callable[[], Awaitable[None]]], pause_s: float = PAUSE_S) -> None:
    """Flush again and again, until cancelled. What the state does not take now comes with the next."""
    while True:
        await asyncio.sleep(pause_s)
        for flush in flushes:
            try:
                await flush()
            except (StateAway, StateFault) as error:
                log.warning("not_counted", error=type(error).__name__)
