"""The human behind each account, where tokens say so, and behind accounts that were erased.

A block or a mute is of a human, whichever of their accounts it names: it must not end because the human erases that
account. So a tombstone keeps a *mark* of the human, a keyed hash that without the secret says nothing of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from discovery.sealed import Sealer


class Humans:
    """By slot of the account. Marks are 64 bits: of a million humans any two are alike once in 3e7 deployments."""

    def __init__(self, sealer: Sealer, capacity: int) -> None:
        self._sealer = sealer
        self.names: dict[int, str] = {}
        self._marks = np.zeros(capacity, np.uint64)  # 0: not told
        self._accounts: dict[int, set[int]] = {}
        self._once: dict[int, int] = {}  # account that was erased -> mark of the human it was of
        self._erased: dict[int, set[int]] = {}

    def grow(self, capacity: int) -> None:
        """So many accounts from now on."""
        self._marks = np.concatenate([self._marks, np.zeros(capacity - len(self._marks), np.uint64)])

    # --- fold ---

    def put_each(self, slots: Sequence[int], names: Sequence[str]) -> None:
        """Tokens say that these accounts are of these humans."""
        for slot, name, mark in zip(slots, names, self._sealer.hash64_each("human", names).tolist(), strict=True):
            self.part(slot)
            self.names[slot] = name
            self._marks[slot] = mark
            self._accounts.setdefault(mark, set()).add(slot)

    def part(self, slot: int) -> None:
        """This account is of nobody who is known."""
        if self.names.pop(slot, None) is not None:
            _take(self._accounts, int(self._marks[slot]), slot)
            self._marks[slot] = 0

    def put_erased(self, slot: int, mark: int) -> None:
        """This account was erased, and was of the human of ``mark``; 0: of nobody who was known, or not erased."""
        before = self._once.pop(slot, 0)
        if before:
            _take(self._erased, before, slot)
        if mark:
            self._once[slot] = mark
            self._erased.setdefault(mark, set()).add(slot)

    # --- questions ---

    def mark(self, slot: int) -> int:
        """That of the human behind an account; 0 where nobody told."""
        return int(self._marks[slot])

    def erased(self) -> Mapping[int, int]:
        """Accounts that were erased and were of a human who is known by their mark."""
        return self._once

    def accounts(self, slot: int) -> set[int]:
        """Slots of all accounts of the human behind this one, itself included."""
        mark = int(self._marks[slot])
        return self._accounts[mark] if mark else {slot}

    def erased_accounts(self, slot: int) -> set[int]:
        """Slots of the accounts that the human behind this one had erased, whoever has their ids now."""
        return self._erased.get(int(self._marks[slot]), set()) if self._erased else set()

    def accounts_of_mark(self, mark: int) -> set[int]:
        """Slots of all accounts of the human of ``mark``."""
        return self._accounts.get(mark, set())

    def behind(self, slot: int) -> set[int]:
        """Slots of whom a block or a mute of this account is of: :meth:`accounts`, and were it ever erased, those of
        the human that it was of."""
        once = self._once.get(slot)
        return self.accounts(slot) if once is None else self.accounts(slot) | self.accounts_of_mark(once)


def _take(table: dict[int, set[int]], mark: int, slot: int) -> None:
    table[mark].discard(slot)
    if not table[mark]:
        del table[mark]
