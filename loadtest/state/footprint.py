"""Memory of a person in a worker: ``python -m loadtest.state.footprint COUNT SEED`` prints bytes a person.

Everything that a worker holds of people who are visible to everyone, report a position and do nothing else, with ids of
12 characters: their columns, the table of ids, presence, and the index of the epoch. They came through the feed, in
batches, and report again in a later epoch, so that every column that a report writes is written, and all has grown as
it does. The growth of resident memory, as of the engine's own.
"""

import sys

import numpy as np

from discovery.people import EVERYONE, People
from discovery.presence import Presence
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, ReportBatch
from discovery.sealed import Sealer
from geo import cells
from geo.privacy import FRIEND_RESOLUTION
from loadtest.engine import worlds
from loadtest.engine.footprint import resident_bytes
from loadtest.state.world import EPOCH_MS, SECRET

_SMALL = 1_000
_BATCH = 2_000
_NOW_MS = 100 * EPOCH_MS
_TTL_MS = 1_000 * EPOCH_MS
_ADULT = CLAIM_TOLD | CLAIM_KNOWN | CLAIM_ADULT | OWN


def held(count: int, seed: int) -> tuple[People, Presence]:
    """A worker's world in the middle of an epoch, with its index built."""
    people = People(Sealer(SECRET), require_age=True)
    presence = Presence(people, lambda edge_ms: (edge_ms, 1))
    rng = worlds.generator(seed)
    cells8 = cells.cells_of(*worlds.points("clustered", count, rng), FRIEND_RESOLUTION)
    for now_ms in (_NOW_MS, _NOW_MS + 3 * EPOCH_MS):
        presence.on_time(now_ms, EPOCH_MS)
        for start in range(0, count, _BATCH):
            presence.fold_reports(_batch(cells8[start : start + _BATCH], start, now_ms + _TTL_MS), now_ms)
    people.visibility[:count] = EVERYONE
    later_ms = _NOW_MS + 6 * EPOCH_MS
    presence.on_time(later_ms, EPOCH_MS)
    assert len(presence.crowd(later_ms)) == count
    return people, presence


def _batch(cells8: cells.Cells, first: int, expiry_ms: int) -> ReportBatch:
    users = [f"{row:012d}" for row in range(first, first + len(cells8))]
    expiries_ms = np.full(len(users), expiry_ms, np.int64)
    return ReportBatch(users, cells8, expiries_ms, np.full(len(users), _ADULT, np.uint8))


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
