"""Rows of people: as a plain table of tables has them, while snapshots stand still; and no copy for each change."""

import random
import time
from copy import deepcopy

from discovery.owned_rows import OwnedRows


def test_it_is_a_table_of_tables_and_snapshots_stand_still(seed: int, scale: int) -> None:
    draws = random.Random(seed)
    rows: OwnedRows[int, int] = OwnedRows()
    plain: dict[int, dict[int, int]] = {}
    snapshots = []
    for value in range(3000 * scale):
        owner, key = draws.randrange(6), draws.randrange(8)
        act = draws.choice(["put"] * 6 + ["remove"] * 4 + ["drop", "back", "snapshot"])
        mine = plain.setdefault(owner, {})
        if act == "put":
            rows.put(owner, key, value)
            mine[key] = value
        elif act == "remove":
            assert rows.remove(owner, key) == mine.pop(key, None)
        elif act == "drop":
            assert dict(rows.drop(owner)) == plain.pop(owner)
        elif act == "back":
            rows.put_back(owner, {key: value, key + 1: value})
            mine |= {key: value, key + 1: value}
        else:
            taken = rows.standing()
            snapshots.append((taken, deepcopy(taken)))
        plain = {one: table for one, table in plain.items() if table}
        assert sorted(rows.owners()) == sorted(plain)
        assert {one: dict(rows.of(one)) for one in range(6) if rows.of(one)} == plain
    assert len(snapshots) > 20
    assert all(taken == then for taken, then in snapshots)


def test_a_change_costs_the_same_however_many_rows_the_owner_has() -> None:
    """Copying 5,000 rows takes 20 us or more, a change in place well under one."""
    rows: OwnedRows[int, int] = OwnedRows()
    for key in range(5000):
        rows.put(1, key, key)
    before = rows.standing()[1]
    rows.put(1, 0, -1)
    mine = rows.standing()[1]
    assert mine is not before
    rows.put(1, 0, -2)
    changed = rows.of(1)
    began_s = time.thread_time()
    for key in range(20_000):
        rows.put(1, key % 5000, key)
        rows.remove(1, key % 5000)
        rows.put(1, key % 5000, key)
    assert rows.of(1) is changed, "copied once after a snapshot, not again"
    assert time.thread_time() - began_s < 0.5
