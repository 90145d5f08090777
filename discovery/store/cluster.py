"""A Cluster: which node owns a slot, learned from CLUSTER SLOTS and again whenever a node disagrees or fails."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import structlog
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from discovery.errors import StateAway
from discovery.store.calls import Call, Command, key_of
from discovery.store.lane import Ack
from discovery.store.node import Node, Ways
from discovery.store.topology import StateUrlRefused, Topology, parse_cluster_url

_REFRESH_EVERY_S = 0.1  # at most: each failing call asks for it
_ASK_WITHIN_S = 0.5  # one node for the slots: a dead one must not hold up asking the next
_MOST_TRIES = 16  # of one call that is sent from node to node: 1.7 s by the pauses below
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.2
_TRY_AGAIN_S = 0.02  # the keys of one script are on two nodes while their slot moves

log = structlog.get_logger("nearhive.state")


class Cluster(Topology):
    """The nodes of a Cluster. A call that a node sends elsewhere was not run, so it is sent again there."""

    def __init__(self, url: str, deadline_s: float) -> None:
        """Raises StateUrlRefused."""
        self._url = parse_cluster_url(url)
        self._deadline_s = deadline_s
        self._ways = Ways(deadline_s, self._redirect, self._trouble)
        self._ack: Ack | None = None
        self._nodes: dict[str, Node] = {}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._masters: list[Node] = []
        self._replicas: list[Node] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_wanted = False
        self._turn = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Learn the slots. Raises StateAway, and StateUrlRefused when the servers are no Cluster."""
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._refresh()
        except TimeoutError:
            pass
        except ResponseError as refused:
            raise StateUrlRefused(f"NEARHIVE_STATE_URL: no Cluster there: {refused}") from None
        if not self._masters:
            raise StateAway("state is away")

    def of_key(self, key: str) -> Node:
        return self._owner(_slot(key))

    def of_command(self, command: Command) -> Node:
        key = key_of(command)
        if key is not None:
            return self._owner(_slot(key))
        # Any master will do, best one that answers.
        node = next((node for node in self._masters if not node.breaker.failing), None)
        if node is None:
            self._plan_refresh()
            if not self._masters:
                raise StateAway("state is away")
            node = self._masters[0]
        return node

    def masters(self) -> list[Node]:
        return list(self._masters)

    def replicas(self) -> list[Node]:
        return list(self._replicas)

    async def agreed_owners(self, keys: Sequence[str], ask: Callable[[Node], Awaitable[Any]]) -> dict[str, str]:
        masters = self.masters()
        told = await asyncio.gather(*map(ask, masters), return_exceptions=True)
        votes = Counter(
            vote
            for node, rows in zip(masters, told, strict=True)
            if not isinstance(rows, BaseException)
            for vote in _owners(rows, node, keys)
        )
        return {key: owner for (key, owner), count in votes.items() if 2 * count > len(masters)}

    def set_ack(self, ack: Ack | None) -> None:
        self._ack = ack
        for node in self._nodes.values():
            node.set_ack(ack)

    def lost(self, node: Node, error: Exception) -> None:
        if isinstance(error, MovedError):
            self._owners[error.slot_id] = self._node_of(error, node)
        self._plan_refresh()

    async def close(self) -> None:
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._nodes.values()), *self._closing)

    def _owner(self, slot: int) -> Node:
        node = self._owners[slot]
        if node is None:
            self._plan_refresh()
            raise StateAway("no node of the state owns this slot")
        return node

    # --- calls that a node sends elsewhere ---

    def _redirect(self, call: Call, error: RedisError) -> bool:
        """Send the call again where the node says: at once the first time, then in pauses, so that no storm spins."""
        call.tries += 1
        if call.tries > _MOST_TRIES:
            call.fail(StateAway("the nodes of the state do not agree who owns this"))
            return True
        assert call.node is not None
        call.batch, call.sent = None, False
        node = call.node
        pause_s = min(_FIRST_PAUSE_S * 2 ** (call.tries - 2), _LONGEST_PAUSE_S) if call.tries > 1 else 0.0
        if isinstance(error, AskError):
            node = self._node_of(error, call.node)
            call.asking = not isinstance(error, MovedError)
            if isinstance(error, MovedError):
                self._owners[error.slot_id] = node
                self._plan_refresh()
        else:
            pause_s = max(pause_s, _TRY_AGAIN_S)
        asyncio.get_running_loop().call_later(pause_s, _send_again, call, node)
        return True

    def _node_of(self, error: AskError, told_by: Node) -> Node:
        return self._node(f"{error.host or told_by.host}:{error.port}")

    def _node(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(name, self._url.of_node(name), self._ways)
            node.set_ack(self._ack)
        return node

    # --- learning the slots ---

    def _trouble(self, node: Node) -> None:
        self._plan_refresh()

    def _plan_refresh(self) -> None:
        self._refresh_wanted = True
        if not self._closed and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh_while_wanted())

    async def _refresh_while_wanted(self) -> None:
        while self._refresh_wanted:
            self._refresh_wanted = False
            try:
                await self._refresh()
            except ResponseError as error:
                log.warning("state_slots_refused", reason=str(error))
            await asyncio.sleep(_REFRESH_EVERY_S)

    async def _refresh(self) -> None:
        """Ask node after node until one tells the slots. Raises ResponseError when none did and one refused."""
        refused: ResponseError | None = None
        for node in self._who_to_ask():
            try:
                rows = await node.alone(("CLUSTER", "SLOTS"), _ASK_WITHIN_S)
            except ResponseError as error:
                refused = error
            except (RedisError, OSError) as error:
                log.info("state_slots_not_told", node=node.name, error=type(error).__name__)
            else:
                if rows:
                    self._adopt(rows, node)
                    return
        if refused is not None:
            raise refused

    def _who_to_ask(self) -> list[Node]:
        """Every node, those that answer first, another one at each turn: a node cut off may tell old slots for ever."""
        names = list(dict.fromkeys([*self._nodes, *self._url.seeds]))
        self._turn += 1
        turn = self._turn % len(names)
        nodes = [self._node(name) for name in (*names[turn:], *names[:turn])]
        return sorted(nodes, key=lambda node: node.breaker.failing)

    def _adopt(self, rows: list[Any], told_by: Node) -> None:
        """``rows``: the reply of CLUSTER SLOTS: first slot, last slot, master, replicas; a node is host, port, ..."""
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        masters: dict[str, Node] = {}
        replicas: dict[str, Node] = {}
        for first, last, master, *copies in rows:
            node = self._node(_name(master, told_by))
            owners[first : last + 1] = [node] * (last + 1 - first)
            masters[node.name] = node
            replicas.update((name, self._node(name)) for name in (_name(copy, told_by) for copy in copies))
        if [node.name for node in self._masters] != list(masters):
            log.info("state_masters", masters=list(masters))
        self._owners = owners
        self._masters = list(masters.values())
        self._replicas = list(replicas.values())
        self._forget({*masters, *replicas, *self._url.seeds})

    def _forget(self, kept: set[str]) -> None:
        for name in [name for name in self._nodes if name not in kept]:
            closing = asyncio.get_running_loop().create_task(self._nodes.pop(name).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _slot(key: str) -> int:
    return key_slot(key.encode())


def _owners(rows: list[Any], told_by: Node, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(key, name of its master) by one reply of CLUSTER SLOTS."""
    for key in keys:
        slot = _slot(key)
        yield from ((key, _name(row[2], told_by)) for row in rows if row[0] <= slot <= row[1])


def _send_again(call: Call, node: Node) -> None:
    if not call.answer.done():
        node.submit(call)


def _name(row: list[Any], told_by: Node) -> str:
    host = (row[0] or b"").decode()
    # A node that does not know its own address says so by an empty host or "?": it is where it was asked.
    return f"{told_by.host if host in ('', '?') else host}:{row[1]}"
