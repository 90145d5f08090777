"""The state client against a real server: every caller gets its own reply or a clear failure, never another's."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store.client import DurabilityRefused, State, StateFault, StateUrlRefused
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from discovery.store.scripts import Script


class OwnScript(Script):
    """A script given by its text."""

    def __init__(self, text: str) -> None:
        super().__init__("tick")
        self.name = "own"
        self.text = text.encode()
        self.sha1 = sha1(self.text).hexdigest()


ECHO = OwnScript("return {KEYS[1], ARGV[1]}")


async def test_replies_are_raw_and_keep_their_kind(state: State) -> None:
    assert await state.call("SET", "{t}:a", b"\x00\xff") == b"OK"
    assert await state.call("GET", "{t}:a") == b"\x00\xff"
    assert await state.call("GET", "{t}:none") is None
    assert await state.call("INCRBY", "{t}:n", 7) == 7
    assert await state.call("XADD", "{t}:s", "5-1", "k", "x", "d", b"\x01") == b"5-1"
    assert await state.call("XRANGE", "{t}:s", "-", "+") == [[b"5-1", [b"k", b"x", b"d", b"\x01"]]]


async def test_a_script_unknown_to_the_server_is_loaded_and_run_once(state: State) -> None:
    count = OwnScript("return redis.call('INCR', KEYS[1])")
    await state.call("SCRIPT", "FLUSH")
    replies = await asyncio.gather(*(state.run(count, ["{t}:n"], []) for _ in range(50)), state.call("ECHO", "x"))
    assert sorted(replies[:-1]) == list(range(1, 51))
    assert replies[-1] == b"x"
    await state.call("SCRIPT", "FLUSH")  # as after a restart of the server
    assert await state.run(count, ["{t}:n"], []) == 51


async def test_calls_of_one_tick_share_one_pipeline(state: State) -> None:
    reads_before = await _stat(state, "total_reads_processed")
    await asyncio.gather(*(state.call("GET", f"{{t}}:{n}") for n in range(500)))
    assert await _stat(state, "total_reads_processed") - reads_before <= 4


async def _stat(state: State, name: str) -> int:
    info: bytes = await state.call("INFO", "stats")
    return int(info.decode().split(f"{name}:", 1)[1].split()[0])


async def test_ten_thousand_cancelled_calls_shift_nobodys_reply(state: State, seed: int) -> None:
    chance = random.Random(seed)

    async def ask(number: int) -> None:
        key = f"{{t}}:{number}"
        if number % 2:
            assert await state.run(ECHO, [key], [number]) == [key.encode(), str(number).encode()]
        else:
            assert await state.call("ECHO", key) == key.encode()

    cancelled = answered = start = 0
    # How many of a round are too late to be cancelled depends on the machine.
    while cancelled < 10_000 or answered < 8_000:
        tasks = [asyncio.create_task(ask(start + offset)) for offset in range(500)]
        for _ in range(chance.randrange(12)):  # let them get waiting, sent, or partly answered
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.004)
        for task in chance.sample(tasks, 300):
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            cancelled += isinstance(result, asyncio.CancelledError)
            answered += result is None
        start += len(tasks)
        assert cancelled + answered == start, "a call got another's reply or failed"


async def test_a_call_cancelled_before_it_was_sent_is_not_sent(state: State) -> None:
    task = asyncio.create_task(state.call("SET", "{t}:never", "1"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await state.call("EXISTS", "{t}:never") == 0


async def test_a_fault_of_one_call_leaves_the_others_of_its_batch(state: State) -> None:
    await state.call("SET", "{t}:text", "abc")
    broken = OwnScript("redis.call('SET', KEYS[1], 'half') return redis.call('INCR', KEYS[1])")
    replies = await asyncio.gather(
        state.call("INCR", "{t}:text"),
        state.call("GET", "{t}:text"),
        state.call("NOSUCHCOMMAND"),
        state.run(broken, ["{t}:broken"], []),
        state.run(OwnScript("this is not Lua"), ["{t}:x"], []),
        state.call("ECHO", "last"),
        return_exceptions=True,
    )
    faults = [reply for reply in replies if isinstance(reply, StateFault)]
    assert [type(reply) for reply in replies] == [StateFault, bytes, StateFault, StateFault, StateFault, bytes]
    assert "not an integer" in str(faults[0])
    assert "own: " in str(faults[2])
    assert replies[1] == b"abc"
    assert replies[5] == b"last"


async def xread(client: Any, *arguments: str | int) -> Any:
    return await client.execute_command("XREAD", *arguments)


@pytest.fixture
def own_server(tmp_path: Path) -> "Iterator[EmbeddedServer]":
    """A server of this test's own, to be stopped and killed; ended here when the test did not get so far."""
    server = EmbeddedServer(DataDir.take(tmp_path / "own", time.monotonic), time.monotonic)
    server.start()
    yield server
    if server.running:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGCONT)
        server.stop()


async def test_a_server_that_hangs_leaves_the_outcome_unknown(own_server: EmbeddedServer) -> None:
    state = State(own_server.url, deadline_s=0.3)
    await state.open()
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    started_s = time.monotonic()
    calls = [asyncio.create_task(state.call("INCR", "{t}:n")) for _ in range(3)]
    for call in calls:
        with pytest.raises(StateAway) as away:
            await call
        assert away.value.outcome_unknown
        assert away.value.code == "outcome_unknown"
    assert time.monotonic() - started_s < 0.6
    os.kill(own_server.pid, signal.SIGCONT)
    assert await state.call("ECHO", "back") == b"back", "the late replies must not reach a later caller"
    await state.close()
    own_server.stop()


