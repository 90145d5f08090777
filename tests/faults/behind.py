"""A service whose state server, one that it was given by URL, is reached through a proxy."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from tests.faults.proxy import Proxy, proxying
from tests.faults.subject import Subject, subject


@dataclass(slots=True)
class Behind:
    """The three of them. The server may be stopped and started again at the same place."""

    service: Subject
    proxy: Proxy
    server: EmbeddedServer


@contextlib.contextmanager
def one_server(folder: Path, binary: str = "") -> Iterator[EmbeddedServer]:
    """A started state server that keeps what it acknowledges."""
    data_dir = DataDir.take(folder, time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic, binary=binary)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        data_dir.release()


@contextlib.contextmanager
def behind_proxy(folder: Path, seed: int = 0, binary: str = "", **settings: str) -> Iterator[Behind]:
    """A started service; its settings without the prefix."""
    with (
        one_server(folder / "server", binary) as server,
        proxying(server.url, seed) as proxy,
        subject(folder, state_url=proxy.url, **settings) as service,
    ):
        yield Behind(service, proxy, server)
