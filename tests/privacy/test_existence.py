"""T6: hidden, blocked, out of range, expired, cleared, unfriended, never there: one answer, at every instant."""

from pathlib import Path

from discovery.store.client import State
from tests.privacy.asgi import Answer, Ask
from tests.privacy.existence import FRIENDS, INSTANTS_MS, SHAKING, STATES, Setup, ask_all, ask_friend, prepared
from tests.privacy.report import reported
from tests.world import open_world

Said = list[tuple[Ask, Answer]]


async def strangers(state: State, data_dir: Path, name: str) -> Said:
    """All that a stranger is told in one state."""
    await state.call("FLUSHALL")
    async with open_world(state, data_dir) as world:
        return await ask_all(world, await prepared(world, STATES[name]), SHAKING.get(name))


async def friends(state: State, data_dir: Path, setup: Setup) -> Said:
    """All that a friend is told in one state."""
    await state.call("FLUSHALL")
    async with open_world(state, data_dir) as world:
        return await ask_friend(world, await prepared(world, setup))


def told_apart(seen: dict[str, Said]) -> list[tuple[str, Ask]]:
    """States, and what tells them from the first of all."""
    expected = next(iter(seen.values()))
    return [
        (name, ask)
        for name, answers in seen.items()
        for (ask, answer), (_, first) in zip(answers, expected, strict=True)
        if answer != first
    ]


async def test_nobody_learns_why_somebody_is_not_seen(state: State, tmp_path: Path, seed: int) -> None:
    with reported("T6", seed, len(STATES)) as run:
        seen = {name: await strangers(state, tmp_path, name) for name in STATES}
        answers = seen["never existed"]
        found = told_apart(seen)
        run.rows.append({"requests": len(answers), "instants": len(INSTANTS_MS), "told apart": len(found)})
        assert found == []
    assert {answer.status for _, answer in answers} >= {200, 201, 204, 404}
    assert not any(answer.status >= 500 for _, answer in answers)


async def test_a_friend_does_not_learn_why_a_friend_is_not_on_the_radar(state: State, tmp_path: Path) -> None:
    seen = {name: await friends(state, tmp_path, setup) for name, setup in FRIENDS.items()}
    assert told_apart(seen) == []
    assert any(b'"accepted"' in answer.body for _, answer in seen["never anywhere"])
