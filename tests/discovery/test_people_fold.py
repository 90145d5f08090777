"""Reports that follow each other are applied in one go: nobody can tell, whatever else stands between them."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from discovery import reports
from discovery.exposure import DAY_MS, Exposure, Look, pack_looks
from discovery.people_fold import PeopleFold
from discovery.presence import Presence
from discovery.reports import CLAIM_TOLD, LIFE_SHIFT, OWN, Report, pack
from tests.discovery.histories import CELLS8, EPOCH_MS, START_MS, Entry, Folded, History

HISTORIES = 12
ACTS = 150
_AS_JSON = {"s", "f", "x", "p", "l", "m", "v"}


class InRuns:
    """A worker's fold of entries as they come off the feeds."""

    def __init__(self, shards: int) -> None:
        self.all = Folded(shards)
        parts = self.all.people, self.all.presence, self.all.friendships, self.all.blocks
        self.fold = PeopleFold(*parts, lambda *_: None, lambda _: None)

    def take(self, shard: int, entry: Entry, epoch_ms: int) -> None:
        self.fold.announce(shard, epoch_ms)
        self.fold.cross_alone(shard, entry.now_ms)
        if entry.kind:
            self.fold.fold(shard, entry.kind, payload_of(entry), entry.now_ms)


def payload_of(entry: Entry) -> bytes:
    if entry.kind == "r":
        return pack(entry.content)
    return orjson.dumps(entry.content) if entry.kind in _AS_JSON else str(entry.content).encode()


def in_parts(feed: list[Entry]) -> Iterator[Entry]:
    """Each batch of reports as several entries, so that there are runs."""
    for entry in feed:
        rows = entry.content if entry.kind == "r" else []
        if not rows:
            yield entry
        for start in range(0, len(rows), 2):
            yield replace(entry, content=rows[start : start + 2])


def told(folded: Folded, now_ms: int) -> dict[str, Any]:
    """All answers. Who is a member of the index and shown to nobody is no answer."""
    found = folded.answers(now_ms)
    del found["crowd"]
    for answers in found.values():
        if isinstance(answers, dict) and not answers["shown"]:
            del answers["in crowd"]
    return found


