"""Slow, obvious twins of the bottle scripts: a plain dict model, and the invariants of what lies in the state."""

from dataclasses import dataclass, field
from typing import Any

from discovery.store import keys
from discovery.store.client import State


@dataclass
class NaiveBottle:
    author: str
    text: str
    state: str = "floating"
    holder: str | None = None
    backs: int = 0
    was_picked: bool = False
    replies: list[tuple[str, str]] = field(default_factory=list)  # (user, text)


class NaiveSea:
    """Who has which bottle, one rule a line; no clock: lapses and ends are told."""

    def __init__(self, person_of: dict[str, str]) -> None:
        self.person_of = person_of
        self.bottles: dict[str, NaiveBottle] = {}
        self.seen: set[tuple[str, str]] = set()  # (person, bottle)
        self.blocks: set[frozenset[str]] = set()

    def blocked(self, one: str, two: str | None) -> bool:
        return frozenset((one, str(two))) in self.blocks

    def admissible(self, user: str) -> set[str]:
        return {
            bottle_id
            for bottle_id, bottle in self.bottles.items()
            if bottle.state == "floating"
            and self.person_of[bottle.author] != self.person_of[user]
            and (self.person_of[user], bottle_id) not in self.seen
            and not self.blocked(user, bottle.author)
        }

    def picked(self, user: str, bottle_id: str) -> None:
        bottle = self.bottles[bottle_id]
        bottle.state, bottle.holder, bottle.was_picked = "picked", user, True
        self.seen.add((self.person_of[user], bottle_id))

    def to_sea(self, bottle_id: str) -> None:
        self.bottles[bottle_id].state, self.bottles[bottle_id].holder = "floating", None

    def end(self, bottle_id: str) -> None:
        bottle = self.bottles[bottle_id]
        if bottle.state == "picked":
            bottle.holder = None
        bottle.state = "expired"

    def has(self, user: str, bottle_id: str) -> bool:
        return user in (self.bottles[bottle_id].author, self.bottles[bottle_id].holder)

    def once_had(self, user: str, bottle_id: str) -> bool:
        return (self.person_of[user], bottle_id) in self.seen

    def of_authors_person(self, user: str, bottle_id: str) -> bool:
        return self.person_of[user] == self.person_of[self.bottles[bottle_id].author]

    def may_read(self, user: str, bottle_id: str) -> bool:
        bottle = self.bottles[bottle_id]
        if user == bottle.author:
            return bottle.state == "picked" or not self.blocked(user, bottle.holder)
        return user == bottle.holder and not self.blocked(user, bottle.author)


_STATE_FIELDS = ("state", "pos", "until", "ends", "author", "holder", "was")


async def _bottles(state: State) -> dict[str, dict[str, str]]:
    found = {}
    for raw in await state.call("KEYS", keys.sea_bottle("*")):
        values = await state.call("HMGET", raw, *_STATE_FIELDS)
        named = zip(_STATE_FIELDS, values, strict=True)
        found[raw.decode().rpartition(":")[2]] = {name: value.decode() for name, value in named if value is not None}
    return found


async def _scores(state: State, key: str) -> dict[str, int]:
    flat: Any = await state.call("ZRANGE", key, 0, -1, "WITHSCORES")
    pairs = flat if flat and isinstance(flat[0], list) else zip(flat[::2], flat[1::2], strict=True)
    return {member.decode(): int(float(score)) for member, score in pairs}


async def check_sea(state: State) -> dict[str, dict[str, str]]:
    """Assert every invariant of the stored sea; returns its bottles. For a quiet sea: no script may be running."""
    bottles = await _bottles(state)
    flat = await state.call("HGETALL", keys.sea_index())
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    index = {int(pos): bottle_id.decode() for pos, bottle_id in pairs}
    assert sorted(index) == list(range(len(index))), "positions are dense"
    floating = {bottle_id: bottle for bottle_id, bottle in bottles.items() if bottle["state"] == "f"}
    assert {bottle_id: pos for pos, bottle_id in index.items()} == {b: int(v["pos"]) for b, v in floating.items()}
    assert len(set(index.values())) == len(index), "each floating bottle lies there once"

    held = {bottle_id: int(bottle["until"]) for bottle_id, bottle in bottles.items() if bottle["state"] == "p"}
    assert await _scores(state, keys.sea_holds()) == held
    assert all(("holder" in bottle) <= (bottle["state"] in "paem") for bottle in bottles.values())
    assert all("holder" in bottle for bottle in bottles.values() if bottle["state"] in "pa")
    ends = await _scores(state, keys.sea_ends())
    assert set(ends) == {bottle_id for bottle_id, bottle in bottles.items() if bottle["state"] != "d"}
    assert all(
        ends[b] == int(v["ends"]) for b, v in bottles.items() if v["state"] in "fpa" or v.get("was") in {"f", "a"}
    )
    assert all(("was" in bottle) == (bottle["state"] == "m") for bottle in bottles.values())
    await _check_lists(state, bottles)
    await _check_ttls(state, bottles)
    return bottles


async def _check_lists(state: State, bottles: dict[str, dict[str, str]]) -> None:
    """Each bottle stands in exactly the lists of its author and of its holder; of who was erased there is none."""
    found = set()
    for raw in await state.call("KEYS", keys.sea_mine("*")):
        user = raw.decode().removeprefix(keys.sea_mine(""))
        found |= {(user, entry) for entry in await _scores(state, raw.decode())}
    expected = {(b["author"], f"t{bottle_id}") for bottle_id, b in bottles.items() if b["author"]}
    expected |= {(b["holder"], f"p{bottle_id}") for bottle_id, b in bottles.items() if b.get("holder")}
    assert found == expected


async def _check_ttls(state: State, bottles: dict[str, dict[str, str]]) -> None:
    """Only the sea and what floats or is held in it may live without a TTL."""
    immortal = {keys.sea_index(), keys.sea_holds(), keys.sea_ends(), keys.cases("sea"), keys.moderation_log("sea")}
    immortal |= {keys.tombstones("sea"), keys.sea_withheld()}
    immortal |= {keys.sea_bottle(bottle_id) for bottle_id, bottle in bottles.items() if bottle["state"] in "fp"}
    for raw in await state.call("KEYS", "{sea}:*"):
        if raw.decode() not in immortal:
            assert await state.call("PTTL", raw) > 0, raw
