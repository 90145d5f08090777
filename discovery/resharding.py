"""Copying a world of one shard to one of many: each person's records, and what is folded of them, to their own shard.

Records move by name. The feed is not split: what it and the checkpoint say is folded, as every worker does, and each
new shard begins with a checkpoint of its people, behind a feed that holds one tick.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.friends import Friendships
from discovery.people import People
from discovery.people_fold import PeopleFold
from discovery.presence import Presence
from discovery.reporting import Target
from discovery.safety import Blocks
from discovery.sealed import Sealer
from discovery.shard_packing import Head, ShardState, pack, unpack
from discovery.shard_state import ShardedPeople, state_of
from discovery.store import keys, transfer, world_record
from discovery.store.checkpoints import Checkpoints
from discovery.store.client import State
from discovery.store.copying import Plan
from discovery.store.feed import TICK, FeedGap, Follower, Place, checksum_of
from discovery.store.hive_time import Tick, pack_tick
from discovery.store.records import NO_EXPIRY, Entry, Record, StreamEnd, batched, digest_of
from geo.kernels import presence as kernels

_OF_A_PERSON = re.compile(rb"\{s(\d\d)\}:((?:p|f|x|m|rep|case|ops|op:[^:]*:[^:]*):(.*))", re.DOTALL)
_MADE_AT_THE_END = re.compile(rb"\{s\d\d\}:(checkpoint|cp:.*|cases)", re.DOTALL)
_OF_EACH = re.compile(rb"\{s(\d\d)\}:(fence|tombstones|rq:.*)", re.DOTALL)
_TAG = re.compile(rb"\{s\d\d\}")
_PEOPLE_FEED = re.compile(rb"\{s\d\d\}:feed")

_LEADER = "copy"
_ANOTHER_SECRET = "the state was written with another NEARHIVE_PRIVACY_SECRET"


class WrongSecret(Exception):
    """The state was written with another PRIVACY_SECRET: who was erased could not be told here."""


class Resharding(Plan):
    """From one shard to ``count``. ``secret``: the PRIVACY_SECRET of the deployment, by which tombstones name people:
    what the feed still says of who was erased must not be folded as if somebody new had said it.

    Another secret is refused where the state tells: by its checkpoint, and by each erasure in its feed. A state that
    has neither names nobody by it, and is copied with any. What cannot be judged: a state without a checkpoint whose
    erasures all came from the log beside its data, of people of whom nothing else was known.
    """

    def __init__(self, count: int, monotonic: Callable[[], float], secret: bytes) -> None:
        self._after = keys.Shards(count)
        self._monotonic = monotonic
        self._secret = secret
        self._folding: _Folding | None = None

    def record(self, record: Record) -> Iterator[Record]:
        person, of_each = _OF_A_PERSON.fullmatch(record.key), _OF_EACH.fullmatch(record.key)
        if person:
            yield _of_person(record, b"{s%02d}" % self._after.of(person[3].decode()), person[2])
        elif of_each:
            # No leader of the new world may have a token that one of the old world had. Tombstones, and counters of
            # requests, are named by hashes, which do not tell whose shard they are of: without its tombstone a second
            # erasure would count as a first, as is done already; counters are asked for by name, and end in two days.
            for shard in self._after.all():
                yield replace(record, key=b"{s%02d}:%s" % (shard, of_each[2]))
        elif not _MADE_AT_THE_END.fullmatch(record.key):
            yield record

    def compared(self, record: Record, *, in_target: bool) -> Record | None:
        person, of_each = _OF_A_PERSON.fullmatch(record.key), _OF_EACH.fullmatch(record.key)
        if _MADE_AT_THE_END.fullmatch(record.key) or (of_each and int(of_each[1])):
            return None
        if person and int(person[1]) == (self._after.of(person[3].decode()) if in_target else 0):
            return _of_person(record, b"{s}", person[2])
        return record

    def copies(self, stream: bytes) -> bool:
        return not _PEOPLE_FEED.fullmatch(stream)

    def world(self, world: dict[str, str]) -> dict[str, str]:
        return {**world, "shards": str(self._after.count)}

    async def prepare(self, source: State) -> None:
        """Fold what stands; :meth:`finish` goes on from there. Raises WrongSecret."""
        self._folding = await self._begin_folding(source)

    async def finish(self, source: State, target: State) -> None:
        """Fold the one shard, and write what each new one begins with. Raises NotAsWritten, WrongSecret."""
        await self._part_cases(source, target)
        try:
            folded = await (self._folding or await self._begin_folding(source)).end()
        except FeedGap:  # the feed was trimmed meanwhile behind a newer checkpoint
            folded = await (await self._begin_folding(source)).end()
        if folded is None:
            return
        end = await transfer.stream_end(source, keys.feed(keys.shard_tag(0)).encode())
        found = 0
        for part in await asyncio.to_thread(split, folded, self._after):
            found += await asyncio.to_thread(facts, await _begin(target, part, end.last))
        world_record.compare(_hex(await asyncio.to_thread(facts, folded)), _hex(found))

    async def _begin_folding(self, source: State) -> "_Folding":
        return await _Folding.begin(source, self._monotonic, self._secret)

    async def _part_cases(self, source: State, target: State) -> None:
        """Each case waits in the queue of its target's shard. Raises NotAsWritten."""
        queue = keys.cases(keys.shard_tag(0)).encode()
        waiting: dict[int, list[bytes]] = {shard: [] for shard in self._after.all()}
        for record in (await transfer.read(source, [queue])).records:
            for score, name in batched(record.elements):
                waiting[self._after.of(Target.of_name(name.decode()).id)] += (score, name)
        names = [keys.cases(keys.shard_tag(shard)).encode() for shard in waiting]
        rows = zip(names, waiting.values(), strict=True)
        parts = [Record(name, "zset", NO_EXPIRY, elements) for name, elements in rows]
        await transfer.write(target, parts)  # an empty one takes away what a copy broken off has left
        written = (await transfer.read(target, names)).records
        if sum(part.digest() for part in parts if part.elements) != sum(record.digest() for record in written):
            raise world_record.NotAsWritten("the target does not hold the queue of cases")


