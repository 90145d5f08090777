"""One way to change people: a script that changes a record and tells the feed, then wait until it is folded here.

Until leases (next issue) an answer means: durable, and folded by the answering worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import Follower, parse_id
from discovery.store.scripts import Script

WRITE_DEADLINE_S = 3.0

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

    async def fold_to_tail(self) -> None:
        """Fold all that stands in the feed now: before saying that something is not there."""
        await self.follower.fold_to_tail(WRITE_DEADLINE_S)

    async def change(self, record: str, kind: str, payload: bytes, fields: dict[str, str]) -> None:
        """Set (or with '' delete) ``fields`` of ``record`` and fold the entry that says so."""
        flat = [part for pair in fields.items() for part in pair]
        _, entry = await self.run(_RECORD, [record, keys.feed()], [kind, payload, *flat])
        await self.folded(entry)
