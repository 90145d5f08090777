"""``nearhive state``: back up, restore and copy the whole state. It speaks to the state itself, not to a service."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from api.settings import Settings
    from discovery.store.backup import Done
    from discovery.store.client import State
    from discovery.store.copying import Copied

_DEADLINE_S = 30.0  # of one exchange; nobody waits for an answer here
_PLACE = "URL (redis://, rediss://, redis+cluster://, unix://) or data directory"
_SAME_SECRETS = "The secrets of DATA_DIR/secrets are not part of it: the service there needs the same NEARHIVE_…_SECRET"

_T = TypeVar("_T")

state_app = typer.Typer(no_args_is_help=True, help="Back up, restore and copy the whole state.")

File = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The backup.")]
From = Annotated[str, typer.Option("--from", metavar="PLACE", help=f"{_PLACE}; else that of the settings.")]
To = Annotated[str, typer.Option("--to", metavar="PLACE", help=f"{_PLACE}; else that of the settings.")]


@state_app.command()
def backup(file: File, place: From = "") -> None:
    """Write FILE: the whole state as of one moment. The service may go on meanwhile; writes wait for a moment."""
    from discovery.store.backup import back_up

    made_at = datetime.now(UTC).isoformat(timespec="seconds")

    async def work(state: "State") -> "Done":
        return await back_up(state, file, made_at, time.monotonic)

    done = _on(place, work, to_fill=False)
    print(f"{file}: {done.keys:,} keys, {done.entries:,} feed entries")


@state_app.command()
def restore(file: File, place: To = "") -> None:
    """Fill an empty state from FILE. Nothing is written unless FILE is whole."""
    from discovery.store import backup

    async def work(state: "State") -> "Done":
        return await backup.restore(state, file)

    done = _on(place, work, to_fill=True)
    print(f"{done.keys:,} keys, {done.entries:,} feed entries; checksum {done.checksum}")
    _say(_SAME_SECRETS)


@state_app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=_PLACE)],
    target: Annotated[str, typer.Argument(metavar="TO", help=f"{_PLACE}; empty.")],
) -> None:
    """Copy the state FROM one place TO another. A service on FROM goes on, but for the last seconds; then it stops."""
    from api.state_places import shown

    async def work(state: "State") -> "Copied":
        return await _copy_to(state, source, target)

    done = _on(source, work, to_fill=False)
    counted = f"{done.keys:,} keys, {done.entries:,} feed entries; checksum of both sides {done.checksum}"
    print(f"{counted}; the service had stopped for {done.stopped_s:.1f} s")
    _say(f"{shown(source)} serves no more; start the service on {shown(target)}. {_SAME_SECRETS}")


@state_app.command()
def stay(place: Annotated[str, typer.Option("--from", metavar="PLACE", help=_PLACE)] = "") -> None:
    """Let the state serve again after a copy that was broken off. Not after one that succeeded: there are two then."""
    from discovery.store import world_record

    _on(place, world_record.stay, to_fill=False)
    print("the state serves again")


async def _copy_to(source: "State", place: str, target: str) -> "Copied":
    from api.state_places import opened, privacy_secret, shown
    from discovery.store.copying import Copy

    settings = _settings()
    with opened(target, settings, to_fill=True) as url:
        async with _connected(url) as state:
            await state.check_durability(weak=settings.durability == "weak")
            plan = await _plan(source, target, partial(privacy_secret, place, settings))
            return await Copy(source, state, plan, time.monotonic, _say).run(shown(target))


async def _plan(source: "State", target: str, secret: Callable[[], bytes]) -> Any:
    """A world of one shard becomes one of sixteen on a Cluster, which takes the ``secret``; any other keeps its shards.
    Raises Failed."""
    from discovery.resharding import Resharding
    from discovery.store import world_record
    from discovery.store.copying import Plan
    from discovery.store.world import shards_of_a_new_world

    shards, wanted = int((await world_record.of(source))["shards"]), shards_of_a_new_world(target)
    return Resharding(wanted, time.monotonic, secret()) if shards == 1 < wanted else Plan()


def _on(place: str, work: "Callable[[State], Coroutine[Any, Any, _T]]", *, to_fill: bool) -> _T:
    """What ``work`` gives for the state of a place. Raises Failed for whatever may go wrong."""
    from api import logs
    from api.state_places import default_place, opened

    settings = _settings()
    logs.configure("warning", "console")  # what was done is said in words; stdout is for results
    with _said(), opened(place or default_place(settings), settings, to_fill=to_fill) as url:
        return asyncio.run(_work(url, work, settings if to_fill else None))


async def _work(url: str, work: "Callable[[State], Coroutine[Any, Any, _T]]", to_fill: "Settings | None") -> _T:
    """SIGTERM ends it as Ctrl-C does: what was begun is taken back."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with _connected(url) as state:
        if to_fill is not None:
            await state.check_durability(weak=to_fill.durability == "weak")
        return await work(state)


@contextlib.asynccontextmanager
async def _connected(url: str) -> Any:
    from discovery.store.client import State

    state = State(url, deadline_s=_DEADLINE_S)
    await state.open()
    try:
        yield state
    finally:
        await state.close()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What may go wrong, in words for people."""
    from api.failed import Failed

    try:
        yield
    except asyncio.CancelledError:
        raise Failed("broken off") from None
    except _expected() as error:
        raise Failed(_in_words(error)) from None


def _expected() -> tuple[type[Exception], ...]:
    from discovery.errors import StateAway
    from discovery.resharding import WrongSecret
    from discovery.store import backup, backup_file, checkpoints, copying, feed, transfer, watch, world_record
    from discovery.store.client import DurabilityRefused, StateFault, StateUrlRefused
    from discovery.store.data_dir import DataDirBusy, DataDirUnsafe
    from discovery.store.embedded import ServerFailed, ServerMissing
    from discovery.store.world import WorldTooNew
    from discovery.store.written_by import ServerMismatch

    places = (StateAway, StateFault, StateUrlRefused, DurabilityRefused, DataDirBusy, DataDirUnsafe, OSError)
    servers = (ServerFailed, ServerMissing, ServerMismatch, WorldTooNew)
    files = (backup_file.BackupDamaged, backup_file.BackupExists, backup.TooBusy)
    worlds = (world_record.NoWorld, world_record.Moved, world_record.Unfinished, world_record.NotAsWritten)
    copies = (copying.NotStill, transfer.NotEmpty, watch.WatchLost, checkpoints.CheckpointBroken, feed.FeedGap)
    return (*places, *servers, *files, *worlds, *copies, WrongSecret)


def _in_words(error: Exception) -> str:
    return re.sub(r"//[^@/\s]*@", "//", str(error)) or type(error).__name__


def _settings() -> "Settings":
    from api.settings import read_settings

    return read_settings()


def _say(line: str) -> None:
    print(f"nearhive: {line}", file=sys.stderr, flush=True)
