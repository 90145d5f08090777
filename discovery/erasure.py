"""Erasure: nothing shows the person when it is answered, and within 30 s nothing of them is kept but a tombstone.

At once, in one script: the records of the person, their idempotent operations, a tombstone, an entry of the feed that
every worker folds. Then the sea. What is left is in past entries and checkpoints, in the shake stream and in the
server's file: the leader of the shard clears that (``erasing.py``).

What others have said stays theirs: a block, a mute and what they showed stand with the name that they typed, and count
for nobody who comes under that id later, but for blocks and mutes. Of a thread the other keeps the own words.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import numpy as np
import structlog

from discovery.bottles import Bottles
from discovery.errors import StateAway
from discovery.people import People
from discovery.store import keys
from discovery.store.erasure_log import ErasureLog
from discovery.store.scripts import Script
from discovery.store.writer import Writer

ERASED_WITHIN_MS = 30_000

ClearPart = Callable[[str, str], Awaitable[None]]
"""Clears what another part keeps of (id, key of the human behind it or '' while the human has other accounts)."""

_AT_ONCE = 50
_OF_A_PERSON = re.compile(r"\{(?:s\d\d|sea)\}:(?:[pfxm]|rep|case|ops|seen|mine):(.+)", re.DOTALL)

_ERASE = Script("erase")

log = structlog.get_logger("nearhive.erasure")


class Erasure:
    """The act. ``parts`` are further parts that keep something of people elsewhere than in their shard or the sea."""

    def __init__(
        self,
        people: People,
        writer: Writer,
        bottles: Bottles,
        erasures: ErasureLog | None,
        parts: Sequence[ClearPart] = (),
    ) -> None:
        self._people = people
        self._writer = writer
        self._bottles = bottles
        self._log = erasures
        self._parts = parts

    async def erase(self, user: str, at_ms: int) -> None:
        """Erase ``user``, in the life for which this task acts; tokens issued up to ``at_ms`` (since 1970) hold no
        more. Everywhere on return, durable, and in the log. Raises StateAway: to be repeated."""
        await self._erase(user, at_ms, str(self._writer.lives.acting_in(user)))

    async def erase_again(self, user: str, at_ms: int) -> None:
        """An erasure of ``at_ms`` may have been lost: :meth:`erase`, unless it or a later one stands."""
        await self._erase(user, at_ms, "")

    async def _erase(self, user: str, at_ms: int, life: str) -> None:
        human = self._human_to_clear(user)
        name = self._people.tombstones.name(user)
        await self._writer.enforce(user, _ERASE, self._records(user), [user, name, at_ms, human, life])
        stands = self._people.tombstone(user)
        if stands is None:  # the shard is being read anew
            raise StateAway("erased, and not yet cleared everywhere", outcome_unknown=True)
        await asyncio.gather(self.clear(user, stands.life, human), self._note([(name, stands.at_ms)]))

    def _records(self, user: str) -> list[str]:
        shards = self._writer.shards
        records = [shards.person(user), shards.friend_halves(user), shards.blocks(user), shards.mutes(user)]
        return [*self._heads(shards.of(user)), *records, shards.operations(user)]

    def _heads(self, shard: int) -> list[str]:
        tag = keys.shard_tag(shard)
        return [keys.tombstones(tag), keys.erasing(tag), keys.feed(tag)]

    def _human_to_clear(self, user: str) -> str:
        """The key of the human behind an account, unless other accounts of theirs are left."""
        slot = self._people.slot(user)
        if slot is None or slot not in self._people.persons or len(self._people.accounts(slot)) > 1:
            return ""
        return self._people.person_key(user)

    async def clear(self, user: str, life: int, human: str) -> None:
        """What lies elsewhere, as life number ``life`` began; once, for afterwards it is another's. The sea is last and
        remembers. Raises StateAway."""
        name, call = self._people.tombstones.name(user), self._writer.state.call
        if int(await call("HGET", keys.tombstones(keys.SEA_TAG), name) or 0) >= life:
            return
        await self._clear_older_counters(user, human)
        for part in self._parts:
            await part(user, human)
        await self._bottles.erase(user, human, name, life)

    async def _clear_older_counters(self, user: str, human: str) -> None:
        """Versions up to 2026-11-22 counted requests under the id itself; a copy to more shards put that into each.
        Nobody reads them, and they end two days after the last such version ran: this may go by 2027."""
        tags, persons = map(keys.shard_tag, self._writer.shards.all()), {user, human} - {""}
        names = [keys.requests(tag, person) for tag in tags for person in persons]
        await asyncio.gather(*(self._writer.state.call("DEL", name) for name in names))

    async def _note(self, erased: list[tuple[str, int]]) -> None:
        if self._log is None:
            return
        try:
            await asyncio.to_thread(self._log.append, erased)
        except OSError as error:
            log.error("erasure_not_logged", error=str(error))
            raise StateAway("erased, but that could not be written to the log", outcome_unknown=True) from None

    # --- after a start ---

    async def apply_log(self) -> int:
        """Erase again whom the log knows to be erased and this state does not, as after an older copy was put back; and
        add to the log what it lacks. How many were erased again. Raises StateAway, OSError.

        To be called when all is folded, before anybody is answered.
        """
        if self._log is None:
            return 0
        logged, standing = await asyncio.to_thread(self._log.read), self._people.tombstones.names()
        await self._note([(name, at_ms) for name, at_ms in standing.items() if at_ms > logged.get(name, 0)])
        missing = {name: at_ms for name, at_ms in logged.items() if at_ms > standing.get(name, 0)}
        if not missing:
            return 0
        known = {self._people.tombstones.name(user): user for user in await self._users_like(missing)}
        rows = [(known.get(name, ""), name, at_ms) for name, at_ms in missing.items()]
        for start in range(0, len(rows), _AT_ONCE):
            await asyncio.gather(*(self._again(*row) for row in rows[start : start + _AT_ONCE]))
        log.warning("erased_again", people=sum(name in known for name in missing), tombstones=len(missing))
        return len(missing)

    async def _again(self, user: str, name: str, at_ms: int) -> None:
        if user:
            await self.erase_again(user, at_ms)
            return
        for shard in self._writer.shards.all():  # whose shard it is, only the id tells
            await self._writer.run(_ERASE, self._heads(shard), ["", name, at_ms, "", ""])
            await self._writer.feeds.followers[shard].fold_to_tail(3.0)

    async def _users_like(self, names: Iterable[str]) -> set[str]:
        """Ids, folded or in the name of a record, that may have one of these tombstones."""
        wanted = {int(name[:16], 16) for name in names}
        people = self._people
        folded = np.isin(people.hashes[: len(people)], np.array(sorted(wanted), np.uint64))
        found = {people.ids[slot] for slot in np.flatnonzero(folded).tolist()}
        async for user in self._recorded():
            if user not in found and self._people.hash_of(user) in wanted:
                found.add(user)
        return found

    async def _recorded(self) -> AsyncIterator[str]:
        """Ids in names of keys: of some nothing is folded."""
        state = self._writer.state
        for master in state.masters():
            cursor: bytes | int = b"0"
            while True:
                cursor, names = await state.call_at(master, "SCAN", cursor, "COUNT", 1000)
                for key in names:
                    parts = _OF_A_PERSON.fullmatch(key.decode())
                    if parts is not None:
                        yield parts[1]
                if int(cursor) == 0:
                    break
