"""A Cluster that changes: masters die or hand over, slots move, nodes disagree. No wrong answer, soon a right one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.crc import key_slot

from discovery.errors import StateAway
from discovery.store.client import State, StateFault, StateUrlRefused
from tests.cluster_servers import ClusterServers
from tests.contract.test_away import answered_again
from tests.contract.test_calls import COUNT, ECHO
from tests.servers import Server, free_ports

KEY = "{s00}:n"


class Counters:
    """Increments keys without pause; each success must be the next number of its key, or one that was unknown."""

    def __init__(self, state: State, keys: list[str]) -> None:
        self._state = state
        self._keys = keys
        self.acknowledged = dict.fromkeys(keys, 0)
        self.unknown = dict.fromkeys(keys, 0)
        self.answers = 0
        self._running = True

    async def run(self) -> None:
        await asyncio.gather(*(self._count(key) for key in self._keys))

    def stop(self) -> None:
        self._running = False

    async def _count(self, key: str) -> None:
        while self._running:
            try:
                value = await self._state.run(COUNT, [key], [])
            except StateAway as away:
                self.unknown[key] += away.outcome_unknown
                await asyncio.sleep(0.01)
            else:
                self.acknowledged[key] += 1
                self.answers += 1
                least = self.acknowledged[key]
                assert least <= value <= least + self.unknown[key], key

    async def check(self) -> None:
        for key in self._keys:
            value = int(await self._state.call("GET", key) or 0)
            least = self.acknowledged[key]
            assert least <= value <= least + self.unknown[key], key


@contextlib.asynccontextmanager
async def counting(state: State, keys: list[str]) -> AsyncIterator[Counters]:
    counters = Counters(state, keys)
    task = asyncio.create_task(counters.run())
    await asyncio.sleep(0.1)
    yield counters
    await asyncio.sleep(0.1)
    counters.stop()
    await task
    await counters.check()


async def aside(act: Callable[..., Any], *args: Any) -> Any:
    """Blocking work of a test, while the client's loop goes on."""
    return await asyncio.to_thread(act, *args)


async def test_a_manual_failover_is_followed(cluster_state: State, cluster_servers: ClusterServers) -> None:
    async with counting(cluster_state, [KEY, "{s01}:n", "{s02}:n"]) as counters:
        new = await aside(cluster_servers.failover, KEY)
        before = counters.answers
        await asyncio.sleep(0.3)
        assert counters.answers > before + 50
    assert new.name in cluster_state.masters()
    await aside(cluster_servers.wait_ok)


async def test_a_killed_master_is_replaced_within_five_seconds(
    cluster_state: State,
    cluster_servers: ClusterServers,
) -> None:
    await cluster_state.call("SET", "{s00}:kept", "1")
    blocking = cluster_state.blocking(key="{s00}:feed", longest_block_s=0.2)
    await blocking.execute_command("XREAD", "BLOCK", 10, "STREAMS", "{s00}:feed", "0")
    old = cluster_servers.owner_of(KEY)
    old.kill()
    took_s = await answered_again(cluster_state)
    assert took_s < 5, "node timeout of 2 s, then an election"
    assert await cluster_state.call("GET", "{s00}:kept") == b"1"
    with pytest.raises(StateAway) as away:  # its new master has no replica
        await cluster_state.call("SET", KEY, "1")
    assert away.value.outcome_unknown
    await _until_it_reads(blocking)
    old.start()
    started_s = time.monotonic()
    await _until_it_writes(cluster_state)
    assert time.monotonic() - started_s < 5
    await aside(cluster_servers.wait_ok)


async def _until_it_reads(blocking: Any) -> None:
    for _ in range(200):
        with contextlib.suppress(*State.connection_errors):
            await blocking.execute_command("XREAD", "BLOCK", 10, "STREAMS", "{s00}:feed", "0")
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the blocking connection does not find the new master")


async def _until_it_writes(state: State) -> None:
    for _ in range(200):
        with contextlib.suppress(StateAway):
            await state.call("SET", KEY, "2")
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no write is acknowledged")


