"""Answers about people: none leaves when the lease lapsed, and nothing runs between the look and the bytes."""

import asyncio
import contextlib
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import uvicorn

import discovery
from api.fail_closed import PromptProtocol, note_lease
from discovery.errors import StateAway
from tests.world import PARIS, World

DISCOVERY = str(Path(discovery.__file__).parent)


class Lease:
    """The worker's lease as a test sets it: one generation after the other, each for one look."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.coming: list[int | None] = []
        self.now: int | None = 1
        monkeypatch.setattr(world.hive, "lease_generation", self._look)

    def _look(self) -> int | None:
        if self.coming:
            self.now = self.coming.pop(0)
        return self.now


@pytest.fixture
def lease(world: World, monkeypatch: pytest.MonkeyPatch) -> Lease:
    return Lease(world, monkeypatch)


READS = ("/v1/nearby", "/v1/radar", "/v1/me/friends", "/v1/me/blocks", "/v1/me/position", "/v1/me/settings")


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("later", [2, None])
async def test_a_read_whose_lease_lapsed_meanwhile_tells_nothing(
    world: World, lease: Lease, path: str, later: int | None
) -> None:
    await world.place("ann", *PARIS)
    await world.place("bob", *PARIS)
    await world.befriend("ann", "bob")
    async with world.client("ann") as client:
        good = await client.get(path)
        assert good.status_code == 200
        lease.coming = [1, later]
        answer = await client.get(path, headers={"X-Request-Id": "mine"})
        assert lease.coming == []
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_ready"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert b"bob" not in answer.content
    assert b"ann" not in answer.content


async def test_without_a_lease_no_people_endpoint_answers(world: World, lease: Lease) -> None:
    lease.now = None
    async with world.client("ann") as client:
        for path in READS:
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        answer = await client.put("/v1/me/blocks/bob")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/v1/brands/acme/stores/nearest", json={"lat": 1, "lon": 1})).status_code != 503
    assert await world.state.call("KEYS", "*:x:ann") == []


async def test_a_change_that_was_made_is_not_called_refused(world: World, lease: Lease) -> None:
    async with world.client("ann") as client:
        lease.coming = [1, 2]
        answer = await client.put("/v1/me/blocks/bob")
        assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
        assert (await client.get("/v1/me/blocks")).json()["blocks"] == [{"user": "bob"}]


async def test_refusals_that_look_at_people_lapse_and_failures_stay(
    world: World, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.client("ann") as client:
        lease.coming = [1, 2]
        answer = await client.get("/v1/me/position")  # 404 else, which tells that nobody placed ann
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        monkeypatch.setattr(world.hive.safety, "block", _unknown)
        lease.coming = [3, 4]
        answer = await client.put("/v1/me/blocks/bob")
        assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")


async def _unknown(*_: object) -> None:
    raise StateAway(outcome_unknown=True)


# --- nothing runs between ---


class Steps:
    """Numbers the turns of the event loop, and notes in which one this task ran code of ``discovery`` last."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._checking = False
        self.turn = 0
        self.looked = -1
        self.running = True

    def _next(self) -> None:
        self.turn += 1
        if self.running:
            asyncio.get_running_loop().call_soon(self._next)

    def __enter__(self) -> "Steps":
        asyncio.get_running_loop().call_soon(self._next)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self.running = False

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(DISCOVERY) or asyncio.current_task() is not self._task:
            return
        if code.co_name in ("lease_generation", "standing"):
            self._checking = event == "call"
        elif event == "call" and not self._checking:  # the checks of the lease and of the life are no look at people
            self.looked = self.turn


async def ask(world: World, user: str, path: str, query: str = "") -> tuple[int, bytes, list[tuple[int, int]]]:
    """One GET at the ASGI door: status, body, and for each message (turn of the last look, turn of handing over)."""
    async with world.client(user) as client:
        token = client.headers["Authorization"]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"authorization", token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    handed: list[tuple[int, int]] = []
    found: dict[str, Any] = {"body": b""}
    with Steps() as steps:

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            handed.append((steps.looked, steps.turn))
            found["status"] = message.get("status", found.get("status"))
            found["body"] += message.get("body", b"")

        await world.app(scope, receive, send)
    return found["status"], found["body"], handed


