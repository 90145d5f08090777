"""Where the state lives: which server owns a key. One server here, a Cluster in ``cluster``."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from discovery.store.calls import Call, Command
from discovery.store.lane import Ack
from discovery.store.node import Node, Ways

_DEFAULT_PORT = 6379


class StateUrlRefused(ValueError):
    """A NEARHIVE_STATE_URL that this version cannot use."""


class Topology(ABC):
    """The nodes of the state and the way from a key to its node. Raises StateAway where no node is known."""

    @abstractmethod
    async def open(self) -> None:
        """Learn the nodes. Raises StateAway."""

    @abstractmethod
    def of_key(self, key: str) -> Node:
        """The node that owns a key."""

    @abstractmethod
    def of_command(self, command: Command) -> Node:
        """The node for a plain command: by its key, else any master."""

    @abstractmethod
    def masters(self) -> list[Node]:
        """Every node that takes writes."""

    @abstractmethod
    def replicas(self) -> list[Node]:
        """Every known copy of a master."""

    @abstractmethod
    async def agreed_owners(self, keys: Sequence[str], ask: Callable[[Node], Awaitable[Any]]) -> dict[str, str]:
        """Key -> name of the node that owns it in the eyes of most masters. ``ask`` one for CLUSTER SLOTS."""

    @abstractmethod
    def set_ack(self, ack: Ack | None) -> None:
        """How writes are made durable on every node from now on."""

    @abstractmethod
    async def close(self) -> None:
        """Let the batches in flight end, then close every connection."""

    @abstractmethod
    def lost(self, node: Node, error: Exception) -> None:
        """A connection apart failed, or was sent elsewhere by a MOVED error: look where things are."""


class OneServer(Topology):
    """Everything lives on one server."""

    def __init__(self, url: str, deadline_s: float) -> None:
        self._node = Node("", url, Ways(deadline_s, _stays, lambda node: None))

    async def open(self) -> None:
        """Nothing to learn."""

    def of_key(self, key: str) -> Node:
        return self._node

    def of_command(self, command: Command) -> Node:
        return self._node

    def masters(self) -> list[Node]:
        return [self._node]

    def replicas(self) -> list[Node]:
        return []

    async def agreed_owners(self, keys: Sequence[str], ask: Callable[[Node], Awaitable[Any]]) -> dict[str, str]:
        return dict.fromkeys(keys, self._node.name)

    def set_ack(self, ack: Ack | None) -> None:
        self._node.set_ack(ack)

    async def close(self) -> None:
        await self._node.close()

    def lost(self, node: Node, error: Exception) -> None:
        """There is nowhere else to look."""


def _stays(call: Call, error: RedisError) -> bool:
    """There is no other node to send a call to."""
    return False


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """The parts of ``redis+cluster://[user:password@]host:port[,host:port...][?options]``."""

    scheme: str  # redis or rediss
    login: str  # "user:password@", or empty
    seeds: tuple[str, ...]  # host:port
    query: str  # "?options" of redis-py, or empty

    def of_node(self, name: str) -> str:
        """URL of one node, as redis-py reads it. ``name``: host:port, the host without the brackets of IPv6."""
        host, _, port = name.rpartition(":")
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{self.login}{shown}:{port}{self.query}"


def is_cluster(url: str) -> bool:
    """Whether the URL names a Cluster. Raises StateUrlRefused for a URL of no known kind."""
    scheme = _scheme(url)
    if scheme in ("redis+cluster", "rediss+cluster"):
        return True
    if scheme not in ("unix", "redis", "rediss"):
        known = "unix, redis, rediss, redis+cluster, rediss+cluster"
        raise StateUrlRefused(f"NEARHIVE_STATE_URL: scheme {scheme!r} is none of {known}")
    return False


def parse_cluster_url(url: str) -> ClusterUrl:
    """Raises StateUrlRefused, without the password in its text."""
    # Not by urlsplit: several hosts are no URL, and where one of them is an IPv6 address some versions refuse it.
    rest, mark, query = url.partition("://")[2].partition("?")
    netloc, _, path = rest.partition("/")
    login, at, hosts = netloc.rpartition("@")
    if path not in ("", "0"):
        raise StateUrlRefused(f"NEARHIVE_STATE_URL: a Cluster has only database 0, not {'/' + path!r}")
    seeds = tuple(_seed(host) for host in hosts.split(","))
    return ClusterUrl(_scheme(url).partition("+")[0], login + at, seeds, mark + query if query else "")


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


def _seed(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise StateUrlRefused(f"NEARHIVE_STATE_URL: {text!r} is not host:port")
    return f"{host}:{port}"
