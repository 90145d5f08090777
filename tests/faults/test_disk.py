"""A full disk: nothing acknowledged is lost, reads go on, writes are refused and come back by themselves.

The data directory lies on a small file system of its own (tmpfs; root mounts it), which a filler file fills.
"""

import contextlib
import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from discovery.errors import StateAway
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.disk import ENOUGH_BYTES, RESERVE_BYTES, Space
from discovery.store.embedded import EmbeddedServer, ServerFailed, find_binary

MB = 1 << 20
BINARIES = {"valkey": "", "redis": "redis-server"}


class SmallDisk:
    """A file system of some megabytes, and a file that takes what is left of it."""

    def __init__(self, path: Path, size_mb: int) -> None:
        self.path = path
        path.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "nearhive-test", str(path)]
        subprocess.run(["mount", *options], check=True)  # root: without it this suite cannot say anything

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all but ``leave_bytes``."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            step = MB
            while (wanted := min(step, self.free_bytes - leave_bytes)) > 0:
                try:
                    file.write(b"x" * wanted)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2

    def clear(self) -> None:
        (self.path / "filler").unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        return Space.of(self.path).free_bytes

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "disk", 64)
    yield small
    small.unmount()


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, disk: SmallDisk) -> Iterator[EmbeddedServer]:
    """An embedded server on the small disk, started by the test."""
    data_dir = DataDir.take(disk.path / "data", time.monotonic)
    embedded = EmbeddedServer(data_dir, time.monotonic, binary=BINARIES[request.param])
    yield embedded
    embedded.stop()
    data_dir.release()


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket), socket_timeout=5)


def write_until_refused(server: EmbeddedServer) -> int:
    """Numbered keys, one after the other; how many were acknowledged."""
    acknowledged = 0
    with client(server) as connection, contextlib.suppress(redis.RedisError):
        while acknowledged < 100_000:
            connection.set(f"key {acknowledged}", "v" * 1000)
            acknowledged += 1
    return acknowledged


def read_all(server: EmbeddedServer) -> int:
    """How many numbered keys stand without a gap."""
    with client(server) as connection:
        found = 0
        while connection.get(f"key {found}") == b"v" * 1000:
            found += 1
        return found


@pytest.mark.parametrize(("total_mb", "low_below_mb", "enough_mb"), [(10_000, 8, 64), (64, 4, 16), (256, 8, 64)])
def test_limits_shrink_with_the_file_system(total_mb: int, low_below_mb: int, enough_mb: int) -> None:
    assert Space(low_below_mb * MB - 1, total_mb * MB).low
    assert not Space(low_below_mb * MB, total_mb * MB).low
    assert not Space(enough_mb * MB - 1, total_mb * MB).enough
    assert Space(enough_mb * MB, total_mb * MB).enough
    assert (RESERVE_BYTES, ENOUGH_BYTES) == (8 * MB, 64 * MB)


def test_a_server_that_ran_full_comes_back_read_only_and_then_writable(server: EmbeddedServer, disk: SmallDisk) -> None:
    server.start()
    assert not server.read_only
    disk.fill(leave_bytes=300_000)
    acknowledged = write_until_refused(server)
    assert acknowledged > 0
    assert disk.free_bytes < 100_000
    server.stop()
    said: list[str] = []
    server.start(wary=True, on_progress=said.append)
    assert server.read_only
    assert said[0].startswith(f"the disk of {disk.path / 'data'} is full (")
    assert "the state takes no writes until 16 MB are free" in said[0]
    assert read_all(server) >= acknowledged
    with client(server) as connection, pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        connection.set("more", "1")
    assert not server.keep_space()
    disk.clear()
    disk.fill(leave_bytes=8 * MB)  # above the reserve, and yet not enough to begin again
    assert not server.keep_space()
    disk.clear()
    assert server.keep_space()
    assert not server.read_only
    with client(server) as connection:
        connection.set("more", "1")
        assert connection.config_get("appendfsync") == {"appendfsync": "always"}
    assert server.pid is not None
    os.kill(server.pid, 9)
    server.stop()
    server.start()
    assert read_all(server) >= acknowledged
    with client(server) as connection:
        assert connection.get("more") == b"1"


