"""One shard becomes many: the same people, the same facts, each with their own shard."""

import random
import time
from collections.abc import AsyncIterator

import numpy as np
import orjson
import pytest
import pytest_asyncio

from discovery import reports, resharding
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, OWN, Report
from discovery.request_quota import requests_key
from discovery.resharding import Resharding, WrongSecret, facts, split
from discovery.shard_packing import ShardState, pack, unpack
from discovery.shard_state import state_of
from discovery.store import copying, keys, transfer, world_record
from discovery.store.checkpoints import Checkpoints
from discovery.store.client import State
from discovery.store.copying import Copy, Plan
from discovery.store.feed import Follower
from discovery.store.hive_time import Tick, pack_tick
from discovery.store.records import Record
from tests.contract.test_keys import arguments, functions, named
from tests.discovery.histories import CELLS8, EPOCH_MS, SECRET, START_MS, USERS, Entry, Folded, History, place
from tests.footings import Footing, footing_of

ACTS = 150
COUNT = 16


def whole(folded: Folded) -> dict[str, object]:
    """All facts; the numbers by which blocks are ordered count by shard."""
    found = folded.facts()
    del found["counts"], found["edges"]
    return found


def test_split_gives_each_shard_its_people_and_loses_nothing(seed: int, scale: int) -> None:
    for run in range(8 * scale):
        history, one = History(random.Random(seed + run), 1, ACTS), Folded(1)
        one.replay(0, history.feeds[0])
        state = unpack(one.packed(0, history.now_ms))
        parts = split(state, keys.Shards(COUNT))
        assert sum(map(facts, parts)) == facts(state)
        many = Folded(COUNT)
        for part in random.Random(seed + run).sample(parts, COUNT):
            assert all(many.people.shards.of(user) == part.head.shard for user in part.ids)
            many.load(pack(part))
        assert whole(many) == whole(one), seed + run
        assert many.answers(history.now_ms) == one.answers(history.now_ms), seed + run
        assert many.digest() == one.digest()
        assert many.presence.in_step
        assert (many.presence.edge_ms, many.presence.stranger_edge_ms) == (
            one.presence.edge_ms,
            one.presence.stranger_edge_ms,
        )
        assert sum(part.head.digest for part in parts) % 2**64 == state.head.digest


def test_facts_tell_states_apart(seed: int) -> None:
    history, one = History(random.Random(seed), 1, ACTS), Folded(1)
    one.replay(0, history.feeds[0])
    state = unpack(one.packed(0))
    before = facts(state)
    assert facts(unpack(one.packed(0))) == before
    changed = unpack(one.packed(0))
    changed.columns["published"] = changed.columns["published"].copy()
    changed.columns["published"][0] ^= 1
    assert facts(changed) != before
    for name in ("blocks", "persons", "suspensions"):
        rows = getattr(unpack(one.packed(0)), name)
        if rows:
            changed = unpack(one.packed(0))
            getattr(changed, name).pop()
            assert facts(changed) != before


def test_each_key_of_a_person_goes_to_their_shard_and_each_of_a_shard_is_thought_of() -> None:
    """A function of ``keys.py`` that is new fails here until a copy knows what becomes of its keys."""
    plan, one, many = Resharding(COUNT, time.monotonic, SECRET), keys.Shards(1), keys.Shards(COUNT)
    of_a_shard = {}
    for name, function in functions().items():
        wanted = arguments(function)
        special = {"user": "an:odd:one", "person": "person an:odd:one", "tag": "s00", "index": 3}
        values = {each: special.get(each, "f" * 32) for each in wanted}
        before, after = named(name, one, values).encode(), named(name, many, values).encode()
        kept = [record.key for record in plan.record(Record(before, "string", -1, (b"1",)))]
        if name.startswith("Shards."):
            assert kept == [after] != [before], name
        elif wanted[:1] == ["tag"]:
            of_a_shard[name] = len(kept)
        else:
            assert kept == [before], name
    beginning = {"checkpoint": 0, "checkpoint_chunk": 0, "cases": 0}  # made by `finish`
    # Streams, and what no copy reads.
    never = {"feed": 1, "leader": 1, "leases": 1, "moderation_log": 1, "feed_copy": 1, "feed_lock": 1}
    jobs = {"erasing": 1}  # any leader can do them
    assert of_a_shard == {**beginning, **never, **jobs, "fence": COUNT, "tombstones": COUNT, "requests": COUNT}


