"""A full disk: nothing acknowledged is lost, reads go on, writes are refused and come back by themselves.

The data directory lies on a small file system of its own (tmpfs; root mounts it), which a filler file fills.
"""

import asyncio
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
from tests.faults.subject import Subject
from tests.service import Answer, Connection

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


# --- the whole service ---


@pytest.fixture(params=BINARIES)
def service(request: pytest.FixtureRequest, disk: SmallDisk, tmp_path: Path) -> Iterator[Subject]:
    """Not started yet, with its data on the small disk and its log elsewhere."""
    settings = {"epoch_s": "1", "log_level": "warning", "valkey_bin": BINARIES[request.param]}
    service = Subject(disk.path, settings)
    service.log = tmp_path / "service.log"
    yield service
    service.end()


class Blocks:
    """One person who blocks one after the other, and knows what was acknowledged."""

    def __init__(self, service: Subject) -> None:
        self._service = service
        self._headers = service.person("ann")
        self.sent = 0
        self.acknowledged: list[str] = []

    async def next(self, connection: Connection) -> Answer:
        self.sent += 1
        name = f"{self.sent:06}"
        answer = await connection.ask("PUT", f"/v1/me/blocks/{name}", headers=self._headers)
        if answer.status == 204:
            self.acknowledged.append(name)
        return answer

    async def until(self, connection: Connection, status: int, within_s: float) -> float:
        """Go on until one is answered with ``status``; the seconds that it took. All others are 204 or 503."""
        started_s = time.monotonic()
        while (answer := await self.next(connection)).status != status:
            assert answer.status in (204, 503), answer.body
            assert answer.status == 204 or "retry-after" in answer.headers
            assert time.monotonic() - started_s < within_s, (answer, self._service.log_end())
            await asyncio.sleep(0.01)
        return time.monotonic() - started_s

    async def listed(self, connection: Connection) -> list[str]:
        found: list[str] = []
        cursor = ""
        while cursor is not None:
            path = f"/v1/me/blocks?limit=100{f'&cursor={cursor}' if cursor else ''}"
            page = (await connection.ask("GET", path, headers=self._headers)).ok()
            found += [row["user"] for row in page["blocks"]]
            cursor = page["next_cursor"]
        return found


async def _import_a_store(service: Subject, connection: Connection) -> None:
    brand = {"name": "Acme"}
    (await connection.ask("PUT", "/v1/brands/acme", brand, service.operator)).ok()
    stores = b"id,name,lat,lon\n1,One,48.85,2.35\n"
    headers = {**service.operator, "Content-Type": "text/csv"}
    (await connection.ask("PUT", "/v1/brands/acme/stores", stores, headers)).ok()


async def _nearest(service: Subject, connection: Connection) -> Answer:
    body = {"lat": 48.85, "lon": 2.35}
    return await connection.ask("POST", "/v1/brands/acme/stores/nearest", body, service.operator)


async def test_the_service_survives_a_full_disk_in_the_middle_and_at_start(service: Subject, disk: SmallDisk) -> None:
    service.start()
    async with service.connections(1) as (connection,):
        await _import_a_store(service, connection)
        blocks = Blocks(service)
        for _ in range(20):
            assert (await blocks.next(connection)).status == 204
        for leave_bytes in (0, 200_000):
            disk.fill(leave_bytes)
            refused_s = await blocks.until(connection, 503, 10)
            await _is_read_only(service, connection)
            assert (await _nearest(service, connection)).ok()["features"]
            disk.clear()
            back_s = await blocks.until(connection, 204, 30)
            print(f"{leave_bytes} left: refused after {refused_s:.2f} s, back {back_s:.2f} s after there was space")
            assert back_s <= 5
            assert set(blocks.acknowledged) <= set(await blocks.listed(connection))
        disk.fill()
        await blocks.until(connection, 503, 10)
    service.kill()
    await _start_on_the_full_disk(service, disk, blocks)


async def _is_read_only(service: Subject, connection: Connection) -> None:
    """Soon it says so, in words, and nobody is shown anybody."""
    until_s = time.monotonic() + 5
    while (await connection.ask("GET", "/readyz")).json().get("read_only") is not True:
        assert time.monotonic() < until_s
        await asyncio.sleep(0.05)
    while (answer := await connection.ask("GET", "/v1/me/blocks", headers=service.person("ann"))).status != 503:
        assert time.monotonic() < until_s
        await asyncio.sleep(0.05)
    assert answer.json()["detail"] == "the state refuses writes: its disk is full"
    assert answer.json()["code"] == "not_ready"


async def _start_on_the_full_disk(service: Subject, disk: SmallDisk, blocks: Blocks) -> None:
    service.launch()
    until_s = time.monotonic() + 30
    while "the state takes no writes until 16 MB are free" not in service.log.read_text():
        assert time.monotonic() < until_s, service.log_end()
        await asyncio.sleep(0.05)
    while service.status_of("/healthz") != 200:
        assert time.monotonic() < until_s, service.log_end()
        await asyncio.sleep(0.05)
    connection = await Connection.open(service.port)
    assert (await blocks.next(connection)).status == 503
    while (await _nearest(service, connection)).status != 200:
        assert time.monotonic() < until_s, service.log_end()
        await asyncio.sleep(0.05)
    disk.clear()
    back_s = await blocks.until(connection, 204, 30)
    print(f"started on a full disk; back {back_s:.2f} s after there was space")
    assert back_s <= 5
    assert set(blocks.acknowledged) <= set(await blocks.listed(connection))
    connection.close()
