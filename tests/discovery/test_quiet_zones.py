"""Zones of many people as rows: against a plain dict, whatever is set, dropped and set again; and checkpoints."""

import random
import struct
import zlib

import numpy as np
import orjson

from discovery.quiet_zones import QuietZones
from discovery.shard_packing import COLUMNS, unpack
from geo import cells
from tests.discovery.histories import CELLS8, ELSEWHERE, START_MS, ZONE, Folded, History

SOME_ZONES = [ZONE, ELSEWHERE, cells.cell_of(0.0, 0.0, 5), cells.cell_of(60.0, 10.0, 5)]


def test_rows_say_what_a_dict_says(seed: int, scale: int) -> None:
    draws = random.Random(seed)
    zones, plain = QuietZones(), dict[int, tuple[int, ...]]()
    people = 700
    for _ in range(30 * scale):
        for slot in draws.sample(range(people), 200):
            plain[slot] = tuple(draws.sample(SOME_ZONES, draws.randrange(4)))
            zones.set(slot, plain[slot])
        cells8 = np.array([draws.choice([0, *CELLS8, cells.cell_of(60.0, 10.0, 8)]) for _ in range(people)], np.uint64)
        expected = {
            slot for slot, given in plain.items() if cells8[slot] and cells.parent(int(cells8[slot]), 5) in given
        }
        for count in (people, 500, 40, 1, 0):  # many are judged by all rows, few one by one
            asked = np.array(sorted(draws.sample(range(people), count)), np.int32)
            assert set(zones.inside(asked, cells8).tolist()) == expected & set(asked.tolist())
        assert zones.standing() == {slot: given for slot, given in plain.items() if given}
    assert len(zones._cells) < 4 * people, "rows are used again"


def test_people_beyond_the_columns_are_in_no_zone() -> None:
    zones = QuietZones()
    zones.set(900, [ZONE])
    cells8 = np.full(500, CELLS8[0], np.uint64)
    assert zones.inside(np.arange(500, dtype=np.int32), cells8).tolist() == []


def test_a_checkpoint_of_the_format_before_is_read_without_zones_and_jumps(seed: int) -> None:
    """As the version before wrote it: without the sections that came since."""
    history = History(random.Random(seed), 1, 200)
    lived = Folded(1)
    lived.replay(0, history.feeds[0])
    data = b"".join(lived.packed(0))
    _, _, length = struct.unpack_from("<4sBI", data)
    head = orjson.loads(data[9 : 9 + length])
    kept, at, start = [], [], 9 + length
    for name, size in head["sections"]:
        if name not in ("reported_ms", "jump_day", "quiet_zones"):
            kept.append((name, size))
            at.append(data[start : start + size])
        start += size
    old_head = orjson.dumps({**head, "sections": kept})
    old = b"".join([struct.pack("<4sBI", b"NHcp", 1, len(old_head)), old_head, *at])
    old += struct.pack("<I", zlib.crc32(old))
    started = Folded(1)
    state = started.load([old])
    assert state.quiet_zones == []
    assert not state.columns["reported_ms"].any()
    assert set(state.columns) == set(COLUMNS)
    assert started.digest() == lived.digest()
    again = unpack(started.packed(0, START_MS))
    assert again.ids == state.ids