def test_writes_are_refused_before_the_disk_is_full(server: EmbeddedServer, disk: SmallDisk) -> None:
    server.start()
    disk.fill(leave_bytes=5 * MB)
    assert not server.keep_space()
    disk.fill(leave_bytes=3 * MB)
    assert server.keep_space()
    assert server.read_only
    with client(server) as connection:
        with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
            connection.set("a", "1")
        assert connection.get("a") is None
    assert server.running
    disk.clear()
    assert server.keep_space()
    with client(server) as connection:
        assert connection.set("a", "1")


def test_keys_that_expire_do_not_end_a_read_only_server(server: EmbeddedServer, disk: SmallDisk) -> None:
    """The server writes their end by itself, and would exit on a full disk if it synced always."""
    server.start()
    with client(server) as connection:
        for number in range(2000):
            connection.set(f"short {number}", "x" * 100, px=2500)
    disk.fill()
    assert server.keep_space()
    pid = server.pid
    time.sleep(3.5)
    assert server.pid == pid
    with client(server) as connection:
        assert connection.get("short 7") is None
        assert connection.dbsize() == 0
        with pytest.raises(redis.ResponseError, match=r"NOREPLICAS|MISCONF"):
            connection.set("a", "1")
    server.stop()  # the ends of those keys are lost with it, and happen again
    server.start()
    assert server.read_only
    time.sleep(0.5)
    assert server.running
    disk.clear()
    ended_by_s = time.monotonic() + 5
    while not server.keep_space():
        assert time.monotonic() < ended_by_s
        time.sleep(0.1)
    with client(server) as connection:
        while True:
            with contextlib.suppress(redis.ResponseError):
                connection.set("a", "1")
                break
            assert time.monotonic() < ended_by_s, "writes are refused although there is space"
            time.sleep(0.05)
        assert connection.dbsize() == 1


@pytest.mark.parametrize("kind", BINARIES)
def test_a_new_directory_on_a_full_disk_is_refused_and_can_be_used_later(tmp_path: Path, kind: str) -> None:
    """However much still fits, in steps of a page: the server writes its first files one after the other."""
    disk, refusals = SmallDisk(tmp_path / "disk", 8), list[str]()
    try:
        for free_pages in range(8):
            path = disk.path / f"data{free_pages}"
            disk.fill(leave_bytes=4096 * free_pages)
            refusals.append(_start_new(path, BINARIES[kind]))
            disk.clear()
            assert _start_new(path, BINARIES[kind]) == ""
            written = json.loads((path / "server.json").read_text())
            assert written["name"] == kind
            assert written["format"] == 2
        assert "" not in refusals[:2]
        assert {"the disk is full" in refusal for refusal in refusals if refusal} == {True}
    finally:
        disk.unmount()


def _start_new(path: Path, binary: str) -> str:
    """The refusal of a start, '' when it succeeded."""
    data_dir = DataDir.take(path, time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic, binary=binary)
    try:
        server.start()
        assert server.read_only == Space.of(path).low
    except ServerFailed as refusal:
        return str(refusal)
    finally:
        server.stop()
        data_dir.release()
    return ""


async def test_refused_writes_were_not_run(server: EmbeddedServer, disk: SmallDisk) -> None:
    """As a plain command and from inside a script: neither is an unknown outcome."""
    server.start()
    disk.fill()
    assert server.keep_space()
    state = State(server.url)
    await state.open()
    for command in (("SET", "a", "1"), ("EVAL", "return redis.call('SET', 'a', '1')", 0)):
        with pytest.raises(StateAway) as refused:
            await state.call(*command)
        assert not refused.value.outcome_unknown
        assert refused.value.code == "state_away"
    assert await state.call("EXISTS", "a") == 0
    await state.close()


def test_binaries_are_two() -> None:
    assert find_binary("").name == "valkey-server"
    assert find_binary("redis-server").name == "redis-server"
