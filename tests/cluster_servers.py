"""A Cluster of three masters and three replicas on loopback, and what fault tests do to it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from discovery.store.embedded import find_binary
from tests.servers import Server, wait_until

NODE_TIMEOUT_MS = 2000
_MASTERS = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """One node as another sees it, from CLUSTER NODES."""

    id: str
    port: int
    flags: frozenset[str]
    master_id: str
    slots: tuple[tuple[int, int], ...]

    @property
    def is_master(self) -> bool:
        return "master" in self.flags and "fail" not in self.flags


class ClusterServers:
    """Six servers: after :meth:`start` the first three are masters, and number i + 3 is the replica of number i."""

    def __init__(self, folder: Path, *options: str, appendfsync: str = "always") -> None:
        binary = find_binary()
        self.nodes: Sequence[Server] = [
            Server(binary, folder / str(number), *cluster_options(), *options, appendfsync=appendfsync)
            for number in range(2 * _MASTERS)
        ]

    @property
    def url(self) -> str:
        """For State, with two of the nodes as seeds: one may be dead."""
        return f"redis+cluster://{self.nodes[0].name},{self.nodes[4].name}"

    # --- life ---

    def start(self) -> None:
        """Start the servers and make them a Cluster; about four seconds."""
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            wait_until(f"{node.name} answers; its log: {node.folder}/server.log", node.answers)
        self._give_slots()
        first = self.nodes[0]
        for node in self.nodes[1:]:
            first.ask("CLUSTER", "MEET", node.name.rpartition(":")[0], node.port, node.bus_port)
        wait_until("all nodes know each other", lambda: all(self._knows_all(node) for node in self.nodes))
        for master, replica in zip(self.nodes[:_MASTERS], self.nodes[_MASTERS:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", self.id_of(master))
        self.wait_ok()

    def stop(self) -> None:
        """End every server."""
        for node in self.nodes:
            node.stop()

    def _give_slots(self) -> None:
        share = -(-REDIS_CLUSTER_HASH_SLOTS // _MASTERS)
        for number, master in enumerate(self.nodes[:_MASTERS]):
            last = min((number + 1) * share, REDIS_CLUSTER_HASH_SLOTS) - 1
            master.ask("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)

    def _knows_all(self, node: Server) -> bool:
        seen = self.seen_by(node)
        return len(seen) == len(self.nodes) and not any("handshake" in one.flags for one in seen)

    def wait_ok(self, within_s: float = 30.0) -> None:
        """Wait until all six run, agree on who is master, and every replica is in sync."""
        wait_until("the Cluster is whole", self.is_whole, within_s)

    def is_whole(self) -> bool:
        """Whether all nodes say ``cluster_state:ok``, see the same nodes, and three replicas are in sync."""
        try:
            states = [node.ask("CLUSTER", "INFO") for node in self.nodes]
            views = {
                frozenset((one.id, one.master_id, one.flags - {"myself"}) for one in self.seen_by(node))
                for node in self.nodes
            }
            links = [node.info("replication") for node in self.nodes]
        except (RedisError, OSError, AssertionError):
            return False
        in_sync = sum(link.get("master_link_status") == "up" for link in links)
        online = sum("state=online" in value for link in links for value in link.values())
        alive = all("cluster_state:ok" in state for state in states)
        return alive and len(views) == 1 and in_sync == online == _MASTERS

    # --- who is who ---

    def seen_by(self, node: Server) -> list[Seen]:
        """All nodes as ``node`` sees them."""
        return [_seen(line) for line in str(node.ask("CLUSTER", "NODES", timeout_s=0.5)).splitlines()]

    def id_of(self, node: Server) -> str:
        """The node's id in the Cluster."""
        return str(node.ask("CLUSTER", "MYID"))

    def role_of(self, node: Server) -> str:
        """``master`` or ``slave``, as the node itself says."""
        return node.info("replication")["role"]

    def running(self) -> list[Server]:
        """The servers that run."""
        return [node for node in self.nodes if node.pid is not None]

    def masters(self) -> list[Server]:
        """Those that own slots now, by the first running server that answers."""
        return [self._by_port(one.port) for one in self._view() if one.is_master and one.slots]

    def owner_of(self, key: str) -> Server:
        """The master of a key."""
        return self.owner_of_slot(key_slot(key.encode()))

    def owner_of_slot(self, slot: int) -> Server:
        """The master of a slot."""
        for one in self._view():
            if "master" in one.flags and any(first <= slot <= last for first, last in one.slots):
                return self._by_port(one.port)
        raise AssertionError(f"nobody owns slot {slot}")

    def replicas_of(self, master: Server) -> list[Server]:
        """The copies of a master, dead ones too."""
        view = self._view()
        ids = {one.id for one in view if one.port == master.port}
        return [self._by_port(one.port) for one in view if one.master_id in ids]

    def _view(self) -> list[Seen]:
        for node in self.running():
            with contextlib.suppress(RedisError, OSError):
                return self.seen_by(node)
        raise AssertionError("no node of the Cluster answers")

    def _by_port(self, port: int) -> Server:
        return next(node for node in self.nodes if node.port == port)

    # --- what tests do to it ---

    def failover(self, key: str) -> Server:
        """A manual failover, which loses nothing: the replica of ``key``'s owner becomes master; returns it."""
        replica = self.replicas_of(self.owner_of(key))[0]
        replica.ask("CLUSTER", "FAILOVER")
        wait_until("the replica is master", lambda: self.role_of(replica) == "master")
        return replica

    def wait_for_new_owner(self, key: str, old: Server, within_s: float = 15.0) -> Server:
        """After a kill: wait until another node owns ``key``; returns it."""
        wait_until(f"another node owns {key}", lambda: self.owner_of(key) is not old, within_s)
        return self.owner_of(key)

    def begin_move(self, slot: int, to: Server) -> Server:
        """From now on keys of ``slot`` may be in either node; returns the one that they leave."""
        source = self.owner_of_slot(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        return source

    def move_keys(self, slot: int, source: Server, to: Server, most: int = 1_000_000) -> int:
        """Move keys of a slot whose move has begun; returns how many."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, most)
        for start in range(0, len(keys), 100):
            source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys[start : start + 100])
        return len(keys)

    def end_move(self, slot: int, source: Server, to: Server) -> None:
        """The slot belongs to ``to``."""
        for node in (to, source, *self.masters()):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def move_at_once(self, slot: int, to: Server) -> None:
        """Valkey's own move of a slot, without a time in which its keys are in two nodes."""
        source = self.owner_of_slot(slot)
        source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(to))
        wait_until(f"slot {slot} has moved", lambda: self.owner_of_slot(slot) is to)


def cluster_options() -> list[str]:
    """Of each node."""
    timeout = ("--cluster-node-timeout", str(NODE_TIMEOUT_MS))
    return ["--cluster-enabled", "yes", *timeout, "--repl-diskless-sync-delay", "0"]


def _seen(line: str) -> Seen:
    """``id host:port@bus[,name] flags master ping pong epoch link slot...``"""
    node_id, address, flags, master, _, _, _, _, *slots = line.split()
    port = int(address.partition("@")[0].rpartition(":")[2])
    ranges = tuple(_range(slot) for slot in slots if not slot.startswith("["))
    return Seen(node_id, port, frozenset(flags.split(",")), master, ranges)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
