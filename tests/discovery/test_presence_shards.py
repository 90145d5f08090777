"""Several shards: in whatever order their feeds are read, together or one by one, the same is published of all."""

import random
from dataclasses import dataclass

import numpy as np
import pytest

from discovery.people import People
from discovery.presence import Presence
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, Report, pack, unpack
from discovery.sealed import Sealer
from discovery.store.keys import Shards
from geo.privacy import Epochs
from tests import naive_presence as naive
from tests.discovery.histories import CELLS8, EPOCH_MS, START_MS, STRANGER_EPOCH_MS, USERS

SEALER = Sealer(b"secret of the shard tests, of 32 bytes")
SHARDS = 3
FLAGS = CLAIM_TOLD | CLAIM_KNOWN | CLAIM_ADULT | OWN


@dataclass(frozen=True, slots=True)
class Entry:
    """A tick (no reports) or reports of one shard, and the epoch length that its last tick announced."""

    now_ms: int
    epoch_ms: int
    reports: tuple[tuple[str, int, int], ...] = ()


def drawn_feeds(draws: random.Random, epochs_ms: list[int], acts: int = 120) -> list[list[Entry]]:
    """Feeds that run a little apart, in which the epoch length changes a little apart too."""
    shards = Shards(SHARDS)
    feeds: list[list[Entry]] = [[Entry(START_MS + 5, epochs_ms[0])] for _ in shards.all()]
    now_ms, epoch_ms = START_MS + 1000, [epochs_ms[0]] * SHARDS
    for _ in range(acts):
        now_ms += draws.choice([0, 3, 1000, 20_000, EPOCH_MS // 7, EPOCH_MS, STRANGER_EPOCH_MS])
        shard = draws.randrange(SHARDS)
        if draws.random() < 0.3:
            epoch_ms[shard] = draws.choice(epochs_ms)
        mine = [user for user in USERS if shards.of(user) == shard]
        rows = [(draws.choice(mine), draws.choice(CELLS8), draws.choice([0, 60_000, 9_000_000])) for _ in range(3)]
        at_ms = max(feeds[shard][-1].now_ms, now_ms + draws.choice([0, 0, 40]))
        expiring = tuple((user, cell, at_ms + ttl_ms if ttl_ms else 0) for user, cell, ttl_ms in rows)
        feeds[shard].append(Entry(at_ms, epoch_ms[shard], expiring if draws.random() < 0.8 else ()))
    for feed in feeds:  # in the end all have one epoch length, for a whole stranger epoch of each
        feed += [Entry(now_ms + step_ms, EPOCH_MS) for step_ms in (50, 4 * STRANGER_EPOCH_MS)]
    return feeds


class Worker:
    """The folded presence of one worker."""

    def __init__(self) -> None:
        self.people = People(SEALER, require_age=True, shards=Shards(SHARDS))
        self.presence = Presence(self.people, SEALER.epoch_key)

    def fold(self, shard: int, entry: Entry) -> None:
        if entry.reports:
            rows = [Report(user, cell, expiry_ms, FLAGS) for user, cell, expiry_ms in entry.reports]
            self.presence.fold_reports(unpack(pack(rows)), entry.now_ms, shard)

    def replay(self, shard: int, feed: list[Entry]) -> None:
        for entry in feed:
            self.presence.on_time(entry.now_ms, entry.epoch_ms, shard)
            self.fold(shard, entry)

    def follow(self, feeds: list[list[Entry]], draws: random.Random) -> None:
        """Read the feeds in any order. Who is in front of an edge waits until all are; then all cross at once."""
        self.presence.keep_digests()
        read, waits = [0] * SHARDS, [0] * SHARDS
        while any(read[shard] < len(feeds[shard]) for shard in range(SHARDS)):
            shard = draws.choice([shard for shard in range(SHARDS) if read[shard] < len(feeds[shard])])
            entry = feeds[shard][read[shard]]
            self.presence.set_epoch(entry.epoch_ms, shard)
            edge_ms = Epochs(entry.epoch_ms).last_edge(entry.now_ms)
            if edge_ms > self.presence.edges(shard).edge_ms:
                waits[shard] = edge_ms
                self.presence.cross_all(min(self.reached(shard, waits) for shard in range(SHARDS)))
            if edge_ms <= self.presence.edges(shard).edge_ms:
                self.fold(shard, entry)
                read[shard], waits[shard] = read[shard] + 1, 0

    def reached(self, shard: int, waits: list[int]) -> int:
        return max(waits[shard], self.presence.edges(shard).edge_ms)

    def rows(self) -> dict[str, naive.Person]:
        real, found = self.presence, {}
        for user in USERS:
            slot = self.people.slot_or_new(user)
            real.fit()
            columns = (real.published, real.stranger, real.pending, real.live_until_ms, real.seen_ms)
            found[user] = naive.Person(*(int(column[slot]) for column in columns))
        return found

    def edges(self) -> list[tuple[int, int]]:
        every = [self.presence.edges(shard) for shard in range(SHARDS)]
        return [(edges.edge_ms, edges.stranger_edge_ms) for edges in every]


def naive_rows(feeds: list[list[Entry]]) -> dict[str, naive.Person]:
    """Each shard by itself, by the slow twin."""
    found = {user: naive.Person() for user in USERS}
    for feed in feeds:
        twin = naive.NaivePresence()
        for entry in feed:
            twin.on_time(entry.now_ms, entry.epoch_ms)
            for user, cell, expiry_ms in entry.reports:
                twin.report(user, cell, expiry_ms, entry.now_ms)
        found.update(twin.people)
    return found


@pytest.mark.parametrize("epochs_ms", [[EPOCH_MS], [300_000, EPOCH_MS, 1_000_000]])
def test_followed_in_any_order_replayed_and_by_the_twin(seed: int, scale: int, epochs_ms: list[int]) -> None:
    for run in range(10 * scale):
        draws = random.Random(seed + run)
        feeds = drawn_feeds(draws, epochs_ms)
        followers = [Worker(), Worker()]
        for follower in followers:
            follower.follow(feeds, draws)
        replayer = Worker()
        for shard in draws.sample(range(SHARDS), SHARDS):
            replayer.replay(shard, feeds[shard])
        expected = naive_rows(feeds)
        for worker in (*followers, replayer):
            assert worker.rows() == expected, seed + run
            assert worker.edges() == followers[0].edges(), seed + run
            assert worker.presence.in_step
            assert worker.presence.edge_ms == min(edge_ms for edge_ms, _ in worker.edges())
            assert worker.presence.stranger_edge_ms == min(edge_ms for _, edge_ms in worker.edges())
        one, two = (follower.presence.digests for follower in followers)
        assert one
        assert all(two[edge_ms] == digest for edge_ms, digest in one.items() if edge_ms in two), seed + run
        if len(epochs_ms) == 1:
            assert one == two
        assert not replayer.presence.digests


def test_all_cross_in_one_step_or_none() -> None:
    worker = Worker()
    for shard in range(SHARDS):
        worker.presence.set_epoch(EPOCH_MS, shard)
    assert not worker.presence.in_step, "no edge yet"
    assert worker.presence.cross_all(START_MS + 5)
    assert not worker.presence.cross_all(START_MS + 5)
    assert worker.presence.in_step
    assert worker.edges() == [(START_MS, START_MS)] * SHARDS


def test_a_shard_that_crosses_alone_is_ahead_until_all_have_crossed() -> None:
    worker = Worker()
    for shard in range(SHARDS):
        worker.presence.on_time(START_MS, EPOCH_MS, shard)
        assert worker.presence.in_step == (shard == SHARDS - 1)
    worker.presence.on_time(START_MS + EPOCH_MS, EPOCH_MS, 1)
    assert not worker.presence.in_step
    assert worker.presence.edge_ms == START_MS, "that of all"
    worker.presence.cross_all(START_MS + EPOCH_MS)
    assert worker.presence.in_step
    assert worker.presence.edge_ms == START_MS + EPOCH_MS


def test_a_digest_is_taken_only_where_all_cross_at_once() -> None:
    """A worker that restored a shard to some place behind the edge sees another moment of it than the others saw."""
    worker = Worker()
    worker.presence.keep_digests()
    for shard in range(SHARDS):
        worker.presence.on_time(START_MS, EPOCH_MS, shard)
    assert worker.presence.in_step
    worker.presence.on_time(START_MS + EPOCH_MS, EPOCH_MS, 1)
    worker.presence.cross_all(START_MS + EPOCH_MS)
    assert worker.presence.in_step
    assert not worker.presence.digests
    worker.presence.cross_all(START_MS + 2 * EPOCH_MS)
    assert list(worker.presence.digests) == [START_MS + 2 * EPOCH_MS]
    worker.presence.drop(2)
    assert not worker.presence.digests, "they may be of what had gone astray"


def test_a_shard_without_a_tick_holds_all_back() -> None:
    worker = Worker()
    worker.presence.on_time(START_MS, EPOCH_MS, 0)
    worker.presence.on_time(START_MS, EPOCH_MS, 1)
    worker.presence.on_time(START_MS, 0, 2)
    worker.presence.cross_all(START_MS + EPOCH_MS)
    assert not worker.presence.in_step
    assert worker.presence.edge_ms == 0


def test_only_its_people_are_published_when_a_shard_crosses_alone() -> None:
    worker = Worker()
    for shard in range(SHARDS):
        worker.presence.on_time(START_MS, EPOCH_MS, shard)
    for cell in CELLS8[:2]:
        for user in USERS:
            entry = Entry(START_MS + 5, EPOCH_MS, ((user, cell, START_MS + 9_000_000),))
            worker.fold(worker.people.shards.of(user), entry)
    worker.presence.on_time(START_MS + EPOCH_MS, EPOCH_MS, 1)
    for user, row in worker.rows().items():
        assert row.published == CELLS8[worker.people.shards.of(user) == 1], user
        assert row.stranger == CELLS8[0], user


def test_a_shard_absent_for_long_is_judged_by_its_own_edges() -> None:
    """The others have crossed nothing yet: they say nothing about how long its people were away."""
    worker = Worker()
    user = next(user for user in USERS if worker.people.shards.of(user) == 2)
    for now_ms, cell in ((START_MS, CELLS8[0]), (START_MS + 5 * STRANGER_EPOCH_MS, CELLS8[1])):
        worker.presence.on_time(now_ms, EPOCH_MS, 2)
        worker.fold(2, Entry(now_ms, EPOCH_MS, ((user, cell, now_ms + 1000),)))
        assert worker.rows()[user].published == cell
    slot = worker.people.slot(user)
    assert worker.presence.extended_edge_ms[slot] == START_MS + 5 * STRANGER_EPOCH_MS
    assert worker.presence.edge_ms == 0


def test_new_people_by_the_batch_get_their_own_slot_hash_and_shard(seed: int) -> None:
    draws = random.Random(seed)
    people, apart = (People(SEALER, require_age=True, shards=Shards(SHARDS)) for _ in range(2))
    for _ in range(40):
        batch = [f"u{draws.randrange(3000)}" for _ in range(draws.randrange(200))]
        slots = people.slots_or_new(batch)
        assert slots.dtype == np.int32
        assert slots.tolist() == [apart.slot_or_new(user) for user in batch] == [people.slot(user) for user in batch]
    assert list(people.ids) == list(apart.ids)
    assert len(set(people.ids)) == len(people) > 1024
    for slot, user in enumerate(people.ids):
        assert int(people.hashes[slot]) == people.hash_of(user)
        assert int(people.shard[slot]) == people.shards.of(user)
    every = [people.of_shard(shard).tolist() for shard in range(SHARDS)]
    assert sorted(slot for slots in every for slot in slots) == list(range(len(people)))
    assert all(every)


def test_a_clear_counts_at_once_though_another_shard_is_behind() -> None:
    """A shard's entries have its own time; questions are asked at the time of the slowest."""
    worker = Worker()
    user = USERS[0]
    shard = Shards(SHARDS).of(user)
    reported = Entry(START_MS, EPOCH_MS, ((user, CELLS8[0], START_MS + 9_000_000),))
    for number in range(SHARDS):
        worker.replay(number, [Entry(START_MS, EPOCH_MS), *([reported] if number == shard else [])])
    worker.people.fold_settings({"u": user, "visibility": "everyone", "until": 0}, START_MS)
    slot = worker.people.slot(user)
    assert slot is not None
    assert slot in worker.presence.crowd(START_MS)
    worker.presence.fold_clear(user, START_MS + 2000)
    slowest_ms = START_MS + 1
    assert not worker.presence.is_live(slot, slowest_ms)
    assert worker.presence.count_live(slowest_ms) == 0
    assert worker.presence.shown_until_ms[slot] <= slowest_ms
