"""Scripts of the sea: each begins with the part that all of them share."""

import hashlib

from discovery.store.scripts import Script

_HEAD = Script("bottle_sea")


class SeaScript(Script):
    """Script ``name`` with ``lua/bottle_sea.lua`` at its head, one chunk for the server: Lua there cannot import."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        """Errors as in :class:`Script`."""
        super().__init__(name)
        self.text = _HEAD.text + b"\n" + self.text
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
