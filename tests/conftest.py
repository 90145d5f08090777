"""Shared fixtures: the seed of a randomised test, printed so that a failure can be replayed, and the run's scale."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# Fixtures of all tests that need the state, on one footing or on each, or a whole world.
from tests.footings import (  # noqa: F401
    cluster_of_the_run,
    cluster_servers,
    footing,
    footing_state,
    redis_server,
    waitaof_server,
)
from tests.longest_first import LONGEST_FIRST
from tests.state import state, state_server  # noqa: F401
from tests.world import no_feed_entry, world  # noqa: F401

# `make nightly` sets it to 10: sizes and numbers of examples are multiplied by it.
SCALE = int(os.environ.get("NEARHIVE_TEST_SCALE") or 1)

# No deadline: an example that compiles a kernel, or meets a busy machine, is slow without being wrong.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("nightly", deadline=None, print_blob=True, max_examples=100 * SCALE)
settings.load_profile("nightly" if SCALE > 1 else "default")

_ROOT = Path(__file__).resolve().parent.parent
_PLACES = {_ROOT / name: place for place, name in enumerate(LONGEST_FIRST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; the tests of one file stay together, in their order."""
    items.sort(key=lambda item: _PLACES.get(item.path, len(_PLACES)))


@pytest.fixture(autouse=True)
def _log_configuration() -> Iterator[None]:
    """A command that a test calls in its own process chooses what is logged; the next test must not inherit it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def seed() -> int:
    """Seed of this test: ``NEARHIVE_TEST_SEED`` replays one, else fresh; pytest shows the line on failure."""
    value = int(os.environ.get("NEARHIVE_TEST_SEED") or secrets.randbits(32))
    print(f"NEARHIVE_TEST_SEED={value}")
    return value


@pytest.fixture(scope="session")
def scale() -> int:
    """How many times bigger than usual this run's numbers are: 1, or ``NEARHIVE_TEST_SCALE``."""
    return SCALE
