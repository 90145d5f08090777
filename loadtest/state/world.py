"""A real server, and a hive on it as a worker process runs one."""

import asyncio
import contextlib
import gc
import multiprocessing
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import redis
import structlog
import uvloop

from discovery.hive import Hive, Rules
from discovery.store.blocking import Blocking
from discovery.store.calls import Command
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer

EPOCH_MS = 900_000
SECRET = b"secret of the benchmarks, of 32 bytes or more"

_Answer = TypeVar("_Answer")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """URL of an embedded server of its own, which syncs each write before it answers, as in production."""
    with tempfile.TemporaryDirectory(prefix="nearhive-bench-") as directory:
        data_dir = DataDir.take(Path(directory), time.monotonic)
        child = EmbeddedServer(data_dir, time.monotonic)
        child.start()
        try:
            yield child.url
        finally:
            child.stop()
            data_dir.release()


def plain_client(url: str) -> "redis.Redis":
    """redis-py as it comes: for counting, and for the peers."""
    return redis.Redis.from_url(url)


def commands_run(url: str) -> int:
    """Everything the server has run, the commands inside scripts counted one by one."""
    with plain_client(url) as client:
        told: dict[str, Any] = client.info("stats")
        return int(told["total_commands_processed"])


class CountingState(State):
    """A state client that counts what it sends, a call of a script as one command."""

    sent = 0

    async def _ask(self, *call: Any, **more: Any) -> Any:
        self.sent += 1
        return await super()._ask(*call, **more)

    def blocking(self, **more: Any) -> Blocking:
        blocking = super().blocking(**more)
        execute = blocking.execute_commands

        def counted(*commands: Command) -> Coroutine[Any, Any, list[Any]]:
            self.sent += len(commands)
            return execute(*commands)

        blocking.execute_commands = counted  # type: ignore[method-assign]
        return blocking


def new_hive(state: State) -> Hive:
    """Not started."""
    rules = Rules(require_age=False, quick_deadline_s=3.0)
    return Hive(state, SECRET, rules, lambda: secrets.randbits(32), secrets.token_bytes, time.monotonic)


@contextlib.asynccontextmanager
async def worker(url: str) -> AsyncIterator[Hive]:
    """A hive that follows, holds its leases, and leads what nobody else leads."""
    state = CountingState(url)
    await state.open()
    hive = new_hive(state)
    await hive.start()
    hive.keep_house(EPOCH_MS)
    while not hive.ready()[0]:  # noqa: ASYNC110 (for its first tick; nothing tells of it)
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()  # as a worker process does
    gc.set_threshold(10_000, 50, 100)
    try:
        yield hive
    finally:
        await hive.leave()
        await hive.stop()
        await state.close()


class Process:
    """``main(pipe, *arguments)`` in a process and event loop of its own; it answers through the pipe."""

    def __init__(self, main: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(main, theirs, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, message: object = None) -> Any:
        """Send, and wait for the answer. Raises EOFError if the process died."""
        self.pipe.send(message)
        return self.pipe.recv()

    def end(self) -> None:
        """Wait until it has ended."""
        self._process.join()


def _run(main: Callable[..., Coroutine[Any, Any, None]], pipe: Connection, arguments: tuple[Any, ...]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors only
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(pipe, *arguments))


async def received(pipe: Connection) -> Any:
    """What the parent says next; the loop goes on meanwhile."""
    return await asyncio.to_thread(pipe.recv)
