"""The embedded server and its data directory, with the real binary and real processes."""

import asyncio
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.store import data_dir as data_dirs
from discovery.store.client import State
from discovery.store.data_dir import DataDir, DataDirBusy, DataDirUnsafe, process_started
from discovery.store.embedded import (
    EmbeddedServer,
    ServerFailed,
    ServerMissing,
    find_binary,
    server_version,
    socket_path,
)
from discovery.store.written_by import ServerMismatch, check_written_by


def take(path: Path) -> DataDir:
    return DataDir.take(path, time.monotonic)


async def ask(server: EmbeddedServer, *command: str) -> object:
    state = State(server.url)
    await state.open()
    try:
        return await state.call(*command)
    finally:
        await state.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_server_keeps_what_it_acknowledged_and_leaves_nothing(tmp_path: Path) -> None:
    data_dir = take(tmp_path / "with space")
    server = EmbeddedServer(data_dir, time.monotonic)
    server.start()
    assert mode_of(data_dir.path) == 0o700
    assert mode_of(server.socket) == 0o700
    assert (server.name, server.version) == server_version(find_binary())
    assert json.loads((data_dir.path / "server.json").read_text())["version"] == server.version
    assert await ask(server, "CONFIG", "GET", "port") == [b"port", b"0"]
    await ask(server, "SET", "a", "1")
    pid = server.pid
    assert pid is not None
    server.stop()
    assert process_started(pid) is None
    assert not server.socket.exists()
    server.start()
    assert await ask(server, "GET", "a") == b"1"
    server.stop()
    data_dir.release()
    take(tmp_path / "with space").release()


async def test_data_survives_kill_9_and_a_torn_tail(tmp_path: Path) -> None:
    server = EmbeddedServer(take(tmp_path), time.monotonic)
    server.start()
    for number in range(50):
        await ask(server, "SET", f"k{number}", "x")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    (log,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes() + b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    server.start()
    assert await ask(server, "DBSIZE") == 50
    server.stop()


async def test_loading_shows_progress_and_waits(tmp_path: Path) -> None:
    server = EmbeddedServer(take(tmp_path), time.monotonic)
    server.start()
    state = State(server.url, deadline_s=20)
    await state.open()
    fill = "for i = 1, 300000 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end"
    await state.call("EVAL", fill, 0)
    await state.close()
    server.stop()
    said: list[str] = []
    server.start(on_progress=said.append)
    assert await ask(server, "DBSIZE") == 300_000
    assert said
    assert all(line.startswith("loading the state: ") and line.endswith(" %") for line in said)
    server.stop()


async def test_giving_up_while_loading_ends_the_server(tmp_path: Path) -> None:
    server = EmbeddedServer(take(tmp_path), time.monotonic)
    with pytest.raises(ServerFailed, match="given up"):
        server.start(given_up=lambda: True)
    assert not server.running
    with pytest.raises(ServerFailed, match=r"not ready in time; its log .*server\.log ends:"):
        server.start(deadline_s=-1)
    assert not server.running


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    server = EmbeddedServer(take(tmp_path), time.monotonic)
    server.start()
    server.stop()
    (manifest,) = (tmp_path / "appendonlydir").glob("*.manifest")
    manifest.write_text("this is no manifest\n")
    with pytest.raises(ServerFailed, match=r"ended while starting(.|\n)*manifest"):
        server.start()
    assert not server.running


def test_only_the_main_thread_may_start_it(tmp_path: Path) -> None:
    server = EmbeddedServer(take(tmp_path), time.monotonic)
    raised: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert "main thread" in str(raised[0])
    assert not server.running


def test_a_directory_in_use_names_its_user(tmp_path: Path) -> None:
    taken = take(tmp_path)
    with pytest.raises(DataDirBusy, match=rf"{tmp_path} is used by nearhive with pid {os.getpid()}"):
        take(tmp_path)
    taken.release()
    take(tmp_path).release()


def test_a_lock_held_by_nobody_we_can_see_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_dirs, "_START_GRACE_S", 0.1)
    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataDirBusy, match="not visible from here"):
            take(tmp_path)
    take(tmp_path).release()


