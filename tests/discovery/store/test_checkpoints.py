"""Checkpoints on a real server: the flip, the trim, leaders that were replaced or died, readers that race a writer."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from discovery.store import keys
from discovery.store.checkpoints import (
    NEW_CHUNK_TTL_MS,
    REPLACED_CHUNK_TTL_MS,
    CheckpointBroken,
    Checkpoints,
    Progress,
    Written,
    is_due,
)
from discovery.store.client import State
from discovery.store.feed import EntryId

TAG = "s00"
LEADER = "one|1"


@pytest.fixture
def checkpoints(state: State) -> Checkpoints:
    return Checkpoints(state, TAG)


async def lead(state: State, token: str = LEADER) -> None:
    await state.call("SET", keys.leader(TAG), f"{token}|17")


async def fill(state: State, start: int, end: int) -> None:
    """Entries 1000-``start`` to 1000-``end``, the end excluded."""
    for seq in range(start, end):
        await state.call("XADD", keys.feed(TAG), f"1000-{seq}", "k", "r", "d", b"")


async def entries(state: State) -> list[int]:
    rows = await state.call("XRANGE", keys.feed(TAG), "-", "+")
    return [int(row[0].split(b"-")[1]) for row in rows]


async def ttl_ms(state: State, version: str, count: int) -> list[int]:
    """-1 = none, -2 = no such key."""
    return [await state.call("PTTL", keys.checkpoint_chunk(TAG, version, index)) for index in range(count)]


def at(seq: int) -> EntryId:
    return 1000, seq


async def test_without_a_checkpoint_there_is_none(checkpoints: Checkpoints) -> None:
    assert await checkpoints.current() is None
    assert await checkpoints.read() is None


async def test_what_was_written_is_read(state: State, checkpoints: Checkpoints) -> None:
    await lead(state)
    await fill(state, 1, 6)
    chunks = [b"a" * 1_000_000, b"\x00\xff", b"end"]
    assert await checkpoints.write(LEADER, "1-a", chunks, at(5), {"edge_ms": 7}) == Written("ok", 0)
    loaded = await checkpoints.read()
    assert loaded is not None
    assert loaded.chunks == chunks
    assert (loaded.current.version, loaded.current.offset, loaded.current.meta) == ("1-a", at(5), {"edge_ms": 7})
    assert (loaded.current.chunks, loaded.current.bytes) == (3, 1_000_005)
    assert await checkpoints.current() == loaded.current
    assert await ttl_ms(state, "1-a", 3) == [-1, -1, -1]


async def test_the_feed_is_trimmed_to_where_the_checkpoint_before_stood(state: State, checkpoints: Checkpoints) -> None:
    await lead(state)
    await fill(state, 1, 11)
    assert await checkpoints.write(LEADER, "1-a", [b"a"], at(4), {}) == Written("ok", 0)
    assert await entries(state) == list(range(1, 11)), "nothing stands behind the first"
    await fill(state, 11, 21)
    assert await checkpoints.write(LEADER, "1-b", [b"b"], at(15), {}) == Written("ok", 3)
    assert await entries(state) == list(range(4, 21)), "the entry of the first checkpoint itself stays"
    assert await checkpoints.write(LEADER, "1-c", [b"c"], at(20), {}) == Written("ok", 11)
    assert await entries(state) == list(range(15, 21))


async def test_replaced_chunks_stay_for_who_reads_them_and_then_go(state: State, checkpoints: Checkpoints) -> None:
    await lead(state)
    await fill(state, 1, 6)
    await checkpoints.write(LEADER, "1-a", [b"a", b"a"], at(4), {})
    await checkpoints.write(LEADER, "1-b", [b"b"], at(5), {})
    assert all(0 < left <= REPLACED_CHUNK_TTL_MS for left in await ttl_ms(state, "1-a", 2))
    assert await ttl_ms(state, "1-b", 1) == [-1]


@pytest.mark.parametrize("held", [None, "two|2|17", "one|12|17", "one|10", "o|1|1", "one"])
async def test_who_does_not_lead_changes_nothing(state: State, checkpoints: Checkpoints, held: str | None) -> None:
    await lead(state)
    await fill(state, 1, 11)
    await checkpoints.write(LEADER, "1-a", [b"a"], at(4), {})
    before = await checkpoints.current()
    await state.call("DEL", keys.leader(TAG))
    if held is not None:
        await state.call("SET", keys.leader(TAG), held)
    assert await checkpoints.write(LEADER, "1-b", [b"b", b"b"], at(8), {}) == Written("fenced", 0)
    assert await checkpoints.current() == before
    assert await entries(state) == list(range(1, 11))
    assert await ttl_ms(state, "1-a", 1) == [-1]
    assert await ttl_ms(state, "1-b", 2) == [-2, -2], "its chunks are of no use to anybody"
    assert await checkpoints.trim_before(LEADER, at(8)) is None
    assert await entries(state) == list(range(1, 11))


class Interrupted(Checkpoints):
    """Stops between the chunks and the flip, and does something there."""

    between: Any = None

    async def _flip(self, *args: Any) -> list[Any]:
        await self.between()
        return await super()._flip(*args)


async def test_a_leader_that_dies_before_the_flip_leaves_chunks_that_expire(state: State) -> None:
    await lead(state)
    await fill(state, 1, 5)
    dying = Interrupted(state, TAG)

    async def die() -> None:
        raise ConnectionError

    dying.between = die
    with pytest.raises(ConnectionError):
        await dying.write(LEADER, "1-a", [b"a", b"a"], at(4), {})
    assert await dying.current() is None
    assert all(0 < left <= NEW_CHUNK_TTL_MS for left in await ttl_ms(state, "1-a", 2))
    assert await Checkpoints(state, TAG).write(LEADER, "1-b", [b"b"], at(4), {}) == Written("ok", 0)


async def test_a_leader_replaced_while_it_writes_is_refused_at_the_flip(state: State, checkpoints: Checkpoints) -> None:
    await lead(state)
    await fill(state, 1, 11)
    await checkpoints.write(LEADER, "1-a", [b"a"], at(4), {})
    slow = Interrupted(state, TAG)

    async def take_over() -> None:
        await lead(state, "two|2")
        assert (await checkpoints.write("two|2", "2-a", [b"new"], at(9), {})).outcome == "ok"

    slow.between = take_over
    assert await slow.write(LEADER, "1-b", [b"b"], at(8), {}) == Written("fenced", 0)
    loaded = await checkpoints.read()
    assert loaded is not None
    assert (loaded.current.version, loaded.chunks) == ("2-a", [b"new"])
    assert await entries(state) == list(range(4, 11))


async def test_two_writes_at_once_of_one_leader_do_not_mix(state: State, checkpoints: Checkpoints) -> None:
    """The later knows other chunks to replace than those that are current by now."""
    await lead(state)
    await fill(state, 1, 7)
    await checkpoints.write(LEADER, "1-a", [b"a"], at(4), {})
    slow = Interrupted(state, TAG)

    async def another() -> None:
        assert (await checkpoints.write(LEADER, "1-b", [b"b"], at(5), {})).outcome == "ok"

    slow.between = another
    assert await slow.write(LEADER, "1-c", [b"c"], at(6), {}) == Written("changed", 0)
    assert await ttl_ms(state, "1-b", 1) == [-1]


async def test_a_checkpoint_of_an_earlier_place_is_refused(state: State, checkpoints: Checkpoints) -> None:
    """The feed is trimmed to where the current one stands at the next flip: an earlier one would lack entries."""
    await lead(state)
    await fill(state, 4, 5)
    await checkpoints.write(LEADER, "1-a", [b"a"], (1000, 4), {})
    for version, offset in (("1-b", (1000, 3)), ("1-c", (999, 9))):
        assert await checkpoints.write(LEADER, version, [b"b"], offset, {}) == Written("behind", 0)
    assert await checkpoints.write(LEADER, "1-d", [b"b"], (1000, 4), {}) == Written("ok", 0)
    await state.call("XADD", keys.feed(TAG), "1001-0", "k", "r", "d", b"")
    assert await checkpoints.write(LEADER, "1-e", [b"b"], (1001, 0), {}) == Written("ok", 0)


async def test_a_place_that_a_failover_lost_is_refused(state: State, checkpoints: Checkpoints) -> None:
    """Nobody could go on from there: each start would find its last entry gone, read the checkpoint again, for ever."""
    await lead(state)
    await fill(state, 4, 5)
    assert await checkpoints.write(LEADER, "1-a", [b"a"], at(4), {}) == Written("ok", 0)
    await state.call("XADD", keys.feed(TAG), "1000-7", "k", "r", "d", b"")
    assert await checkpoints.write(LEADER, "1-b", [b"b"], at(6), {}) == Written("lost", 0)
    loaded = await checkpoints.read()
    assert loaded is not None
    assert loaded.chunks == [b"a"]


async def test_a_chunk_that_expired_before_the_flip_is_noticed(state: State) -> None:
    await lead(state)
    await fill(state, 1, 5)
    slow = Interrupted(state, TAG)

    async def expire() -> None:
        await state.call("DEL", keys.checkpoint_chunk(TAG, "1-a", 1))

    slow.between = expire
    assert await slow.write(LEADER, "1-a", [b"a", b"b"], at(4), {}) == Written("lapsed", 0)
    assert await slow.current() is None


async def test_a_version_is_used_once(state: State, checkpoints: Checkpoints) -> None:
    """Written again, a chunk of the current checkpoint would be given an end."""
    await lead(state)
    await fill(state, 1, 6)
    await checkpoints.write(LEADER, "1-a", [b"a"], at(4), {})
    with pytest.raises(ValueError, match="used before"):
        await checkpoints.write(LEADER, "1-a", [b"b"], at(5), {})
    loaded = await checkpoints.read()
    assert loaded is not None
    assert loaded.chunks == [b"a"]
    assert await ttl_ms(state, "1-a", 1) == [-1]


async def test_a_checkpoint_that_is_not_whole_is_told(state: State, checkpoints: Checkpoints) -> None:
    await lead(state)
    await fill(state, 1, 5)
    await checkpoints.write(LEADER, "1-a", [b"abc", b"def"], at(4), {})
    name = keys.checkpoint_chunk(TAG, "1-a", 1)
    await state.call("SET", name, b"deg")
    with pytest.raises(CheckpointBroken, match="1-a"):
        await checkpoints.read()
    await state.call("DEL", name)
    with pytest.raises(CheckpointBroken, match="1-a"):
        await checkpoints.read()


async def test_who_reads_while_it_is_replaced_gets_one_or_the_other_whole(
    state: State, checkpoints: Checkpoints, seed: int
) -> None:
    """Even if the replaced chunks went at once, as after a step of the server's clock."""
    await lead(state)
    await fill(state, 0, 60)
    draws = random.Random(seed)

    def content(number: int) -> list[bytes]:
        return [f"{number}/{index}".encode() * 100 for index in range(1 + number % 7)]

    await checkpoints.write(LEADER, "0", content(0), at(0), {})
    read: list[str] = []

    async def write_all() -> None:
        for number in range(1, 60):
            await checkpoints.write(LEADER, str(number), content(number), at(number), {})
            for index in range(1 + (number - 1) % 7):
                await state.call("DEL", keys.checkpoint_chunk(TAG, str(number - 1), index))
            await asyncio.sleep(draws.random() / 300)

    async def read_all(writer: "asyncio.Task[None]") -> None:
        while not writer.done():
            loaded = await checkpoints.read()
            assert loaded is not None
            assert loaded.chunks == content(int(loaded.current.version))
            read.append(loaded.current.version)

    writer = asyncio.create_task(write_all())
    await asyncio.gather(*(read_all(writer) for _ in range(3)))
    await writer
    assert len(set(read)) > 5