def test_what_a_day_allows_is_found_where_it_is_asked_for() -> None:
    """Requests are counted under a hash, which does not tell whose shard it is: wherever the human is asked for."""
    plan = Resharding(COUNT, time.monotonic, SECRET)
    one, many = Folded(1).people, Folded(COUNT).people
    for n in range(100):
        key = requests_key(one, f"u{n}").encode()
        counter = Record(key, "hash", 7, [b"day", b"1"])
        kept = {record.key: record for record in plan.record(counter)}
        found = kept[requests_key(many, f"u{n}").encode()]
        assert (found.elements, found.expiry_ms) == (counter.elements, 7)
        compared = [plan.compared(record, in_target=True) for record in kept.values()]
        assert [each for each in compared if each is not None] == [plan.compared(counter, in_target=False)]


# --- the whole copy ---


@pytest.fixture(params=["redis-7.0", "cluster"])
def elsewhere(request: pytest.FixtureRequest) -> Footing:
    """One server may hold many shards, too."""
    return footing_of(request.param, request.getfixturevalue)


@pytest_asyncio.fixture
async def target(elsewhere: Footing, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[State]:
    monkeypatch.setattr(copying, "_QUIET_S", 0.1)
    client = State(elsewhere.url)
    await client.open()
    await client.each_master("FLUSHALL")
    yield client
    await client.close()


def payload(entry: Entry) -> bytes:
    if entry.kind == "r":
        return reports.pack(entry.content)
    return entry.content.encode() if entry.kind == "c" else orjson.dumps(entry.content)


async def write_feed(state: State, entries: list[Entry], first: int = 0) -> None:
    """With a tick before each entry, for nothing else moves hive time on by more than a second."""
    feed, tick = keys.feed("s00"), pack_tick(Tick(0, EPOCH_MS))
    for number, entry in enumerate(entries, first):
        ms = entry.now_ms
        await state.call("XADD", feed, f"{ms}-{2 * number}", "k", "t", "d", tick)
        if entry.kind:
            await state.call("XADD", feed, f"{ms}-{2 * number + 1}", "k", entry.kind, "d", payload(entry))


async def write_checkpoint(state: State, folded: Folded, follower: Follower) -> None:
    taken = folded.sharded.snapshot(0, follower.place, folded.sharded.room(0))
    chunks = pack(state_of(taken))
    await state.call("SET", keys.leader("s00"), "w|1|1")
    meta = {"edge_ms": taken.head.edge_ms}
    written = await Checkpoints(state, "s00").write("w|1", "v1", chunks, follower.position, meta)
    assert written.outcome == "ok"


def follower_of(state: State, folded: Folded, shard: int) -> Follower:
    def fold(kind: str, data: bytes, now_ms: int) -> None:
        content: object = data.decode() if kind == "c" else None
        if kind == "r":
            batch = reports.unpack(data)
            columns = zip(
                batch.users, batch.cells.tolist(), batch.expiries_ms.tolist(), batch.flags.tolist(), strict=True
            )
            content = [reports.Report(*row) for row in columns]
        elif kind != "c":
            content = orjson.loads(data)
        folded.fold(shard, Entry(now_ms, kind, content))

    def on_time(now_ms: int, epoch_ms: int) -> bool:
        folded.presence.on_time(now_ms, epoch_ms, shard)
        return True

    return Follower(state, keys.feed(keys.shard_tag(shard)), fold, on_time, time.monotonic)


async def started(state: State, shards: int) -> Folded:
    """A worker that starts now: checkpoints, then the tails; each shard finds its place."""
    folded = Folded(shards)
    for shard in range(shards):
        follower = follower_of(state, folded, shard)
        loaded = await Checkpoints(state, keys.shard_tag(shard)).read()
        if loaded is not None:
            follower.restart(folded.load(loaded.chunks).head.place)
        await follower.catch_up()
    return folded


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_a_copy_to_sixteen_shards_is_the_same_world(
    state: State, target: State, seed: int, checkpoint: bool
) -> None:
    draws = random.Random(seed)
    history = History(draws, 1, ACTS)
    await state.call("HSET", keys.world(), "format", "2", "shards", "1")
    await state.call("SET", keys.fence("s00"), 41)
    await state.call("SET", "{stores}:else", "1")
    one, many = keys.Shards(1), keys.Shards(COUNT)
    await state.call("HSET", keys.tombstones("s00"), "name", "1|7")
    await state.call("HSET", keys.requests("s00", "0f" * 16), "day", "1")
    await state.call("PEXPIRE", keys.requests("s00", "0f" * 16), 3_600_000)
    waiting = {f"u:{user}": number for number, user in enumerate((*USERS, "an:odd:one"))}
    await state.call("ZADD", keys.cases("s00"), *(part for name, us in waiting.items() for part in (us, name)))
    for user in (*USERS, "an:odd:one"):
        for names in (one.person, one.friend_halves, one.blocks):
            await state.call("HSET", names(user), "of", user)
        await state.call("ZADD", one.operations(user), 9, one.operation(user, "shake", "0f"))
        await state.call("SET", one.operation(user, "shake", "0f"), user, "PX", 3_600_000)
    cut = draws.randrange(1, ACTS) if checkpoint else 0
    await write_feed(state, history.feeds[0][:cut])
    if checkpoint:
        lived = Folded(1)
        follower = follower_of(state, lived, 0)
        await follower.catch_up()
        await write_checkpoint(state, lived, follower)
        await state.call("XTRIM", keys.feed("s00"), "MINID", "=", "{}-{}".format(*follower.position))
    await write_feed(state, history.feeds[0][cut:], cut)
    before = await started(state, 1)

    done = await Copy(state, target, Resharding(COUNT, time.monotonic, SECRET), time.monotonic).run("there")

    after = await started(target, COUNT)
    assert whole(after) == whole(before)
    assert after.answers(history.now_ms) == before.answers(history.now_ms)
    assert after.digest() == before.digest()
    assert after.presence.in_step
    assert await world_record.of(target) == {"format": "2", "shards": str(COUNT)}
    for user in (*USERS, "an:odd:one"):
        for names in (many.person, many.friend_halves, many.blocks):
            assert await target.call("HGETALL", names(user)) == [b"of", user.encode()]
        operation = many.operation(user, "shake", "0f")
        assert await target.call("GET", operation) == user.encode()
        assert 3_000_000 < await target.call("PTTL", operation) <= 3_600_000
        assert await target.call("ZRANGE", many.operations(user), 0, -1) == [operation.encode()]
    queues = 0
    newest = (await state.call("XREVRANGE", keys.feed("s00"), "+", "-", "COUNT", 1))[0][0]
    for shard in many.all():
        tag = keys.shard_tag(shard)
        assert await target.call("GET", keys.fence(tag)) == b"41"
        assert await target.call("HGET", keys.tombstones(tag), "name") == b"1|7"
        assert await target.call("HGET", keys.requests(tag, "0f" * 16), "day") == b"1"
        assert 3_000_000 < await target.call("PTTL", keys.requests(tag, "0f" * 16)) <= 3_600_000
        queue = await target.call("ZRANGE", keys.cases(tag), 0, -1)
        queues += bool(queue)
        for name in map(bytes.decode, queue):
            assert many.of(name[2:]) == shard
            assert float(await target.call("ZSCORE", keys.cases(tag), name)) == waiting.pop(name)
        assert not await target.call("EXISTS", keys.leader(tag))
        [(only, fields)] = await target.call("XRANGE", keys.feed(tag), "-", "+")
        assert (only, fields[1]) == (newest, b"t")
    assert not waiting
    assert done.keys == 15 * 5 + 4, "the queue of cases is made at the end"
    chunks = sum([1 async for page in transfer.scan(target) for record in page.records if b":cp:" in record.key])
    assert await transfer.count_keys(target) == 1 + 15 * 5 + 1 + queues + 5 * COUNT + chunks


def report(user: str, now_ms: int) -> Entry:
    """As somebody of the first life of an id sends it."""
    flags = OWN | CLAIM_TOLD | CLAIM_KNOWN | CLAIM_ADULT
    return Entry(now_ms, "r", [Report(user, CELLS8[0], now_ms + 4 * EPOCH_MS, flags)])


async def erased_with_a_leftover(state: State) -> None:
    """Ann was erased, which only the checkpoint knows by now; behind it came a report that was under way. Bob lives."""
    await state.call("HSET", keys.world(), "format", "2", "shards", "1")
    settings = [{"u": user, "visibility": "everyone", "until": 0, "age": "adult"} for user in ("ann", "bob")]
    entries = [Entry(START_MS, "s", each) for each in settings]
    await write_feed(state, [*entries, report("ann", START_MS), report("bob", START_MS)])
    lived = Folded(1)
    follower = follower_of(state, lived, 0)
    await follower.catch_up()
    assert lived.presence.count_live(START_MS) == 2
    slot = lived.people.fold_erased("ann", lived.people.tombstones.name("ann"), START_MS, 1, START_MS)
    lived.presence.fold_erased(slot, START_MS)
    await write_checkpoint(state, lived, follower)
    await state.call("XTRIM", keys.feed("s00"), "MINID", "=", "{}-{}".format(*follower.position))
    await write_feed(state, [report("ann", START_MS + 9), report("bob", START_MS + 9)], 10)


def require_gone(folded: Folded, user: str) -> None:
    assert folded.people.life(user) == 1
    assert folded.people.is_gone(user)
    assert folded.presence.count_live(START_MS + 10) == 1, "bob, and nobody else"
    assert user not in {folded.people.ids[int(slot)] for slot in np.flatnonzero(folded.presence.published)}


async def test_who_was_erased_stays_so_in_sixteen_shards_and_back_on_one_server(state: State, target: State) -> None:
    """What the feed still says of them is refused by the copy as by any worker: their tombstones have effect there."""
    await erased_with_a_leftover(state)
    require_gone(await started(state, 1), "ann")
    await Copy(state, target, Resharding(COUNT, time.monotonic, SECRET), time.monotonic).run("there")
    many = await started(target, COUNT)
    require_gone(many, "ann")
    assert sum(bool(many.people.tombstones.rows(shard)) for shard in range(COUNT)) == COUNT, "whose it is, none tells"
    await state.call("FLUSHALL")
    await Copy(target, state, Plan(), time.monotonic).run("back")
    back = await started(state, COUNT)
    require_gone(back, "ann")
    ann = back.people.shards.of("ann")
    back.presence.fold_reports(reports.unpack(payload(report("ann", START_MS + 20))), START_MS + 20, ann)
    require_gone(back, "ann")


async def test_a_copy_with_another_secret_is_refused_and_the_source_goes_on(state: State, target: State) -> None:
    await erased_with_a_leftover(state)
    with pytest.raises(WrongSecret):
        await Copy(state, target, Resharding(COUNT, time.monotonic, b"another secret" * 3), time.monotonic).run("there")
    await world_record.refuse_elsewhere(state)


async def test_without_a_checkpoint_the_erasures_of_the_feed_tell_the_secret(state: State, target: State) -> None:
    await state.call("HSET", keys.world(), "format", "2", "shards", "1")
    name = Folded(1).people.tombstones.name("ann")
    await write_feed(state, [report("ann", START_MS), Entry(START_MS, "e", ["ann", name, START_MS, 1])])
    with pytest.raises(WrongSecret):
        await Copy(state, target, Resharding(COUNT, time.monotonic, b"another secret" * 3), time.monotonic).run("there")
    await world_record.refuse_elsewhere(state)
    await Copy(state, target, Resharding(COUNT, time.monotonic, SECRET), time.monotonic).run("there")
    loaded = await Checkpoints(target, "s00").read()
    assert loaded is not None
    assert [row[0] for row in unpack(loaded.chunks).tombstones] == [name]


async def test_an_empty_feed_becomes_sixteen(state: State, target: State) -> None:
    await state.call("HSET", keys.world(), "format", "2", "shards", "1")
    await Copy(state, target, Resharding(COUNT, time.monotonic, SECRET), time.monotonic).run("there")
    assert await world_record.of(target) == {"format": "2", "shards": "16"}
    assert await transfer.count_keys(target) == 1


async def test_folded_people_that_are_not_as_written_are_no_copy(
    state: State, target: State, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.call("HSET", keys.world(), "format", "2", "shards", "1")
    await write_feed(state, History(random.Random(seed), 1, 40).feeds[0])
    real = resharding.split

    def forgetful(state: ShardState, after: keys.Shards) -> list[ShardState]:
        return sorted(real(state, after), key=lambda part: len(part.ids))[:-1]

    monkeypatch.setattr(resharding, "split", forgetful)
    with pytest.raises(world_record.NotAsWritten):
        await Copy(state, target, Resharding(COUNT, time.monotonic, SECRET), time.monotonic).run("there")
    await world_record.refuse_elsewhere(state)


def test_place_of_a_part_is_its_tick() -> None:
    one = Folded(1)
    state = unpack(one.packed(0))
    part = split(state, keys.Shards(3))[2]
    assert part.head.place.position == place().position
    assert part.head.place.checksum != place().checksum
    assert (part.head.shard, part.head.shards, part.ids, part.mentioned) == (2, 3, [], [])
