"""Whom new accounts were shown is kept by marks, not by ids: what they tell, and how checkpoints keep them."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import orjson
import pytest

from discovery import people as people_module
from discovery.exposure import DAY_MS, Exposure, Look
from discovery.sealed import Sealer
from discovery.shard_packing import pack, unpack
from discovery.shard_state import state_of
from tests.discovery.histories import EPOCH_MS, START_MS, Folded

DAY = START_MS // DAY_MS


def looked(viewers: int = 3, others: int = 50) -> Folded:
    """Each viewer was shown ``others`` strangers of whom nothing else is known."""
    folded = Folded(1)
    folded.presence.on_time(START_MS, EPOCH_MS)
    exposure = Exposure(folded.people)
    for viewer in range(viewers):
        strangers = tuple(f"stranger-{viewer}-{n}" for n in range(others))
        exposure.count(Look(f"viewer{viewer}", START_MS, True, 7, strangers))
    return folded


def test_a_mark_is_one_of_a_person_and_a_secret_whether_or_not_the_person_is_known() -> None:
    one, two, other = (
        Folded(1),
        Folded(1, known=["bob", "ann"]),
        Folded(1, Sealer(b"another secret, of 32 bytes and more")),
    )
    users = [f"u{n}" for n in range(1000)]
    slots = two.people.slots_or_new(users)
    marks = one.people.marks_of(users)
    assert marks.dtype == np.uint32
    assert (marks == two.people.marks(slots)).all()
    assert (marks == two.people.marks_of(users)).all()
    assert not np.isin(marks, other.people.marks_of(users)).any()
    assert not np.isin(marks, (two.people.hashes[slots] & np.uint64(0xFFFF_FFFF)).astype(np.uint32)).any()
    assert len(np.unique(marks)) == len(users)
    assert abs(np.unpackbits(marks.view(np.uint8)).mean() - 0.5) < 0.02


def test_no_id_of_a_stranger_is_kept() -> None:
    folded = looked()
    assert not any("stranger" in user for user in folded.people.ids)
    data = b"".join(folded.packed(0))
    state = unpack([data])
    assert not any("stranger" in user for user in (*state.ids, *state.mentioned))
    assert state.shown_ids == []
    started = Folded(1)
    started.load([data])
    assert {slot: (day, marks.tolist()) for slot, (day, marks, _) in started.people.shown.items()} == {
        started.people.slot_or_new(folded.people.ids[slot]): (day, marks.tolist())
        for slot, (day, marks, _) in folded.people.shown.items()
    }
    counts = [len(Exposure(started.people).shown(started.people.slot_or_new(f"viewer{n}"), DAY)) for n in range(3)]
    assert counts == [50, 50, 50]


def test_more_strangers_after_a_load_count_with_the_earlier() -> None:
    folded, started = looked(2, 10), Folded(1)
    started.load(folded.packed(0))
    for each in (folded, started):
        Exposure(each.people).count(Look("viewer0", START_MS, True, 7, ("stranger-0-3", "new")))
        assert len(Exposure(each.people).shown(each.people.slot_or_new("viewer0"), DAY)) == 11
        assert len(Exposure(each.people).shown(each.people.slot_or_new("viewer1"), DAY)) == 10


def test_a_checkpoint_of_format_2_names_people_by_id() -> None:
    folded = looked(3, 20)
    state = state_of(folded.snapshot(0))
    older = _as_format_2(pack(state), [[who, DAY, [f"stranger-{who}-{n}" for n in range(20)]] for who in range(3)])
    read = unpack([older])
    assert len(read.shown["who"]) == len(read.shown["marks"]) == 0
    started = Folded(1)
    started.load([older])
    assert started.facts() == folded.facts()
    again = unpack(started.packed(0))
    assert (again.shown_ids, len(again.shown["marks"])) == ([], 60)


def _as_format_2(chunks: list[bytes], rows: list[object]) -> bytes:
    """The same checkpoint as the version before wrote it."""
    data = b"".join(chunks)
    magic, version, length = struct.unpack_from("<4sBI", data)
    assert version > 2
    head = orjson.loads(data[9 : 9 + length])
    at, sections = 9 + length, []
    for name, size in head["sections"]:
        if not name.startswith("shown_"):
            sections.append((name, data[at : at + size]))
        at += size
    sections.append(("shown", zlib.compress(orjson.dumps(rows))))
    head_bytes = orjson.dumps({**head, "sections": [(name, len(section)) for name, section in sections]})
    body = struct.pack("<4sBI", magic, 2, len(head_bytes)) + head_bytes + b"".join(part for _, part in sections)
    return body + struct.pack("<I", zlib.crc32(body))


def test_marks_of_another_secret_are_nobodys() -> None:
    started = Folded(1, Sealer(b"another secret, of 32 bytes and more"))
    started.load(looked().packed(0))
    assert started.people.shown == {}
    assert started.people.slot("viewer0") is not None


def test_an_erasure_leaves_no_id_behind() -> None:
    folded = looked(1, 2)
    name = folded.people.tombstones.name("stranger-0-1")
    folded.people.fold_erased("stranger-0-1", name, 5, 1, START_MS)
    state = state_of(folded.snapshot(0))
    assert "stranger-0-1" not in (*state.ids, *state.mentioned)
    assert len(Exposure(folded.people).shown(folded.people.slot_or_new("viewer0"), DAY)) == 2, "they were shown"


def test_equal_marks_make_the_cap_looser_by_one_and_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks of three bits: whoever shares one passes as shown already."""
    real = people_module.People._marked
    monkeypatch.setattr(people_module.People, "_marked", lambda self, hashes: real(self, hashes) % np.uint32(8))
    folded = looked(1, 50)
    assert len(Exposure(folded.people).shown(folded.people.slot_or_new("viewer0"), DAY)) == 8
    started = Folded(1)
    started.load(folded.packed(0))
    assert replace(state_of(started.snapshot(0)).head) == state_of(folded.snapshot(0)).head
