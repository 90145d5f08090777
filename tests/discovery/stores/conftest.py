"""The state server, for tests of what is kept in it."""

from tests.state import state, state_server

__all__ = ["state", "state_server"]
