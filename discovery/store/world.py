"""What a world of data is: its format, which only grows, and its number of shards, which never changes.

Format 1: one shard, the feed kept whole, no record of this. Format 2: ``keys.world()``, checkpoints, a trimmed feed.
"""

from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script

FORMAT = 2

_WORLD = Script("world")


class WorldTooNew(Exception):
    """The data was written by a later version, whose rules this one does not know."""


class WorldReplaced(Exception):
    """The state came to hold another world than the one that this worker follows."""


def check_format(found: int, where: str) -> None:
    """Raise WorldTooNew, with the way out, for data of a later format."""
    if found > FORMAT:
        raise WorldTooNew(
            f"{where} has data format {found}, and this version of Nearhive reads formats up to {FORMAT}: run the "
            "later version that wrote it, restore a backup from before that version, or start with other data "
            "(NEARHIVE_DATA_DIR or NEARHIVE_STATE_URL)"
        )


def shards_of_a_new_world(state_url: str) -> int:
    """16 on a Cluster, which spreads them over its nodes; one server has one."""
    return keys.CLUSTER_SHARDS if state_url.partition("://")[0].lower().endswith("+cluster") else 1


async def open_world(state: State, *, shards: int) -> int:
    """The number of shards of the world in this state, which is created with ``shards`` of them if there is none.

    Data of an earlier format is marked as of this one. Raises WorldTooNew, StateAway.
    """
    tag = keys.shard_tag(0)
    names = [keys.world(), keys.feed(tag), keys.fence(tag)]
    found, count = await state.run(_WORLD, names, [FORMAT, shards])
    check_format(int(found), "the state")
    return int(count)


async def keep_world(state: State, shards: int) -> None:
    """For a worker that lost its place: the record of its world of ``shards`` stands again should the state have been
    emptied. Raises WorldReplaced, WorldTooNew, StateAway.
    """
    found = await open_world(state, shards=shards)
    if found != shards:
        raise WorldReplaced(f"the state holds a world of {found} shards now, this worker follows {shards}")
