"""What a bottle looks like to a worker: the shapes that callers get, the rows that scripts reply, the texts allowed."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from discovery.errors import Invalid

TEXT_MAX = 500
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

Role = Literal["thrown", "picked"]
BottleState = Literal["floating", "picked", "answered", "expired"]

_STATES: dict[bytes, BottleState] = {b"f": "floating", b"p": "picked", b"a": "answered", b"e": "expired"}
_ID = re.compile(r"[0-9a-f]{32}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LANGUAGE_MAX = 35  # RFC 5646 section 4.4.1: longest tag an application must be able to take


@dataclass(frozen=True, slots=True)
class ReplyView:
    """One reply of a thread; ``mine`` as seen by the caller."""

    mine: bool
    kind: str
    text: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class BottleView:
    """A bottle as one of the two sees it: no id of the other. ``thrown_at_ms`` is floored to the hour."""

    bottle_id: str
    kind: str
    text: str
    language: str | None
    thrown_at_ms: int
    throw_backs: int
    mine: bool
    replies: tuple[ReplyView, ...]


@dataclass(frozen=True, slots=True)
class Thrown:
    """Answer to a throw. ``expires_at_ms`` is the end given at the throw; answers move it later."""

    bottle_id: str
    expires_at_ms: int
    throws_left: int
    resets_at_ms: int


@dataclass(frozen=True, slots=True)
class Picked:
    """Answer to a pick. ``bottle`` None with reason None: a repeat whose bottle the caller no longer has."""

    bottle: BottleView | None
    reason: Literal["sea_empty"] | None
    picks_left: int
    resets_at_ms: int


@dataclass(frozen=True, slots=True)
class MineItem:
    """One line of a person's own list. For a held bottle ``expires_at_ms`` is the end of the hold."""

    bottle_id: str
    role: Role
    state: BottleState
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Record:
    """A bottle as stored, both people named: for this package only, never for an answer."""

    bottle_id: str
    state: str
    author: str
    holder: str | None
    text: str
    language: str | None
    thrown_at_ms: int
    throw_backs: int
    replies: tuple[tuple[bool, int, str], ...]  # (by the author, ms, text)
    reported_by: str  # sides that reported the thread: 'a' author, 'h' holder

    def other(self, caller: str) -> str | None:
        """The other of the two, or None when there is none yet."""
        return self.holder if caller == self.author else self.author

    def hidden_from(self, caller: str) -> bool:
        """Whether ``caller``, one of the two, reported the thread, or it is held for a moderator."""
        return self.state == "m" or ("a" if caller == self.author else "h") in self.reported_by

    def view(self, caller: str) -> BottleView:
        """The bottle as ``caller``, one of the two, may see it."""
        mine = caller == self.author
        return BottleView(
            bottle_id=self.bottle_id,
            kind="text",
            text=self.text,
            language=self.language,
            thrown_at_ms=self.thrown_at_ms - self.thrown_at_ms % HOUR_MS,
            throw_backs=self.throw_backs,
            mine=mine,
            replies=tuple(ReplyView(by_author == mine, "text", text, at_ms) for by_author, at_ms, text in self.replies),
        )


@dataclass(frozen=True, slots=True)
class MineRow:
    """One entry of a person's list as stored; ``score`` orders it and is the place of its page."""

    item: MineItem
    score: int
    other: str | None


def read_record(reply: Any) -> Record | None:
    """The record of ``record()`` in bottle_sea.lua; None for a bottle that is not there or was deleted."""
    bottle_id, (state, author, holder, text, language, at, backs, hid), replies = reply
    if state is None or state == b"d":
        return None
    return Record(
        bottle_id=bottle_id.decode(),
        state=state.decode(),
        author=author.decode(),
        holder=None if holder is None else holder.decode(),
        text=text.decode(),
        language=language.decode() or None,
        thrown_at_ms=int(at),
        throw_backs=int(backs),
        reported_by="" if hid is None else hid.decode(),
        replies=tuple((raw[:1] == b"a", int(raw[1:14]), raw[14:].decode()) for raw in replies),
    )


def read_mine(row: Any, caller: str) -> MineRow | None:
    """One row of bottle_mine.lua; None for an entry that the script has just found over, or that is not shown."""
    entry, score, state, ends, until, author, holder = row
    role: Role = "thrown" if entry[:1] == b"t" else "picked"
    named = {"thrown": author, "picked": holder}[role]
    if state not in _STATES or named != caller.encode():
        return None
    expires = until if role == "picked" and state == b"p" else ends
    other = holder if role == "thrown" else author
    item = MineItem(entry[1:].decode(), role, _STATES[state], int(expires))
    return MineRow(item, int(score), None if other is None else other.decode())


def is_bottle_id(bottle_id: str) -> bool:
    """Whether this could be the id of a bottle at all."""
    return _ID.fullmatch(bottle_id) is not None


def check_text(text: str) -> str:
    """``text`` unchanged. Raises Invalid unless 1..500 characters, something visible, and no control but LF and tab."""
    if not 1 <= len(text) <= TEXT_MAX:
        raise Invalid(f"text must have 1 to {TEXT_MAX} characters", "text")
    kinds = {unicodedata.category(char) for char in text if char not in "\n\t"}
    if kinds & {"Cc", "Cs"}:
        raise Invalid("text must not hold control characters other than line feed and tab", "text")
    if kinds <= {"Zs", "Zl", "Zp", "Cf"}:
        raise Invalid("text must hold something visible", "text")
    return text


def check_language(language: str | None) -> str | None:
    """``language`` unchanged. Raises Invalid unless None or a short BCP 47 tag such as ``en`` or ``zh-Hans-CN``."""
    if language is not None and (len(language) > _LANGUAGE_MAX or _LANGUAGE.fullmatch(language) is None):
        raise Invalid("language must be a language tag such as en or zh-Hans", "language")
    return language
