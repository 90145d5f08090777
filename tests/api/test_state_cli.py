"""``nearhive state`` against data directories, running or not, and a server by URL."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from api.failed import Failed
from api.settings import read_settings
from api.state_cli import state_app
from api.state_places import privacy_secret
from discovery.store import backup, keys, world_record
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from tests.servers import Server

Run = Callable[..., tuple[str, str]]
T = TypeVar("T")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs one command in this process; what it printed and said."""
    for name in [name for name in os.environ if name.startswith("NEARHIVE_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARHIVE_DATA_DIR", str(tmp_path / "here"))
    monkeypatch.setattr("discovery.store.copying._QUIET_S", 0.2)

    def command(*arguments: object) -> tuple[str, str]:
        capsys.readouterr()
        state_app([str(argument) for argument in arguments], standalone_mode=False)
        return capsys.readouterr()

    return command


class Dir:
    """A data directory with a world in it, served or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> EmbeddedServer:
        self._data_dir = DataDir.take(self.path, time.monotonic)
        self._server = EmbeddedServer(self._data_dir, time.monotonic)
        self._server.start()
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._data_dir.release()

    def fill(self) -> str:
        with self as server:
            return ask(server.url, fill)

    def checksum(self) -> str:
        with self as server:
            return ask(server.url, checksum)


def ask(url: str, work: Callable[[State], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        state = State(url)
        await state.open()
        try:
            return await work(state)
        finally:
            await state.close()

    return asyncio.run(main())


async def fill(state: State) -> str:
    await state.call("HSET", keys.world(), "format", "2", "shards", "1")
    for n in range(500):
        await state.call("HSET", keys.Shards().person(f"u{n}"), "visibility", "nobody")
        await state.call("XADD", keys.feed("s00"), f"1-{n + 1}", "k", "t", "d", bytes(16))
    return await checksum(state)


async def checksum(state: State) -> str:
    return (await backup.checksum_of(state)).after(0)


@pytest.fixture
def here(tmp_path: Path) -> Dir:
    return Dir(tmp_path / "here")


def test_backup_and_restore_of_directories_that_nobody_uses(run: Run, here: Dir, tmp_path: Path) -> None:
    before = here.fill()
    out, _ = run("backup", tmp_path / "b")
    assert out == f"{tmp_path / 'b'}: 500 keys, 500 feed entries\n"
    out, said = run("restore", tmp_path / "b", "--to", tmp_path / "there")
    assert out.startswith("501 keys, 500 feed entries; checksum ")
    assert "secrets" in said
    assert Dir(tmp_path / "there").checksum() == before == here.checksum()


def test_a_directory_in_use_is_read_but_not_filled(run: Run, here: Dir, tmp_path: Path) -> None:
    before = here.fill()
    with here:
        run("backup", tmp_path / "b")
        with pytest.raises(Failed, match="stop that one first"):
            run("restore", tmp_path / "b")
        with pytest.raises(Failed, match="stop that one first"):
            run("copy", here.path, here.path)
    run("restore", tmp_path / "b", "--to", tmp_path / "there")
    assert Dir(tmp_path / "there").checksum() == before


def test_copy_to_a_server_then_stay(run: Run, here: Dir, tmp_path: Path, redis_server: Server) -> None:
    before = here.fill()
    redis_server.ask("FLUSHALL")
    url = redis_server.url.replace("//", "//default:@")
    out, said = run("copy", here.path, url)
    assert "501 keys, 500 feed entries; checksum of both sides " in out
    assert "the service had stopped for " in out
    assert redis_server.url in said
    assert "default" not in out + said
    assert ask(redis_server.url, checksum) == before
    for command in (("backup", tmp_path / "b"), ("copy", here.path, tmp_path / "third")):
        with pytest.raises(Failed, match=f"copied to {redis_server.url}"):
            run(*command)
    assert not (tmp_path / "b").exists()
    with pytest.raises(Failed, match="holds data already"):
        run("copy", redis_server.url, redis_server.url)
    assert run("stay")[0] == "the state serves again\n"
    run("backup", tmp_path / "b")
    redis_server.ask("FLUSHALL")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup", "{tmp}/b"], "no data directory"),
        (["backup", "{tmp}/b", "--from", "http://localhost"], "scheme"),
        (["backup", "{tmp}/b", "--from", "redis://:very-secret@127.0.0.1:1"], "away"),
        (["restore", "{tmp}/missing", "--to", "{tmp}/there"], "No such file"),
        (["restore", "{tmp}/text", "--to", "{tmp}/there"], "no backup of Nearhive"),
        (["copy", "{tmp}/missing", "{tmp}/there"], "no data directory"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "text").write_text("Dear diary")
    with pytest.raises(Failed, match=said) as failed:
        run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert "very-secret" not in str(failed.value)


@pytest.fixture
def copying(here: Dir, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A copy that waits for the service to stop, which it does not; and where it copies from."""
    here.fill()
    with here as server:
        code = "from api.state_cli import state_app; state_app()"
        command = [sys.executable, "-c", code, "copy", str(here.path), str(tmp_path / "there")]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            yield process, server.url
            process.kill()


def test_a_copy_that_is_ended_lets_the_service_go_on(copying: tuple["subprocess.Popen[bytes]", str]) -> None:
    process, url = copying

    async def end_it(state: State) -> None:
        beats = 0
        while await state.call("HGET", keys.world(), world_record.MOVED_TO) is None or beats < 10:
            assert process.poll() is None
            beats += 1
            await state.call("HSET", keys.leases("s00"), "w", beats)
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await world_record.refuse_elsewhere(state)

    ask(url, end_it)
    assert process.returncode != 0


def test_the_secret_of_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who was erased, only it tells: of the settings first, else as the service there keeps it."""
    monkeypatch.delenv("NEARHIVE_PRIVACY_SECRET", raising=False)
    monkeypatch.setenv("NEARHIVE_DATA_DIR", str(tmp_path / "mine"))
    for name in ("mine", "there"):
        (tmp_path / name / "secrets").mkdir(parents=True)
        (tmp_path / name / "secrets" / "privacy_secret").write_text(f"kept in {name}\n")
    there, settings = str(tmp_path / "there"), read_settings()
    assert [privacy_secret(place, settings) for place in (there, "redis://host")] == [b"kept in there", b"kept in mine"]
    with pytest.raises(Failed, match="PRIVACY_SECRET"):
        privacy_secret(str(tmp_path), settings)
    monkeypatch.setenv("NEARHIVE_PRIVACY_SECRET", "s" * 40)
    assert privacy_secret(there, read_settings()) == b"s" * 40
