"""The state client: commands and scripts to wherever their keys live, each with a deadline.

Batching is in ``lane``, the way from a key to its server in ``topology`` and ``cluster``, the meaning of an
acknowledgement in ``durability``.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store import durability
from discovery.store.blocking import Blocking
from discovery.store.calls import Argument, Call, Command, StateFault
from discovery.store.cluster import Cluster
from discovery.store.durability import Durability, DurabilityRefused, Server
from discovery.store.node import Node
from discovery.store.scripts import Script, require_one_tag
from discovery.store.topology import OneServer, StateUrlRefused, Topology, is_cluster, parse_cluster_url

__all__ = ["DurabilityRefused", "State", "StateFault", "StateUrlRefused"]

_OPEN_WITHIN_S = 1.0  # a master of a Cluster that hangs must not keep workers from serving what the others hold
_REPLICA_WITHIN_S = 0.5


class State:
    """The connection of one process and event loop to the state. Concurrent calls have no order among themselves."""

    connection_errors: tuple[type[Exception], ...] = (RedisError, OSError)  # what a :meth:`blocking` client may raise

    def __init__(self, url: str, *, deadline_s: float = 3.0) -> None:
        """``url``: ``unix:///path``, ``redis://``, ``rediss://``, ``redis+cluster://`` or ``rediss+cluster://``.

        The last two take ``[user:password@]host:port[,host:port...]``, any nodes of the Cluster.
        Raises StateUrlRefused.
        """
        self._is_cluster = is_cluster(url)
        if self._is_cluster:
            parse_cluster_url(url)
        self._url = url
        self._deadline_s = deadline_s
        self._topology: Topology | None = None
        self._refusal: str | None = None
        self._not_refused: Script | None = None
        self._durability = durability.WEAK
        self._blocking: set[Blocking] = set()

    async def open(self) -> None:
        """Connect, and learn what an acknowledgement means here. Raises StateAway when nobody answers in time.

        A closed client may be opened again, in another event loop too. Raises StateUrlRefused when a Cluster is named
        and there is none.
        """
        make = Cluster if self._is_cluster else OneServer
        self._topology = make(self._url, self._deadline_s)
        try:
            await self._topology.open()
            self._use(self._judge(await self._servers(all_masters=False)))
        except BaseException:
            await self.close()
            raise

    @property
    def is_open(self) -> bool:
        return self._topology is not None

    @property
    def is_cluster(self) -> bool:
        """Whether the URL names a Cluster."""
        return self._is_cluster

    async def close(self) -> None:
        """Let the batches in flight end (each has a deadline), then close every connection, blocking ones too."""
        topology, self._topology = self._topology, None
        if topology is not None:
            await topology.close()
        for blocking in list(self._blocking):
            await blocking.aclose()

    def refuse_changes(self, reason: str | None, but: Script | None = None) -> None:
        """From now on only plain reads and the script ``but`` are sent, and all else fails with ``reason``.

        None: everything is again.
        """
        self._refusal, self._not_refused = reason, but

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], *, within_s: float | None = None
    ) -> Any:
        """Run a script and return its raw reply (bytes, int, list, None), within ``within_s`` or the client's deadline.

        Raises ValueError for keys of two hash tags, StateAway when the state is away, StateFault when the script
        itself failed. With ``StateAway.outcome_unknown`` the script may have run: repeat only under the same
        operation id.
        """
        require_one_tag(keys)
        node = self._known().of_key(keys[0]) if keys else self._known().of_command(("PING",))
        return await self._ask(("EVALSHA", script.sha1, len(keys), *keys, *args), script, node, within_s)

    async def call(self, *command: Argument, within_s: float | None = None, lasting: bool = True) -> Any:
        """Send one plain command and return its raw reply. Errors as in :meth:`run`. Never a blocking command.

        On Cluster it goes to the owner of its key, and to any master when it has none. ``lasting=False``: the reply
        need not wait until disk and replica have what a write wrote.
        """
        return await self._ask(command, None, self._known().of_command(command), within_s, lasting)

    async def call_at(self, master: str, *command: Argument, within_s: float | None = None) -> Any:
        """:meth:`call` on the master of that name, for SCAN and such. Raises StateAway when it is no master now."""
        for node in self._known().masters():
            if node.name == master:
                return await self._ask(command, None, node, within_s)
        raise StateAway("this node of the state is no master any more")

    async def call_node(self, name: str, *command: Argument, within_s: float | None = None) -> Any:
        """:meth:`call` on any node of :meth:`nodes`, a replica too, for INFO. Raises StateAway when it is gone."""
        topology = self._known()
        for node in (*topology.masters(), *topology.replicas()):
            if node.name == name:
                return await self._ask(command, None, node, within_s)
        raise StateAway("no node of the state has this name now")

    def connection_at(self, master: str) -> AbstractConnection:
        """A connection apart to the master of that name, not yet connected; the caller disconnects it."""
        for node in self._known().masters():
            if node.name == master:
                return node.connection()
        raise StateAway("this node of the state is no master any more")

    async def each_master(self, *command: Argument, within_s: float | None = None) -> list[Any]:
        """Send one command to every master and return their replies, in the order of :meth:`masters`."""
        nodes = self._known().masters()
        return await asyncio.gather(*(self._ask(command, None, node, within_s) for node in nodes))

    async def settle(self) -> None:
        """Return when every master keeps all that anybody has told it so far: for many writes that were not waited for
        one by one. (WAIT and WAITAOF wait for the server's offset at the connection's last command, whatever that did.)
        """
        nodes = self._known().masters()
        await asyncio.gather(*(self._ask(("PING",), None, node, None, settles=True) for node in nodes))

    def masters(self) -> list[str]:
        """Name (host:port) of every master, for :meth:`call_at`; ``[""]`` on one server."""
        return [node.name for node in self._known().masters()]

    def nodes(self) -> dict[str, str]:
        """Every node by name: ``master`` or ``replica``."""
        topology = self._known()
        replicas = {node.name: "replica" for node in topology.replicas()}
        return {**replicas, **{node.name: "master" for node in topology.masters()}}

    def node_of(self, key: str) -> str:
        """Name of the node to which calls about ``key`` go now; empty on one server. Raises StateAway."""
        return self._known().of_key(key).name

    async def agreed_owners(self, keys: Sequence[str], *, within_s: float) -> dict[str, str]:
        """Key -> name of the node that owns it in the eyes of most masters, each asked now; those on which most agree.

        On one server nobody is asked. Raises StateAway when the client is closed.
        """

        async def ask(node: Node) -> Any:
            return await self._ask(("CLUSTER", "SLOTS"), None, node, within_s)

        return await self._known().agreed_owners(keys, ask)

    def blocking(self, *, key: str = "", longest_block_s: float = 5.0, within_s: float | None = None) -> Blocking:
        """A connection apart, for ``XREAD BLOCK`` of at most ``longest_block_s``; :meth:`close` closes it.

        It goes to the node that owns ``key``, by default the key of each command. It raises ``connection_errors``;
        its next command after that connects to whoever owns the key then. ``within_s``, by default the deadline of the
        client, is what a command may take beside its waiting.
        """

        def locate(command: Command) -> Node:
            try:
                topology = self._known()
                return topology.of_key(key) if key else topology.of_command(command)
            except StateAway as away:
                raise RedisConnectionError(away.detail) from None

        def lost(node: Node, error: Exception) -> None:
            if self._topology is not None:
                self._topology.lost(node, error)

        answer_s = self._deadline_s if within_s is None else within_s
        blocking = Blocking(locate, lost, self._blocking.discard, longest_block_s + answer_s)
        self._blocking.add(blocking)
        return blocking

    @property
    def durability(self) -> str:
        """What an acknowledgement means, as :meth:`open` or the last :meth:`check_durability` found it."""
        return self._durability.name

    async def check_durability(self, *, weak: bool = False) -> str:
        """What an acknowledgement of these servers means, by name; writes are made durable so from now on.

        ``always``: the server syncs its file before it answers. ``waitaof``: it syncs each second, and WAITAOF ends
        each batch of writes. ``always+wait1`` and ``waitaof1+1``: on Cluster, a replica besides. ``weak``: none of
        these, raises DurabilityRefused unless ``weak``.
        """
        servers = await self._servers(all_masters=True)
        found = self._judge(servers)
        if found == durability.WEAK and not weak:
            raise durability.refused(servers)
        self._use(found)
        return found.name

    def _judge(self, servers: list[Server]) -> Durability:
        return durability.of_cluster(servers) if self._is_cluster else durability.one_server(servers[0])

    def _use(self, found: Durability) -> None:
        self._durability = found
        self._known().set_ack(found.ack)

    async def _servers(self, *, all_masters: bool) -> list[Server]:
        """How the nodes keep what they are told. Raises StateAway when no master answers, or not every one."""
        topology = self._known()
        within_s = _OPEN_WITHIN_S if self._is_cluster and not all_masters else None
        masters = [self._server(node, within_s) for node in topology.masters()]
        # A replica that is away now is no reason to wait, nor to refuse: it is seen once it is back.
        replicas = [self._server(node, _REPLICA_WITHIN_S) for node in topology.replicas()]
        found = await asyncio.gather(*masters, *replicas, return_exceptions=True)
        failed = [reply for reply in found[: len(masters)] if isinstance(reply, BaseException)]
        if failed and (all_masters or len(failed) == len(masters)):
            raise failed[0]
        return [server for server in found if isinstance(server, Server)]

    async def _server(self, node: Node, within_s: float | None) -> Server:
        async def ask(*command: Argument) -> Any:
            try:
                return await self._ask(command, None, node, within_s)
            except StateFault:  # unknown, or forbidden: hosted servers often forbid CONFIG
                return None

        names = ("appendonly", "appendfsync")
        replies = await asyncio.gather(
            *(ask("CONFIG", "GET", name) for name in names), ask("COMMAND", "INFO", "WAITAOF")
        )
        *values, known = replies
        appendonly, appendfsync = (value[1].decode() if value else None for value in values)
        return Server(appendonly, appendfsync, bool(known and known[0]))

    def _known(self) -> Topology:
        if self._topology is None:
            raise StateAway("state connection is closed")
        return self._topology

    async def _ask(
        self,
        command: Command,
        script: Script | None,
        node: Node,
        within_s: float | None,
        lasting: bool = True,
        settles: bool = False,
    ) -> Any:
        loop = asyncio.get_running_loop()
        call = Call(command, script, loop.create_future(), lasting)
        call.settles = settles
        if self._refusal is not None and call.changes and (script is None or script is not self._not_refused):
            raise StateAway(self._refusal)
        node.submit(call)
        deadline_s = self._deadline_s if within_s is None else within_s
        timer = loop.call_later(deadline_s, _give_up, call, deadline_s)  # half the cost of asyncio.timeout
        try:
            return await call.answer
        finally:
            timer.cancel()


def _give_up(call: Call, deadline_s: float) -> None:
    if not call.answer.done():
        assert call.node is not None
        call.node.gave_up(call)
        call.fail(StateAway(f"state did not answer within {deadline_s:g} s", outcome_unknown=call.sent))
