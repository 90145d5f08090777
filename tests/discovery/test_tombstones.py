"""Who of many was erased, and who is suspended: found without looking through all, and the same as by looking."""

import random

import numpy as np

from discovery.people import AGE_ADULT, EVERYONE, FOR_EVER, People
from discovery.store.keys import Shards
from discovery.suspensions import HOLD
from discovery.tombstones import Tombstone
from tests.discovery.histories import SEALER

USERS = [f"u{n}" for n in range(60)]


def marked(people: People) -> dict[str, tuple[int, int]]:
    lives, erased_ms = people.lives.tolist(), people.erased_ms.tolist()
    return {user: (lives[slot], erased_ms[slot]) for slot, user in enumerate(people.ids) if lives[slot]}


def test_tombstones_mark_whom_they_name_known_or_not_yet(seed: int, scale: int) -> None:
    """Tombstones come one by one, or all of a shard at once; people are known before, or come later."""
    for run in range(20 * scale):
        draws = random.Random(seed + run)
        people = People(SEALER, require_age=True, shards=Shards(3))
        gone: dict[str, Tombstone] = {}
        for act in range(40):
            user = draws.choice(USERS)
            shard, name = people.shards.of(user), people.tombstones.name(user)
            if draws.random() < 0.5:
                people.slot_or_new(user)
            else:
                gone[user] = Tombstone(act, draws.randrange(1, 9), 1000 + act)
                if draws.random() < 0.3:
                    people.restore_tombstones(shard, [*people.tombstones.rows(shard), (name, *gone[user])])
                else:
                    people.fold_tombstone(shard, name, *gone[user][:3])
            known = {one: (stone.life, stone.hive_ms) for one, stone in gone.items() if people.slot(one) is not None}
            assert marked(people) == known, seed + run
            assert all(people.life(one) == (gone[one].life if one in gone else 0) for one in USERS), seed + run


def test_suspensions_of_few_and_of_many_count_alike(seed: int, scale: int) -> None:
    for run in range(20 * scale):
        draws = random.Random(seed + run)
        people = People(SEALER, require_age=True)
        slots = people.slots_or_new(USERS)
        people.visibility[slots] = EVERYONE
        people.age_app[slots] = AGE_ADULT
        for slot in draws.sample(range(len(USERS)), draws.choice([0, 3, 40])):
            people.suspensions[slot] = {draws.choice([HOLD, "nearby", "radar"]): draws.choice([5, 50])}
        for count in (0, 1, 7, len(USERS)):
            some = np.array(draws.sample(range(len(USERS)), count), np.int32)
            until = [0 if people.suspended(slot, "nearby", 10) else FOR_EVER for slot in some.tolist()]
            assert people.strangers_until_ms(some, 10).tolist() == until, seed + run
