"""The friend graph as an app's backend keeps it in step, in bulk. (Its positions: positions.py.)"""

from collections.abc import Sequence
from dataclasses import dataclass

from discovery.people import People
from discovery.store import keys
from discovery.store.scripts import Script
from discovery.store.writer import Writer

_PAIRS = Script("friend_pairs")
_PAIRS_A_SCRIPT = 250  # about 1 ms of server time, so that others wait little


@dataclass(slots=True, frozen=True)
class Pair:
    """One friendship to add or remove; ``index`` is its row in the request."""

    index: int
    a: str
    b: str
    op: str
    guardian: bool


class AppBackend:
    """Adds and removes friendships; never undoes a person's own unfriend, hide or block."""

    def __init__(self, people: People, writer: Writer) -> None:
        self._people = people
        self._writer = writer

    async def pair(self, pairs: Sequence[Pair]) -> list[tuple[int, str]]:
        """Apply ``pairs``; returns (index, code) of the skipped ones."""
        skipped = [(pair.index, code) for pair in pairs if (code := self._unfit(pair))]
        unfit = {index for index, _ in skipped}
        rest = [pair for pair in pairs if pair.index not in unfit]
        entry = b"0-0"
        for start in range(0, len(rest), _PAIRS_A_SCRIPT):
            chunk = rest[start : start + _PAIRS_A_SCRIPT]
            entry, *statuses = await self._run(chunk)
            skipped += [(p.index, s.decode()) for p, s in zip(chunk, statuses, strict=True) if s != b"applied"]
        await self._writer.folded(entry)
        return sorted(skipped)

    def _unfit(self, pair: Pair) -> str | None:
        if pair.a == pair.b:
            return "self"
        if pair.op == "add" and not pair.guardian and self._ages_differ(pair):
            return "guardian_required"
        return None

    def _ages_differ(self, pair: Pair) -> bool:
        return self._is_adult(pair.a) != self._is_adult(pair.b)

    def _is_adult(self, user: str) -> bool:
        slot = self._people.slot(user)
        return self._people.adult_with(None, None) if slot is None else self._people.is_adult(slot)

    async def _run(self, chunk: Sequence[Pair]) -> list[bytes]:
        names = [keys.feed()]
        args: list[bytes | str | int] = []
        for pair in chunk:
            a, b = pair.a, pair.b
            names += [keys.friend_halves(a), keys.friend_halves(b), keys.blocks(a), keys.blocks(b)]
            args += [a, b, pair.op, int(pair.guardian)]
        return await self._writer.run(_PAIRS, names, args)
