"""One shard's part of everything folded: taken out as it stands, dropped, and put back.

To a shard belong the columns of its people, their tombstones, suspensions, persons and quiet zones, what they show
others, whom they blocked, and where its feed stands. What others show them, and who blocked them, belongs to the
others' shards.
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from discovery.columns import put
from discovery.exposure import DAY_MS
from discovery.friends import STORED_PRECISIONS, Friendships, Half
from discovery.id_table import IdTable
from discovery.people import People, Shown
from discovery.precise import Share
from discovery.precise import Shown as Precise
from discovery.presence import Presence, ShardEdges
from discovery.safety import Block, Blocks
from discovery.shard_packing import COLUMNS, HALF_COLUMNS, Head, ShardState
from discovery.store.feed import Place
from discovery.tombstones import TombstoneRow
from geo.kernels import presence as kernels
from geo.privacy import Epochs

_STEP_ROWS = 10_000  # put back at once: about 10 ms
_STEP_SHOWN = 100  # the same of rows of 50 ids to be hashed

_Fact = TypeVar("_Fact")
Room = dict[str, NDArray[Any]]


@dataclass(slots=True, frozen=True)
class Snapshot:
    """A shard as it stood between two entries; nothing that is folded later changes it, so another thread may read it.

    ``ids``, ``hashes`` and ``shard_of`` are of all people, by slot; those behind the first ``known`` came later.
    ``columns`` are of the shard's people, by ascending slot. The tables are of all shards. ``head`` lacks its digest.
    """

    head: Head
    known: int
    ids: IdTable
    hashes: NDArray[np.uint64]
    shard_of: NDArray[np.uint8]
    columns: dict[str, NDArray[Any]]
    suspensions: dict[int, dict[str, int]]
    persons: dict[int, str]
    quiet_zones: dict[int, tuple[int, ...]]
    mutes: dict[int, tuple[str, ...]]
    tombstones: list[TombstoneRow]
    precise: dict[int, Precise]
    shown: dict[int, Shown]
    halves: dict[int, dict[int, Half]]
    blocks: dict[int, dict[str, Block]]


# --- out ---


def state_of(taken: Snapshot) -> ShardState:
    """What is to be packed: only people with any fact. A second for a million people: for a thread."""
    suspensions, persons = _of_shard(taken, taken.suspensions), _of_shard(taken, taken.persons)
    halves, blocks = _of_shard(taken, taken.halves), _of_shard(taken, taken.blocks)
    zones, mutes = _of_shard(taken, taken.quiet_zones), _of_shard(taken, taken.mutes)
    precise, shown = _of_shard(taken, taken.precise), _of_shard(taken, taken.shown)
    slots = np.flatnonzero(taken.shard_of[: taken.known] == taken.head.shard)
    written = _with_facts(taken, slots, [*suspensions, *persons, *zones, *mutes, *precise, *shown, *halves, *blocks])
    columns = {name: column[written] for name, column in taken.columns.items()}
    slots = slots[written]
    hashes = taken.hashes[slots]
    digest = kernels.digest(hashes, columns["published"], columns["pending"], columns["live_until_ms"])
    index, mentioned = _indexed(slots.tolist(), halves, blocks)
    return ShardState(
        head=replace(taken.head, digest=int(digest)),
        ids=[taken.ids[slot] for slot in slots.tolist()],
        hashes=hashes,
        columns=columns,
        mentioned=[taken.ids[slot] for slot in mentioned],
        halves=_half_columns(index, halves),
        blocks=_block_rows(index, blocks),
        suspensions=[[index[slot], until_ms] for slot, until_ms in suspensions.items()],
        persons=[[index[slot], person] for slot, person in persons.items()],
        quiet_zones=[[index[slot], list(cells)] for slot, cells in zones.items()],
        mutes=[[index[slot], list(others)] for slot, others in mutes.items()],
        tombstones=taken.tombstones,
        precise=[[index[slot], *_precise_row(taken, rows)] for slot, rows in precise.items()],
        shown=_shown_columns(index, shown),
    )


def _of_shard(taken: Snapshot, table: dict[int, _Fact]) -> dict[int, _Fact]:
    """Rows of the shard's people only, by ascending slot."""
    shard_of, shard = taken.shard_of.tobytes(), taken.head.shard
    return {slot: table[slot] for slot in sorted(table) if shard_of[slot] == shard}


