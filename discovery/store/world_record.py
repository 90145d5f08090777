"""The record of a world while it is moved or being filled, so that no service runs on half of one."""

from discovery.store import keys, transfer
from discovery.store.client import State
from discovery.store.world import check_format

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
    """The fields of a whole world. Raises NoWorld, WorldTooNew, Moved, Unfinished."""
    world = await _fields(state)
    _refuse_elsewhere(world)
    if "format" not in world or "shards" not in world:
        raise NoWorld("no world is in this state (a service of this version brings that of an older one up to date)")
    check_format(int(world["format"]), "the state")
    return world


async def refuse_elsewhere(state: State) -> None:
    """For a service that starts: raises Moved or Unfinished when its world is not in this state, or not whole."""
    _refuse_elsewhere(await _fields(state))


async def _fields(state: State) -> dict[str, str]:
    flat = [part.decode() for part in await state.call("HGETALL", keys.world())]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _refuse_elsewhere(world: dict[str, str]) -> None:
    if UNFINISHED in world:
        raise Unfinished(f"a {world[UNFINISHED]} into this state has not ended: repeat it")
    if MOVED_TO in world:
        raise Moved(
            f"this state was copied to {world[MOVED_TO]}, or is being copied; "
            "`nearhive state stay` lets it serve again after a copy that was broken off"
        )


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