async def test_a_slot_moves_under_writers(cluster_state: State, cluster_servers: ClusterServers) -> None:
    keys = [f"{{s03}}:{n}" for n in range(40)]
    slot = key_slot(b"{s03}")
    source = cluster_servers.owner_of_slot(slot)
    target = next(node for node in cluster_servers.masters() if node is not source)
    asked = _errors(source, "ASK")
    async with counting(cluster_state, keys):
        assert await aside(cluster_servers.begin_move, slot, target) is source
        for _ in range(len(keys) // 5 + 1):
            await aside(cluster_servers.move_keys, slot, source, target, 5)
            await asyncio.sleep(0.01)
        assert await cluster_state.call("SET", "{s03}:new", "1") == b"OK", "by ASK: the slot still has its old owner"
        await aside(cluster_servers.end_move, slot, source, target)
    assert _errors(source, "ASK") > asked
    assert target.ask("EXISTS", *keys) == len(keys)
    source = await _both_at_once(cluster_state, cluster_servers, slot)
    await aside(cluster_servers.wait_ok)


async def _both_at_once(state: State, servers: ClusterServers, slot: int) -> Server:
    """Valkey's atomic move, under writers too."""
    target = next(node for node in servers.masters() if node is not servers.owner_of_slot(slot))
    moved = _errors(servers.owner_of_slot(slot), "MOVED")
    source = servers.owner_of_slot(slot)
    async with counting(state, [f"{{s03}}:at-once:{n}" for n in range(40)]):
        await aside(servers.move_at_once, slot, target)
    assert _errors(source, "MOVED") > moved
    return target


def _errors(server: Server, code: str) -> int:
    return int(server.info("errorstats").get(f"errorstat_{code}", "count=0").split("=")[1])


async def test_a_script_over_keys_that_are_in_two_nodes_is_tried_again(
    cluster_state: State,
    cluster_servers: ClusterServers,
) -> None:
    slot = key_slot(b"{s07}")
    source = cluster_servers.owner_of_slot(slot)
    target = next(node for node in cluster_servers.masters() if node is not source)
    keys = [f"{{s07}}:{n}" for n in range(4)]
    await asyncio.gather(*(cluster_state.call("SET", key, "1") for key in keys))
    await aside(cluster_servers.begin_move, slot, target)
    await aside(cluster_servers.move_keys, slot, source, target, 2)
    waiting = asyncio.create_task(cluster_state.run(ECHO, keys, ["whole"]))
    await asyncio.sleep(0.2)
    assert not waiting.done(), "half of its keys are elsewhere"
    await aside(cluster_servers.move_keys, slot, source, target)
    assert await waiting == [keys[0].encode(), b"whole"]
    await aside(cluster_servers.end_move, slot, source, target)
    assert await cluster_state.run(ECHO, keys, ["whole"]) == [keys[0].encode(), b"whole"]
    await aside(cluster_servers.wait_ok)


# --- servers that disagree, or are none ---

Answer = Callable[[bytes], bytes]


@contextlib.asynccontextmanager
async def pretending(port: int, answer: Answer) -> AsyncIterator[list[int]]:
    """A server that gives each command this answer; yields a list whose one item counts commands."""
    count = [0]
    serving: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                header = await reader.readuntil(b"\r\n")
                parts = [await _bulk(reader) for _ in range(int(header[1:]))]
                count[0] += parts[0] == b"GET"
                writer.write(answer(b" ".join(parts)))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    yield count
    server.close()
    await asyncio.gather(*(task for task in serving if task is not None))


async def _bulk(reader: asyncio.StreamReader) -> bytes:
    length = int((await reader.readuntil(b"\r\n"))[1:])
    return (await reader.readexactly(length + 2))[:-2]


def bulk(text: str) -> str:
    return f"${len(text)}\r\n{text}\r\n"


async def test_a_storm_of_moved_ends_and_does_not_spin() -> None:
    port = free_ports(1)[0]
    slots = f"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n{bulk('127.0.0.1')}:{port}\r\n{bulk('id')}".encode()

    def answer(command: bytes) -> bytes:
        if command.startswith(b"CLUSTER SLOTS"):
            return slots
        return b"-MOVED 1 127.0.0.1:%d\r\n" % port if command.startswith(b"GET") else b"-ERR none\r\n"

    async with pretending(port, answer) as count:
        state = State(f"redis+cluster://127.0.0.1:{port}")
        await state.open()
        started_s, cpu_s = time.monotonic(), time.process_time()
        with pytest.raises(StateAway, match="do not agree") as away:
            await state.call("GET", KEY)
        assert not away.value.outcome_unknown
        assert count[0] <= 17
        assert time.monotonic() - started_s < 3
        assert time.process_time() - cpu_s < 0.5
        with pytest.raises(StateAway, match="did not answer within"):
            await state.call("GET", KEY, within_s=0.3)
        await state.close()


async def test_a_url_of_the_other_kind_says_so(redis_server: Server, cluster_servers: ClusterServers) -> None:
    state = State(f"redis+cluster://{redis_server.name}")
    with pytest.raises(StateUrlRefused, match="no Cluster there"):
        await state.open()
    assert not state.is_open
    state = State(cluster_servers.nodes[0].url)
    await state.open()
    with pytest.raises(StateFault, match=r"redis\+cluster"):
        await asyncio.gather(*(state.call("GET", f"{{s{n:02d}}}:x") for n in range(16)))
    await state.close()


async def test_a_cluster_opens_by_the_seed_that_lives(cluster_servers: ClusterServers) -> None:
    dead = free_ports(1)[0]
    state = State(f"redis+cluster://127.0.0.1:{dead},{cluster_servers.nodes[5].name}", deadline_s=2)
    await state.open()
    assert len(state.masters()) == 3
    await state.close()
    nobody = State(f"redis+cluster://127.0.0.1:{dead}", deadline_s=0.5)
    with pytest.raises(StateAway):
        await nobody.open()
