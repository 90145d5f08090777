"""The lease rules: no class A entry is answered while a worker holds without it, whatever is late or lost."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from discovery.store import keys
from discovery.store.embedded import EmbeddedServer
from discovery.store.feed import EntryId
from discovery.store.scripts import Script
from discovery.store.shard_lease import DEAD_S, FOLDED, LAG_S, LOADED, VALID_S, Renewal, ShardLease

TAG = "s00"
LEASE = Script("lease")
NONE: EntryId = (0, 0)


class Server(Protocol):
    """Where rows and entries live."""

    def append(self, entry: EntryId) -> None: ...

    def run(self, worker: str, args: Sequence[Any]) -> Any: ...


class RealServer:
    """The script on a real server."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        client.flushall()

    def append(self, entry: EntryId) -> None:
        self.client.xadd(keys.feed(TAG), {"k": "s"}, id=f"{entry[0]}-{entry[1]}")

    def run(self, worker: str, args: Sequence[Any]) -> Any:
        return self.client.eval(LEASE.text.decode(), 2, keys.leases(TAG), keys.feed(TAG), worker, *args)


class NaiveServer:
    """What ``lease.lua`` does, slowly said again."""

    def __init__(self) -> None:
        self.newest = NONE
        self.rows: dict[bytes, bytes] = {}

    def append(self, entry: EntryId) -> None:
        self.newest = entry

    def run(self, worker: str, args: Sequence[Any]) -> Any:
        row, beat, *dead = args
        name = worker.encode()
        _, _, beat_before, born, since = self.rows.get(name, b"||0||").split(b"|")
        if int(beat_before) < int(beat):
            self.rows.pop(name, None)
            if row:
                parts = [row, beat, born or beat, since or b"%d-%d" % self.newest]
                self.rows[name] = b"|".join(str(p).encode() if isinstance(p, int) else p for p in parts)
        for other, text in zip(dead[::2], dead[1::2], strict=True):
            if self.rows.get(other) == text:
                del self.rows[other]
        return [born, b"%d-%d" % self.newest, *(part for pair in self.rows.items() for part in pair)]


@dataclass
class Sent:
    """A renewal on its way, and its reply once the server has run it."""

    worker: str
    renewal: Renewal
    number: int
    reply: Any = None


@dataclass
class Worker:
    """One process: its rules, what it has folded, its own clock, and the class A writes that it is to answer."""

    lease: ShardLease
    clock_ahead_s: float
    position: EntryId = NONE
    flight: Sent | None = None
    sent: int = 0
    waits: list[tuple[EntryId, int]] = field(default_factory=list)  # entry, and renewals sent before it


