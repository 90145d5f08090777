"""Where a state is, as the command line names it: a URL, or a data directory, with its service running or not."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from api.failed import Failed
from api.settings import Settings
from discovery.store.data_dir import DataDir, DataDirBusy
from discovery.store.embedded import EmbeddedServer, socket_path


def default_place(settings: Settings) -> str:
    """Where a service with these settings has its state."""
    return settings.state_url or str(settings.data_dir)


def shown(place: str) -> str:
    """Without user and password."""
    return re.sub(r"//[^@/]*@", "//", place)


@contextlib.contextmanager
def opened(place: str, settings: Settings, *, to_fill: bool) -> Iterator[str]:
    """The URL of a place, while the body runs.

    A data directory that nobody uses gets its server started, and stopped afterwards. One in use is read through the
    socket of the running service, but not filled. Raises Failed, and what a server that does not start raises.
    """
    if "://" in place:
        yield place
        return
    path = Path(place).absolute()
    if not to_fill and not (path / "server.json").exists():
        raise Failed(f"{path} is no data directory with a state in it (nor a URL)")
    try:
        data_dir = DataDir.take(path, time.monotonic)
    except DataDirBusy as busy:
        yield _in_use(path, busy, to_fill)
        return
    try:
        server = EmbeddedServer(data_dir, time.monotonic, binary=str(settings.valkey_bin or ""))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()
    finally:
        data_dir.release()


def _in_use(path: Path, busy: DataDirBusy, to_fill: bool) -> str:
    socket = socket_path(path)
    if to_fill or not socket.exists():
        raise Failed(str(busy))
    return f"unix://{socket}"