@pytest.fixture
async def crowded(world: World) -> World:
    """Two friends and a stranger in Paris, a shake and a bottle."""
    for user in ("ann", "bob", "eve"):
        await world.place(user, *PARIS)
    await world.befriend("ann", "bob")
    async with world.client("ann") as client:
        assert (await client.put("/v1/me/blocks/joe")).status_code == 204
        assert (await client.patch("/v1/me/settings", json={"bottles": "on"})).status_code == 200
    return world


async def _paths(world: World) -> dict[str, tuple[str, bytes]]:
    """Path -> query, and what its answer must hold."""
    async with world.client("ann") as client:
        body = {"lat": PARIS[0], "lon": PARIS[1]}
        shake = (await client.post("/v1/shakes", json=body, headers={"Idempotency-Key": "s"})).json()["shake_id"]
        thrown = await client.post("/v1/bottles", json={"text": "ahoy"}, headers={"Idempotency-Key": "b"})
    return {
        "/v1/nearby": ("", b"eve"),
        "/v1/radar": ("", b"bob"),
        "/v1/me/friends": ("", b"bob"),
        "/v1/me/blocks": ("", b"joe"),
        "/v1/me/position": ("", b"published"),
        "/v1/me/settings": ("", b"visibility"),
        f"/v1/shakes/{shake}": ("wait_s=0", b"waiting"),
        f"/v1/bottles/{thrown.json()['bottle_id']}": ("", b"ahoy"),
        "/v1/me/bottles": ("", b"floating"),
    }


async def test_no_other_task_runs_between_the_look_and_the_bytes(crowded: World) -> None:
    """The turn of the loop in which the arrays were last read is that in which the whole answer is handed over."""
    for path, (query, holds) in (await _paths(crowded)).items():
        status, body, handed = await ask(crowded, "ann", path, query)
        assert status == 200, (path, body)
        assert holds in body
        assert len(handed) == 2, "start and body"
        assert len({turn for pair in handed for turn in pair}) == 1, (path, handed)


async def test_the_turns_would_tell(crowded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails for an endpoint that gives way after its look."""
    nearby = crowded.hive.nearby
    page = nearby.page

    async def giving_way(*arguments: Any) -> Any:
        found = await page(*arguments)
        await asyncio.sleep(0)
        return found

    monkeypatch.setattr(nearby, "page", giving_way)
    _, _, handed = await ask(crowded, "ann", "/v1/nearby")
    assert handed[0][0] < handed[0][1]


# --- a client that does not read ---

LARGE = 40_000_000  # more than the kernel keeps for a connection


class Door:
    """A server on a free port whose one application answers many bytes; about people where the path says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.generation = 1

    def lease_generation(self) -> int:
        return self.generation

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if scope["path"] == "/people":
            assert note_lease(scope, self)
        size = 1000 if scope["path"] == "/small" else LARGE
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * (size // 2), "more_body": True})
        await send({"type": "http.response.body", "body": b"x" * (size - size // 2)})


@pytest.fixture
async def door() -> Any:
    app = Door()
    config = uvicorn.Config(app, http=PromptProtocol, ws="none", lifespan="off", port=0, log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield app, server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


async def test_an_answer_about_people_never_waits_for_a_client_that_does_not_read(door: Any) -> None:
    _app, port = door
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(_get("/people"))
    await asyncio.sleep(0.3)
    got = b""
    with contextlib.suppress(ConnectionError):
        while some := await asyncio.wait_for(reader.read(100_000), 5):
            got += some
    assert len(got) < LARGE, "the second half had to wait, so it never came"
    writer.close()
    await writer.wait_closed()


async def test_other_answers_wait_and_pipelined_ones_begin_after_them(door: Any) -> None:
    app, port = door
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(_get("/large") + _get("/small") + _get("/small"))
    await asyncio.sleep(0.3)
    assert app.asked == ["/large"]
    got = b""
    while len(got) < LARGE + 2000 + 3 * 40:
        got += await asyncio.wait_for(reader.read(100_000), 5)
    assert app.asked == ["/large", "/small", "/small"]
    writer.close()
    await writer.wait_closed()