class World:
    """Workers, a server that runs what arrives, and the entries that were answered. Time is ``now_s``."""

    def __init__(self, server: Server, workers: int = 3) -> None:
        self.server = server
        self.now_s = 1000.0
        self.entries: list[EntryId] = []
        self.add_entry()
        self.started = 0
        self.workers = [self.new_worker() for _ in range(workers)]
        self.late: list[Sent] = []
        self.answered = NONE
        self.counts: Counter[str] = Counter()

    def new_worker(self) -> Worker:
        self.started += 1
        return Worker(ShardLease(f"w{self.started}"), 500.0 * self.started)

    def clock(self, worker: Worker) -> float:
        return self.now_s + worker.clock_ahead_s

    def holds(self, worker: Worker) -> bool:
        return worker.lease.holds(worker.position, self.clock(worker))

    def add_entry(self) -> EntryId:
        entry = (len(self.entries) + 1, 0)
        self.server.append(entry)
        self.entries.append(entry)
        return entry

    def fold(self, worker: Worker, count: int) -> None:
        worker.position = max(worker.position, self.entries[min(worker.position[0] + count, len(self.entries)) - 1])

    def send(self, worker: Worker) -> None:
        if worker.flight is None:
            worker.sent += 1
            renewal = worker.lease.renewal(worker.position, NONE, self.clock(worker))
            worker.flight = Sent(worker.lease.worker, renewal, worker.sent)

    def execute(self, sent: Sent | None) -> None:
        if sent is not None and sent.reply is None:
            sent.reply = self.server.run(sent.worker, sent.renewal.args)

    def deliver(self, worker: Worker) -> None:
        sent, worker.flight = worker.flight, None
        if sent is None:
            return
        self.execute(sent)
        worker.lease.answered(sent.renewal, sent.reply, self.clock(worker))
        for entry, sent_before in list(worker.waits):
            asked_after = sent.number > sent_before
            if asked_after and worker.lease.everyone_has(FOLDED, entry, sent.renewal, worker.position):
                worker.waits.remove((entry, sent_before))
                self.answered = max(self.answered, entry)
                self.counts["answered"] += 1

    def lose(self, worker: Worker) -> None:
        """The caller gives up; the server has run the call, runs it later, or never."""
        if worker.flight is not None and worker.flight.reply is None:
            self.late.append(worker.flight)
        worker.flight = None

    def round(self, worker: Worker) -> None:
        self.send(worker)
        self.deliver(worker)

    def step(self, act: str, who: int, amount: int) -> None:
        worker = self.workers[who]
        if act == "pass":
            self.now_s += (0.05, 0.1, 0.25, 0.6, 1.2, 2.1)[amount]
        elif act == "append":
            worker.waits.append((self.add_entry(), worker.sent))
        elif act == "fold":
            self.fold(worker, (1, 2, 3, 99, 99, 99)[amount])
        elif act == "reload":
            worker.position = self.entries[amount % len(self.entries)]
        elif act == "send":
            self.send(worker)
        elif act == "execute":
            self.execute(worker.flight)
        elif act == "deliver":
            self.deliver(worker)
        elif act == "lose":
            self.lose(worker)
        elif act == "late" and self.late:
            self.execute(self.late.pop(amount % len(self.late)))
        elif act == "round":
            self.round(worker)
        elif act == "leave":
            worker.lease.give_up()
        elif act == "restart":
            self.lose(worker)
            self.workers[who] = self.new_worker()
        elif act == "all":
            self.all_once()
        elif act == "rows lost":
            assert isinstance(self.server, NaiveServer)
            if all(other.lease.since is not None for other in self.workers):
                self.server.rows.clear()
        self.check()

    def all_once(self) -> None:
        """A quarter of a second in which nothing is in the way."""
        for worker in self.workers:
            self.fold(worker, len(self.entries))
            self.round(worker)
            self.fold(worker, len(self.entries))
        self.now_s += 0.25
        self.check()

    def settle(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.all_once()

    def check(self) -> None:
        """The rule."""
        for worker in self.workers:
            if self.holds(worker):
                self.counts["held"] += 1
                assert worker.position >= self.answered, (worker.lease.worker, worker.position, self.answered)

    def check_end(self) -> None:
        """Whatever happened: they come together again, and class A writes are answered."""
        self.settle(DEAD_S + LAG_S + 1.0)
        assert all(self.holds(worker) for worker in self.workers)
        assert not any(worker.waits for worker in self.workers)


ACTS = ["pass"] * 3 + ["append"] * 3 + ["fold"] * 4 + ["send"] * 4 + ["execute"] * 2 + ["deliver"] * 4 + ["round"] * 5
ACTS += ["lose"] * 2 + ["late"] * 2 + ["reload", "leave", "restart", "all"]
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 2), st.integers(0, 5)), min_size=10, max_size=150)


def play(server: Server, steps: list[tuple[str, int, int]]) -> Counter[str]:
    world = World(server)
    for act, who, amount in steps:
        world.step(act, who, amount)
    world.check_end()
    return world.counts


@given(steps=STEPS)
def test_no_class_a_write_is_answered_while_somebody_holds_without_it(steps: list[tuple[str, int, int]]) -> None:
    play(NaiveServer(), steps)


def test_the_rule_in_long_stories(seed: int, scale: int) -> None:
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    for _ in range(400 * scale):
        steps = [(chance.choice(ACTS), chance.randrange(3), chance.randrange(6)) for _ in range(200)]
        counts += play(NaiveServer(), steps)
    assert counts["answered"] > 4_000 * scale
    assert counts["held"] > 40_000 * scale


def test_rows_that_vanish_let_nothing_through(seed: int, scale: int) -> None:
    """A state emptied under workers that all had joined; one that joins just then cannot know of the others."""
    chance = random.Random(seed)
    acts = [act for act in ACTS if act not in ("reload", "leave", "restart")] + ["rows lost"] * 2
    for _ in range(300 * scale):
        world = World(NaiveServer())
        world.settle(1.0)
        for _ in range(100):
            world.step(chance.choice(acts), chance.randrange(3), chance.randrange(6))
        world.check_end()


