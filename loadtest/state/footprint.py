"""Memory of a person in a worker: ``python -m loadtest.state.footprint COUNT SEED`` prints bytes a person.

Everything that a worker holds of people who report a position and nothing else, with ids of 12 characters: their
columns, the table of ids, presence, and the index of the epoch. The growth of resident memory, as of the engine's own.
"""

import sys

import numpy as np

from discovery.people import EVERYONE, People
from discovery.presence import Presence
from discovery.sealed import Sealer
from geo import cells
from geo.privacy import FRIEND_RESOLUTION
from loadtest.engine import worlds
from loadtest.engine.footprint import resident_bytes
from loadtest.state.world import EPOCH_MS, SECRET

_SMALL = 1_000
_NOW_MS = 100 * EPOCH_MS
_LATER_MS = 1_000 * EPOCH_MS


def held(count: int, seed: int) -> tuple[People, Presence]:
    """A worker's world in the middle of an epoch, with its index built."""
    people = People(Sealer(SECRET), require_age=False)
    presence = Presence(people, lambda edge_ms: (edge_ms, 1))
    rng = worlds.generator(seed)
    people.make_room(count)
    hashes = rng.integers(1, 2**64, count, dtype=np.uint64)
    slots = people.slots_restored([f"{row:012d}" for row in range(count)], hashes, 0)
    people.visibility[slots] = EVERYONE
    presence.fit()
    presence.pending[slots] = cells.cells_of(*worlds.points("clustered", count, rng), FRIEND_RESOLUTION)
    presence.live_until_ms[slots] = _LATER_MS
    presence.on_time(_NOW_MS, EPOCH_MS)
    presence.on_time(_NOW_MS + 3 * EPOCH_MS, EPOCH_MS)
    assert len(presence.crowd(_NOW_MS + 3 * EPOCH_MS)) == count
    return people, presence


def measured(count: int, seed: int) -> float:
    """Bytes a person."""
    held(_SMALL, seed)
    worlds.points("clustered", count, worlds.generator(seed))  # what making them leaves behind is no part of a worker
    before = resident_bytes()
    world = held(count, seed)
    after = resident_bytes()
    assert world is not None
    return (after - before) / count


if __name__ == "__main__":
    print(measured(int(sys.argv[1]), int(sys.argv[2])))
