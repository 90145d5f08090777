"""The built-in check of texts: a plain list of words that are refused, as whole words, whatever their case or accents.

It is meant as a floor, not as moderation: it knows no context, and languages written without spaces have no whole words
for it. A deployment replaces the list, or asks its own service by the hook.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

DEFAULT = Path(__file__).with_name("words.txt")
_WORD = re.compile(r"[^\W_]+")
_LONGEST_LIST = 100_000


def fold(text: str) -> str:
    """Words of ``text`` in lower case without accents and invisible characters, one space between, before and after."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char) not in _UNSEEN)
    return f" {' '.join(_WORD.findall(plain.casefold()))} "


_UNSEEN = frozenset({"Mn", "Me", "Cf"})


class WordList:
    """Words, or phrases of several, that no text may hold."""

    def __init__(self, entries: Iterable[str]) -> None:
        """ValueError for more than 100,000 entries."""
        folded = {fold(entry) for entry in entries} - {"  "}
        if len(folded) > _LONGEST_LIST:
            raise ValueError(f"a word list of more than {_LONGEST_LIST:,} entries")
        self._words = frozenset(entry.strip() for entry in folded if entry.count(" ") == 2)
        self._phrases = tuple(sorted(entry for entry in folded if entry.count(" ") > 2))

    @classmethod
    def read(cls, path: Path) -> "WordList":
        """One entry a line, UTF-8; empty lines and those that start with ``#`` say nothing. OSError, ValueError."""
        lines = path.read_text("utf-8").splitlines()
        return cls(line for line in lines if not line.lstrip().startswith("#"))

    def refuses(self, text: str) -> bool:
        """Whether ``text`` holds any of them."""
        folded = fold(text)
        return not self._words.isdisjoint(folded.split()) or any(phrase in folded for phrase in self._phrases)
