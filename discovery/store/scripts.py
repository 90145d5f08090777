"""Lua scripts: their text, the name the server gives them, and the rule that one script touches one hash tag."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_FOLDER = Path(__file__).with_name("lua")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Script:
    """One Lua script, read once from ``discovery/store/lua/<name>.lua``; ``sha1`` is its name in EVALSHA."""

    __slots__ = ("lasting", "name", "sha1", "text")

    def __init__(self, name: str, *, lasting: bool = True) -> None:
        """``lasting=False``: its reply need not wait until disk and replica have what it wrote. For what is written
        anew each moment anyhow, or not at all.

        Raises ValueError for an odd name and FileNotFoundError for a script that is not there.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"script name {name!r} is not lower-case letters, digits and underscores")
        self.name = name
        self.lasting = lasting
        self.text = (_FOLDER / f"{name}.lua").read_bytes()
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


def tag_of(key: str) -> str:
    """The part of a key that Cluster hashes: inside the first ``{...}`` unless empty, else the whole key.

    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


def require_one_tag(keys: Iterable[str]) -> None:
    """Raises ValueError when the keys would live on two nodes of a Cluster, where no script can touch both."""
    tags = {tag_of(key) for key in keys}
    if len(tags) > 1:
        raise ValueError(f"keys of {len(tags)} hash tags in one script: {', '.join(sorted(tags))}")