def _of_person(record: Record, tag: bytes, name: bytes) -> Record:
    """The record under another tag; a list of operations names keys of that tag."""
    if name.startswith(b"ops:"):
        record = replace(record, elements=[_TAG.sub(tag, part, 1) for part in record.elements])
    return replace(record, key=tag + b":" + name)


def _hex(digests: int) -> str:
    return f"{digests & ((1 << 128) - 1):032x}"


async def _begin(state: State, part: ShardState, last: bytes) -> ShardState:
    """Write the feed and the checkpoint of a new shard, and read that back. ``last``: the last id of the old feed."""
    tag, place = keys.shard_tag(part.head.shard), part.head.place
    feed, entry = keys.feed(tag).encode(), "{}-{}".format(*place.position).encode()
    await transfer.append(state, feed, [Entry(entry, (b"k", b"t", b"d", _tick(place)))])
    await transfer.end_stream(state, StreamEnd(feed, entry, last, NO_EXPIRY))
    checkpoints, meta = Checkpoints(state, tag), {"edge_ms": part.head.edge_ms, "hive_ms": place.now_ms}
    await state.call("SET", keys.leader(tag), f"{_LEADER}|0|0")
    await checkpoints.write(f"{_LEADER}|0", _LEADER, await asyncio.to_thread(pack, part), place.position, meta)
    await state.call("DEL", keys.leader(tag))
    loaded = await checkpoints.read()
    if loaded is None:
        raise world_record.NotAsWritten(f"shard {part.head.shard} has no checkpoint")
    return await asyncio.to_thread(unpack, loaded.chunks)


