"""The supervisor with real processes: nothing outlives it, nothing is lost, and every refusal leaves nothing behind."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.listen import PortRefused, close_all, listen, port_of
from discovery.store.client import State
from discovery.store.data_dir import process_started
from discovery.store.embedded import EmbeddedServer


class Served:
    """One run of ``tests.api.supervised`` in its own process group, as a terminal would start it."""

    def __init__(self, data_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "tests.api.supervised", str(data_dir), *arguments]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env=os.environ | (env or {}),
        )
        self.info: dict[str, Any] = {}

    def ready(self) -> "Served":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.end()[1]
        self.info = json.loads(line)
        return self

    def get(self, path: str, port: str = "port") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.info[port], timeout=15)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def pids(self) -> set[int]:
        """All processes that this run started, the state server included."""
        return set(_children_of(self.process.pid)) | {self.info["server"]} - {None}

    def end(self, timeout_s: float = 20) -> tuple[int, str]:
        """(exit status, stderr) of a run that is to end by itself."""
        _, stderr = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, stderr

    def interrupt(self) -> None:
        """Ctrl-C: the terminal signals the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _children_of(parent: int) -> list[int]:
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return [int(pid) for pid, ppid in rows if int(ppid) == parent]


def wait_until_gone(pids: set[int], within_s: float) -> float:
    """Seconds until none of the processes lives."""
    started_s = time.monotonic()
    while any(process_started(pid) for pid in pids):
        assert time.monotonic() - started_s < within_s, f"still alive: {[p for p in pids if process_started(p)]}"
        time.sleep(0.01)
    return time.monotonic() - started_s


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts runs on one data directory, and sees to it that none is left."""
    runs: list[Served] = []

    def run(*arguments: str, data_dir: Path = tmp_path / "data", env: dict[str, str] | None = None) -> Served:
        runs.append(Served(data_dir, *arguments, env=env))
        return runs[-1]

    yield run
    for served in runs:
        if served.process.poll() is None:
            served.kill()
        for stream in (served.process.stdout, served.process.stderr):
            if stream is not None:
                stream.close()


def test_it_serves_on_shared_sockets_and_ctrl_c_ends_everything(start: Any, tmp_path: Path) -> None:
    served = start("demo=yes").ready()
    workers = {served.get("/pid") for _ in range(60)}
    assert 1 <= len(workers) <= 2
    assert served.get("/pid", "admin") in {str(pid) for pid in served.pids()}
    assert len({served.get("/pid", "admin") for _ in range(20)}) == 1, "the admin socket belongs to worker 0"
    assert served.info["durability"] == "always"
    pids = served.pids()
    assert len(pids) == 4, "two workers, the demo, the state server"
    served.interrupt()
    status, stderr = served.end()
    assert status == 0
    assert "Traceback" not in stderr
    wait_until_gone(pids, 0.5)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "appendonlydir",
        "lock",
        "server.json",
        "server.log",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_to_the_supervisor_alone_end_everything_too(start: Any, number: signal.Signals) -> None:
    served = start().ready()
    pids = served.pids()
    os.kill(served.process.pid, number)
    assert served.end()[0] == 0
    wait_until_gone(pids, 0.5)


def test_after_kill_9_nothing_is_left_and_the_data_is_there(start: Any) -> None:
    served = start("demo=yes").ready()
    for number in range(1, 21):
        assert served.get("/incr") == str(number)
    pids = served.pids()
    served.kill()
    assert wait_until_gone(pids, 2.0) <= 2.0
    again = start().ready()
    assert again.get("/incr") == "21"


def test_kill_9_and_an_immediate_new_start(start: Any) -> None:
    served = start().ready()
    assert served.get("/incr") == "1"
    served.process.kill()
    again = start().ready()
    assert again.get("/incr") == "2"


def test_requests_in_flight_are_answered_before_the_end(start: Any) -> None:
    served = start("workers=1").ready()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(served.get("/slow")))
    asking.start()
    time.sleep(0.3)
    served.interrupt()
    assert served.end()[0] == 0
    asking.join()
    assert len(answers) == 1
    assert answers[0].isdigit()


def test_a_second_ctrl_c_is_immediate(start: Any) -> None:
    served = start("workers=1").ready()
    with socket.create_connection(("127.0.0.1", served.info["port"])):  # a request that never comes holds its worker
        time.sleep(0.2)
        pids = served.pids()
        started_s = time.monotonic()
        served.interrupt()
        time.sleep(0.5)
        assert served.process.poll() is None
        served.interrupt()
        assert served.end()[0] == 0
        assert time.monotonic() - started_s < 3
    wait_until_gone(pids, 0.5)


def test_a_worker_that_dies_is_replaced_on_the_same_port(start: Any) -> None:
    served = start("workers=1").ready()
    first = served.get("/pid")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        served.get("/die")
    second = served.get("/pid")  # waits in the listening socket's queue until the new worker takes it
    assert second != first
    os.kill(int(second), signal.SIGKILL)
    assert served.get("/pid") not in {first, second}
    served.interrupt()
    assert served.end()[0] == 0


def test_a_state_server_that_dies_is_restarted_with_its_data(start: Any) -> None:
    served = start("workers=1").ready()
    worker = served.get("/pid")
    assert served.get("/incr") == "1"
    os.kill(served.info["server"], signal.SIGKILL)
    wait_until_gone({served.info["server"]}, 1)
    answer = ""
    ended_by_s = time.monotonic() + 5
    while not answer and time.monotonic() < ended_by_s:
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            answer = served.get("/incr")
        time.sleep(0.02)  # each refusal is logged into a pipe that nobody reads meanwhile
    assert answer == "2"
    assert served.get("/pid") == worker


def test_a_data_directory_in_use_is_refused(start: Any, tmp_path: Path) -> None:
    served = start().ready()
    status, stderr = start().end()
    assert status == 2
    assert f"data directory {tmp_path / 'data'} is used by nearhive with pid {served.info['pid']}" in stderr
    assert len(stderr.splitlines()) == 1
    assert served.get("/incr") == "1"


def test_a_taken_port_is_refused_and_nothing_is_left_behind(start: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, stderr = start(f"port={port}").end()
    assert status == 2
    assert stderr == f"nearhive: cannot listen on 127.0.0.1:{port}: the port is taken\n"
    assert not (tmp_path / "data").exists()


def test_of_two_starts_on_one_directory_exactly_one_wins(start: Any) -> None:
    for _ in range(3):
        racers = [start(), start()]
        ended: list[Served] = []
        deadline_s = time.monotonic() + 15
        while not ended:
            assert time.monotonic() < deadline_s
            ended = [racer for racer in racers if racer.process.poll() is not None]
            time.sleep(0.02)
        (loser,) = ended
        winner = next(racer for racer in racers if racer is not loser)
        status, stderr = loser.end()
        assert status == 2
        assert f"is used by nearhive with pid {winner.process.pid}" in stderr
        assert winner.ready().get("/incr")
        winner.interrupt()
        assert winner.end()[0] == 0


def test_workers_that_cannot_start_end_the_run(start: Any) -> None:
    served = start("workers=1", env={"SUPERVISED_BROKEN": "1"})
    status, stderr = served.end()
    assert status == 1
    assert "this worker cannot start" in stderr
    assert "the workers do not start" in stderr


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("valkey_bin=/no/such/server", "NEARHIVE_VALKEY_BIN: /no/such/server is not an executable file"),
        ("valkey_bin=/bin/true", "is no Valkey or Redis server"),
        ("state_url=ftp://127.0.0.1:1", "scheme 'ftp'"),
    ],
)
def test_a_state_that_cannot_be_had_is_refused_in_one_line(start: Any, argument: str, said: str) -> None:
    status, stderr = start(argument).end()
    assert status == 2
    assert said in stderr
    assert len(stderr.splitlines()) == 1


def test_data_of_a_later_version_is_refused_in_one_line(start: Any, tmp_path: Path) -> None:
    served = start("workers=1").ready()
    served.interrupt()
    assert served.end()[0] == 0
    record = tmp_path / "data" / "server.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 3}))
    status, stderr = start().end()
    assert status == 2
    assert "has data format 3, and this version of Nearhive reads formats up to 2: run the later version" in stderr
    assert len(stderr.splitlines()) == 1


def test_a_server_by_url_must_keep_what_it_acknowledges(
    start: Any, tmp_path: Path, state_server: EmbeddedServer
) -> None:
    async def configure(value: str) -> None:
        state = State(state_server.url)
        await state.open()
        await state.call("FLUSHALL")
        await state.call("CONFIG", "SET", "appendfsync", value)
        await state.close()

    asyncio.run(configure("always"))
    served = start(f"state_url={state_server.url}").ready()
    assert served.info["server"] is None
    assert not (tmp_path / "data").exists()
    served.interrupt()
    assert served.end()[0] == 0
    assert state_server.running
    asyncio.run(configure("no"))
    try:
        status, stderr = start(f"state_url={state_server.url}").end()
        assert status == 2
        assert "appendfsync = no" in stderr
        weak = start(f"state_url={state_server.url}", "weak=yes").ready()
        assert weak.info["durability"] == "weak"
    finally:
        asyncio.run(configure("always"))


def test_a_name_is_refused_when_one_of_its_addresses_is_taken() -> None:
    sockets = listen("127.0.0.1", 0)
    port = port_of(sockets)
    with pytest.raises(PortRefused, match=rf"127\.0\.0\.1:{port}: the port is taken"):
        listen("localhost", port)
    close_all(sockets)
    assert sockets == []
    reopened = listen("localhost", port)
    assert {opened.getsockname()[1] for opened in reopened} == {port}
    close_all(reopened)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a..b"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(PortRefused, match=f"cannot listen on {host}:0"):
        listen(host, 0)
