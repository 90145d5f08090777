"""Shakes of somebody erased: nobody's from then on, in the stream as in memory, and everybody else meets the same."""

import random
import time

import pytest

from discovery.erasing import Erasing, Job
from discovery.shake_entries import Shake, pack_shakes, unpack_shakes
from discovery.shake_fold import ShakeFold
from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import Follower
from discovery.store.hive_time import Tick, pack_tick
from tests.discovery.test_shake_fold import EPOCH_MS, HERE, MIDDLE, NEAR, T0, epoch_key, person_hash

STREAM = keys.feed(keys.SHAKE_TAG)
PEOPLE = [f"person-{n}" for n in range(8)]
TICK = pack_tick(Tick(0, EPOCH_MS))


class Worker:
    """Follows the shake stream, as a hive does."""

    def __init__(self, state: State) -> None:
        self.fold = ShakeFold(epoch_key, EPOCH_MS)
        self.follower = Follower(state, STREAM, self._fold, self._on_time, time.monotonic)

    def _fold(self, kind: str, payload: bytes, now_ms: int) -> None:
        self.fold.fold(payload, now_ms)

    def _on_time(self, now_ms: int, epoch_ms: int) -> bool:
        self.fold.tick(now_ms)
        return True

    def told(self, hashes: list[int]) -> list[object]:
        return [(self.fold.shake(each), self.fold.matches(each)) for each in hashes]


def random_shake(draws: random.Random, person: str) -> Shake:
    cell, reach, limit = draws.choice((HERE, HERE, NEAR, MIDDLE)), draws.randrange(2), draws.choice((1, 2, 10))
    excluded = sorted(person_hash(other) for other in draws.sample(PEOPLE, draws.choice((0, 0, 1, 2))))
    shake_hash = draws.getrandbits(64)
    return Shake(shake_hash, person, person_hash(person), cell, reach, limit, True, 5000, tuple(excluded))


async def write(state: State, draws: random.Random, first_ms: int, count: int, hashes: list[int]) -> int:
    """Entries of one to three shakes, a tick before each; the time of the last."""
    now_ms = first_ms
    for _ in range(count):
        now_ms += draws.choice((1, 400, 1500))
        await state.call("XADD", STREAM, f"{now_ms}-0", "k", "t", "d", TICK)
        shakes = [random_shake(draws, draws.choice(PEOPLE)) for _ in range(draws.randrange(1, 4))]
        hashes += [shake.shake_hash for shake in shakes]
        await state.call("XADD", STREAM, f"{now_ms}-1", "k", "s", "d", pack_shakes(shakes))
    return now_ms


async def ids(state: State) -> list[bytes]:
    return [entry for entry, _ in await state.call("XRANGE", STREAM, "-", "+")]


async def named(state: State) -> set[str]:
    rows = await state.call("XRANGE", STREAM, "-", "+")
    return {shake.person for _, fields in rows if fields[1] == b"s" for shake in unpack_shakes(fields[3])}


def last_id(about: list[bytes]) -> bytes:
    return about[about.index(b"last-generated-id") + 1]


async def no_clear(user: str, life: int, human: str) -> None:
    """Nothing is kept elsewhere here."""


@pytest.mark.parametrize("removed_last", [False, True])
async def test_a_worker_started_after_an_erasure_gives_the_others_the_same_matches(
    state: State, seed: int, scale: int, removed_last: bool
) -> None:
    for run in range(4 * scale):
        await state.call("DEL", STREAM)
        draws, hashes = random.Random(seed + run), list[int]()
        lived = Worker(state)
        end_ms = await write(state, draws, T0, 25, hashes)
        if removed_last:
            gone = await state.call("XADD", STREAM, f"{end_ms + 1}-0", "k", "t", "d", TICK)
            await state.call("XDEL", STREAM, gone)
        await lived.follower.catch_up()
        erased = PEOPLE[:2]
        for user in erased:
            lived.fold.forget_person(user)
        jobs = {user: Job(1, (end_ms, 9), "") for user in erased}
        before = await ids(state), await state.call("XINFO", "STREAM", STREAM)
        assert await Erasing(state, 0, no_clear, "worker")._forget_shakes(jobs)
        assert await Erasing(state, 0, no_clear, "worker")._forget_shakes(jobs)
        after = await ids(state), await state.call("XINFO", "STREAM", STREAM)
        assert before[0] == after[0]
        assert last_id(before[1]) == last_id(after[1])
        assert await named(state) == {"", *PEOPLE[2:]}
        started = Worker(state)
        await started.follower.catch_up()
        assert started.told(hashes) == lived.told(hashes)
        assert started.fold.digest() == lived.fold.digest()
        assert sum(len(lived.fold.matches(each)) for each in hashes) > 10
        # Both go on, and who came under the name later is somebody.
        await write(state, draws, end_ms + 5000, 10, hashes)
        for worker in (lived, started):
            await worker.follower.catch_up()
        assert started.told(hashes) == lived.told(hashes)
        assert started.fold.digest() == lived.fold.digest()
        assert await Erasing(state, 0, no_clear, "worker")._forget_shakes(jobs)
        assert set(erased) & await named(state), "shakes of a later life stay"
