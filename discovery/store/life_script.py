"""Scripts by which somebody acts: each looks first whether that person was erased meanwhile."""

from discovery.store.sea_script import JoinedScript

ERASED = b"erased"
"""The whole reply of a script one of whose people was erased: nothing was changed."""


class LifeScript(JoinedScript):
    """Script ``name`` with ``lua/life.lua`` at its head, then the scripts ``heads``."""

    __slots__ = ()

    def __init__(self, name: str, *heads: str) -> None:
        """Errors as in :class:`Script`."""
        super().__init__(name, "life", *heads)
