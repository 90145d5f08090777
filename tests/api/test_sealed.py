"""Sealed texts and keyed hashes: deterministic, bound to purpose and context, unforgeable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pagination import Cursors
from discovery.errors import BadCursor
from discovery.sealed import Sealer

SECRET = b"a secret of at least 32 bytes, 012"
SEALER = Sealer(SECRET)


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_opens_to_what_was_sealed_and_equal_inputs_give_equal_bytes(payload: bytes, context: bytes) -> None:
    sealed = SEALER.seal("cursor", payload, context)
    assert SEALER.open("cursor", sealed, context) == payload
    assert Sealer(SECRET).seal("cursor", payload, context) == sealed
    assert set(sealed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_bound_to_purpose_context_and_secret() -> None:
    sealed = SEALER.seal("cursor", b"payload", b"ann")
    others = [(SEALER, "shake", b"ann"), (SEALER, "cursor", b"bob"), (Sealer(SECRET + b"x"), "cursor", b"ann")]
    for sealer, purpose, context in others:
        with pytest.raises(BadCursor):
            sealer.open(purpose, sealed, context)


@given(st.text(max_size=80))
def test_any_other_text_is_a_bad_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        SEALER.open("cursor", text, b"")


def test_every_change_of_one_character_is_noticed() -> None:
    sealed = SEALER.seal("cursor", b"some payload", b"")  # 29 bytes: the last character has spare bits
    for place in range(len(sealed)):
        for other in "AB01_-zQ":
            changed = sealed[:place] + other + sealed[place + 1 :]
            if changed != sealed:
                with pytest.raises(BadCursor):
                    SEALER.open("cursor", changed, b"")
    for text in (sealed + "=", sealed + "A", sealed[:-1], sealed + "\n", "A" * 5000):
        with pytest.raises(BadCursor):
            SEALER.open("cursor", text, b"")


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_hashes_are_of_the_parts_not_of_their_join(one: list[str], other: list[str]) -> None:
    assert (SEALER.hash64("order", *one) == SEALER.hash64("order", *other)) == (one == other)
    assert (SEALER.id128("id", *one) == SEALER.id128("id", *other)) == (one == other)


def test_forms_of_hashes() -> None:
    assert 0 <= SEALER.hash64("order", "a") < 2**64
    assert SEALER.hash64("order", "a") == SEALER.hash64("order", b"a") != SEALER.hash64("other", "a")
    assert len(SEALER.id128("id", "a")) == 32
    assert int(SEALER.id128("id", "a"), 16) >= 0
    assert max(SEALER.hash64("order", str(number)) for number in range(100)) > 2**63


def test_epoch_keys() -> None:
    keys = {SEALER.epoch_key(number) for number in range(1000)}
    assert len(keys) == 1000
    assert all(0 <= half < 2**64 for key in keys for half in key)
    assert Sealer(SECRET).epoch_key(7) == SEALER.epoch_key(7) != Sealer(SECRET + b"x").epoch_key(7)


def test_purposes_of_different_kinds_share_no_key() -> None:
    assert SEALER._derive(b"seal", b"x", 32) != SEALER._derive(b"hash", b"x", 32)
    assert SEALER._derive(b"seal", b"x", 64)[:32] != SEALER._derive(b"seal", b"x", 64)[32:]


def test_short_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(b"x" * 31)


def test_cursors_are_of_one_list_caller_and_form() -> None:
    cursors = Cursors(SEALER)
    cursor = cursors.seal("bottles", "ann", 5, "b-1")
    assert cursors.open("bottles", "ann", cursor, (int, str)) == [5, "b-1"]
    for name, caller, kinds in (
        ("blocks", "ann", (int, str)),
        ("bottles", "bob", (int, str)),
        ("bottles", "ann", (int,)),
        ("bottles", "ann", (str, str)),
    ):
        with pytest.raises(BadCursor):
            cursors.open(name, caller, cursor, kinds)
