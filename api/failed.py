"""The one exception of the command line; apart, so that a command that calls nobody imports no HTTP client."""

from typing import Any


class Failed(Exception):
    """What went wrong, for people. ``problem``: the service's problem answer, if it gave one."""

    def __init__(self, message: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem or {}