def _with_facts(taken: Snapshot, slots: NDArray[np.int64], others: list[int]) -> NDArray[np.bool_]:
    """bool[n]: who of ``slots`` has anything in a column or is among ``others``."""
    found = np.zeros(len(slots), np.bool_)
    for column in taken.columns.values():
        found |= column != 0
    found[np.searchsorted(slots, np.array(others, np.int64))] = True
    return found


def _indexed(
    written: list[int], halves: dict[int, dict[int, Half]], blocks: dict[int, dict[str, Block]]
) -> tuple[dict[int, int], list[int]]:
    """Index of each slot in the tables, and the slots behind those written: who is only mentioned."""
    others = {other for shown in halves.values() for other in shown}
    others.update(block.blocked for names in blocks.values() for block in names.values())
    mentioned = sorted(others.difference(written))
    return {slot: index for index, slot in enumerate([*written, *mentioned])}, mentioned


def _half_columns(index: dict[int, int], halves: dict[int, dict[int, Half]]) -> dict[str, NDArray[Any]]:
    """The columns of ``HALF_COLUMNS``. One value at a time: a row for each half would be a million objects more."""
    count = sum(map(len, halves.values()))
    every = [half for shown in halves.values() for half in shown.values()]
    fields = {
        "owner": (index[owner] for owner, shown in halves.items() for _ in shown),
        "other": (index[other] for shown in halves.values() for other in shown),
        "precision": (STORED_PRECISIONS.index(half.precision) for half in every),
        "until_ms": (half.until_ms for half in every),
        "since_ms": (half.since_ms for half in every),
        "asked_ms": (half.asked_ms for half in every),
        "guardian": (half.guardian for half in every),
    }
    return {name: np.fromiter(fields[name], kind, count) for name, kind in HALF_COLUMNS.items()}


def _precise_row(taken: Snapshot, shown: Precise) -> list[object]:
    return [shown.cell, [[taken.ids[other], *share] for other, share in shown.shares.items()]]


def _shown_columns(index: dict[int, int], shown: dict[int, Shown]) -> dict[str, NDArray[Any]]:
    marks = [today.marks for today in shown.values()]
    return {
        "who": np.fromiter((index[slot] for slot in shown), np.uint32, len(shown)),
        "day": np.fromiter((today.day for today in shown.values()), np.int32, len(shown)),
        "count": np.fromiter(map(len, marks), np.uint32, len(shown)),
        "marks": np.concatenate([np.empty(0, np.uint32), *marks]),
    }


def _block_rows(index: dict[int, int], blocks: dict[int, dict[str, Block]]) -> list[list[object]]:
    return [
        [index[blocker], name, index[block.blocked], *block.order]
        for blocker, names in blocks.items()
        for name, block in names.items()
    ]


# --- in ---


