"""One leader a stream: taken when free, kept by renewing, taken over from who stood still, fenced by its token."""

import random

import pytest

from discovery.store import keys
from discovery.store.client import State
from discovery.store.leader import DEAD_S, RENEW_S, VALID_S, Leader

TAG = "s03"
KEY = keys.leader(TAG)


class Clock:
    """A worker's own clock, set by the test."""

    def __init__(self, now_s: float = 50.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Party:
    """Some workers, each with its own clock; time passes for all of them."""

    def __init__(self, state: State, count: int) -> None:
        self.clocks = [Clock(1000.0 * number) for number in range(count)]
        self.leaders = [Leader(state, TAG, f"w{number}", clock) for number, clock in enumerate(self.clocks)]

    def wait(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.now_s += seconds


async def test_who_comes_first_leads_and_goes_on_leading(state: State) -> None:
    party = Party(state, 2)
    one, other = party.leaders
    for _ in range(20):
        await one.look()
        await other.look()
        assert (one.token, other.token) == ("w0|1", None)
        party.wait(RENEW_S)
    assert (await state.call("GET", KEY)).startswith(b"w0|1|")
    assert await state.call("GET", keys.fence(TAG)) == b"1"


async def test_who_stands_still_for_two_seconds_is_replaced_with_a_larger_token(state: State) -> None:
    party = Party(state, 2)
    one, other = party.leaders
    await one.look()
    await other.look()
    party.wait(DEAD_S - 0.01)
    await other.look()
    assert other.token is None
    party.wait(0.01)
    await other.look()
    assert other.token == "w1|2"
    assert one.token is None, "its own clock told it before"
    await one.look()
    assert one.token is None
    assert other.token == "w1|2"


async def test_a_beat_at_the_last_moment_keeps_the_leader(state: State) -> None:
    party = Party(state, 2)
    one, other = party.leaders
    await one.look()
    await other.look()
    party.wait(DEAD_S - 0.1)
    await one.look()
    party.wait(0.2)
    await other.look()
    assert (one.token, other.token) == ("w0|1", None)


async def test_a_leader_doubts_itself_before_others_may_take_over(state: State) -> None:
    party = Party(state, 1)
    (one,) = party.leaders
    await one.look()
    party.wait(VALID_S)
    assert one.token is not None
    party.wait(0.01)
    assert one.token is None
    await one.look()
    assert one.token == "w0|1", "nobody took over: it leads on with the same token"


async def test_who_resigns_is_replaced_at_once(state: State) -> None:
    party = Party(state, 2)
    one, other = party.leaders
    await one.look()
    await other.look()
    await one.resign()
    assert one.token is None
    await other.look()
    assert other.token == "w1|2"
    await one.resign()
    await other.look()
    assert other.token == "w1|2", "who does not lead resigns nothing"


async def test_a_late_resignation_does_not_touch_the_next_leader(state: State) -> None:
    party = Party(state, 2)
    one, other = party.leaders
    await one.look()
    await other.look()
    token, party.clocks[0].now_s = one.token, party.clocks[0].now_s - 10
    party.wait(DEAD_S)
    await other.look()
    assert (token, other.token) == ("w0|1", "w1|2")
    await one.resign()
    assert (await state.call("GET", KEY)).startswith(b"w1|2|")


async def test_an_emptied_state_gets_a_leader_again(state: State) -> None:
    (one,) = Party(state, 1).leaders
    await one.look()
    await state.call("FLUSHALL")
    await one.look()
    assert one.token == "w0|1"


async def test_when_the_next_look_is_due(state: State) -> None:
    party = Party(state, 2)
    one, other = party.leaders
    assert one.due_in_s() <= 0
    await one.look()
    await other.look()
    assert one.due_in_s() == other.due_in_s() == RENEW_S
    for _ in range(3):
        party.wait(RENEW_S)
        await other.look()
    party.wait(0.3)
    assert other.due_in_s() == pytest.approx(DEAD_S - 3 * RENEW_S - 0.3), "just when it may take over"


async def test_a_look_tells_what_the_stream_and_the_clock_of_the_server_say(state: State) -> None:
    party = Party(state, 1)
    (one,) = party.leaders
    sample = await one.look()
    assert sample is not None
    assert (sample.newest_ms, sample.asked_s) == (0, party.clocks[0].now_s)
    await state.call("XADD", keys.feed(TAG), "99-1", "k", "s")
    seconds, _ = await state.call("TIME")
    sample = await one.look()
    assert sample is not None
    assert sample.newest_ms == 99
    assert abs(sample.server_ms - 1000 * int(seconds)) < 2000


async def test_an_answer_that_took_long_is_no_sample(state: State) -> None:
    reads = iter([0.0, 0.6])
    assert await Leader(state, TAG, "w", lambda: next(reads, 0.6)).look() is None
    reads = iter([0.0, 0.4])
    assert await Leader(state, TAG, "w", lambda: next(reads, 0.4)).look() is not None


@pytest.mark.parametrize("worker", ["", "a|b"])
def test_a_name_that_would_break_the_text_is_refused(worker: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Leader(None, TAG, worker, Clock())  # type: ignore[arg-type]


async def test_never_two_leaders_by_the_fence_and_tokens_grow(state: State, seed: int) -> None:
    """At any moment at most one token passes the fence, and whoever believes to lead has it or is refused."""
    chance = random.Random(seed)
    party = Party(state, 3)
    tokens: list[int] = []
    for _ in range(400):
        one = chance.choice(party.leaders)
        act = chance.random()
        if act < 0.7:
            await one.look()
        elif act < 0.75:
            await one.resign()
        elif act < 0.95:
            party.wait(chance.choice([0.1, 0.3, 0.6]))
        else:
            party.wait(2.1)
        held = await state.call("GET", KEY)
        believing = [leader.token for leader in party.leaders if leader.token is not None]
        passing = [token for token in believing if held is not None and held.startswith(f"{token}|".encode())]
        assert len(passing) <= 1
        assert believing == passing, "with clocks that agree nobody even believes wrongly"
        if held is not None:
            tokens.append(int(held.split(b"|")[1]))
    assert tokens == sorted(tokens)
    assert tokens[-1] > 3
