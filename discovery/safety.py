"""Blocks: both directions, all features. A block is stored with the blocker and applied both ways."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import orjson

from discovery.errors import Conflict, Erased, TooManyBlocks
from discovery.mutes import MAX_MUTES
from discovery.owned_rows import OwnedRows
from discovery.people import People
from discovery.store.life_script import LifeScript
from discovery.store.writer import Writer

MOST_BLOCKS = 5000  # of one person: each is looked through in many answers
_BLOCK = LifeScript("block")

Decline = Callable[[str, str], Awaitable[None]]

Order = tuple[int, int]
"""When a block was folded: hive time in ms, then how many-th block of its shard. The same in every worker."""

BlockRow = tuple[int, str, int, int, int]
"""A standing block: blocker's slot, name, blocked slot, and its order."""


@dataclass(slots=True, frozen=True)
class Block:
    """One standing block of somebody: of whom, and since when."""

    blocked: int
    order: Order


class Blocks:
    """Folded blocks. A name is what the blocker sees: the person's id, or ``bottle:<id>`` for an unnamed sender."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._names: OwnedRows[str, Block] = OwnedRows()  # blocker -> name
        self._blocked_by: dict[int, dict[int, dict[str, Order]]] = {}  # blocked -> blocker -> name
        self._counts: dict[int, int] = {}  # shard -> blocks so far

    def fold(self, payload: bytes, now_ms: int) -> tuple[int, int] | None:
        """Apply one record ``[blocker, name, blocked or null]``; the pair when it is a new block."""
        user, name, target = orjson.loads(payload)
        blocker = self._people.slot_or_new(user)
        self._remove(blocker, name)
        if target is None:
            return None
        blocked = self._people.slot_or_new(target)
        shard = int(self._people.shard[blocker])
        self._counts[shard] = self._counts.get(shard, 0) + 1
        self._put(blocker, name, Block(blocked, (now_ms, self._counts[shard])))
        return blocker, blocked

    def _put(self, blocker: int, name: str, block: Block) -> None:
        self._names.put(blocker, name, block)
        self._blocked_by.setdefault(block.blocked, {}).setdefault(blocker, {})[name] = block.order

    def _remove(self, blocker: int, name: str) -> None:
        block = self._names.remove(blocker, name)
        if block is not None:
            self._unlink(blocker, name, block.blocked)

    def _unlink(self, blocker: int, name: str, blocked: int) -> None:
        blockers = self._blocked_by[blocked]
        del blockers[blocker][name]
        if not blockers[blocker]:
            del blockers[blocker]
        if not blockers:
            del self._blocked_by[blocked]

    def forget(self, blocker: int) -> None:
        """Drop what one person blocked; that others blocked them stays, as the others' own."""
        for name in list(self._names.of(blocker)):
            self._remove(blocker, name)

    # --- a shard's part: the blocks that its people made ---

    def count(self, shard: int) -> int:
        """How many blocks the shard has ever folded: the order goes on from there."""
        return self._counts.get(shard, 0)

    def standing(self) -> dict[int, dict[str, Block]]:
        """All blocks by blocker and name, as they stand now and will in this answer."""
        return self._names.standing()

    def drop(self, shard: int) -> None:
        """Forget the blocks that a shard's people made."""
        for blocker in [slot for slot in self._names.owners() if self._people.shard[slot] == shard]:
            for name, block in self._names.drop(blocker).items():
                self._unlink(blocker, name, block.blocked)
        self._counts.pop(shard, None)

    def restore(self, shard: int, count: int, rows: Iterable[BlockRow]) -> None:
        """Put back what :meth:`count` and :meth:`standing` said of a shard."""
        self._counts[shard] = count
        for blocker, name, blocked, at_ms, number in rows:
            self._put(blocker, name, Block(blocked, (at_ms, number)))

    # --- questions ---

    def names(self, slot: int) -> list[str]:
        """What ``slot`` sees on their own list, sorted."""
        return sorted(self._names.of(slot))

    def either_way(self, slot: int) -> set[int]:
        """Slots of everyone whom this person blocked or who blocked them, with all accounts of each human.

        Who was blocked under an account that they erased is blocked under their others."""
        humans, mine = self._people.humans, self._people.accounts(slot)
        blocked = {block.blocked for account in mine for block in self._names.of(account).values()}
        blockers = {who for account in self._blockable(slot) for who in self._blocked_by.get(account, ())}
        met = {account for other in blocked for account in humans.behind(other)}
        return met.union(*(humans.accounts(other) for other in blockers)) - mine

    def _blockable(self, slot: int) -> set[int]:
        """Accounts a block of which is of this human."""
        return self._people.accounts(slot) | self._people.humans.erased_accounts(slot)

    def between(self, a: int, b: int) -> bool:
        """Whether either human blocked the other."""
        return self._has_blocked(a, b) or self._has_blocked(b, a)

    def _has_blocked(self, a: int, b: int) -> bool:
        mine, blocked_by = self._people.accounts(a), self._blocked_by
        blocked = (blocked_by[account] for account in self._blockable(b) if account in blocked_by)
        return any(not blockers.keys().isdisjoint(mine) for blockers in blocked)

    def newest_first(self, slot: int) -> list[int]:
        """``either_way``, the latest block first; of one millisecond and number in two shards by the keyed hash, so
        that every worker says the same."""
        newest = self._newest(slot)
        hashes = self._people.hashes

        def key(other: int) -> tuple[Order, int]:
            return newest.get(other, (0, 0)), int(hashes[other])

        return sorted(self.either_way(slot), key=key, reverse=True)

    def _newest(self, slot: int) -> dict[int, Order]:
        newest: dict[int, Order] = {}
        for account in self._blockable(slot):
            own = self._names.of(account) if account in self._people.accounts(slot) else {}
            made = [(block.blocked, block.order) for block in own.values()]
            met = [(blocker, max(names.values())) for blocker, names in self._blocked_by.get(account, {}).items()]
            for other, order in made + met:
                newest[other] = max(order, newest.get(other, (0, 0)))
        return newest


