"""Blocks: both directions, all features. A block is stored with the blocker and applied both ways."""

from collections import Counter

import orjson

from discovery.people import People
from discovery.store.scripts import Script
from discovery.store.writer import Writer

_BLOCK = Script("block")


class Blocks:
    """Folded blocks. A name is what the blocker sees: the person's id, or ``bottle:<id>`` for an unnamed sender."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._names: dict[int, dict[str, int]] = {}
        self._blocked_by: dict[int, Counter[int]] = {}
        self._order: dict[int, dict[int, int]] = {}  # who, with whom -> how many-th block of all
        self._count = 0

    def fold(self, payload: bytes) -> tuple[int, int] | None:
        """Apply one record ``[blocker, name, blocked or null]``; the pair when it is a new block."""
        user, name, target = orjson.loads(payload)
        blocker = self._people.slot_or_new(user)
        self._remove(blocker, name)
        if target is None:
            return None
        blocked = self._people.slot_or_new(target)
        self._names.setdefault(blocker, {})[name] = blocked
        self._blocked_by.setdefault(blocked, Counter())[blocker] += 1
        self._count += 1
        self._order.setdefault(blocker, {})[blocked] = self._order.setdefault(blocked, {})[blocker] = self._count
        return blocker, blocked

    def _remove(self, blocker: int, name: str) -> None:
        blocked = self._names.get(blocker, {}).pop(name, None)
        if blocked is None:
            return
        counts = self._blocked_by[blocked]
        counts[blocker] -= 1
        if not counts[blocker]:
            del counts[blocker]

    def names(self, slot: int) -> list[str]:
        """What ``slot`` sees on their own list, sorted."""
        return sorted(self._names.get(slot, {}))

    def either_way(self, slot: int) -> set[int]:
        """Slots of everyone whom this person blocked or who blocked them, with all accounts of each human."""
        mine = self._people.accounts(slot)
        others = {other for account in mine for other in self._of_account(account)}
        return {account for other in others for account in self._people.accounts(other)} - mine

    def _of_account(self, slot: int) -> set[int]:
        return set(self._names.get(slot, {}).values()) | set(self._blocked_by.get(slot, ()))

    def between(self, a: int, b: int) -> bool:
        """Whether either human blocked the other."""
        theirs = self._people.accounts(b)
        return any(not theirs.isdisjoint(self._of_account(account)) for account in self._people.accounts(a))

    def newest_first(self, slot: int) -> list[int]:
        """``either_way``, the latest block first."""
        standing = self.either_way(slot)
        order = {
            other: at for account in self._people.accounts(slot) for other, at in self._order.get(account, {}).items()
        }
        return sorted(standing, key=lambda other: order.get(other, 0), reverse=True)


class Safety:
    """The acts: block and unblock."""

    def __init__(self, blocks: Blocks, people: People, writer: Writer) -> None:
        self._blocks = blocks
        self._people = people
        self._writer = writer

    async def block(self, user: str, target: str, name: str | None = None) -> None:
        """Block ``target``, listed as ``name``. Also ends what ``user`` showed them. Everywhere on return."""
        if user == target:
            return  # 204 for any id, and nothing to keep apart
        shown = name or target
        payload = orjson.dumps([user, shown, target])
        shards = self._writer.shards
        names = [shards.blocks(user), shards.friend_halves(user), self._writer.feed_key(user)]
        _, entry = await self._writer.run(_BLOCK, names, [payload, shown, target])
        await self._writer.everywhere(user, entry)

    async def unblock(self, user: str, name: str) -> None:
        """Take back the block listed as ``name``; nothing happens when there is none."""
        payload = orjson.dumps([user, name, None])
        await self._writer.change(user, self._writer.shards.blocks(user), "x", payload, {name: ""})

    def listed(self, user: str, limit: int, after: str) -> tuple[list[str], str | None]:
        """One page of the person's own list, and where the next one starts."""
        slot = self._people.slot(user)
        names = [] if slot is None else [name for name in self._blocks.names(slot) if name > after]
        return names[:limit], names[limit - 1] if len(names) > limit else None