async def test_calls_that_never_left_have_a_known_outcome(own_server: EmbeddedServer) -> None:
    state = State(own_server.url, deadline_s=0.5)
    await state.open()
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    first = [asyncio.create_task(state.call("INCR", "{t}:sent")) for _ in range(4)]
    for _ in range(4):
        await asyncio.sleep(0.02)
        first.append(asyncio.create_task(state.call("INCR", "{t}:sent")))
    await asyncio.sleep(0.02)
    late = asyncio.create_task(state.call("INCR", "{t}:late"))  # every slot is taken by a batch that hangs
    outcomes = await asyncio.gather(*first, late, return_exceptions=True)
    assert all(isinstance(outcome, StateAway) for outcome in outcomes)
    os.kill(own_server.pid, signal.SIGCONT)
    assert await state.call("GET", "{t}:late") == (b"1" if getattr(outcomes[-1], "outcome_unknown", None) else None)
    await state.close()
    own_server.stop()


async def test_a_dead_server_is_away_and_a_restarted_one_is_found_again(own_server: EmbeddedServer) -> None:
    state = State(own_server.url, deadline_s=1.0)
    await state.open()
    await state.call("SET", "{t}:kept", "1")
    own_server.stop(grace_s=0)
    for _ in range(3):
        with pytest.raises(StateAway) as away:
            await state.call("SET", "{t}:lost", "1")
        assert not away.value.outcome_unknown, "nothing could be sent"
    own_server.start()
    assert await state.call("GET", "{t}:kept") == b"1"
    assert await state.run(ECHO, ["{t}:k"], ["v"]) == [b"{t}:k", b"v"]
    await state.close()
    own_server.stop()


async def test_a_server_killed_in_the_middle_leaves_the_outcome_unknown(own_server: EmbeddedServer) -> None:
    state = State(own_server.url, deadline_s=2.0)
    await state.open()
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    call = asyncio.create_task(state.call("INCR", "{t}:n"))
    await asyncio.sleep(0.1)
    os.kill(own_server.pid, signal.SIGKILL)
    with pytest.raises(StateAway) as away:
        await call
    assert away.value.outcome_unknown
    await state.close()
    own_server.stop()


async def test_opening_without_a_server_says_so(tmp_path: Path) -> None:
    state = State(f"unix://{tmp_path}/none.sock", deadline_s=0.5)
    with pytest.raises(StateAway, match="state is away") as away:
        await state.open()
    assert not away.value.outcome_unknown
    with pytest.raises(StateAway, match="closed"):
        await state.call("PING")


async def test_a_busy_script_refuses_other_calls_without_running_them(
    state: State, state_server: EmbeddedServer
) -> None:
    await state.call("CONFIG", "SET", "busy-reply-threshold", 50)
    other = State(state_server.url)
    await other.open()
    forever = OwnScript("while true do end")
    stuck = asyncio.create_task(state.run(forever, ["{t}:x"], []))
    await asyncio.sleep(0.3)
    with pytest.raises(StateAway, match="BUSY") as away:
        await other.call("SET", "{t}:y", "1")
    assert not away.value.outcome_unknown
    assert await other.call("SCRIPT", "KILL") == b"OK"
    with pytest.raises(StateFault):
        await stuck
    await state.call("CONFIG", "SET", "busy-reply-threshold", 5000)
    await other.close()


async def test_a_closed_client_opens_again(state: State) -> None:
    await state.close()
    assert not state.is_open
    await state.open()
    assert await state.call("ECHO", "x") == b"x"


async def test_a_blocking_client_waits_apart(state: State) -> None:
    blocking = state.blocking()
    waiting = asyncio.create_task(xread(blocking, "BLOCK", 2000, "STREAMS", "{t}:s", "$"))
    for _ in range(5):
        await asyncio.sleep(0.02)
        assert await state.call("ECHO", "x") == b"x"
    await state.call("XADD", "{t}:s", "*", "k", "x")
    assert await asyncio.wait_for(waiting, 1)


async def test_a_blocking_client_notices_a_hanging_server(own_server: EmbeddedServer) -> None:
    state = State(own_server.url, deadline_s=0.2)
    await state.open()
    blocking = state.blocking(longest_block_s=0.2)
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    with pytest.raises(state.connection_errors):
        await xread(blocking, "BLOCK", 100, "STREAMS", "{t}:s", "0")
    os.kill(own_server.pid, signal.SIGCONT)
    await state.close()
    own_server.stop()
    assert issubclass(RedisError, state.connection_errors)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://user:secret@h:1/3", "database 0"),
        ("redis+cluster://user:secret@h:x", "'h:x' is not host:port"),
        ("redis+cluster://h:1,", "'' is not host:port"),
        ("http://user:secret@h", "'http'"),
        ("localhost:6379", "none of"),
        ("", "none of"),
    ],
)
def test_urls_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(StateUrlRefused, match=said) as refused:
        State(url)
    assert "secret" not in str(refused.value)


async def test_durability_is_what_the_server_is_set_to(own_server: EmbeddedServer) -> None:
    state = State(own_server.url)
    await state.open()
    assert await state.check_durability() == "always"
    await state.call("CONFIG", "SET", "appendfsync", "everysec")
    assert await state.check_durability() == "waitaof"
    await state.call("CONFIG", "SET", "appendfsync", "no")
    with pytest.raises(DurabilityRefused, match=r"appendfsync = no.*NEARHIVE_DURABILITY=weak"):
        await state.check_durability()
    assert await state.check_durability(weak=True) == "weak"
    await state.call("ACL", "SETUSER", "default", "-config")
    with pytest.raises(DurabilityRefused, match="not readable"):
        await state.check_durability()
    await state.close()
    own_server.stop()
