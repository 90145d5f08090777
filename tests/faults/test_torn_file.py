"""Q2: the append-only file of the embedded server, cut anywhere in its last 4 KB, and with one bit flipped before that.

Cut: the server starts with exactly the acts whose last byte is left; a script is there whole or not at all. Flipped:
the file has no checksums, so the server only notices what breaks its framing. What it does not notice is counted here
and told in the report; the checksums of checkpoints and store sets are theirs and are tested with them.
"""

import asyncio
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from discovery.bottles import Bottles
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer, ServerFailed
from tests.faults.report import reported
from tests.naive_bottles import check_sea
from tests.sea import SECRET, Crowd

ACTS = 40
TAIL_BYTES = 4096
CUTS, FLIPS, FLIPS_NIGHTLY = 40, 16, 400


class Written:
    """A data directory with acknowledged throws, and the size of its file after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: list[int] = []
        self.bottles: list[str] = []

    @property
    def file(self) -> Path:
        """What the server appends to."""
        (found,) = (self.path / "appendonlydir").glob("*.incr.aof")
        return found

    def left(self, size: int) -> set[str]:
        """Bottles of the acts that end within the first ``size`` bytes."""
        return {bottle for bottle, end in zip(self.bottles, self.sizes, strict=True) if end <= size}

    def copy(self, path: Path, content: bytes) -> Path:
        """The same directory with another file."""
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path, ignore=shutil.ignore_patterns("*.sock", "lock", "run.json"))
        (path / "appendonlydir" / self.file.name).write_bytes(content)
        return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = Written(tmp_path_factory.mktemp("written") / "data")
    with _Running(made.path) as server:
        asyncio.run(_throw_some(server, made))
    return made


class _Running:
    """A server on a data directory."""

    def __init__(self, path: Path) -> None:
        self._data_dir = DataDir.take(path, time.monotonic)
        self._server = EmbeddedServer(self._data_dir, time.monotonic)

    def __enter__(self) -> EmbeddedServer:
        try:
            self._server.start()
        except BaseException:
            self._data_dir.release()
            raise
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._data_dir.release()


async def _throw_some(server: EmbeddedServer, made: Written) -> None:
    state = State(server.url)
    await state.open()
    bottles = Bottles(state, Crowd(), lambda: 0, SECRET)
    for number in range(ACTS):
        thrown = await bottles.throw(f"author{number % 5}", f"key{number}", f"text {number}", None)
        made.bottles.append(thrown.bottle_id)
        made.sizes.append(made.file.stat().st_size)
    await state.close()


async def _sea(server: EmbeddedServer) -> dict[str, dict[str, str]]:
    """All bottles; fails when one script was done by half."""
    state = State(server.url)
    await state.open()
    try:
        return await check_sea(state)
    finally:
        await state.close()


async def _dump(server: EmbeddedServer) -> dict[bytes, tuple[bytes, int]]:
    """Every key with its whole value and end of life."""
    state = State(server.url)
    await state.open()
    try:
        names = await state.call("KEYS", "*")
        return {name: (await state.call("DUMP", name), await state.call("PEXPIRETIME", name)) for name in names}
    finally:
        await state.close()


def test_a_cut_tail_loses_what_was_cut_and_nothing_else(
    written: Written, tmp_path: Path, seed: int, scale: int
) -> None:
    content = written.file.read_bytes()
    everywhere = range(len(content) - TAIL_BYTES, len(content) + 1)
    cuts = random.Random(seed).sample(everywhere, CUTS) if scale == 1 else list(everywhere)
    with reported("q2_cuts", seed, "embedded", cuts=len(cuts), bytes=len(content)) as run:
        for cut in cuts:
            with _Running(written.copy(tmp_path / "cut", content[:cut])) as server:
                found = set(asyncio.run(_sea(server)))
            assert found == written.left(cut), f"cut at {cut} of {len(content)}"
        run.counts = {"started": len(cuts), "lost": 0, "half": 0}


def test_a_flipped_bit_is_refused_with_the_file_named_or_counted(
    written: Written, tmp_path: Path, seed: int, scale: int
) -> None:
    content, draws = written.file.read_bytes(), random.Random(seed)
    flips = [draws.randrange(len(content) - TAIL_BYTES) for _ in range(FLIPS if scale == 1 else FLIPS_NIGHTLY)]
    with _Running(written.copy(tmp_path / "whole", content)) as server:
        whole = asyncio.run(_dump(server))
    with reported("q2_flips", seed, "embedded", flips=len(flips), bytes=len(content)) as run:
        outcomes: Counter[str] = Counter()
        for at in flips:
            flipped = bytearray(content)
            flipped[at] ^= 1 << draws.randrange(8)
            outcomes[_outcome(written.copy(tmp_path / "flipped", bytes(flipped)), whole, written)] += 1
        run.counts = dict(outcomes)
        assert outcomes["refused"] > 0
        assert outcomes["refused_unnamed"] == 0, "who reads the message must learn which file is meant"
        assert outcomes["started_cut_off"] == 0, "a flip in the middle was taken for a torn tail"


def _outcome(path: Path, whole: dict[bytes, tuple[bytes, int]], written: Written) -> str:
    try:
        with _Running(path) as server:
            found, log = asyncio.run(_dump(server)), server.log.read_text()
    except ServerFailed as failed:
        return "refused" if written.file.name in str(failed) else "refused_unnamed"
    if "aof-load-truncated" in log:
        return "started_cut_off"
    return "started_equal" if found == whole else "started_changed"