class Safety:
    """The acts: block and unblock, mute and unmute."""

    def __init__(self, blocks: Blocks, people: People, writer: Writer, decline: Decline) -> None:
        """``decline(a, b)`` ends what ``a`` shows ``b``, if anything."""
        self._blocks = blocks
        self._people = people
        self._writer = writer
        self._decline = decline

    async def block(self, user: str, target: str, name: str | None = None) -> None:
        """Block ``target``, listed as ``name``. Also ends, for good, what any account of the human behind ``user``
        showed any of theirs: a friendship of another account must not come back, with a precise share in it, when the
        block is lifted. Everywhere on return. Raises TooManyBlocks."""
        if target in (user, ""):
            return  # 204 for any id, and nothing to keep apart; nobody is left of a thread whose other was erased
        shown = name or target
        payload = orjson.dumps([user, shown, target])
        shards = self._writer.shards
        names = [shards.blocks(user), shards.friend_halves(user), self._writer.feed_key(user)]
        if await self._writer.enforce(user, _BLOCK, names, [payload, shown, target, MOST_BLOCKS]) < 0:
            raise TooManyBlocks(f"nobody can block more than {MOST_BLOCKS:,} people: take some back first")
        await self._end_friendships(user, target)

    async def _end_friendships(self, user: str, target: str) -> None:
        """Of other accounts of the two humans: the script of the block has ended that of these two."""
        slot, other_slot = self._people.slot(user), self._people.slot(target)
        if slot is None or other_slot is None:
            return
        mine = [self._people.ids[account] for account in self._people.accounts(slot)]
        theirs = [self._people.ids[account] for account in self._people.humans.behind(other_slot)]
        pairs = [(a, b) for a in mine for b in theirs if (a, b) != (user, target)]
        await asyncio.gather(*(self._end_friendship(a, b) for a, b in pairs))
        self._writer.lives.require(user)

    async def _end_friendship(self, user: str, other: str) -> None:
        with contextlib.suppress(Erased):  # that account, not who blocks: nothing it showed stands any more
            await self._decline(user, other)

    async def unblock(self, user: str, name: str) -> None:
        """Take back the block listed as ``name``; nothing happens when there is none."""
        payload = orjson.dumps([user, name, None])
        await self._writer.change(user, self._writer.shards.blocks(user), "x", payload, {name: ""})

    async def mute(self, user: str, other: str, *, make_room: bool = False) -> None:
        """Mute ``other``: everywhere on return. Raises Conflict at 1,000 mutes; with ``make_room`` the oldest ends."""
        muted = self.muted(user)
        if user == other:
            return
        if other not in muted and len(muted) >= MAX_MUTES:
            if not make_room:
                raise Conflict(f"nobody can mute more than {MAX_MUTES:,} people: take some back first")
            await self.unmute(user, muted[0])
        await self._mute(user, other, muted=True)

    async def unmute(self, user: str, other: str) -> None:
        """Take back a mute; nothing happens when there is none."""
        await self._mute(user, other, muted=False)

    async def _mute(self, user: str, other: str, *, muted: bool) -> None:
        payload = orjson.dumps([user, other, muted])
        await self._writer.change(user, self._writer.shards.mutes(user), "m", payload, {other: "1" if muted else ""})

    def muted(self, user: str) -> tuple[str, ...]:
        """Whom this account muted, oldest first."""
        slot = self._people.slot(user)
        return () if slot is None else self._people.mutes.of(slot)

    def blocked(self, user: str) -> list[str]:
        """Whom this account blocked, by the names of the person's own list."""
        slot = self._people.slot(user)
        return [] if slot is None else self._blocks.names(slot)