def test_the_rule_on_a_real_server(client: redis.Redis, seed: int, scale: int) -> None:
    chance = random.Random(seed)
    for _ in range(15 * scale):
        steps = [(chance.choice(ACTS), chance.randrange(3), chance.randrange(6)) for _ in range(150)]
        play(RealServer(client), steps)


@pytest.fixture
def client(state_server: EmbeddedServer) -> Iterator[redis.Redis]:
    opened = redis.Redis.from_url(state_server.url)
    yield opened
    opened.close()


def test_the_script_does_what_its_twin_does(client: redis.Redis, seed: int) -> None:
    chance = random.Random(seed)
    real, naive = RealServer(client), NaiveServer()
    for number in range(1, 1500):
        if chance.random() < 0.2:
            real.append((number, 0))
            naive.append((number, 0))
        row = b"%d-0|0-%d" % (chance.randrange(9), chance.randrange(9)) if chance.random() < 0.7 else b""
        seen = [part for pair in naive.rows.items() for part in pair] + [b"w1", b"another"]
        dead = seen if chance.random() < 0.1 else []
        beat = max(1, number - chance.choice([0, 0, 0, 1, 5, 20]))
        args: list[bytes | str | int] = [row, beat, *dead]
        worker = f"w{chance.randrange(5)}"
        had, newest, *rows = real.run(worker, args)
        had_then, newest_then, *rows_then = naive.run(worker, args)
        assert (had, newest) == (had_then, newest_then)
        assert dict(zip(rows[::2], rows[1::2], strict=True)) == dict(zip(rows_then[::2], rows_then[1::2], strict=True))


# --- single rules ---


def joined(position: EntryId = (5, 0), others: tuple[bytes, ...] = ()) -> tuple[ShardLease, NaiveServer]:
    """A lease that holds at time 0.0 on a feed that ends at ``position``."""
    lease, server = ShardLease("me"), NaiveServer()
    server.append(position)
    server.rows.update((b"other%d" % number, row) for number, row in enumerate(others))
    for _ in range(2):
        renew(lease, server, position, 0.0)
    assert lease.holds(position, 0.0)
    return lease, server


def renew(lease: ShardLease, server: NaiveServer, position: EntryId, now_s: float, answer_s: float = 0.0) -> Renewal:
    renewal = lease.renewal(position, position, now_s)
    lease.answered(renewal, server.run("me", renewal.args), now_s + answer_s)
    return renewal


def test_a_lease_lasts_from_when_its_renewal_was_sent() -> None:
    lease, server = joined()
    renew(lease, server, (5, 0), 1.0, answer_s=0.4)
    assert lease.holds((5, 0), 1.0 + VALID_S)
    assert not lease.holds((5, 0), 1.001 + VALID_S)


def test_a_row_is_dropped_after_two_seconds_of_the_same_text_and_never_a_changed_one() -> None:
    row = b"5-0|0-0|7|1|1-0"
    lease, server = joined(others=(row, row))
    for tenths in range(1, int(10 * DEAD_S)):
        renew(lease, server, (5, 0), tenths / 10)
    server.rows[b"other1"] = b"5-0|0-0|8|1|1-0"
    assert set(server.rows) == {b"me", b"other0", b"other1"}
    renew(lease, server, (5, 0), DEAD_S)
    assert set(server.rows) == {b"me", b"other1"}


def test_an_answer_that_comes_late_counts_from_when_it_came() -> None:
    lease, server = joined()
    server.rows[b"other"] = b"5-0|0-0|7|1|1-0"
    renew(lease, server, (5, 0), 0.1, answer_s=0.4)
    renew(lease, server, (5, 0), 0.2 + DEAD_S)
    assert b"other" in server.rows
    renew(lease, server, (5, 0), 0.5 + DEAD_S)
    assert b"other" not in server.rows


@pytest.mark.parametrize(
    ("row", "column", "has"),
    [
        (b"5-0|4-0|1|1|1-0", FOLDED, True),
        (b"5-0|4-0|1|1|1-0", LOADED, False),
        (b"4-9|5-0|1|1|1-0", FOLDED, False),
        (b"5-1|5-0|1|1|1-0", FOLDED, False),  # more than the feed holds: of a feed that is lost
        (b"what is this", FOLDED, False),
    ],
)
def test_what_a_row_says(row: bytes, column: int, has: bool) -> None:
    lease, server = joined(others=(row,))
    renewal = renew(lease, server, (5, 0), 0.1)
    assert lease.everyone_has(column, (5, 0), renewal, (5, 0)) is has


