"""Backups of a state in use, what a file must be to be restored, and every kind of key there and back."""

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from discovery.store import backup, keys, transfer, watch, world_record
from discovery.store.backup_file import BackupDamaged, BackupExists
from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer
from discovery.store.records import Checksum, Record
from tests.footings import Footing
from tests.naive_bottles import check_sea
from tests.traffic import Traffic, people_in

MADE_AT = "2026-11-22T12:00:00Z"


@pytest_asyncio.fixture
async def service(state: State, state_server: EmbeddedServer) -> AsyncIterator[State]:
    """The client of those who write; on one connection a read would wait behind a write that is held back."""
    client = State(state_server.url)
    await client.open()
    yield client
    await client.close()


async def all_kinds(state: State) -> None:
    """Every kind of key, small and large, with and without an end."""
    await state.call("HSET", keys.world(), "format", "1", "shards", "1")
    await state.call("SET", "{a}:text", b"\x00\xff binary", "PX", 3_600_000)
    await state.call("SET", "{a}:empty", "")
    await state.call("RPUSH", "{a}:list", *(f"item {n % 7}" for n in range(2500)))
    await state.call("SADD", "{b}:set", *(f"member {n}" for n in range(3000)))
    await state.call("HSET", "{b}:hash", *(part for n in range(3000) for part in (f"field {n}", n)))
    await state.call("ZADD", "{c}:scores", "1e300", "big", "-inf", "low", "0.1", "tenth", "3", "three", "-0", "zero")
    await state.call("ZADD", "{c}:many", *(part for n in range(3000) for part in (repr(n / 7), f"member {n}")))
    await state.call("PEXPIREAT", "{c}:many", 4_102_444_800_123)
    for n in range(500):
        await state.call("XADD", keys.feed("s00"), f"{1000 + n}-{n % 3}", "k", "t", "d", b"\xfe" * n)
    await state.call("XTRIM", keys.feed("s00"), "MINID", "=", "1100-0")
    await state.call("XADD", keys.feed("shake"), "5-5", "k", "s")
    await state.call("XTRIM", keys.feed("shake"), "MAXLEN", "=", 0)
    await state.call("SET", keys.fence("s00"), 7)
    for name in (keys.leader("s00"), keys.leader("shake"), keys.workers()):
        await state.call("SET", name, "of a running worker")
    await state.call("HSET", keys.leases("shake"), "w", "1")
    await state.call("HSET", keys.Shards().person("leader"), "name", "an ordinary person")


async def content(state: State) -> set[str]:
    """Every record and entry, as text."""
    found = set()
    async for page in transfer.scan(state):
        for record in page.records:
            listed = record.elements if record.kind == "list" else sorted(record.elements)
            found.add(repr((record.key, record.kind, record.expiry_ms, listed)))
        for stream in page.streams:
            found.add(repr(await transfer.stream_end(state, stream)))
            async for rows in transfer.entries(state, stream):
                found.update(repr((stream, row)) for row in rows)
    return found


async def test_every_kind_of_key_there_and_back_on_every_footing(
    state: State, footing_state: State, tmp_path: Path
) -> None:
    await all_kinds(state)
    before = await content(state)
    assert len(before) == 6 + 400 + 2 + 2 + 1
    done = await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    await state.call("FLUSHALL")
    restored = await backup.restore(footing_state, tmp_path / "b")
    assert await content(footing_state) == before
    assert (restored.entries, done.entries) == (400, 400)
    assert await world_record.of(footing_state) == {"format": "1", "shards": "1"}
    for name in (keys.leader("s00"), keys.leader("shake"), keys.workers(), keys.leases("shake")):
        assert not await footing_state.call("EXISTS", name), "that belonged to a running worker"
    assert await footing_state.call("XADD", keys.feed("shake"), "5-6", "k", "s") == b"5-6", "ids go on"
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["b"]


