"""The record of a world while it is moved or being filled, so that no service runs on half of one."""

from discovery.store import keys, transfer
from discovery.store.client import State

MOVED_TO = "moved_to"
"""Field of ``keys.world()``: the state is being copied, or was; workers that see it stop serving people and writing."""

UNFINISHED = "unfinished"
"""Field of ``keys.world()``: a restore or copy into this state has not ended; no service may start on it."""


class NoWorld(Exception):
    """No service has ever used this state with this version."""


class Moved(Exception):
    """The state was copied elsewhere, or is being copied."""


class Unfinished(Exception):
    """A restore or copy into this state has not ended."""


class NotAsWritten(Exception):
    """What stands in the target is not what was read."""


async def of(state: State) -> dict[str, str]:
    """The fields of a whole world. Raises NoWorld, Moved, Unfinished."""
    flat = [part.decode() for part in await state.call("HGETALL", keys.world())]
    world = dict(zip(flat[::2], flat[1::2], strict=True))
    if UNFINISHED in world:
        raise Unfinished(f"a {world[UNFINISHED]} into this state has not ended: repeat it")
    if MOVED_TO in world:
        raise Moved(f"this state was copied to {world[MOVED_TO]}, or is being copied")
    if "format" not in world or "shards" not in world:
        raise NoWorld(
            "there is no world in this state; an older version's is brought up to date by starting the service"
        )
    return world


async def begin(state: State, what: str) -> None:
    """Claim an empty state, or one that an unfinished transfer left, which is emptied. Raises NotEmpty."""
    if await state.call("HEXISTS", keys.world(), UNFINISHED):
        await state.each_master("FLUSHALL")
    if await transfer.count_keys(state):
        raise transfer.NotEmpty("the target holds data already; only an empty state can be filled")
    await state.call("HSET", keys.world(), UNFINISHED, what)


async def finish(state: State, world: dict[str, str]) -> None:
    """The state is whole: ``world`` is its record."""
    await state.call("HSET", keys.world(), *(part for pair in world.items() for part in pair))
    await state.call("HDEL", keys.world(), UNFINISHED)


async def move(state: State, to: str) -> None:
    """Tell every worker that the world is moving to ``to``."""
    await state.call("HSET", keys.world(), MOVED_TO, to)


async def stay(state: State) -> None:
    """The world stays where it is: workers go on."""
    await state.call("HDEL", keys.world(), MOVED_TO)


def compare(expected: str, found: str) -> None:
    """Raises NotAsWritten unless both are the same."""
    if expected != found:
        raise NotAsWritten(f"the target does not hold what was read: checksum {found}, expected {expected}")