class ShardedPeople:
    """All that is folded of people, shard by shard."""

    def __init__(self, people: People, presence: Presence, friendships: Friendships, blocks: Blocks) -> None:
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._blocks = blocks

    def room(self, shard: int) -> Room:
        """Memory for a snapshot, touched once. In a thread, before :meth:`snapshot`: a million people take 70 MB, and
        getting that from the system costs more than filling it."""
        size = np.count_nonzero(self._people.shard[: len(self._people)] == shard)
        room = {name: np.empty(size + size // 16, self._column(name).dtype) for name in COLUMNS}
        for column in room.values():
            column.fill(0)
        return room

    def snapshot(self, shard: int, place: Place, room: Room) -> Snapshot:
        """A shard as it stands at ``place`` of its feed, for :func:`state_of` in a thread. ``room`` is used up; should
        it be too small by now, more is taken."""
        people, presence = self._people, self._presence
        presence.fit()
        return Snapshot(
            head=self._head(shard, place),
            known=len(people),
            ids=people.ids,
            hashes=people.hashes,
            shard_of=people.shard,
            columns=self._copied(shard, room),
            suspensions=_lasting(people.named_suspensions(), presence.stranger_edge_ms),
            persons=people.persons.copy(),
            quiet_zones=people.quiet_zones.standing(),
            mutes=people.mutes.standing(),
            tombstones=people.tombstones.rows(shard, presence.stranger_edge_ms),
            shown=_of_today(people.shown, presence.stranger_edge_ms),
            precise=self._friendships.precise.standing(place.now_ms),
            halves=self._friendships.standing(),
            blocks=self._blocks.standing(),
        )

    def _copied(self, shard: int, room: Room) -> dict[str, NDArray[Any]]:
        people = self._people
        rows = slice(len(people)) if people.shards.count == 1 else people.of_shard(shard)
        columns = {}
        for name in COLUMNS:
            source = self._column(name)[rows]
            fits = len(room[name]) >= len(source)
            columns[name] = room[name][: len(source)] if fits else np.empty_like(source)
            np.copyto(columns[name], source)
        return columns

    def _head(self, shard: int, place: Place) -> Head:
        edges = self._presence.edges(shard)
        return Head(
            shard=shard,
            shards=self._people.shards.count,
            place=place,
            edge_ms=edges.edge_ms,
            stranger_edge_ms=edges.stranger_edge_ms,
            secret=self._people.secret_fingerprint,
            digest=0,
            block_count=self._blocks.count(shard),
        )

    def _column(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = getattr(self._people if name in People.FOLDED else self._presence, name)
        return column

    def drop(self, shard: int) -> None:
        """Forget all that is folded of a shard, at once. Nothing may be answered until it is put back."""
        self._friendships.drop(shard)
        self._blocks.drop(shard)
        self._people.drop(shard)
        self._presence.drop(shard)

    def load(self, state: ShardState) -> None:
        """Put a shard back as it was packed, in place of what is folded of it. ValueError for a state of a world with
        another number of shards."""
        for _ in self.load_in_steps(state):
            pass

    def load_in_steps(self, state: ShardState) -> Iterator[None]:
        """:meth:`load` with pauses every 10 ms or so, in which other shards may be folded."""
        head = state.head
        if head.shards != self._people.shards.count:
            raise ValueError(f"the checkpoint is of {head.shards} shards, here are {self._people.shards.count}")
        self.drop(head.shard)
        self._people.restore_tombstones(head.shard, state.tombstones)
        known = state.hashes if head.secret == self._people.secret_fingerprint else None
        if not len(self._people):
            self._people.make_room(head.shards * len(state.ids))
        slots: list[int] = []
        for start in range(0, len(state.ids), _STEP_ROWS):
            with _uncollected():
                slots += self._put_people(state, known, slice(start, start + _STEP_ROWS))
            yield
        for start in range(0, len(state.mentioned), _STEP_ROWS):
            slots += self._people.slots_or_new(state.mentioned[start : start + _STEP_ROWS]).tolist()
            yield
        yield from self._put_halves(slots, state.halves)
        self._blocks.restore(head.shard, head.block_count, _blocks(slots, state.blocks))
        suspensions = {slots[who]: until_ms for who, until_ms in state.suspensions}
        zones = {slots[who]: cells for who, cells in state.quiet_zones}
        self._people.restore(suspensions, zones, {slots[who]: others for who, others in state.mutes})
        yield from self._put_persons(slots, state.persons)
        if known is not None:  # marks made with another secret are nobody's: those new accounts may see 50 more today
            yield from self._put_shown(slots, state.shown)
        yield from self._put_shown_ids(slots, state.shown_ids)
        for who, cell, shares in state.precise:
            self._friendships.precise.restore(slots[who], self._precise(cell, shares))
        epochs = Epochs(head.place.epoch_ms) if head.place.epoch_ms else None
        self._presence.restore(head.shard, ShardEdges(head.edge_ms, head.stranger_edge_ms, epochs))

    def _put_persons(self, slots: list[int], rows: list[Any]) -> Iterator[None]:
        for start in range(0, len(rows), _STEP_ROWS):
            some = rows[start : start + _STEP_ROWS]
            with _uncollected():
                self._people.humans.put_each([slots[who] for who, _ in some], [person for _, person in some])
            yield

    def _put_shown(self, slots: list[int], shown: dict[str, NDArray[Any]]) -> Iterator[None]:
        """The marks stay where they are: each row is a part of the one array."""
        ends = [0, *np.cumsum(shown["count"], dtype=np.int64).tolist()]
        rows = zip(shown["who"].tolist(), shown["day"].tolist(), pairwise(ends), strict=True)
        while some := list(islice(rows, _STEP_ROWS)):
            with _uncollected():
                for who, day, (start, end) in some:
                    self._people.shown[slots[who]] = Shown(day, shown["marks"][start:end])
            yield

    def _put_shown_ids(self, slots: list[int], rows: list[Any]) -> Iterator[None]:
        """Of an older checkpoint: up to 50 ids each."""
        for start in range(0, len(rows), _STEP_SHOWN):
            for who, day, others in rows[start : start + _STEP_SHOWN]:
                self._people.shown[slots[who]] = Shown(day, np.unique(self._people.marks_of(others)))
            yield

    def _precise(self, cell: int, shares: Iterable[list[Any]]) -> Precise:
        return Precise(cell, {self._people.slot_or_new(other): Share(*share) for other, *share in shares})

    def _put_people(self, state: ShardState, hashes: NDArray[np.uint64] | None, rows: slice) -> list[int]:
        people, users = self._people, state.ids[rows]
        if hashes is None:  # those packed were made with another secret
            slots = people.slots_or_new(users)
        else:
            slots = people.slots_restored(users, hashes[rows], state.head.shard)
        self._presence.fit()
        for name, column in state.columns.items():
            put(self._column(name), slots, column[rows])
        numbers: list[int] = slots.tolist()
        return numbers

    def _put_halves(self, slots: list[int], halves: dict[str, NDArray[Any]]) -> Iterator[None]:
        slot_of = np.array(slots, np.int32)
        for start in range(0, len(halves["owner"]), _STEP_ROWS):
            with _uncollected():
                self._put_some_halves(slot_of, {n: column[start : start + _STEP_ROWS] for n, column in halves.items()})
            yield

    def _put_some_halves(self, slot_of: NDArray[np.int32], halves: dict[str, NDArray[Any]]) -> None:
        """Sorted by owner. Lists, maps and slices throughout: there may be millions."""
        fields = {name: halves[name].tolist() for name in ("until_ms", "since_ms", "asked_ms")}
        fields["precision"] = list(map(STORED_PRECISIONS.__getitem__, halves["precision"].tolist()))
        fields["guardian"] = halves["guardian"].astype(np.bool_).tolist()
        made = list(map(Half._make, zip(*(fields[name] for name in Half._fields), strict=True)))
        others = slot_of[halves["other"]].tolist()
        starts = [0, *(np.flatnonzero(np.diff(halves["owner"])) + 1).tolist(), len(made)]
        owners = slot_of[halves["owner"][starts[:-1]]].tolist()
        for owner, (start, end) in zip(owners, pairwise(starts), strict=True):
            self._friendships.restore(owner, dict(zip(others[start:end], made[start:end], strict=True)))


@contextmanager
def _uncollected() -> Iterator[None]:
    """For a step that makes many objects, all of which stay: looking through them for garbage takes as long again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _lasting(suspensions: dict[int, dict[str, int]], stranger_edge_ms: int) -> dict[int, dict[str, int]]:
    """Each counts until the stranger edge behind its end, whatever stands beside it; who has none left is left out."""
    standing = (
        (slot, {key: until_ms for key, until_ms in until.items() if until_ms > stranger_edge_ms})
        for slot, until in suspensions.items()
    )
    return {slot: until for slot, until in standing if until}


def _of_today(shown: dict[int, Shown], stranger_edge_ms: int) -> dict[int, Shown]:
    return {slot: today for slot, today in shown.items() if today.day >= stranger_edge_ms // DAY_MS}


def _blocks(slots: list[int], rows: Iterable[list[Any]]) -> Iterator[tuple[int, str, int, int, int]]:
    for blocker, name, blocked, at_ms, number in rows:
        yield slots[blocker], name, slots[blocked], at_ms, number