async def test_a_backup_of_a_state_in_use_is_one_moment_of_it(
    state: State, service: State, tmp_path: Path, seed: int, scale: int
) -> None:
    """Everything acknowledged before it began is in it, and no fact is there by half: records equal the feed, and the
    sea keeps every invariant."""
    traffic = Traffic(service, seed)
    await traffic.create_world()
    await state.call("HSET", "{x}:large", *(part for n in range(20_000) for part in (n, n)))
    for round_ in range(3 * scale):
        path = tmp_path / str(round_)
        async with traffic.running(writers=8):
            await asyncio.sleep(0.3)
            acked, bottles = dict(traffic.acked), set(traffic.bottles_acked)
            await backup.back_up(state, path, MADE_AT, time.monotonic)
            sent = dict(traffic.sent)
        assert traffic.failed == []
        async with apart(tmp_path / f"dir{round_}") as (_, there):
            await backup.restore(there, path)
            found = await people_in(there, traffic.shards, sorted(sent))
            assert all(acked.get(user, 0) <= number <= sent[user] for user, number in found.items())
            assert any(number > acked.get(user, 0) for user, number in found.items()), "nobody wrote meanwhile"
            sea = await check_sea(there)
            assert bottles <= set(sea)


@contextlib.asynccontextmanager
async def apart(path: Path) -> AsyncIterator[tuple[EmbeddedServer, State]]:
    """A fresh embedded server."""
    data_dir = DataDir.take(path, time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic)
    server.start()
    there = State(server.url)
    await there.open()
    try:
        yield server, there
    finally:
        await there.close()
        server.stop()
        data_dir.release()


async def test_a_restored_state_survives_the_kill_of_its_server(state: State, tmp_path: Path, seed: int) -> None:
    traffic = Traffic(state, seed)
    await traffic.create_world()
    async with traffic.running():
        await asyncio.sleep(0.2)
    done = await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    async with apart(tmp_path / "dir") as (server, there):
        restored = await backup.restore(there, tmp_path / "b")
        assert restored.entries == done.entries > 0
        assert server.pid is not None
        os.kill(server.pid, 9)
        await there.close()
        server.stop(0.0)
        server.start()
        await there.open()
        assert (await backup.checksum_of(there)).after(0) == (await backup.checksum_of(state)).after(0)
        found = await people_in(there, traffic.shards, sorted(traffic.sent))
        assert all(traffic.acked.get(user, 0) <= found[user] <= sent for user, sent in traffic.sent.items())


async def test_a_damaged_file_is_refused_before_anything_is_written(state: State, tmp_path: Path, seed: int) -> None:
    traffic = Traffic(state, seed)
    await traffic.create_world()
    for n in range(50):
        await traffic.change(f"u{n}")
    await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    whole = (tmp_path / "b").read_bytes()
    await state.call("FLUSHALL")
    at = traffic.draws.randrange(len(whole))
    cases = {
        "flipped": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "cut": whole[:at],
        "longer": whole + b"\0",
        "empty": b"",
        "other": b"PK\x03\x04" + whole,
        "later": whole[:4] + b"\x02\x00" + whole[6:],
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BackupDamaged):
            await backup.restore(state, tmp_path / name)
        assert await transfer.count_keys(state) == 0, (name, at)
    await backup.restore(state, tmp_path / "b")


async def test_only_an_empty_state_is_filled(state: State, tmp_path: Path) -> None:
    await all_kinds(state)
    await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    with pytest.raises(transfer.NotEmpty):
        await backup.restore(state, tmp_path / "b")
    await state.call("FLUSHALL")
    await state.call("SET", "{x}:somebody", "else's")
    with pytest.raises(transfer.NotEmpty):
        await backup.restore(state, tmp_path / "b")
    assert await transfer.count_keys(state) == 1


async def test_an_unfinished_restore_is_no_world_and_is_begun_anew(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await all_kinds(state)
    before = await content(state)
    await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    await state.call("FLUSHALL")

    async def cut(*_: object) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "end_stream", cut)
        with pytest.raises(OSError, match="power"):
            await backup.restore(state, tmp_path / "b")
    with pytest.raises(world_record.Unfinished):
        await world_record.of(state)
    with pytest.raises(world_record.Unfinished):
        await backup.back_up(state, tmp_path / "c", MADE_AT, time.monotonic)
    await state.call("SET", "{x}:left over", "1")
    await backup.restore(state, tmp_path / "b")
    assert await content(state) == before


