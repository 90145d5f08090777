"""Commands and scripts mean the same on every footing."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from discovery.store import client
from discovery.store.client import State, StateFault
from discovery.store.scripts import Script
from tests.footings import Footing

LUA = Path(client.__file__).parent / "lua"
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))
TAGS = [f"{{s{number:02d}}}" for number in range(16)]  # of a Cluster's shards: slots of all three masters


class OwnScript(Script):
    """A script given by its text."""

    def __init__(self, text: str, *, lasting: bool = True) -> None:
        super().__init__("tick", lasting=lasting)
        self.name = "own"
        self.text = text.encode()
        self.sha1 = hashlib.sha1(self.text).hexdigest()


ECHO = OwnScript("return {KEYS[1], ARGV[1]}", lasting=False)
COUNT = OwnScript("return redis.call('INCR', KEYS[1])")


async def test_replies_are_raw_and_keep_their_kind(footing_state: State) -> None:
    state = footing_state
    for tag in TAGS:
        assert await state.call("SET", f"{tag}:a", b"\x00\xff") == b"OK"
        assert await state.call("GET", f"{tag}:a") == b"\x00\xff"
        assert await state.call("GET", f"{tag}:none") is None
        assert await state.call("INCRBY", f"{tag}:n", 7) == 7
        assert await state.call("XADD", f"{tag}:s", "5-1", "k", "x") == b"5-1"
        entries = [[b"5-1", [b"k", b"x"]]]
        assert await state.call("XRANGE", f"{tag}:s", "-", "+") == entries
        read = await state.call("XREAD", "COUNT", 5, "STREAMS", f"{tag}:s", "0")
        assert read == [[f"{tag}:s".encode(), entries]]
        assert await state.call("XINFO", "STREAM", f"{tag}:s") is not None


async def test_each_key_has_its_own_reply(footing_state: State) -> None:
    async def ask(number: int) -> None:
        key = f"{TAGS[number % 16]}:{number}"
        assert await footing_state.call("SET", key, number) == b"OK"
        assert await footing_state.run(ECHO, [key], [number]) == [key.encode(), str(number).encode()]
        assert await footing_state.call("GET", key) == str(number).encode()

    await asyncio.gather(*(ask(number) for number in range(3000)))
    assert sum(await footing_state.each_master("DBSIZE")) == 3000


async def test_all_masters_are_reached(footing_state: State, footing: Footing) -> None:
    masters = footing_state.masters()
    assert len(masters) == (3 if footing.name == "cluster" else 1)
    assert [await footing_state.call_at(master, "PING") for master in masters] == [b"PONG"] * len(masters)
    assert {role for name, role in footing_state.nodes().items() if name in masters} == {"master"}
    on_key = [await footing_state.call_at(footing_state.node_of(tag), "INFO", "server") for tag in TAGS]
    ports = {info.decode().split("tcp_port:")[1].split()[0] for info in on_key}
    assert len(ports) == len(masters), "the tags of the shards live on every master"


async def test_a_script_that_no_server_knows_is_loaded_and_run_once(footing_state: State) -> None:
    for _ in range(2):
        await footing_state.each_master("SCRIPT", "FLUSH")
        replies = await asyncio.gather(*(footing_state.run(COUNT, [f"{tag}:n"], []) for tag in TAGS for _ in range(9)))
    assert sorted(replies) == sorted(list(range(10, 19)) * 16)


async def test_big_values_come_back_whole(footing_state: State) -> None:
    value = bytes(range(256)) * 32_768  # 8 MiB
    await footing_state.call("SET", "{s00}:big", value)
    small = [asyncio.create_task(footing_state.call("SET", f"{tag}:small", tag)) for tag in TAGS]
    assert await footing_state.call("GET", "{s00}:big") == value
    assert set(await asyncio.gather(*small)) == {b"OK"}
    assert await footing_state.run(ECHO, ["{s00}:k"], [value]) == [b"{s00}:k", value]


async def test_a_fault_of_one_call_leaves_the_others(footing_state: State) -> None:
    state = footing_state
    await state.call("SET", "{s00}:text", "abc")
    broken = OwnScript("redis.call('SET', KEYS[1], 'half') return redis.call('INCR', KEYS[1])")
    replies = await asyncio.gather(
        state.call("INCR", "{s00}:text"),
        state.call("GET", "{s00}:text"),
        state.run(broken, ["{s00}:broken"], []),
        state.run(OwnScript("this is not Lua"), ["{s00}:x"], []),
        state.call("SET", "{s00}:last", "1"),
        return_exceptions=True,
    )
    assert [type(reply) for reply in replies] == [StateFault, bytes, StateFault, StateFault, bytes]


async def test_a_blocking_connection_waits_apart(footing_state: State) -> None:
    for tag in TAGS[:4]:
        key = f"{tag}:feed"
        async with footing_state.blocking(key=key) as blocking:
            waiting = asyncio.create_task(blocking.execute_command("XREAD", "BLOCK", 2000, "STREAMS", key, "$"))
            await _one_is_blocked(footing_state, key)
            assert await footing_state.call("GET", f"{tag}:x") is None
            entry = await footing_state.call("XADD", key, "*", "k", "x")
            assert await asyncio.wait_for(waiting, 2) == [[key.encode(), [[entry, [b"k", b"x"]]]]]
            both = await blocking.execute_commands(
                ("XREAD", "BLOCK", 10, "STREAMS", key, entry), ("XRANGE", key, "-", "+")
            )
            assert both == [None, [[entry, [b"k", b"x"]]]]


async def _one_is_blocked(state: State, key: str) -> None:
    for _ in range(500):
        if b"blocked_clients:1" in await state.call_at(state.node_of(key), "INFO", "clients"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits on the server")


async def test_the_footing_says_how_it_keeps_what_it_acknowledges(footing_state: State, footing: Footing) -> None:
    assert footing_state.durability == footing.durability
    assert await footing_state.check_durability() == footing.durability


@pytest.mark.parametrize("name", SCRIPTS)
async def test_no_script_takes_keys_of_two_tags(name: str) -> None:
    never_opened = State("unix:///nowhere")  # whatever this client would send fails otherwise
    for keys in (["{s00}:a", "{s01}:a"], ["{s00}:a", "{s00}:b", "plain"], ["{sea}:a", "{s00}:a", "{sea}:b"]):
        with pytest.raises(ValueError, match="hash tags"):
            await never_opened.run(Script(name), keys, ["x"])


async def test_a_refused_script_sends_nothing(footing_state: State) -> None:
    before = await footing_state.each_master("INFO", "commandstats")
    for name in SCRIPTS:
        with pytest.raises(ValueError, match="hash tags"):
            await footing_state.run(Script(name), ["{s00}:a", "{shake}:b"], ["x"])
    after = await footing_state.each_master("INFO", "commandstats")
    assert [_evalsha(stats) for stats in before] == [_evalsha(stats) for stats in after]
    assert await footing_state.each_master("DBSIZE") == [0] * len(after)


def _evalsha(stats: bytes) -> bytes:
    return next((line for line in stats.split(b"\r\n") if line.startswith(b"cmdstat_evalsha:")), b"")
