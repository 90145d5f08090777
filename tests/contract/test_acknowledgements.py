"""A write is acknowledged when it is durable as its footing promises; reads never wait for that."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from discovery.errors import StateAway
from discovery.store.client import DurabilityRefused, State
from tests.cluster_servers import ClusterServers
from tests.contract.test_calls import COUNT, ECHO, TAGS
from tests.footings import empty
from tests.servers import Server, redis_binary

KEY = "{s00}:n"


@pytest_asyncio.fixture
async def waitaof_state(waitaof_server: Server) -> AsyncIterator[State]:
    """A client on a server that syncs once a second."""
    state = State(waitaof_server.url, deadline_s=1.5)
    await state.open()
    await empty(state)
    yield state
    await state.call("CONFIG", "SET", "appendfsync", "everysec")
    await state.close()


@contextlib.contextmanager
def stopped(servers: list[Server]) -> Iterator[None]:
    """These servers hang meanwhile."""
    for server in servers:
        os.kill(server.pid or 0, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            os.kill(server.pid or 0, signal.SIGCONT)


async def reads_are_quick(state: State, value: bytes) -> None:
    """Reads beside a write that waits."""
    for _ in range(20):
        started_s = time.monotonic()
        assert await state.call("GET", KEY) == value
        assert await state.run(ECHO, [KEY], ["x"]) == [KEY.encode(), b"x"]
        assert time.monotonic() - started_s < 0.3


async def test_waitaof_answers_writes_once_they_are_on_disk(waitaof_state: State, waitaof_server: Server) -> None:
    before = waitaof_server.info("commandstats")
    await asyncio.gather(*(waitaof_state.call("SET", f"{{s00}}:{n}", n) for n in range(300)))
    await asyncio.gather(*(waitaof_state.call("GET", f"{{s00}}:{n}") for n in range(300)))
    after = waitaof_server.info("commandstats")
    waits = _calls(after, "waitaof") - _calls(before, "waitaof")
    assert 1 <= waits <= 4, "one for each batch of writes, none for reads"


async def test_a_write_that_is_not_synced_has_an_unknown_outcome(waitaof_state: State) -> None:
    assert await waitaof_state.run(COUNT, [KEY], []) == 1
    await waitaof_state.call("CONFIG", "SET", "appendfsync", "no")  # no sync will come
    writes = [waitaof_state.run(COUNT, [KEY], []), waitaof_state.call("SET", "{s00}:b", "1")]
    waiting = asyncio.gather(*writes, waitaof_state.call("HSET", KEY, "f", "v"), return_exceptions=True)
    await reads_later(waitaof_state, b"2")
    outcomes = await waiting
    assert [type(outcome).__name__ for outcome in outcomes] == ["StateAway", "StateAway", "StateFault"]
    assert all(outcome.outcome_unknown for outcome in outcomes if isinstance(outcome, StateAway))


async def test_what_was_not_waited_for_is_settled_once(waitaof_state: State, waitaof_server: Server) -> None:
    before = waitaof_server.info("commandstats")
    await asyncio.gather(*(waitaof_state.call("SET", f"{{s00}}:{n}", n, lasting=False) for n in range(300)))
    assert _calls(waitaof_server.info("commandstats"), "waitaof") == _calls(before, "waitaof")
    await waitaof_state.settle()
    assert _calls(waitaof_server.info("commandstats"), "waitaof") - _calls(before, "waitaof") == 1
    await waitaof_state.call("CONFIG", "SET", "appendfsync", "no")  # no sync will come
    await waitaof_state.call("SET", KEY, "1", lasting=False)
    with pytest.raises(StateAway):
        await waitaof_state.settle()


async def reads_later(state: State, value: bytes) -> None:
    """Reads once the writes are waiting for their acknowledgement."""
    await asyncio.sleep(0.1)
    await reads_are_quick(state, value)


async def test_on_cluster_a_write_waits_for_a_replica(cluster_state: State, cluster_servers: ClusterServers) -> None:
    assert await cluster_state.run(COUNT, [KEY], []) == 1
    owner = cluster_servers.owner_of(KEY)
    before = _calls(owner.info("commandstats"), "wait")
    await asyncio.gather(*(cluster_state.call("INCR", f"{{s00}}:{n}") for n in range(300)))
    assert 1 <= _calls(owner.info("commandstats"), "wait") - before <= 4
    with stopped(cluster_servers.replicas_of(owner)):
        started_s = time.monotonic()
        waiting = asyncio.gather(
            cluster_state.run(COUNT, [KEY], []), cluster_state.call("SET", "{s00}:b", "1"), return_exceptions=True
        )
        await reads_later(cluster_state, b"2")
        outcomes = await waiting
        assert all(isinstance(outcome, StateAway) and outcome.outcome_unknown for outcome in outcomes)
        assert 0.9 < time.monotonic() - started_s < 2
        other = next(tag for tag in TAGS if cluster_servers.owner_of(tag) is not owner)
        assert await cluster_state.call("SET", f"{other}:a", "1") == b"OK", "other masters have their replicas"
        assert await cluster_state.call("SET", "{s00}:c", "1", lasting=False) == b"OK"
        with pytest.raises(StateAway):
            await cluster_state.settle()
    cluster_servers.wait_ok()
    await cluster_state.settle()
    assert await cluster_state.run(COUNT, [KEY], []) == 3


def _calls(stats: dict[str, str], command: str) -> int:
    return int(stats.get(f"cmdstat_{command}", "calls=0,").split("=")[1].split(",")[0])


async def test_every_node_of_a_cluster_is_checked(cluster_state: State, cluster_servers: ClusterServers) -> None:
    for node in cluster_servers.nodes:
        node.ask("CONFIG", "SET", "appendfsync", "everysec")
    assert await cluster_state.check_durability() == "waitaof1+1"
    assert await cluster_state.call("SET", KEY, "1") == b"OK"
    one = cluster_servers.owner_of("{s05}")
    one.ask("CONFIG", "SET", "appendfsync", "no")
    with pytest.raises(DurabilityRefused, match="appendfsync = no"):
        await cluster_state.check_durability()
    assert await cluster_state.check_durability(weak=True) == "weak"
    assert await cluster_state.call("SET", KEY, "2") == b"OK"
    for node in cluster_servers.nodes:
        node.ask("CONFIG", "SET", "appendfsync", "always")
    assert await cluster_state.check_durability() == "always+wait1"


async def test_a_server_without_waitaof_must_sync_first(redis_server: Server) -> None:
    redis_server.ask("CONFIG", "SET", "appendfsync", "everysec")
    state = State(redis_server.url)
    await state.open()
    assert state.durability == "weak"
    with pytest.raises(DurabilityRefused, match=r"appendfsync = everysec.*NEARHIVE_DURABILITY=weak"):
        await state.check_durability()
    redis_server.ask("CONFIG", "SET", "appendfsync", "always")
    assert await state.check_durability() == "always"
    await state.close()


def test_the_one_server_footing_is_redis_7_0(redis_server: Server) -> None:
    assert redis_server.info("server")["redis_version"].startswith("7.0."), redis_binary()