async def test_what_is_not_there_and_what_is_there_already(state: State, tmp_path: Path) -> None:
    with pytest.raises(world_record.NoWorld):
        await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    await all_kinds(state)
    (tmp_path / "b").write_text("mine")
    with pytest.raises(BackupExists):
        await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    assert (tmp_path / "b").read_text() == "mine"
    assert os.listdir(tmp_path) == ["b"]


async def test_a_backup_that_fails_leaves_no_file_and_holds_back_nobody(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await all_kinds(state)

    async def cut(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(transfer, "stream_end", cut)
    with pytest.raises(OSError, match="full"):
        await backup.back_up(state, tmp_path / "b", MADE_AT, time.monotonic)
    assert os.listdir(tmp_path) == []
    await state.call("SET", "{x}:written", "1", within_s=0.3)


async def test_a_pause_that_was_too_long_does_not_count(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await all_kinds(state)
    monkeypatch.setattr(backup, "_PAUSES", 2)
    clock = iter(range(10**6))
    with pytest.raises(backup.TooBusy):
        await backup.back_up(state, tmp_path / "b", MADE_AT, lambda: float(next(clock)))
    assert os.listdir(tmp_path) == []


async def test_the_watch_hears_every_change_before_it_settles(footing_state: State, seed: int) -> None:
    traffic = Traffic(footing_state, seed)
    async with watch.Watch(footing_state) as changes:
        for _ in range(20):
            users = {f"u{traffic.draws.randrange(1000)}" for _ in range(30)}
            await asyncio.gather(*(traffic.change(user) for user in users))
            await changes.settle()
            wanted = {traffic.shards.person(user).encode() for user in users} | {keys.feed("s00").encode()}
            assert wanted <= changes.take()
        await footing_state.each_master("FLUSHALL")
        with pytest.raises(watch.WatchLost):
            await changes.settle()


async def test_writes_wait_for_the_end_of_the_pause_and_reads_do_not(
    footing: Footing, footing_state: State, seed: int
) -> None:
    service = State(footing.url)
    await service.open()
    traffic = Traffic(service, seed)
    await traffic.change("ann")
    async with watch.writes_paused(footing_state, 0.8, time.monotonic):
        late = asyncio.create_task(traffic.change("ann"))
        page = await transfer.read(footing_state, [traffic.shards.person("ann").encode()])
        assert page.records[0].elements == [b"claim", b"1"]
        await asyncio.sleep(0.05)
        assert not late.done()
    await late
    await service.close()
    page = await transfer.read(footing_state, [traffic.shards.person("ann").encode()])
    assert page.records[0].elements == [b"claim", b"2"]


def test_a_checksum_knows_no_order_and_forgets_what_ends() -> None:
    records = [Record(b"k%d" % n, "hash", -1 if n % 2 else 60_000 * n, [b"a", b"%d" % n, b"b", b"2"]) for n in range(9)]
    one, two = Checksum(), Checksum()
    for record in records:
        one.add(record.digest(), record.expiry_ms)
    for record in reversed(records):
        turned = Record(record.key, "hash", record.expiry_ms, [*record.elements[2:], *record.elements[:2]])
        two.add(turned.digest(), record.expiry_ms)
    assert one.after(0) == two.after(0)
    gone = Checksum()
    for record in records:
        if record.expiry_ms != 60_000 * 2:
            gone.add(record.digest(), record.expiry_ms)
    assert gone.after(0) != one.after(0)
    assert gone.after(60_000 * 2) == one.after(60_000 * 2)
    assert Record(b"l", "list", -1, [b"a", b"b"]).digest() != Record(b"l", "list", -1, [b"b", b"a"]).digest()
    assert Record(b"h", "hash", -1, [b"a", b"b"]).digest() != Record(b"h", "hash", -1, [b"b", b"a"]).digest()
    assert Record(b"s", "set", -1, [b"a", b"b"]).digest() == Record(b"s", "set", -1, [b"b", b"a"]).digest()