class _Folding:
    """A worker's fold of the only shard, up to the end of its feed."""

    def __init__(self, state: State, monotonic: Callable[[], float], secret: bytes) -> None:
        sealer = Sealer(secret)
        people = self._people = People(sealer, require_age=False)
        blocks = Blocks(people)
        friendships = Friendships(people, blocks)
        presence = Presence(people, sealer.epoch_key)
        self._sharded = ShardedPeople(people, presence, friendships, blocks)
        fold = PeopleFold(people, presence, friendships, blocks, lambda *_: None, lambda _: None)
        self._checkpoints = Checkpoints(state, keys.shard_tag(0))

        def fold_entry(kind: str, payload: bytes, now_ms: int) -> None:
            if kind == "e":
                _require_secret(people, payload)
            fold.fold(0, kind, payload, now_ms)

        def on_time(now_ms: int, epoch_ms: int) -> bool:
            if epoch_ms:
                fold.announce(0, epoch_ms)
                fold.cross_alone(0, now_ms)
            return True

        self._follower = Follower(state, keys.feed(keys.shard_tag(0)), fold_entry, on_time, monotonic, fold.settle)

    @classmethod
    async def begin(cls, state: State, monotonic: Callable[[], float], secret: bytes) -> "_Folding":
        """Fold what stands now. Raises FeedGap, CheckpointBroken, WrongSecret."""
        folding = cls(state, monotonic, secret)
        loaded = await folding._checkpoints.read()
        if loaded is not None:
            packed = await asyncio.to_thread(unpack, loaded.chunks)
            if packed.head.secret != folding._people.secret_fingerprint:
                raise WrongSecret(_ANOTHER_SECRET)
            folding._sharded.load(packed)
            folding._follower.restart(packed.head.place)
        await folding._follower.catch_up()
        return folding

    async def end(self) -> ShardState | None:
        """All that is folded now; None for a feed that never had an entry. Raises FeedGap."""
        await self._follower.catch_up()
        if self._follower.position == (0, 0):
            return None
        taken = self._sharded.snapshot(0, self._follower.place, self._sharded.room(0))
        return await asyncio.to_thread(state_of, taken)


def _require_secret(people: People, erased: bytes) -> None:
    """An entry about somebody erased gives them the name that this secret does. Raises WrongSecret."""
    user, name, *_ = orjson.loads(erased)
    if user and name != people.tombstones.name(user):
        raise WrongSecret(_ANOTHER_SECRET)


# --- one shard's state as many ---


def split(state: ShardState, after: keys.Shards) -> list[ShardState]:
    """The state of one shard by person: what each owns, and whom that mentions. Each new feed holds one tick, on which
    its checkpoint stands."""
    names = [*state.ids, *state.mentioned]
    shard_of = np.fromiter(map(after.of, names), np.int64, len(names))
    place = replace(state.head.place, checksum=checksum_of(TICK, _tick(state.head.place)))
    head = replace(state.head, shards=after.count, place=place)
    return [_part(state, replace(head, shard=shard), names, shard_of) for shard in after.all()]


def _tick(place: Place) -> bytes:
    return pack_tick(Tick(place.offset_ms, place.epoch_ms))


