"""Texts on their way to other people: the word list, the deployment's own check, and bottles switched off."""

import asyncio
import hmac
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from api.main import create_app
from api.settings import BadSettings, load_settings, read_settings
from api.text_check import TextCheck
from discovery.errors import ContentRefused, ModerationAway
from discovery.sealed import Sealer
from discovery.words import DEFAULT, WordList
from tests.world import SECRET, World

HOOK_SECRET = "a secret of the hook, of 32 bytes or more"
Answering = Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]]


# --- the word list ---


@pytest.mark.parametrize(
    "text",
    [
        "fuck",
        "What the FUCK?!",
        "f\u00fcck",
        "fu\u200bck",
        "\uff46\uff55\uff43\uff4b",
        "kill\n  yourself.",
        "Encul\u00e9",
    ],
)
def test_refused_whatever_the_case_the_accents_and_the_gaps(text: str) -> None:
    assert WordList.read(DEFAULT).refuses(text)


@pytest.mark.parametrize("text", ["Scunthorpe", "reputation", "I skill yourself", "hello", "", "海", "kill. Your self"])
def test_only_whole_words(text: str) -> None:
    assert not WordList.read(DEFAULT).refuses(text)


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# ours\n\n  Apples and  PEARS \nB\u00e4r\n", "utf-8")
    words = WordList.read(path)
    assert [words.refuses(text) for text in ("apples, and pears", "bar", "ours", "apples", "fuck")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="100,000"):
        WordList(f"w{n}" for n in range(100_001))


# --- the hook ---


def check(tmp_path: Path, answering: Answering, **more: Any) -> TextCheck:
    settings = load_settings(
        data_dir=tmp_path, moderation_url="https://hook.example/x", moderation_secret=HOOK_SECRET, **more
    )
    return TextCheck(settings, Sealer(SECRET), lambda: 1_800_000_000.0, httpx2.MockTransport(answering))


def says(verdict: Any, status: int = 200) -> Answering:
    async def answering(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=orjson.dumps(verdict))

    return answering


async def test_what_the_hook_is_sent(tmp_path: Path) -> None:
    sent: list[httpx2.Request] = []

    async def answering(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json={"allow": True})

    made = check(tmp_path, answering)
    for user in ("ann", "ann", "bob"):
        await made.require_allowed("bottle", user, "hello", "en")
    await made.close()
    bodies = [orjson.loads(request.content) for request in sent]
    assert bodies[0] | {"id": ""} == {"kind": "bottle", "text": "hello", "language": "en", "id": ""}
    assert bodies[0]["id"] == bodies[1]["id"] != bodies[2]["id"]
    assert not any(b"ann" in request.content for request in sent)
    stamp = sent[0].headers["X-Nearhive-Timestamp"]
    signed = hmac.digest(HOOK_SECRET.encode(), stamp.encode() + b"." + sent[0].content, "sha256").hex()
    assert (stamp, sent[0].headers["X-Nearhive-Signature"]) == ("1800000000", signed)


@pytest.mark.parametrize(
    ("verdict", "detail"),
    [
        ({"allow": False}, "the text is refused"),
        ({"allow": False, "reason": "spam_link"}, "the text is refused: spam_link"),
        ({"allow": False, "reason": "You wrote: hello"}, "the text is refused"),
        ({"allow": False, "reason": 7}, "the text is refused"),
    ],
)
async def test_what_the_hook_refuses_is_refused(tmp_path: Path, verdict: Any, detail: str) -> None:
    made = check(tmp_path, says(verdict))
    with pytest.raises(ContentRefused) as refused:
        await made.require_allowed("reply", "ann", "hello", None)
    assert refused.value.detail == detail
    await made.close()


async def _late(_request: httpx2.Request) -> httpx2.Response:
    await asyncio.sleep(5)
    return httpx2.Response(200, json={"allow": True})


async def _broken(_request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("nobody there")


async def _endless(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, content=b" " * 100_000 + b'{"allow": true}')


@pytest.mark.parametrize(
    "answering",
    [_late, _broken, _endless, says({"allow": True}, 500), says({"allow": "yes"}), says([]), says({}), says(None, 302)],
)
async def test_no_answer_of_the_hook(tmp_path: Path, answering: Answering) -> None:
    refusing = check(tmp_path, answering, moderation_deadline_s=0.2)
    with pytest.raises(ModerationAway):
        await refusing.require_allowed("bottle", "ann", "hello", None)
    allowing = check(tmp_path, answering, moderation_deadline_s=0.2, moderation_on_failure="allow")
    await allowing.require_allowed("bottle", "ann", "hello", None)
    for made in (refusing, allowing):
        await made.close()


async def test_the_word_list_comes_first_and_may_be_off(tmp_path: Path) -> None:
    asked = 0

    async def answering(_request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return httpx2.Response(200, json={"allow": True})

    made = check(tmp_path, answering)
    with pytest.raises(ContentRefused):
        await made.require_allowed("bottle", "ann", "fuck", None)
    assert asked == 0
    without = check(tmp_path, answering, word_list="off")
    await without.require_allowed("bottle", "ann", "fuck", None)
    assert asked == 1
    await without.close()


def test_a_url_needs_its_secret_and_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    for more in ({"moderation_url": "https://x"}, {"moderation_url": "ftp://x", "moderation_secret": HOOK_SECRET}):
        with pytest.raises(BadSettings):
            read_settings(**more)
    with pytest.raises(BadSettings):
        read_settings(moderation_url="https://x", moderation_secret="short")


# --- over HTTP ---


async def test_refused_texts_write_nothing(world: World) -> None:
    async with world.client("ann") as ann, world.client("bob") as bob:
        for client in (ann, bob):
            await client.patch("/v1/me/settings", json={"bottles": "on"})
        key = {"Idempotency-Key": "1"}
        refused = await ann.post("/v1/bottles", json={"text": "fuck you"}, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (422, "content_refused")
        assert [error["field"] for error in refused.json()["errors"]] == ["text"]
        bottle_id = (await ann.post("/v1/bottles", json={"text": "hello"}, headers=key)).json()["bottle_id"]
        await bob.post("/v1/bottles/pick", headers=key)
        path = f"/v1/bottles/{bottle_id}/replies"
        assert (await bob.post(path, json={"text": "bitch"}, headers=key)).status_code == 422
        world.app.state.text_check = _Away()
        assert (await bob.post(path, json={"text": "hi"}, headers=key)).json()["code"] == "moderation_away"
        assert (await bob.get(f"/v1/bottles/{bottle_id}")).json()["replies"] == []


class _Away:
    async def require_allowed(self, *_: object) -> None:
        raise ModerationAway


async def test_bottles_switched_off_in_a_deployment(world: World) -> None:
    settings = world.settings.model_copy(update={"bottles": False})
    off = World(world.state, settings, world.hive)
    routes = [route for route in create_app(world.hive, settings).routes if "bottles" in getattr(route, "path", "")]
    assert len(routes) >= 8
    async with off.client("ann") as client:
        for route in routes:
            path = route.path.replace("{bottle_id}", "0" * 32)  # type: ignore[attr-defined]
            method = next(iter(route.methods))  # type: ignore[attr-defined]
            body = {"text": "x"} if path.endswith(("/bottles", "/replies")) and method == "POST" else None
            answer = await client.request(method, path, headers={"Idempotency-Key": "1"}, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "feature_off"), path