@pytest.mark.parametrize("shards", [1, 3])
def test_runs_of_reports_come_out_as_each_alone(seed: int, scale: int, shards: int) -> None:
    for run in range(HISTORIES * scale):
        draws = random.Random(seed + run)
        history = History(draws, shards, ACTS)
        one_by_one, in_runs = Folded(shards), InRuns(shards)
        feeds = [list(in_parts(feed)) for feed in history.feeds]
        epoch_ms = EPOCH_MS
        while any(feeds):
            shard = draws.choice([shard for shard, feed in enumerate(feeds) if feed])
            epoch_ms = draws.choice([epoch_ms] * 20 + [EPOCH_MS // 3, EPOCH_MS])
            for _ in range(min(len(feeds[shard]), draws.randrange(1, 12))):
                entry = feeds[shard].pop(0)
                one_by_one.replay(shard, [entry], epoch_ms)
                in_runs.take(shard, entry, epoch_ms)
            if draws.random() < 0.6:
                in_runs.fold.settle()
                assert in_runs.all.facts() == one_by_one.facts(), seed + run
                assert told(in_runs.all, entry.now_ms) == told(one_by_one, entry.now_ms), seed + run
        in_runs.fold.settle()
        assert in_runs.all.facts() == one_by_one.facts()
        assert in_runs.all.digest() == one_by_one.digest()


class Counted:
    """How many batches presence was told of one by one, and in runs."""

    def __init__(self, presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alone, self.runs = 0, 0
        alone, runs = presence.fold_reports, presence.fold_run

        def fold_reports(*arguments: Any) -> None:
            self.alone += 1
            alone(*arguments)

        def fold_run(*arguments: Any) -> None:
            self.runs += 1
            runs(*arguments)

        monkeypatch.setattr(presence, "fold_reports", fold_reports)
        monkeypatch.setattr(presence, "fold_run", fold_run)


def entry_of(number: int) -> Entry:
    return Entry(START_MS + number, "r", [Report("ann", CELLS8[number], START_MS + 9_000_000, OWN)])


def test_a_run_is_one_step_until_somebody_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = InRuns(1)
    counted = Counted(worker.all.presence, monkeypatch)
    for number in range(5):
        worker.take(0, entry_of(number), EPOCH_MS)
    assert (counted.alone, counted.runs) == (0, 0)
    worker.fold.settle()
    assert (counted.alone, counted.runs) == (0, 1)
    assert worker.all.presence.pending[0] == CELLS8[4]
    worker.fold.settle()
    assert counted.runs == 1


def test_what_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shake, another kind, another epoch, an edge; and of who has cleared their position each report counts alone."""
    worker = InRuns(1)
    counted = Counted(worker.all.presence, monkeypatch)
    worker.take(0, entry_of(0), EPOCH_MS)
    worker.take(0, Entry(START_MS + 1, "r", [Report("ann", CELLS8[1], 0, 0)]), EPOCH_MS)
    assert (counted.alone, counted.runs, worker.all.presence.seen_ms[0]) == (1, 1, START_MS + 1)
    worker.take(0, entry_of(2), EPOCH_MS)
    worker.take(0, Entry(START_MS + 2, "c", "ann"), EPOCH_MS)
    assert (counted.alone, counted.runs, worker.all.presence.live_until_ms[0]) == (1, 2, START_MS + 2)
    by_app = Entry(START_MS + 3, "r", [Report("ann", CELLS8[3], START_MS + 9_000_000, 0)])
    for entry in (by_app, entry_of(4)):
        worker.take(0, entry, EPOCH_MS)
    worker.take(0, Entry(START_MS + 5, "", None), EPOCH_MS // 2)
    assert (counted.alone, counted.runs, worker.all.presence.pending[0]) == (3, 3, CELLS8[4])
    worker.take(0, entry_of(6), EPOCH_MS // 2)
    worker.take(0, Entry(START_MS + EPOCH_MS, "", None), EPOCH_MS // 2)
    assert (counted.runs, worker.all.presence.published[0]) == (4, CELLS8[6])


def test_broken_reports_are_left_out_of_a_run_and_a_later_version_ends_it() -> None:
    worker = InRuns(1)
    worker.take(0, entry_of(0), EPOCH_MS)
    worker.fold.fold(0, "r", b"\x01\x05", START_MS)
    worker.take(0, entry_of(1), EPOCH_MS)
    with pytest.raises(reports.UnknownVersion):
        worker.fold.fold(0, "r", b"\xff" + pack([])[1:], START_MS)
    worker.fold.settle()
    assert worker.all.presence.pending[0] == CELLS8[1]


@pytest.mark.parametrize("settled", [False, True])
def test_who_came_back_by_a_report_just_before_has_looked(settled: bool) -> None:
    """Reports wait in a run for as long as nothing else is read, which differs between workers; looks must not."""
    folded = InRuns(1)
    name = folded.all.people.tombstones.name("ann")
    for kind, content in (("s", {"u": "ann", "bottles": True}), ("e", ["ann", name, START_MS, 1])):
        folded.fold.fold(0, kind, orjson.dumps(content), START_MS)
    own = Report("ann", CELLS8[0], START_MS + EPOCH_MS, OWN | CLAIM_TOLD | 1 << LIFE_SHIFT)
    folded.fold.fold(0, "r", pack([own]), START_MS)
    if settled:
        folded.fold.settle()
    folded.fold.fold(0, "v", pack_looks([Look("ann", START_MS, True, 7, ("bob",))]), START_MS)
    folded.fold.settle()
    slot = folded.all.people.slot_or_new("ann")
    assert Exposure(folded.all.people).has_looked(slot, START_MS)


def test_whom_new_accounts_were_shown_is_forgotten_on_the_next_day() -> None:
    folded = InRuns(1)
    day = START_MS // DAY_MS
    folded.fold.announce(0, EPOCH_MS)
    for user, at_ms in (("ann", START_MS), ("bea", START_MS + DAY_MS)):
        folded.fold.fold(0, "v", pack_looks([Look(user, at_ms, True, 7, ("bob",))]), at_ms)
    shown = folded.all.people.shown
    assert folded.fold.cross_together(START_MS + EPOCH_MS)
    assert len(shown) == 2
    assert folded.fold.cross_together((day + 1) * DAY_MS)
    assert [folded.all.people.ids[slot] for slot in shown] == ["bea"]
