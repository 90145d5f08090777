"""The tools themselves: a checker that finds nothing, or a fault that does nothing, would prove nothing."""

import asyncio
import errno
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.errors import StateAway
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer, find_binary
from tests.faults import ldfault, netns, report
from tests.faults.ldfault import Calls, FaultyServer
from tests.faults.ledger import FAIL, OK, UNKNOWN, Act, Ledger, Value
from tests.faults.proxy import Faults, Proxy, proxying
from tests.faults.writers import Person, Writers

# --- ledger ---

History = list[tuple[Value, str]]
JUDGED: list[tuple[History, Value, str | None]] = [
    ([], None, None),
    ([], "a", "phantom"),
    ([("a", OK)], "a", None),
    ([("a", OK)], None, "lost"),
    ([("a", OK), ("b", OK)], "a", "lost"),
    ([("a", OK), (None, OK)], "a", "lost"),  # revived
    ([("a", FAIL)], None, None),
    ([("a", FAIL)], "a", "phantom"),
    ([("a", OK), ("b", FAIL)], "b", "phantom"),
    ([("a", UNKNOWN)], "a", None),
    ([("a", UNKNOWN)], None, None),
    ([("a", OK), ("b", UNKNOWN)], "a", None),
    ([("a", OK), ("b", UNKNOWN), ("c", UNKNOWN)], "c", None),
    ([("a", UNKNOWN), ("b", OK)], "a", "late"),
    ([("a", UNKNOWN), ("b", OK)], None, "lost"),
    ([("a", OK), ("b", OK)], "c", "phantom"),
]


@pytest.mark.parametrize(("history", "found", "expected"), JUDGED)
def test_the_ledger_judges(tmp_path: Path, history: History, found: Value, expected: str | None) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for value, outcome in history:
        ledger.end(ledger.begin("k", value), outcome)
    ledger.close()
    for one in (ledger, Ledger.read(tmp_path / "ledger")):
        finding = one.saw("k", found)
        assert (None if finding is None else finding.kind) == expected
        assert one.counts() == {**one.counts(), **({expected: 1} if expected else {"lost": 0, "phantom": 0})}


def test_a_class_c_write_may_be_lost_but_nothing_may_be_made_up() -> None:
    ledger = Ledger(None)
    ledger.end(ledger.begin("k", "here", weak=True), OK)
    assert ledger.saw("k", None) is None
    assert ledger.saw("k", "here") is None
    ledger.end(ledger.begin("k", None), OK)
    assert ledger.saw("k", "here") is not None


def test_what_was_seen_does_not_go_back() -> None:
    ledger = Ledger(None)
    ledger.end(ledger.begin("k", "a"), OK)
    ledger.end(ledger.begin("k", "b"), UNKNOWN)
    assert ledger.saw("k", "a") is None
    assert ledger.saw("k", "b") is None
    finding = ledger.saw("k", "a")
    assert finding is not None
    assert finding.kind == "back"
    with pytest.raises(AssertionError, match="back"):
        ledger.require_clean()


def test_registers_that_were_not_found_hold_nothing() -> None:
    ledger = Ledger(None)
    ledger.end(ledger.begin("block:a:b", "blocked"), OK)
    ledger.end(ledger.begin("show:a", "nobody"), OK)
    ledger.saw_all({}, "block:a:")
    assert [(one.kind, one.key) for one in ledger.findings] == [("lost", "block:a:b")]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [([UNKNOWN, OK], OK), ([OK, FAIL], OK), ([UNKNOWN, FAIL], UNKNOWN), ([FAIL, FAIL], FAIL), ([FAIL, OK], OK)],
)
def test_tries_add_up(outcomes: list[str], expected: str) -> None:
    act = Act(1, "k", 1, "a")
    for outcome in outcomes:
        act.fold(outcome)
    assert (act.outcome, act.tries) == (expected, 2)


async def test_an_act_is_in_the_file_before_it_is_sent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")

    async def one(number: int) -> None:
        act = ledger.begin(f"k{number}", "a")
        await ledger.on_disk()
        assert f'"n":{act.number},"key":"k{number}"' in (tmp_path / "ledger").read_text()

    await asyncio.gather(*map(one, range(200)))
    ledger.close()
    text = (tmp_path / "ledger").read_text()
    (tmp_path / "cut").write_text(text[:-5])
    assert len(Ledger.read(tmp_path / "cut").acts) == 199


def test_holders_are_judged() -> None:
    """Two holders, a pick that vanished, and a bottle that came unasked are found; an unknown pick may have one."""
    ledger = Ledger(None)
    writers = object.__new__(Writers)
    writers.ledger = ledger
    writers.people = [_person(name) for name in ("a", "b")]

    def picked(name: str, bottle: str, outcome: str) -> None:
        ledger.end(ledger.begin(f"pick:{name}:{bottle}", None), outcome, bottle)

    picked("a", "1", OK)
    picked("b", "", UNKNOWN)
    writers.people[0].held = ["1"]
    writers._judge_holders([{"1"}, {"2"}])
    assert ledger.findings == []
    writers._judge_holders([{"1"}, {"1", "2"}])
    assert sorted(one.kind for one in ledger.findings) == ["double", "phantom"]
    writers._judge_holders([set(), set()])
    assert ledger.findings[-1].kind == "lost"


def _person(user: str) -> Person:
    return Person(user, {}, True, random.Random(0))


def test_runs_add_up() -> None:
    run = {"test": "q1", "footing": "embedded", "passed": True, "counts": {"ok": 5, "lost": 0, "back_s": 1.5}}
    shown = report.table([json.dumps(run), json.dumps(run | {"passed": False})])
    assert shown.splitlines()[-1].startswith("| q1 | embedded | 2 | 1 | 10 | 0 | 0 | 0 |")


