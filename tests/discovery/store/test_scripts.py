"""Scripts are read once and named by their SHA-1; one script touches one hash tag."""

import hashlib

import pytest

from discovery.store.client import State
from discovery.store.scripts import Script, require_one_tag, tag_of


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("{s00}:feed", "s00"),
        ("{s00}:person:{x}", "s00"),
        ("{b:acme}:stores", "b:acme"),
        ("plain", "plain"),
        ("{}:empty", "{}:empty"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}zap", "{bar"),
        ("{open", "{open"),
        ("}{a}", "a"),
        ("", ""),
    ],
)
def test_the_tag_is_what_cluster_hashes(key: str, tag: str) -> None:
    assert tag_of(key) == tag


def test_keys_of_one_tag_pass_and_of_two_are_refused() -> None:
    require_one_tag([])
    require_one_tag(["{s00}:a", "{s00}:b"])
    with pytest.raises(ValueError, match=r"2 hash tags in one script: s00, sea"):
        require_one_tag(["{s00}:a", "{sea}:b"])


async def test_the_client_refuses_a_script_over_two_tags(state: State) -> None:
    with pytest.raises(ValueError, match="hash tags"):
        await state.run(Script("tick"), ["{s00}:feed", "{shake}:feed"], [0, b""])
    assert await state.call("DBSIZE") == 0


async def test_the_server_computes_the_same_name(state: State) -> None:
    script = Script("tick")
    assert script.sha1 == hashlib.sha1(script.text).hexdigest()
    assert await state.call("SCRIPT", "LOAD", script.text) == script.sha1.encode()


@pytest.mark.parametrize("name", ["", "../keys", "Tick", "tick.lua", "a b"])
def test_an_odd_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="script name"):
        Script(name)


def test_a_missing_script_is_said_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        Script("no_such_script")
