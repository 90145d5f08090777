"""The servers that Nearhive is tested on: embedded, one Redis 7.0, one Valkey with WAITAOF, and a Cluster of 3 + 3.

Each is started once for a test run, when the first test needs it; tests that hurt one must leave it whole.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

import pytest
import pytest_asyncio

from discovery.store.client import State
from discovery.store.embedded import EmbeddedServer, find_binary
from tests.cluster_servers import ClusterServers
from tests.servers import Server, redis_binary, wait_until

FOOTINGS = ("embedded", "redis-7.0", "valkey-waitaof", "cluster")


class Process(Protocol):
    """A server that a test may hurt."""

    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Footing:
    """Where the state of a test lives. ``server_of(key)``: the process that owns a key, to be hurt."""

    name: str
    durability: str

    def __init__(self, name: str, durability: str, url: str, server_of: Callable[[str], Process]) -> None:
        self.name = name
        self.durability = durability
        self.url = url
        self.server_of = server_of

    def pause(self, key: str) -> None:
        """SIGSTOP to the server that owns ``key``: it hangs, its connections stay."""
        os.kill(self._pid(key), signal.SIGSTOP)

    def resume(self, key: str) -> None:
        """SIGCONT."""
        os.kill(self._pid(key), signal.SIGCONT)

    def kill(self, key: str) -> None:
        """kill -9 of the owner of ``key``, and nothing restarts it."""
        pid = self._pid(key)
        os.kill(pid, signal.SIGKILL)
        server = self.server_of(key)
        wait_until("the server is dead", lambda: server.pid is None)

    def _pid(self, key: str) -> int:
        pid = self.server_of(key).pid
        assert pid is not None, f"the server of {key} does not run"
        return pid


async def empty(state: State) -> None:
    """Delete everything."""
    await state.each_master("FLUSHALL")


# --- fixtures ---


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Debian's Redis 7.0, syncing before it answers."""
    server = Server(redis_binary(), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def waitaof_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Valkey that syncs once a second: an acknowledgement needs WAITAOF."""
    server = Server(find_binary(), tmp_path_factory.mktemp("waitaof"), appendfsync="everysec")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Three masters and three replicas; tests take ``cluster_servers``."""
    servers = ClusterServers(tmp_path_factory.mktemp("cluster"))
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def cluster_servers(cluster_of_the_run: ClusterServers) -> ClusterServers:
    """The Cluster, whole: what the test before did to it has healed."""
    cluster_of_the_run.wait_ok()
    return cluster_of_the_run


@pytest.fixture(params=FOOTINGS)
def footing(request: pytest.FixtureRequest) -> Footing:
    """Each footing in turn."""
    return footing_of(request.param, request.getfixturevalue)


def footing_of(name: str, fixture: Callable[[str], object]) -> Footing:
    """One footing by its name; ``fixture``: ``request.getfixturevalue``."""
    if name == "cluster":
        servers = fixture("cluster_servers")
        assert isinstance(servers, ClusterServers)
        return Footing(name, "always+wait1", servers.url, servers.owner_of)
    if name == "embedded":
        embedded = fixture("state_server")
        assert isinstance(embedded, EmbeddedServer)
        return Footing(name, "always", embedded.url, lambda key: embedded)
    server = fixture("redis_server" if name == "redis-7.0" else "waitaof_server")
    assert isinstance(server, Server)
    return Footing(name, "always" if name == "redis-7.0" else "waitaof", server.url, lambda key: server)


@pytest_asyncio.fixture
async def footing_state(footing: Footing) -> AsyncIterator[State]:
    """An open client on each footing, emptied."""
    state = State(footing.url)
    await state.open()
    await empty(state)
    yield state
    await state.close()
