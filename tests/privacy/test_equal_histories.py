"""T0, a first cut: whoever has the same visible history gives everybody the same bytes, wherever in the cell they are.

Two runs of one scenario differ only in the exact points of the victim: two points of each resolution-8 cell, many of
them within 50 m of its border, and other numbers of reports. Every read by a stranger, a friend and a shaker is
compared byte by byte, headers included, but for the date and the request id.
"""

import random
from pathlib import Path

from discovery.store.client import State
from geo import cells
from tests.world import EPOCH_MS, PARIS, World, open_world

Point = tuple[float, float]
_TRACK = 4  # cells that the victim visits
_CASES = 3


def point_in(cell: int, draws: random.Random, *, near_border: bool) -> Point:
    """A point of the cell, uniform in a triangle of its fan, or within about 50 m of its border on the inside."""
    lat, lon = cells.center(cell)
    corners = cells.boundary(cell)
    at = draws.randrange(len(corners))
    a, b = corners[at], corners[(at + 1) % len(corners)]
    share = draws.random()
    edge_lat, edge_lon = a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
    depth = draws.uniform(0.9, 0.995) if near_border else draws.random() ** 0.5
    return lat + depth * (edge_lat - lat), lon + depth * (edge_lon - lon)


async def observe(world: World) -> list[bytes]:
    """What a stranger, a friend, another friend and shakers are answered."""
    seen: list[bytes] = []
    asks = [("stranger", f"/v1/nearby?radius_m={radius}&limit=100") for radius in (3000, 5000, 20_000)]
    asks += [
        (friend, f"/v1/radar?radius_m={radius}") for friend in ("near", "city") for radius in (1000, 5000, 100_000)
    ]
    asks += [("near", "/v1/me/friends"), ("stranger", "/v1/me/friends"), ("stranger", "/v1/me/position")]
    for user, path in asks:
        async with world.client(user, headers={"X-Request-Id": "same"}) as client:
            answer = await client.get(path)
            seen.append(repr((answer.status_code, sorted(answer.headers.items()))).encode() + answer.content)
    return seen


async def shakes(world: World, key: str, point: Point) -> list[bytes]:
    seen = []
    for user, place in (("stranger", PARIS), ("victim", point), ("near", PARIS)):
        async with world.client(user, headers={"X-Request-Id": "same", "Idempotency-Key": key}) as client:
            answer = await client.post("/v1/shakes", json={"lat": place[0], "lon": place[1]})
            assert answer.status_code == 201, answer.text
            if user != "victim":
                seen.append(answer.content)
    return seen


async def run(world: World, points: list[list[Point]]) -> list[bytes]:
    """The scenario; ``points[i]`` are the reports of the victim in step i."""
    for user in ("stranger", "near", "city"):
        await world.place(user, *PARIS, ttl_s=28_800)
    await world.befriend("victim", "near", "near")
    await world.befriend("victim", "city", "city")
    seen: list[bytes] = []
    for step, reports in enumerate(points):
        for lat, lon in reports:
            await world.place("victim", lat, lon, ttl_s=28_800)
        seen += await observe(world)
        seen += await shakes(world, f"shake-{step}", reports[-1])
        await world.later(EPOCH_MS)
        seen += await observe(world)
    async with world.client("victim") as victim:
        await victim.delete("/v1/me/position")
    return seen + await observe(world)


def reports(track: list[int], draws: random.Random) -> list[list[Point]]:
    return [
        [point_in(cell, draws, near_border=draws.random() < 0.5) for _ in range(draws.randint(1, 3))] for cell in track
    ]


def track(draws: random.Random) -> list[int]:
    """Cells of one visit after the other that do not touch, so that hysteresis cannot keep the old one."""
    near = [int(cell) for cell in cells.disk(cells.cell_of(*PARIS, 8), 6000.0)[0]]
    visited = [near[0]]
    while len(visited) < _TRACK:
        cell = draws.choice(near)
        if cells.distance_m(cell, visited[-1]) > 2000:
            visited.append(cell)
    return visited


async def test_equal_visible_histories_give_equal_bytes(state: State, tmp_path: Path, seed: int, scale: int) -> None:
    draws = random.Random(seed)
    for _ in range(_CASES * scale):
        visited = track(draws)
        transcripts = []
        for _run in range(2):
            await state.call("FLUSHALL")
            async with open_world(state, tmp_path) as world:
                transcripts.append(await run(world, reports(visited, draws)))
        differing = [i for i, (a, b) in enumerate(zip(*transcripts, strict=True)) if a != b]
        assert differing == []
        assert any(b"victim" in answer for answer in transcripts[0])


async def test_the_comparison_can_fail(state: State, tmp_path: Path) -> None:
    """Positive control: another cell is seen, so the bytes must differ."""
    home = cells.cell_of(*PARIS, 8)
    other = next(int(c) for c in cells.disk(home, 6000.0)[0] if cells.parent(int(c), 7) != cells.parent(home, 7))
    transcripts = []
    for cell in (home, other):
        await state.call("FLUSHALL")
        async with open_world(state, tmp_path) as world:
            transcripts.append(await run(world, [[cells.center(cell)]]))
    assert transcripts[0] != transcripts[1]
