"""Fixtures with a real state server: one embedded child for the whole test run, emptied before each test."""

import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from discovery.store.client import State
from discovery.store.data_dir import DataDir
from discovery.store.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def state_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A running embedded server in a temporary data directory."""
    data_dir = DataDir.take(tmp_path_factory.mktemp("state"), time.monotonic)
    server = EmbeddedServer(data_dir, time.monotonic)
    server.start()
    yield server
    server.stop()
    data_dir.release()


@pytest_asyncio.fixture
async def state(state_server: EmbeddedServer) -> AsyncIterator[State]:
    """An open client on an empty database."""
    client = State(state_server.url)
    await client.open()
    await client.call("FLUSHALL")
    yield client
    await client.close()
