"""Bottles in plain dicts, on the twin of the sea: quotas, repeats, and what each act answers.

Which of the bottles that somebody may have is picked is chance: the answer tells it, and the model says if it may be.
Days, ends and hours of bottles are the server's and not compared.
"""

from typing import Any

from tests.model.people_model import Refusal
from tests.model.world_model import WorldModel
from tests.naive_bottles import NaiveBottle, NaiveSea

QUOTA = 3


class BottleModel(NaiveSea):
    """The sea of one world of people."""

    def __init__(self, world: WorldModel) -> None:
        super().__init__(_Humans(world))
        self.world = world
        self.order: list[str] = []
        self.last_had: dict[tuple[str, str], int] = {}  # (user, t or p and bottle) -> how many-th throw or pick
        self.keys: dict[tuple[str, str], tuple[Any, str]] = {}  # (user, key) -> what was asked, bottle
        self.used: dict[tuple[str, str, str], int] = {}  # (human, what, day) -> times

    def blocked(self, one: str, two: str | None) -> bool:
        return two is not None and self.world.must_not_meet(one, two)

    def require_on(self, user: str) -> None:
        self.world.take_part(user)
        self.world.require(user, "bottles")
        if user not in self.world.bottles_on:
            raise Refusal(403, "bottles_off")

    def known(self, user: str, key: str, asked: Any) -> str | None:
        """The bottle of an earlier request with this key."""
        first = self.keys.get((user, key))
        if first is not None and first[0] != asked:
            raise Refusal(422, "idempotency_key_reused")
        return None if first is None else first[1]

    def left(self, user: str, what: str, day: str) -> int:
        return QUOTA - self.used.get((self.world.human(user), what, day), 0)

    def use(self, user: str, what: str, day: str) -> None:
        name = self.world.human(user), what, day
        self.used[name] = self.used.get(name, 0) + 1

    def thrown(self, user: str, key: str, text: str, bottle_id: str, day: str) -> None:
        self.keys[user, key] = ("throw", text), bottle_id
        self.use(user, "throws", day)
        self.bottles[bottle_id] = NaiveBottle(user, text)
        self.seen.add((self.person_of[user], bottle_id))
        self._listed(user, "t", bottle_id)

    def took(self, user: str, key: str, bottle_id: str, day: str) -> None:
        self.keys[user, key] = "pick", bottle_id
        self.use(user, "picks", day)
        self.picked(user, bottle_id)
        self._listed(user, "p", bottle_id)

    def _listed(self, user: str, role: str, bottle_id: str) -> None:
        self.order.append(bottle_id)
        self.last_had[user, role + bottle_id] = len(self.order)

    def throw_back(self, user: str, bottle_id: str) -> None:
        self.world.require(user, "bottles")
        bottle = self.bottles[bottle_id]
        if bottle.state == "deleted":
            raise Refusal(404, "not_found")
        if user == bottle.author or (user == bottle.holder and bottle.state != "picked"):
            raise Refusal(409, "conflict")
        if user == bottle.holder:
            bottle.backs += 1
            self.to_sea(bottle_id)
        else:
            self._require_late(user, bottle_id)

    def reply(self, user: str, key: str, bottle_id: str, text: str) -> Any:
        self.world.require(user, "bottles")
        repeat = self.known(user, key, ("reply", bottle_id, text)) is not None
        bottle = self.bottles[bottle_id]
        if bottle.state == "deleted" or (user == bottle.author and not self.may_read(user, bottle_id)):
            raise Refusal(404, "not_found")
        if not self.has(user, bottle_id):
            self._require_late(user, bottle_id)
            raise Refusal(409, "conflict")
        if not self.may_read(user, bottle_id):
            raise Refusal(409, "conflict")
        if not repeat:
            if bottle.state not in ({"answered"} if user == bottle.author else {"picked", "answered"}):
                raise Refusal(409, "conflict")
            self.keys[user, key] = ("reply", bottle_id, text), bottle_id
            bottle.state = "answered"
            bottle.replies.append((user, text))
        return self.view(user, bottle_id)

    def delete(self, user: str, bottle_id: str) -> None:
        bottle = self.bottles[bottle_id]
        if user != bottle.author:
            raise Refusal(404, "not_found")
        if bottle.state != "deleted" and (bottle.state != "floating" or bottle.was_picked):
            raise Refusal(409, "conflict")
        bottle.state = "deleted"

    def block_other(self, user: str, bottle_id: str) -> None:
        """Blocks the other one, unnamed; a bottle that was held goes back."""
        bottle = self.bottles[bottle_id]
        if bottle.state == "deleted":
            raise Refusal(404, "not_found")
        other: str | None = bottle.author
        if user == bottle.author:
            other = bottle.holder if bottle.state != "picked" else None
            if other is None:
                raise Refusal(409, "conflict")
        elif user == bottle.holder:
            if bottle.state == "picked":
                self.to_sea(bottle_id)
        else:
            self._require_late(user, bottle_id)
        assert other is not None
        self.world.block(user, other, f"bottle:{bottle_id}")

    def _require_late(self, user: str, bottle_id: str) -> None:
        """For who has it not: only who once held it may know of it."""
        if not self.once_had(user, bottle_id) or self.of_authors_person(user, bottle_id):
            raise Refusal(404, "not_found")

    def read(self, user: str, bottle_id: str) -> Any:
        self.world.require(user, "bottles")
        if self.bottles[bottle_id].state == "deleted" or not self.may_read(user, bottle_id):
            raise Refusal(404, "not_found")
        return self.view(user, bottle_id)

    def view(self, user: str, bottle_id: str) -> Any:
        bottle = self.bottles[bottle_id]
        return {
            "bottle_id": bottle_id,
            "kind": "text",
            "text": bottle.text,
            "language": None,
            "throw_backs": bottle.backs,
            "mine": user == bottle.author,
            "replies": [{"mine": who == user, "kind": "text", "text": text} for who, text in bottle.replies],
        }

    def mine(self, user: str) -> list[dict[str, str]]:
        """Newest throw or pick first."""
        found = []
        for bottle_id, bottle in self.bottles.items():
            if bottle.state == "deleted" or not self.may_read(user, bottle_id):
                continue
            role = "thrown" if bottle.author == user else "picked"
            found.append((self.last_had[user, role[0] + bottle_id], bottle_id, role, bottle.state))
        return [
            {"bottle_id": bottle_id, "role": role, "state": state}
            for _, bottle_id, role, state in sorted(found, reverse=True)
        ]


class _Humans(dict[str, str]):
    """Account -> human, as known now."""

    def __init__(self, world: WorldModel) -> None:
        super().__init__()
        self._world = world

    def __missing__(self, user: str) -> str:
        return self._world.human(user)
