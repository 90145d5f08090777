"""A state server that hangs, dies or comes back: callers are told in time, and never another's reply."""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from discovery.errors import StateAway
from discovery.store.client import State
from tests.contract.test_calls import COUNT, ECHO
from tests.faults.proxy import Faults, proxying
from tests.footings import Footing

KEY = "{s00}:n"


@contextlib.contextmanager
def hanging(footing: Footing) -> Iterator[None]:
    """The server of KEY hangs meanwhile."""
    footing.pause(KEY)
    try:
        yield
    finally:
        footing.resume(KEY)


async def answered_again(state: State, key: str = KEY) -> float:
    """Seconds until a read is answered."""
    started_s = time.monotonic()
    while True:
        with contextlib.suppress(StateAway):
            await state.call("GET", key, within_s=0.3)
            return time.monotonic() - started_s
        assert time.monotonic() - started_s < 15
        await asyncio.sleep(0.02)


async def test_a_hanging_server_is_noticed_within_the_callers_deadline(footing_state: State, footing: Footing) -> None:
    with hanging(footing):
        started_s = time.monotonic()
        calls = [
            asyncio.create_task(footing_state.run(COUNT, [KEY], [], within_s=0.3)),
            asyncio.create_task(footing_state.call("GET", KEY, within_s=0.3)),
        ]
        for call in calls:
            with pytest.raises(StateAway) as away:
                await call
            assert away.value.outcome_unknown
        assert 0.25 < time.monotonic() - started_s < 0.5
    assert await answered_again(footing_state) < 5
    replies = await asyncio.gather(*(footing_state.run(ECHO, [f"{{s00}}:{n}"], [n]) for n in range(100)))
    assert replies == [[f"{{s00}}:{n}".encode(), str(n).encode()] for n in range(100)]
    assert await footing_state.call("GET", KEY) == b"1", "the call that was given up had been sent once"


async def test_the_breaker_opens_within_a_second_and_closes_after_the_server_is_back(
    footing_state: State, footing: Footing
) -> None:
    stopped_s, calls, at_once_s = time.monotonic(), 0, 0.0
    with hanging(footing):
        while not at_once_s:  # a caller each 20 ms, as requests come in
            asked_s = time.monotonic()
            task = asyncio.create_task(footing_state.call("GET", KEY, within_s=0.3))
            await asyncio.wait({task}, timeout=0.02)
            calls += 1
            if task.done():
                assert isinstance(task.exception(), StateAway)
                at_once_s = asked_s - stopped_s
            else:
                task.add_done_callback(lambda done: done.exception())
            assert time.monotonic() - stopped_s < 2
        assert at_once_s < 1.0
        refused = [footing_state.call("SET", KEY, n) for n in range(50)]
        outcomes = await asyncio.gather(*refused, return_exceptions=True)
        known = [isinstance(outcome, StateAway) and not outcome.outcome_unknown for outcome in outcomes]
        assert sum(known) >= 49, "all but a probe fail at once, and are known not to have been sent"
    assert await answered_again(footing_state) < 5
    assert await footing_state.call("SET", KEY, "back") == b"OK"


async def test_a_restarted_server_is_found_again(footing_state: State, footing: Footing) -> None:
    await footing_state.call("SET", KEY, "kept")
    await footing_state.run(ECHO, [KEY], ["x"])
    server = footing.server_of(KEY)
    footing.kill(KEY)
    with pytest.raises(StateAway):
        await footing_state.call("GET", KEY)
    server.stop()
    server.start()
    assert await answered_again(footing_state) < 5
    assert await footing_state.call("GET", KEY) == b"kept"
    assert await footing_state.run(ECHO, [KEY], ["y"]) == [KEY.encode(), b"y"], "a script that it has forgotten"


async def test_what_waits_is_bounded(footing_state: State, footing: Footing) -> None:
    with hanging(footing):
        calls = (footing_state.call("GET", KEY, within_s=0.3) for _ in range(10_500))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, StateAway) for outcome in outcomes)
        refused = [outcome for outcome in outcomes if "too many" in str(outcome)]
        assert len(refused) == 500, "told at once"
        assert not any(outcome.outcome_unknown for outcome in refused if isinstance(outcome, StateAway))
    assert await answered_again(footing_state) < 5


# --- cancelled calls over a slow network ---


@pytest_asyncio.fixture(params=["embedded", "redis-7.0", "valkey-waitaof"])
async def far_state(request: pytest.FixtureRequest, seed: int) -> AsyncIterator[State]:
    """A client behind a proxy that delays each chunk by 0 to 100 ms. (Nodes of a Cluster tell their own addresses.)"""
    server = request.getfixturevalue(
        {"embedded": "state_server", "redis-7.0": "redis_server", "valkey-waitaof": "waitaof_server"}[request.param]
    )
    with proxying(server.url, seed) as proxy:
        state = State(proxy.url)
        await state.open()
        await state.call("FLUSHALL")
        proxy.faults = Faults(jitter_s=0.1)
        yield state
        proxy.heal()
        assert proxy.connections <= 20, "cancelled calls must not cost connections"
        await state.close()


async def test_cancelled_calls_shift_nobodys_reply_over_a_slow_network(far_state: State, seed: int, scale: int) -> None:
    chance = random.Random(seed)
    nonces = {f"{{s00}}:{n}": secrets.token_bytes(12) for n in range(2000)}
    await asyncio.gather(*(far_state.call("SET", key, nonce) for key, nonce in nonces.items()))
    wrong = cancelled = answered = 0

    async def ask(key: str) -> None:
        nonlocal wrong, answered
        reply = await far_state.call("GET", key)
        wrong += reply != nonces[key]
        answered += 1

    names = list(nonces)
    while cancelled < 4_000 * scale:
        tasks = [asyncio.create_task(ask(key)) for key in chance.sample(names, 1500)]
        await asyncio.sleep(chance.random() * 0.12)
        for task in chance.sample(tasks, 1200):
            cancelled += task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert wrong == 0
    assert answered >= cancelled // 10
