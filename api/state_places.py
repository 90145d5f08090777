"""Where a state is, as the command line names it: a URL, or a data directory, with its service running or not."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from api.failed import Failed
from api.settings import PREFIX, Settings
from discovery.store.data_dir import DataDir, DataDirBusy
from discovery.store.embedded import EmbeddedServer, socket_path


def default_place(settings: Settings) -> str:
    """Where a service with these settings has its state."""
    return settings.state_url or str(settings.data_dir)


def shown(place: str) -> str:
    """Without user and password."""
    return re.sub(r"//[^@/]*@", "//", place)


def privacy_secret(place: str, settings: Settings) -> bytes:
    """The secret of the deployment whose state is at ``place``: that of the settings, else the one kept in the data
    directory. Raises Failed."""
    if settings.privacy_secret is not None:
        return settings.privacy_secret.get_secret_value().encode()
    folder = Path(settings.data_dir if "://" in place else place)
    try:
        return (folder / "secrets" / "privacy_secret").read_text("utf-8").strip().encode()
    except OSError:
        raise Failed(f"set {PREFIX}PRIVACY_SECRET: without it a copy cannot tell who was erased") from None


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
