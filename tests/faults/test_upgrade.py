"""Data of an earlier version is taken over, data of a later one refused with the way out.

``format1.json`` holds what version 0.1.0 wrote (as commands) and what it answered: six people, friends, a
block, a request, a suspension, a cleared position, an hour and a move later. It has no ``world`` record.
"""

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import pytest

from api.settings import load_settings
from discovery.hive import Hive, Rules
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from discovery.store.world import FORMAT, WorldTooNew, open_world, shards_of_a_new_world
from tests.world import EPOCH_MS, SECRET, World

OLD = json.loads(Path(__file__).with_name("format1.json").read_text("ascii"))


async def load_format1(state: State) -> None:
    for command in OLD["commands"]:
        await state.call(*(part.encode("latin-1") for part in command))


async def test_a_new_world_is_recorded_once(state: State) -> None:
    assert await open_world(state, shards=16) == 16
    assert await state.call("HGETALL", "{s00}:world") == [b"format", b"2", b"shards", b"16"]
    assert await open_world(state, shards=1) == 16
    assert (shards_of_a_new_world(""), shards_of_a_new_world("redis://a:1")) == (1, 1)
    assert shards_of_a_new_world("redis+cluster://a:1,b:2") == 16


async def test_a_world_of_an_earlier_format_has_one_shard(state: State) -> None:
    await load_format1(state)
    assert await open_world(state, shards=16) == 1
    assert await state.call("HGETALL", "{s00}:world") == [b"format", b"2", b"shards", b"1"]


@pytest.mark.parametrize("later", [FORMAT + 1, 40])
async def test_a_world_of_a_later_format_is_refused_and_left_alone(state: State, later: int) -> None:
    await state.call("HSET", "{s00}:world", "format", later, "shards", 7, "more", "x")
    said = f"the state has data format {later}, and this version of Nearhive reads formats up to {FORMAT}: run the"
    with pytest.raises(WorldTooNew, match=said):
        await open_world(state, shards=1)
    left = await state.call("HGETALL", "{s00}:world")
    assert left == [b"format", str(later).encode(), b"shards", b"7", b"more", b"x"]


async def test_an_older_world_answers_as_it_did(state: State, tmp_path: Path) -> None:
    await load_format1(state)
    assert await open_world(state, shards=1) == 1
    settings = load_settings(data_dir=tmp_path, epoch_s=EPOCH_MS // 1000)
    draws = random.Random(7)
    rules = Rules(ticks_missed_after_s=math.inf)
    hive = Hive(state, SECRET, rules, lambda: draws.getrandbits(32), draws.randbytes, time.monotonic)
    await hive.start()
    world = World(state, settings, hive)
    try:
        for asked, (status, body) in OLD["answers"].items():
            user, path = asked.split(" ")
            async with world.client(user) as client:
                answer = await client.get(path)
            assert answer.status_code == status, (asked, answer.text)
            found = answer.json() if status == 200 else answer.json()["code"]
            if isinstance(found, dict):  # later versions may say more
                found = {name: value for name, value in found.items() if name in body}
            assert found == body, asked
    finally:
        await hive.stop()


def served(path: Path) -> dict[str, Any]:
    """``server.json`` after a start and an end of the embedded server."""
    data_dir = DataDir.take(path, time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic)
    try:
        server.start()
    finally:
        server.stop()
        data_dir.release()
    return dict(json.loads((path / "server.json").read_text()))


def test_a_data_directory_of_an_earlier_format_is_taken_over_once_its_server_runs(tmp_path: Path) -> None:
    written = served(tmp_path)
    assert written["format"] == FORMAT
    del written["format"]  # as version 0.1.0 left it
    (tmp_path / "server.json").write_text(json.dumps(written))
    assert served(tmp_path)["format"] == FORMAT


def test_a_data_directory_of_a_later_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    written = served(tmp_path) | {"format": FORMAT + 1, "what": "ever"}
    (tmp_path / "server.json").write_text(json.dumps(written))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "lock"}
    with pytest.raises(
        WorldTooNew, match=rf"the data in {tmp_path} has data format {FORMAT + 1}.*run the later version"
    ):
        served(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before if path != tmp_path} == {
        path: time_ns for path, time_ns in before.items() if path != tmp_path
    }