def test_a_recorded_pid_that_is_another_process_now_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_dirs, "_START_GRACE_S", 0.3)
    bystander = subprocess.Popen(["sleep", "60"])
    started = process_started(bystander.pid)
    dead = {"pid": 1, "started": "another boot"}
    for child in (
        {"child_pid": bystander.pid, "child_started": "earlier"},
        {"child_pid": bystander.pid, "child_started": started},
    ):
        (tmp_path / "run.json").write_text(json.dumps(dead | child))
        with open(tmp_path / "lock", "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(DataDirBusy):
                take(tmp_path)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


_PARENT = """
    import sys, time
    from pathlib import Path
    from discovery.store.data_dir import DataDir
    from discovery.store.embedded import EmbeddedServer
    server = EmbeddedServer(DataDir.take(Path(sys.argv[1]), time.monotonic), time.monotonic,
                            death_signal=sys.argv[2] == "signal")
    server.start()
    if sys.argv[2] == "orphan":
        server._watch.kill()
    print(server.pid, flush=True)
    time.sleep(60)
"""


def start_parent(path: Path, how: str) -> tuple["subprocess.Popen[str]", int]:
    command = [sys.executable, "-c", textwrap.dedent(_PARENT), str(path), how]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def kill(parent: "subprocess.Popen[str]") -> None:
    parent.kill()
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


@pytest.mark.parametrize("how", ["signal", "watch"])
def test_the_server_dies_with_its_parent(tmp_path: Path, how: str) -> None:
    parent, pid = start_parent(tmp_path, how)
    assert process_started(pid) is not None
    kill(parent)
    ended_by_s = time.monotonic() + 2
    while process_started(pid) is not None:
        assert time.monotonic() < ended_by_s, "the server outlived its parent"
        time.sleep(0.02)
    take(tmp_path).release()


async def test_an_orphan_is_ended_and_its_data_taken_over(tmp_path: Path) -> None:
    parent, pid = start_parent(tmp_path, "orphan")
    kill(parent)
    await asyncio.sleep(0.3)
    assert process_started(pid) is not None, "this test needs an orphan"
    data_dir = take(tmp_path)
    assert process_started(pid) is None
    server = EmbeddedServer(data_dir, time.monotonic)
    server.start()
    assert await ask(server, "PING") == b"PONG"
    server.stop()
    data_dir.release()


@pytest.mark.parametrize(
    ("name", "version", "refused"),
    [
        ("valkey", "9.1.2", False),
        ("valkey", "9.9.0", False),
        ("valkey", "10.0.0", False),
        ("valkey", "8.1.0", True),
        ("redis", "9.1.2", True),
    ],
)
def test_data_of_another_server_is_refused_with_the_way_out(
    tmp_path: Path, name: str, version: str, refused: bool
) -> None:
    check_written_by(tmp_path, "valkey", "9.1.2")
    before = (tmp_path / "server.json").read_bytes()
    if refused:
        with pytest.raises(ServerMismatch, match=r"written by valkey 9\.1\.2.*NEARHIVE_VALKEY_BIN.*NEARHIVE_DATA_DIR"):
            check_written_by(tmp_path, name, version)
        assert (tmp_path / "server.json").read_bytes() == before
    else:
        check_written_by(tmp_path, name, version)


def test_a_binary_that_is_missing_or_no_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match=r"NEARHIVE_VALKEY_BIN: /no/such"):
        find_binary("/no/such")
    with pytest.raises(ServerFailed, match="no Valkey or Redis server"):
        server_version(Path("/bin/echo"))
    with pytest.raises(ServerFailed, match="failed"):
        server_version(Path("/bin/false"))


@pytest.fixture
def short_tempdir(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where temporary directories are made; the test's own directory may itself be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="nh") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield


@pytest.mark.usefixtures("short_tempdir")
def test_a_long_path_gets_a_private_socket_elsewhere(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    server = EmbeddedServer(take(long), time.monotonic)
    assert len(os.fsencode(server.socket)) < 104
    assert mode_of(server.socket.parent) == 0o700
    assert socket_path(tmp_path / ("y" * 120)) != server.socket
    for _ in range(2):
        server.start()
        assert server.running
        server.stop()
        assert not server.socket.parent.exists()
    server.socket.parent.mkdir(mode=0o755)
    with pytest.raises(ServerFailed, match="not a private directory"):
        socket_path(long)


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirUnsafe, match=str(path)):
            take(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "null"])
def test_an_unreadable_run_record_does_no_harm(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    take(tmp_path).release()
