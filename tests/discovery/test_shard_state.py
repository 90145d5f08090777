"""A shard taken out, dropped and put back: nothing is lost, in this process or another, in any order of slots."""

import random
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from discovery.friends import Half
from discovery.people import People
from discovery.presence import Presence, ShardEdges
from discovery.sealed import Sealer
from discovery.shard_packing import COLUMNS, FORMAT, HALF_COLUMNS, MAX_CHUNK_BYTES, UnknownVersion, pack, unpack
from discovery.shard_state import state_of
from geo.kernels import presence as kernels
from tests.discovery.histories import START_MS, STRANGER_EPOCH_MS, USERS, Folded, History, place

HISTORIES = 12
ACTS = 120


def some_people(seed: int, shards: int = 1) -> tuple[Folded, History]:
    history = History(random.Random(seed), shards, ACTS)
    folded = Folded(shards)
    for shard, feed in enumerate(history.feeds):
        folded.replay(shard, feed)
    return folded, history


@pytest.mark.parametrize("shards", [1, 3])
def test_drop_and_load_give_back_what_was(seed: int, scale: int, shards: int) -> None:
    for run in range(HISTORIES * scale):
        folded, history = some_people(seed + run, shards)
        facts, answers, digest = folded.facts(), folded.answers(history.now_ms), folded.digest()
        packed = [folded.packed(shard) for shard in range(shards)]
        for shard in range(shards):
            folded.sharded.drop(shard)
            assert not folded.presence.in_step
            mine = {user for user in USERS if folded.people.shards.of(user) == shard}
            assert not mine & set(folded.facts()), "something of theirs is left"
            crowd = folded.presence.crowd(history.now_ms)  # stands when the shard comes back
            assert not any(folded.people.slot_or_new(user) in crowd for user in mine)
            folded.load(packed[shard])
        assert folded.facts() == facts, seed + run
        assert folded.answers(history.now_ms) == answers, seed + run
        assert folded.digest() == digest
        assert folded.presence.in_step
        folded.load(packed[0])  # over what stands
        assert folded.facts() == facts


@pytest.mark.parametrize("shards", [1, 3])
def test_another_process_goes_on_from_a_checkpoint(seed: int, scale: int, shards: int) -> None:
    """Each shard from its own place, with slots given in another order; and the tail, with edges in it, on top."""
    for run in range(HISTORIES * scale):
        draws = random.Random(seed + run)
        history = History(draws, shards, ACTS)
        lived, cuts = Folded(shards), [draws.randrange(len(feed)) for feed in history.feeds]
        packed = []
        for shard in draws.sample(range(shards), shards):
            feed, cut = history.feeds[shard], cuts[shard]
            lived.replay(shard, feed[:cut])
            packed.append((shard, lived.packed(shard)))
            lived.replay(shard, feed[cut:])
        started = Folded(shards, known=draws.sample([*USERS, "stranger"], 9))
        for shard, chunks in draws.sample(packed, shards):
            started.load(chunks)
            started.replay(shard, history.feeds[shard][cuts[shard] :])
        assert started.facts() == lived.facts(), seed + run
        assert started.answers(history.now_ms) == lived.answers(history.now_ms), seed + run
        assert started.digest() == lived.digest()


def test_two_loads_of_one_state_pack_alike(seed: int) -> None:
    folded, _ = some_people(seed, 2)
    again = Folded(2)
    for shard in (0, 1):
        again.load(folded.packed(shard))
    for shard in (0, 1):
        assert unpack(again.packed(shard)).head == unpack(folded.packed(shard)).head


