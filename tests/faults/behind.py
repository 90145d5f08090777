"""A service whose state server, one that it was given by URL, is reached through a proxy."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.proxy import Proxy, proxying
from tests.faults.subject import Subject, subject
from tests.servers import Server, redis_binary


@dataclass(slots=True)
class Behind:
    """The three of them. The server may be stopped and started again at the same place."""

    service: Subject
    proxy: Proxy
    server: Server


@contextlib.contextmanager
def behind_proxy(folder: Path, seed: int = 0, binary: Path | None = None, **settings: str) -> Iterator[Behind]:
    """A started service; ``binary``: Debian's Redis unless given; settings without the prefix."""
    server = Server(binary or redis_binary(), folder / "server")
    try:
        server.start()
        with (
            proxying(server.url, seed) as proxy,
            subject(folder, state_url=proxy.url, **{"quick_deadline_s": "0.3", **settings}) as service,
        ):
            yield Behind(service, proxy, server)
    finally:
        server.stop()
