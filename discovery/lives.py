"""Who acts, and in which life of their id: what somebody erased had begun before changes nothing afterwards.

A request notes its caller when it is admitted. From then on whatever it does for that person, here or in scripts, is
done for that life alone, however long its body or its waiting takes. What is done for others, as by the app's backend,
is of the life that stands.
"""

from contextvars import ContextVar

from discovery.errors import Erased
from discovery.people import People
from discovery.reports import LIFE_SHIFT, LIVES

_acting: ContextVar[tuple[str, int] | None] = ContextVar("acting", default=None)


class Lives:
    """Of everybody whom ``people`` knows, or has a tombstone of."""

    def __init__(self, people: People) -> None:
        self._people = people

    def admit(self, user: str, issued_ms: int) -> int:
        """The task acts for ``user``, by a token issued then; returns the life. Raises Erased for one of an earlier."""
        tombstone = self._people.tombstone(user)
        if tombstone is not None and issued_ms <= tombstone.at_ms:
            raise Erased("this token is older than the erasure of its person")
        life = 0 if tombstone is None else tombstone.life
        _acting.set((user, life))
        return life

    def admit_nobody(self) -> None:
        """The task acts for no person of its own."""
        _acting.set(None)

    def acting_in(self, user: str) -> int:
        """The life for which this task acts on ``user``."""
        acting = _acting.get()
        return acting[1] if acting is not None and acting[0] == user else self._people.life(user)

    def standing(self, user: str) -> int:
        """The present life of a person."""
        return self._people.life(user)

    def flags(self, user: str) -> int:
        """That life, as reports carry it."""
        return self.acting_in(user) % LIVES << LIFE_SHIFT

    def arguments(self, users: list[str]) -> list[str | int]:
        """What ``lua/life.lua`` wants behind the arguments of a script by which these act."""
        each = dict.fromkeys(users)
        said = [part for user in each for part in (self._people.tombstones.name(user), self.acting_in(user))]
        return [*said, len(each)]

    def require(self, user: str) -> None:
        """Raise Erased when the life for which this task acts has ended."""
        if self.acting_in(user) != self._people.life(user):
            raise Erased("the person was erased meanwhile")
