"""Shared fixtures: the seed of a randomised test, printed so that a failure can be replayed."""

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """Seed of this test: ``NEARHIVE_TEST_SEED`` replays one, else fresh; pytest shows the line on failure."""
    value = int(os.environ.get("NEARHIVE_TEST_SEED") or secrets.randbits(32))
    print(f"NEARHIVE_TEST_SEED={value}")
    return value