def test_a_snapshot_is_not_changed_by_what_is_folded_after_it(seed: int) -> None:
    """It is packed in a thread while the fold goes on."""
    history = History(random.Random(seed), 2, 4 * ACTS)
    folded = Folded(2)
    for shard, feed in enumerate(history.feeds):
        folded.replay(shard, feed[: len(feed) // 2])
    snapshots = [folded.snapshot(shard) for shard in (0, 1)]
    packed = [pack(state_of(snapshot)) for snapshot in snapshots]
    for shard, feed in enumerate(history.feeds):
        folded.replay(shard, feed[len(feed) // 2 :])
        folded.people.slots_or_new([f"{shard} later {n}" for n in range(3000)])  # every column is moved
    assert [pack(state_of(snapshot)) for snapshot in snapshots] == packed
    assert [folded.packed(shard) for shard in (0, 1)] != packed


def test_room_that_has_become_too_small_is_replaced() -> None:
    folded = Folded(1)
    room = folded.sharded.room(0)
    folded.people.slots_or_new([f"u{n}" for n in range(5000)])
    folded.people.bottles[4999] = True
    state = state_of(folded.sharded.snapshot(0, place(), room))
    assert state.ids == ["u4999"]


def test_no_column_is_forgotten() -> None:
    """A new one is either folded, and then packed, or follows from others."""
    folded = Folded(1)
    own = {"hashes", "shard", "lives", "erased_ms"}
    for part, follows in ((folded.people, own), (folded.presence, {"shown_until_ms", "_in_crowd"})):
        columns = {name for name, value in vars(part).items() if isinstance(value, np.ndarray)}
        assert columns == {*part.FOLDED, *follows}
    assert {*People.FOLDED, *Presence.FOLDED} == set(COLUMNS)
    assert set(Half._fields) | {"owner", "other"} == set(HALF_COLUMNS)


def test_the_head_says_where_the_shard_stood(seed: int) -> None:
    folded, _ = some_people(seed, 3)
    state = unpack(folded.packed(2, now_ms=77))
    edges = folded.presence.edges(2)
    assert state.head.place == place(77)
    assert (state.head.shard, state.head.shards) == (2, 3)
    assert (state.head.edge_ms, state.head.stranger_edge_ms) == (edges.edge_ms, edges.stranger_edge_ms)
    assert state.head.block_count == folded.blocks.count(2)


def test_digests_of_the_shards_add_up_to_that_of_all(seed: int) -> None:
    folded, _ = some_people(seed, 3)
    digests = [unpack(folded.packed(shard)).head.digest for shard in range(3)]
    assert sum(digests) % 2**64 == folded.digest() != 0


def test_people_without_any_fact_are_not_written() -> None:
    folded = Folded(1, known=["mentioned", "ann", "bob", "cleo"])
    folded.people.fold_settings({"u": "ann", "bottles": True}, START_MS)
    folded.people.fold_settings({"u": "bob", "suspended": {"nearby": START_MS - 1}}, START_MS)
    folded.people.fold_settings({"u": "cleo", "suspended": {"nearby": START_MS + STRANGER_EPOCH_MS}}, START_MS)
    folded.presence.on_time(START_MS, 900_000)
    state = unpack(folded.packed(0))
    assert state.ids == ["ann", "bob", "cleo"], "bob took part, though his suspension has ended"
    assert [who for who, _ in state.suspensions] == [2]
    assert state.mentioned == []


def test_a_half_and_a_block_mention_people_of_other_shards() -> None:
    """They are the owner's: the other's own shard says nothing of them, and dropping it leaves them."""
    folded = Folded(2)
    ann = next(user for user in USERS if folded.people.shards.of(user) == 0)
    bob = next(user for user in USERS if folded.people.shards.of(user) == 1)
    folded.friendships.fold(f'[["{ann}","{bob}","area",0,false]]'.encode(), START_MS)
    folded.blocks.fold(f'["{ann}","bottle:1","{bob}"]'.encode(), START_MS)
    state = unpack(folded.packed(0))
    assert (state.ids, state.mentioned) == ([ann], [bob])
    assert unpack(folded.packed(1)).ids == []
    facts = folded.facts()
    folded.sharded.drop(1)
    assert {**folded.facts(), "edges": 0} == {**facts, "edges": 0}
    folded.sharded.drop(0)
    assert set(folded.facts()) == {"edges", "counts"}
    assert folded.facts()["counts"] == [0, 0]
    assert folded.blocks.either_way(1) == folded.blocks.either_way(0) == set()


def test_blocks_after_a_restart_are_still_the_newest() -> None:
    """Even in one millisecond, and when the newest before was taken back."""
    lived = Folded(1)
    for record in ('["ann","bob","bob"]', '["ann","carl","carl"]', '["ann","carl",null]'):
        lived.blocks.fold(record.encode(), START_MS)
    started = Folded(1, known=["dora", "carl"])
    started.load(lived.packed(0))
    for folded in (lived, started):
        folded.blocks.fold(b'["dora","ann","ann"]', START_MS)
        assert folded.by_newest(folded.people.slot_or_new("ann")) == ["dora", "bob"]
    assert started.facts() == lived.facts()


def test_newest_first_over_shards_goes_by_hive_time_not_by_the_order_of_folding() -> None:
    users = [next(user for user in USERS if Folded(3).people.shards.of(user) == shard) for shard in range(3)]
    times = dict(zip(users, (START_MS + 5, START_MS + 9, START_MS + 7), strict=True))
    for order in (users, users[::-1]):
        folded = Folded(3)
        for user in order:
            folded.blocks.fold(f'["{user}","x","x"]'.encode(), times[user])
        assert folded.by_newest(folded.people.slot_or_new("x")) == [users[1], users[2], users[0]]


def test_another_secret_gives_other_hashes_and_the_same_people(seed: int) -> None:
    folded, _ = some_people(seed)
    other = Sealer(b"another secret, also of thirty-two bytes")
    started = Folded(1, other)
    started.load(folded.packed(0))
    assert _but_whom_it_was_shown(started) == _but_whom_it_was_shown(folded)
    for slot, user in enumerate(started.people.ids):
        assert int(started.people.hashes[slot]) == other.hash64("person", user)


def _but_whom_it_was_shown(folded: Folded) -> dict[str, object]:
    """Marks made with another secret are nobody's."""
    facts = {name: fact for name, fact in folded.facts().items() if isinstance(fact, dict)}
    return {name: {kind: what for kind, what in fact.items() if kind != "was shown"} for name, fact in facts.items()}


def test_known_hashes_are_taken_as_they_are(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folded, _ = some_people(seed)
    started = Folded(1)
    with monkeypatch.context() as patch:
        patch.setattr(started.people, "hash_of", None)
        state = unpack(folded.packed(0))
        started.sharded.load(
            replace(state, mentioned=[], halves={k: v[:0] for k, v in state.halves.items()}, blocks=[])
        )
    assert [int(h) for h in started.people.hashes[: len(state.ids)]] == list(map(folded.people.hash_of, state.ids))


def test_a_load_in_steps_ends_as_one_at_once(seed: int) -> None:
    folded, _ = some_people(seed, 2)
    started = Folded(2)
    assert sum(1 for _ in started.sharded.load_in_steps(unpack(folded.packed(0)))) >= 2
    assert not started.presence.in_step
    started.load(folded.packed(1))
    assert started.presence.in_step
    assert started.facts() == folded.facts()


def test_an_empty_shard() -> None:
    folded = Folded(2)
    state = folded.load(folded.packed(1))
    assert state.ids == state.mentioned == state.blocks == []
    assert state.head.digest == 0
    assert folded.presence.edges(1) == ShardEdges()


def test_chunks_are_small_and_many_people_fit(seed: int) -> None:
    draws = np.random.default_rng(seed)
    folded, count = Folded(1), 90_000
    folded.people.slots_or_new([f"u{n}" for n in range(count)])
    folded.presence.fit()
    cells8 = draws.integers(1, 2**63, count).astype(np.uint64)
    folded.presence.published[:count] = folded.presence.pending[:count] = cells8
    packed = folded.packed(0)
    assert len(packed) > 2
    assert {len(chunk) for chunk in packed[:-1]} == {MAX_CHUNK_BYTES}
    started = Folded(1)
    state = started.load(packed)
    assert len(state.ids) == count
    assert started.digest() == folded.digest()


# --- bytes that are not what was packed ---


def test_a_later_format_is_refused_by_name(seed: int) -> None:
    data = bytearray(b"".join(some_people(seed)[0].packed(0)))
    data[4] = FORMAT + 1
    with pytest.raises(UnknownVersion, match=f"format {FORMAT + 1}"):
        unpack([bytes(data)])


def test_damage_anywhere_is_noticed(seed: int) -> None:
    draws = random.Random(seed)
    data = b"".join(some_people(seed)[0].packed(0))
    for _ in range(300):
        at, bit = draws.randrange(len(data)), draws.randrange(8)
        broken = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        with pytest.raises(ValueError, match="checkpoint"):
            unpack([broken])
    for length in [*range(20), *(draws.randrange(len(data)) for _ in range(50))]:
        with pytest.raises(ValueError, match="checkpoint"):
            unpack([data[:length]])


def test_chunks_in_another_order_are_noticed(seed: int) -> None:
    data = b"".join(some_people(seed)[0].packed(0))
    parts = [data[a:b] for a, b in pairwise(range(0, len(data) + 64, 64))]
    assert unpack(parts).head
    with pytest.raises(ValueError, match="checkpoint"):
        unpack([parts[0], *parts[:0:-1]])


def test_a_checkpoint_of_another_number_of_shards_is_refused_and_changes_nothing(seed: int) -> None:
    folded, _ = some_people(seed, 3)
    facts = folded.facts()
    with pytest.raises(ValueError, match="of 1 shards, here are 3"):
        folded.load(Folded(1).packed(0))
    assert folded.facts() == facts


def test_the_digest_of_a_checkpoint_is_that_of_its_columns(seed: int) -> None:
    state = unpack(some_people(seed)[0].packed(0))
    columns = state.columns
    found = kernels.digest(
        state.hashes.copy(), columns["published"].copy(), columns["pending"].copy(), columns["live_until_ms"].copy()
    )
    assert int(found) == state.head.digest


def test_the_checksum_is_that_of_the_file(seed: int) -> None:
    data = b"".join(some_people(seed)[0].packed(0))
    assert int.from_bytes(data[-4:], "little") == zlib.crc32(data[:-4])
