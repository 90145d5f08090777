"""One way to change people: a script that changes a record and tells the feed, then wait until it is folded here.

Until leases (next issue) an answer means: durable, and folded by the answering worker.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import Follower, parse_id
from discovery.store.scripts import Script

WRITE_DEADLINE_S = 3.0
_LOOK_AGAIN_S = 0.05

_RECORD = Script("record")


@dataclass(slots=True)
class Writer:
    """Runs scripts of the people shard and waits for their entries."""

    state: State
    follower: Follower

    async def run(self, script: Script, names: Sequence[str], args: Sequence[bytes | str | int]) -> list[bytes]:
        """Run ``script``; its reply is a list. Durable when it returns. Raises StateAway."""
        reply: list[bytes] = await self.state.run(script, names, args)
        return reply

    async def folded(self, raw_id: bytes) -> None:
        """Wait until the entry is folded by this worker."""
        await self.follower.folded(parse_id(raw_id), WRITE_DEADLINE_S)

    async def catch_up(self) -> None:
        """Fold all that stands in the feed now: before judging again. Raises StateAway."""
        await self.follower.fold_to_tail(WRITE_DEADLINE_S)

    async def look_again(self) -> None:
        """``look_again`` at the people feed."""
        await look_again(self.follower)

    async def change(self, record: str, kind: str, payload: bytes, fields: dict[str, str]) -> None:
        """Set (or with '' delete) ``fields`` of ``record`` and fold the entry that says so."""
        flat = [part for pair in fields.items() for part in pair]
        _, entry = await self.run(_RECORD, [record, keys.feed()], [kind, payload, *flat])
        await self.folded(entry)


async def look_again(follower: Follower) -> None:
    """Fold all that stands in the stream now, for 50 ms at most: once before saying that something is not there."""
    with contextlib.suppress(StateAway, TimeoutError):
        async with asyncio.timeout(_LOOK_AGAIN_S):
            await follower.fold_to_tail(_LOOK_AGAIN_S)