def test_a_feed_that_lost_its_newest_entries_ends_the_lease() -> None:
    lease, server = joined()
    server.newest = (4, 0)
    renewal = lease.renewal((5, 0), (5, 0), 0.1)
    assert not lease.answered(renewal, server.run("me", renewal.args), 0.1)
    assert not lease.holds((5, 0), 0.1)


def test_a_row_that_vanished_too_soon_shows_another_state() -> None:
    lease, server = joined()
    for now_s, sees_another in ((0.1, True), (5.0, False)):  # after 5 s somebody may have dropped it
        server.rows.clear()
        renewal = lease.renewal((5, 0), (5, 0), now_s)
        assert lease.answered(renewal, server.run("me", renewal.args), now_s) is not sees_another


def test_a_worker_joins_only_when_it_keeps_up_and_leaves_when_it_does_not() -> None:
    lease, server = ShardLease("me"), NaiveServer()
    server.append((9, 0))
    renew(lease, server, (1, 0), 0.0)
    renew(lease, server, (9, 0), 2.0)  # it took two seconds: by now there may be as much again
    assert not server.rows
    renew(lease, server, (9, 0), 2.1)
    assert lease.holds((9, 0), 2.1)
    server.append((10, 0))
    for tenths in range(22, 22 + int(10 * LAG_S)):
        renew(lease, server, (9, 0), tenths / 10)
        assert server.rows
    renew(lease, server, (9, 0), 2.3 + LAG_S)
    assert not server.rows
    assert not lease.holds((9, 0), 2.3 + LAG_S)


@pytest.mark.parametrize("worker", ["", "a|b"])
def test_a_name_that_would_break_a_row_is_refused(worker: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ShardLease(worker)


# --- several nodes ---


def renew_at(lease: ShardLease, server: NaiveServer, node: str, now_s: float) -> Renewal:
    renewal = lease.renewal((5, 0), (5, 0), now_s, node)
    lease.answered(renewal, server.run("me", renewal.args), now_s)
    return renewal


def test_a_lease_holds_from_when_most_masters_were_asked_and_named_the_node_of_its_last_renewal() -> None:
    lease, server = ShardLease("me"), NaiveServer()
    server.append((5, 0))
    for now_s in (0.0, 0.1):
        renew_at(lease, server, "a", now_s)
    assert not lease.holds((5, 0), 0.1), "nobody was asked"
    lease.owned_by("b", 0.2)
    assert not lease.holds((5, 0), 0.2), "another node owns it"
    lease.owned_by("a", 0.3)
    assert lease.holds((5, 0), 0.1 + VALID_S)
    assert not lease.holds((5, 0), 0.15 + VALID_S), "the renewal was sent before"
    renew_at(lease, server, "a", 1.0)
    assert lease.holds((5, 0), 0.3 + VALID_S)
    assert not lease.holds((5, 0), 0.35 + VALID_S), "the masters were asked before"


def test_a_renewal_at_the_old_master_and_the_word_of_the_new_one_do_not_add_up() -> None:
    lease, server = ShardLease("me"), NaiveServer()
    server.append((5, 0))
    for now_s in (0.0, 0.1):
        renew_at(lease, server, "a", now_s)
    lease.owned_by("a", 0.1)
    lease.renewal((5, 0), (5, 0), 1.0, "b")  # and no answer comes
    lease.owned_by("b", 1.1)
    assert lease.holds((5, 0), 0.1 + VALID_S)
    assert not lease.holds((5, 0), 0.15 + VALID_S)
    renew_at(lease, server, "b", 1.2)
    assert lease.holds((5, 0), 1.1 + VALID_S)


def test_who_meets_another_node_counts_no_look_for_two_seconds() -> None:
    lease, server = ShardLease("me"), NaiveServer()
    server.append((5, 0))
    for node, from_s in (("a", 0.0), ("b", 10.0)):
        early, late = (renew_at(lease, server, node, from_s + after_s) for after_s in (0.0, DEAD_S))
        assert not lease.everyone_has(FOLDED, (5, 0), early, (5, 0))
        assert lease.everyone_has(FOLDED, (5, 0), late, (5, 0))
