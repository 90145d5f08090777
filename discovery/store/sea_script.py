"""Scripts that begin with a part that others share, one chunk for the server: Lua there cannot import."""

import hashlib

from discovery.store.scripts import Script


class JoinedScript(Script):
    """Script ``name`` with the scripts ``heads`` before it, in order."""

    __slots__ = ()

    def __init__(self, name: str, *heads: str) -> None:
        """Errors as in :class:`Script`."""
        super().__init__(name)
        self.text = b"\n".join([*(Script(head).text for head in heads), self.text])
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class SeaScript(JoinedScript):
    """A script of the sea: each begins with ``lua/bottle_sea.lua``."""

    __slots__ = ()

    def __init__(self, name: str, *heads: str) -> None:
        """``heads``: further ones behind that of the sea."""
        super().__init__(name, "bottle_sea", *heads)