async def test_a_feed_without_checkpoints_is_trimmed_by_its_leader(state: State, checkpoints: Checkpoints) -> None:
    await lead(state)
    await fill(state, 1, 11)
    assert await checkpoints.trim_before(LEADER, at(4)) == 3
    assert await checkpoints.trim_before(LEADER, at(4)) == 0
    assert await entries(state) == list(range(4, 11))


QUIET = Progress(
    pause_s=3600.0,
    entries=0,
    tail_bytes=0,
    last_bytes=1000,
    edge_ms=900_000 * 10,
    last_edge_ms=900_000 * 10,
    epoch_ms=900_000,
)


@pytest.mark.parametrize(
    ("change", "due"),
    [
        ({}, False),
        ({"entries": 1}, False),
        ({"entries": 1, "last_edge_ms": 900_000 * 9}, False),
        ({"entries": 1, "last_edge_ms": 900_000 * 8}, True),
        ({"entries": 1, "last_edge_ms": 0}, True),  # none yet
        ({"entries": 0, "last_edge_ms": 900_000 * 8}, False),  # ticks alone
        ({"entries": 1, "last_edge_ms": 900_000 * 8, "pause_s": 9.9}, False),
        ({"entries": 1, "last_edge_ms": 900_000 * 8, "pause_s": 10.0}, True),
        ({"entries": 1, "last_edge_ms": 0, "edge_ms": 0, "epoch_ms": 0}, False),  # no tick yet
        ({"entries": 1, "tail_bytes": 16_000_000 - 320}, False),
        ({"entries": 1, "tail_bytes": 16_000_001}, True),
        ({"tail_bytes": 16_000_001}, True),  # ticks of a long silence
        ({"entries": 1, "tail_bytes": 16_000_001, "pause_s": 9.0}, False),
        ({"entries": 1, "tail_bytes": 16_000_001, "pause_s": 0.0, "last_bytes": 0}, True),  # none yet: none to wait for
        ({"entries": 1, "tail_bytes": 30_000_000 - 320, "last_bytes": 30_000_000}, False),
        ({"entries": 40_000, "tail_bytes": 3_200_000}, False),
        ({"entries": 40_001, "tail_bytes": 3_200_000}, True),  # 0.8 s of folding one by one
        ({"entries": 1, "tail_bytes": 30_000_001, "last_bytes": 30_000_000}, True),
    ],
)
def test_when_a_checkpoint_is_due(change: dict[str, Any], due: bool) -> None:
    assert is_due(replace(QUIET, **change)) is due
