"""Fixtures of the contract tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from discovery.store.client import State
from tests.cluster_servers import ClusterServers
from tests.footings import empty


@pytest_asyncio.fixture
async def cluster_state(cluster_servers: ClusterServers) -> AsyncIterator[State]:
    """An open client on an empty, whole Cluster."""
    state = State(cluster_servers.url)
    await state.open()
    await empty(state)
    yield state
    await state.close()