# --- proxy ---


@asynccontextmanager
async def proxied(server: EmbeddedServer, deadline_s: float = 2.0) -> AsyncIterator[tuple[Proxy, State]]:
    with proxying(server.url) as proxy:
        state = State(proxy.url, deadline_s=deadline_s)
        await state.open()
        try:
            yield proxy, state
        finally:
            proxy.heal()
            await state.close()


async def test_the_proxy_delays_holds_and_heals(state_server: EmbeddedServer) -> None:
    async with proxied(state_server) as (proxy, state):
        assert await _seconds(state) < 0.1
        proxy.faults = Faults(latency_s=0.2, jitter_s=0.1)
        assert 0.2 <= await _seconds(state) < 0.5
        proxy.faults = Faults(bytes_a_second=100)
        assert await _seconds(state) > 0.1
        proxy.faults = Faults(hold_replies=True)
        waiting = asyncio.create_task(_seconds(state))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        proxy.heal()
        assert 0.3 <= await waiting < 0.6


@pytest.mark.parametrize("way", ["hold_requests", "hold_replies"])
async def test_the_proxy_delivers_one_way_only(state_server: EmbeddedServer, way: str) -> None:
    """What is held on its way there has not happened; what is held on its way back has."""
    async with proxied(state_server, deadline_s=0.3) as (proxy, state), proxied(state_server) as (_, witness):
        await witness.call("DEL", "one-way")
        proxy.faults = Faults(**{way: True})
        with pytest.raises(StateAway) as caught:
            await state.call("INCR", "one-way")
        assert caught.value.outcome_unknown
        assert await witness.call("GET", "one-way") == (None if way == "hold_requests" else b"1")


async def test_the_proxy_loses_a_reply_after_the_command_ran(state_server: EmbeddedServer) -> None:
    async with proxied(state_server) as (proxy, state):
        await state.call("DEL", "lost-reply")
        proxy.lose_replies(b"lost-reply", 1)
        with pytest.raises(StateAway) as caught:
            await state.call("INCR", "lost-reply")
        assert caught.value.outcome_unknown
        assert (proxy.lost_replies, await state.call("GET", "lost-reply")) == (1, b"1")


async def test_the_proxy_resets_and_refuses(state_server: EmbeddedServer) -> None:
    async with proxied(state_server) as (proxy, state):
        await state.call("PING")
        proxy.faults = Faults(refuse=True)
        proxy.reset_all()
        with pytest.raises(StateAway):
            await state.call("PING")
        proxy.heal()
        assert await state.call("PING") == b"PONG"


async def _seconds(state: State) -> float:
    started_s = time.monotonic()
    await state.call("PING")
    return time.monotonic() - started_s


# --- faulty server ---


@pytest.mark.skipif(not ldfault.available(), reason="needs Linux and gcc")
def test_disk_calls_fail_and_the_clock_moves_when_told_to(tmp_path: Path) -> None:
    data = tmp_path / "data"
    faulty = FaultyServer(tmp_path, find_binary(), data / "appendonlydir")
    data_dir = DataDir.take(data, time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic, binary=str(faulty.binary))
    server.start()
    try:
        asyncio.run(_use(server, faulty))
    finally:
        server.stop()
        data_dir.release()


async def _use(server: EmbeddedServer, faulty: FaultyServer) -> None:
    state = State(server.url)
    await state.open()
    before = faulty.count("syncs")
    await state.call("SET", "k", "v")
    assert faulty.count("syncs") == before + 1
    for ahead_s in (3600, -3600):
        faulty.clock_ahead(ahead_s)
        await asyncio.sleep(0.2)  # the server looks at the clock once a turn of its loop
        assert abs(int((await state.call("TIME"))[0]) - time.time() - ahead_s) < 2
    faulty.freeze_clock()
    frozen = (await state.call("TIME"))[0]
    await asyncio.sleep(1.1)
    assert (await state.call("TIME"))[0] == frozen
    faulty.fail(Calls.SYNC, errno.EIO, after=1)
    assert await state.call("SET", "k", "v") == b"OK"
    with pytest.raises(StateAway):
        await state.call("SET", "k", "v")
    assert faulty.count("failed") == 1
    await state.close()


# --- network ---


@pytest.mark.skipif(not netns.available(), reason="needs root, ip, nft and permission to make network namespaces")
async def test_hosts_are_cut_one_way_split_and_healed() -> None:
    with netns.network(3) as net:
        servers = [_echo(net, host) for host in net.hosts]
        try:
            passes = _passing(net)
            everything = {(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)}
            assert passes() == everything
            net.cut([1], [2])  # neither a connection 1 -> 2 nor the answers of one 2 -> 1
            assert passes() == everything - {(1, 2), (2, 1)}
            net.heal()
            net.alone([3])
            assert passes() == {(1, 2), (2, 1)}
            net.heal()
            assert passes() == everything
        finally:
            for server in servers:
                server.kill()
                server.wait()
    assert not netns.left_over()


_ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("up", flush=True)
while True:
    server.accept()[0].send(b"x")
"""
_TRY = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 7000), 0.3).recv(1)
        print(address)
    except OSError:
        pass
"""


def _echo(net: netns.Network, host: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(net.command(host, [sys.executable, "-c", _ECHO]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"up\n"
    return process


def _passing(net: netns.Network) -> Callable[[], set[tuple[int, int]]]:
    def look() -> set[tuple[int, int]]:
        found = set()
        for host in net.hosts:
            others = {net.address(other): other for other in net.hosts if other != host}
            command = net.command(host, [sys.executable, "-c", _TRY, *others])
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found |= {(host, others[line]) for line in said.splitlines()}
        return found

    return look
