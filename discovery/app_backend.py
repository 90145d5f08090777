"""The friend graph as an app's backend keeps it in step, in bulk. (Its positions: positions.py.)

A friendship is two halves, each in its owner's shard: no script may touch both, so an add first asks both owners.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

from discovery.errors import Erased, StateAway
from discovery.friends import MOST_HALVES
from discovery.people import People
from discovery.store import keys
from discovery.store.life_script import LifeScript
from discovery.store.writer import Writer

_HALVES = LifeScript("friend_halves")
_ERASED_TRIES = 3
_HALVES_A_SCRIPT = 500  # about 1 ms of server time, so that others wait little
_REFUSALS = ("declined_by_person", "too_many_friends")

_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class Pair:
    """One friendship to add or remove; ``index`` is its row in the request."""

    index: int
    a: str
    b: str
    op: str
    guardian: bool


class _Half(NamedTuple):
    """What to do (an op of the script) with one side of a row of the request: what ``owner`` shows ``other``."""

    op: str
    row: int
    owner: str
    other: str
    guardian: bool


@dataclass(slots=True)
class _Entries:
    """The newest entry of each shard that a request must see folded: somebody of the shard, id."""

    newest: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    narrowed: set[int] = field(default_factory=set)  # shards where somebody is shown less: class A

    def saw(self, shard: int, halves: Sequence[_Half], entry: bytes) -> None:
        """Entries of one shard come in order."""
        self.newest[shard] = halves[0].owner, entry
        if any(half.op == "remove" for half in halves):
            self.narrowed.add(shard)


class AppBackend:
    """Adds and removes friendships; never undoes a person's own unfriend, hide or block."""

    def __init__(self, people: People, writer: Writer) -> None:
        self._people = people
        self._writer = writer

    async def pair(self, pairs: Sequence[Pair]) -> list[tuple[int, str]]:
        """Apply ``pairs``; returns (index, code) of the skipped ones.

        Durable, and folded by this worker; what was removed by every live worker. Raises StateAway: some may be applied
        then, and the same request again brings all to the same end.
        """
        skipped = {pair.index: code for pair in pairs if (code := self._unfit(pair))}
        entries = _Entries()
        for turn in _turns(pair for pair in pairs if pair.index not in skipped):
            skipped |= await self._apply(turn, entries)
        await self._wait(entries)
        return sorted(skipped.items())

    def _unfit(self, pair: Pair) -> str | None:
        if pair.a == pair.b:
            return "self"
        if self._people.is_gone(pair.a) or self._people.is_gone(pair.b):
            return Erased.code
        if pair.op == "add" and not pair.guardian and self._ages_differ(pair):
            return "guardian_required"
        return None

    def _ages_differ(self, pair: Pair) -> bool:
        return self._is_adult(pair.a) != self._is_adult(pair.b)

    def _is_adult(self, user: str) -> bool:
        slot = self._people.slot(user)
        return self._people.adult_with(None, None) if slot is None else self._people.is_adult(slot)

    async def _apply(self, pairs: Sequence[Pair], entries: _Entries) -> dict[int, str]:
        """Both halves of each pair; returns why rows were refused: by a person, or for want of room."""
        adds = [pair for pair in pairs if pair.op == "add"]
        asked = await self._run([half for pair in adds for half in _halves("check", pair)], entries)
        refused = _refused(asked)
        rest = (pair for pair in pairs if pair.index not in refused)
        done = await self._run([half for pair in rest for half in _halves(pair.op, pair)], entries)
        late = _refused(done)  # since they were asked
        undo = [half._replace(op="undo") for half, status in done if half.row in late and status == "new"]
        await self._run(undo, entries)
        return refused | late

    async def _run(self, halves: Sequence[_Half], entries: _Entries) -> list[tuple[_Half, str]]:
        """Run the halves of each shard in order, all shards at once; each half with its status."""
        by_shard: defaultdict[int, list[_Half]] = defaultdict(list)
        for half in halves:
            by_shard[self._writer.shards.of(half.owner)].append(half)
        runs = await _all([self._run_in(shard, part, entries) for shard, part in by_shard.items()])
        return [outcome for run in runs for outcome in run]

    async def _run_in(self, shard: int, halves: Sequence[_Half], entries: _Entries) -> list[tuple[_Half, str]]:
        outcomes: list[tuple[_Half, str]] = []
        for start in range(0, len(halves), _HALVES_A_SCRIPT):
            chunk = halves[start : start + _HALVES_A_SCRIPT]
            entry, *statuses = await self._run_chunk(shard, chunk)
            entries.saw(shard, chunk, entry)
            outcomes += zip(chunk, (status.decode() for status in statuses), strict=True)
        return outcomes

    async def _run_chunk(self, shard: int, halves: Sequence[_Half]) -> list[bytes]:
        """Of whom this worker does not know yet that they were erased nothing may be written: it looks again."""
        owners = [half.owner for half in halves]
        for _ in range(_ERASED_TRIES):
            with contextlib.suppress(Erased):
                return await self._writer.run(_HALVES, self._names(shard, halves), _arguments(halves), of=owners)
            await self._writer.catch_up(owners[0])
        raise StateAway("people of this request are being erased", outcome_unknown=True)

    def _names(self, shard: int, halves: Sequence[_Half]) -> list[str]:
        shards = self._writer.shards
        owners = [half.owner for half in halves]
        records = [name for owner in owners for name in (shards.friend_halves(owner), shards.blocks(owner))]
        return [keys.feed(keys.shard_tag(shard)), *records]

    async def _wait(self, entries: _Entries) -> None:
        waits = dict.fromkeys(entries.narrowed, self._writer.everywhere)
        await _all([waits.get(shard, self._writer.folded)(*newest) for shard, newest in entries.newest.items()])


async def _all(calls: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Results of calls that run at once; when some fail, the first failure once all have ended."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return cast(list[_T], found)


def _turns(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Rows about different pairs do not meet and go together; of one pair a row waits for the other kind before it."""
    turns: list[list[Pair]] = []
    last: dict[frozenset[str], tuple[int, str, bool]] = {}
    for pair in pairs:
        names = frozenset((pair.a, pair.b))
        turn, *kind = last.get(names, (-1, "", False))
        if kind != [pair.op, pair.guardian]:  # the same again changes nothing, in whichever order
            turn += 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(pair)
        last[names] = turn, pair.op, pair.guardian
    return turns


def _halves(op: str, pair: Pair) -> tuple[_Half, _Half]:
    return _Half(op, pair.index, pair.a, pair.b, pair.guardian), _Half(op, pair.index, pair.b, pair.a, pair.guardian)


def _refused(outcomes: Sequence[tuple[_Half, str]]) -> dict[int, str]:
    """Row -> why; what a person said goes before want of room."""
    found = {half.row: status for half, status in outcomes if status == _REFUSALS[1]}
    return found | {half.row: status for half, status in outcomes if status == _REFUSALS[0]}


def _arguments(halves: Sequence[_Half]) -> list[bytes | str | int]:
    each = (part for half in halves for part in (half.owner, half.other, half.op, int(half.guardian)))
    return [MOST_HALVES, *each]