def _part(state: ShardState, head: Head, names: list[str], shard_of: NDArray[np.int64]) -> ShardState:
    mine = shard_of == head.shard
    written = np.flatnonzero(mine[: len(state.ids)])
    halves = {name: column[mine[state.halves["owner"]]] for name, column in state.halves.items()}
    blocks = [row for row in state.blocks if mine[row[0]]]
    others = {*halves["other"].tolist(), *(row[2] for row in blocks)}
    index = {old: new for new, old in enumerate([*written.tolist(), *sorted(others.difference(written.tolist()))])}
    columns = {name: column[written] for name, column in state.columns.items()}
    hashes = state.hashes[written]
    digest = kernels.digest(hashes, *(columns[name] for name in ("published", "pending", "live_until_ms")))
    return ShardState(
        head=replace(head, digest=int(digest)),
        ids=[names[old] for old in written.tolist()],
        hashes=hashes,
        columns=columns,
        mentioned=[names[old] for old in list(index)[len(written) :]],
        halves=halves | {name: _renumbered(index, halves[name]) for name in ("owner", "other")},
        blocks=[[index[who], name, index[blocked], *rest] for who, name, blocked, *rest in blocks],
        suspensions=[[index[who], until_ms] for who, until_ms in state.suspensions if mine[who]],
        persons=[[index[who], person] for who, person in state.persons if mine[who]],
        quiet_zones=[[index[who], zones] for who, zones in state.quiet_zones if mine[who]],
        mutes=[[index[who], others] for who, others in state.mutes if mine[who]],
        tombstones=state.tombstones,  # they do not tell whose shard they are of, so each has all
        precise=[[index[who], *shown] for who, *shown in state.precise if mine[who]],
        shown=_part_of_shown(state.shown, mine, index),
    )


def _part_of_shown(
    shown: dict[str, NDArray[Any]], mine: NDArray[np.bool_], index: dict[int, int]
) -> dict[str, NDArray[Any]]:
    which = mine[shown["who"]]
    rows = {name: shown[name][which] for name in ("who", "day", "count")}
    marks = shown["marks"][np.repeat(which, shown["count"])]
    return {**rows, "who": _renumbered(index, rows["who"]), "marks": marks}


def _renumbered(index: dict[int, int], column: NDArray[Any]) -> NDArray[Any]:
    return np.fromiter((index[old] for old in column.tolist()), column.dtype, len(column))


def facts(state: ShardState) -> int:
    """Sum of a 128-bit digest of every fact, with names for indexes: equal for one shard and for those it became."""
    names = [user.encode() for user in (*state.ids, *state.mentioned)]
    digests = [digest_of(b"columns", *row) for row in zip(names, _rows(state.columns), strict=False)]
    values = _rows({name: column for name, column in state.halves.items() if name not in ("owner", "other")})
    owners, others = state.halves["owner"].tolist(), state.halves["other"].tolist()
    for owner, other, value in zip(owners, others, values, strict=True):
        digests.append(digest_of(b"half", names[owner], names[other], value))
    for who, name, blocked, *order in state.blocks:
        digests.append(digest_of(b"block", names[who], name.encode(), names[blocked], orjson.dumps(order)))
    for who, until_ms in state.suspensions:
        digests.append(digest_of(b"suspended", names[who], orjson.dumps(until_ms, option=orjson.OPT_SORT_KEYS)))
    digests += [digest_of(b"person", names[who], person.encode()) for who, person in state.persons]
    digests += [digest_of(b"shown", names[who], *parts) for who, *parts in _shown_rows(state.shown)]
    digests += [digest_of(b"precise", names[who], orjson.dumps(shown)) for who, *shown in state.precise]
    digests += [digest_of(b"mutes", names[who], orjson.dumps(others)) for who, others in state.mutes]
    digests += [digest_of(b"quiet zones", names[who], orjson.dumps(zones)) for who, zones in state.quiet_zones]
    return sum(digests)


def _shown_rows(shown: dict[str, NDArray[Any]]) -> Iterator[tuple[int, bytes, bytes]]:
    """Who, the day, the marks."""
    ends = np.cumsum(shown["count"], dtype=np.int64).tolist()
    for row, (who, end) in enumerate(zip(shown["who"].tolist(), ends, strict=True)):
        start = end - int(shown["count"][row])
        yield who, shown["day"][row].tobytes(), shown["marks"][start:end].tobytes()


def _rows(columns: dict[str, NDArray[Any]]) -> list[bytes]:
    """The columns row by row."""
    table = np.rec.fromarrays(list(columns.values()))
    data, size = table.tobytes(), table.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]
