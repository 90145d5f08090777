"""One service behind a proxy for all tests that leave it whole."""

from collections.abc import Iterator

import pytest

from tests.faults.behind import Behind, behind_proxy


@pytest.fixture(scope="package")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Two workers, a proxy, and Debian's Redis that syncs before it answers."""
    with behind_proxy(tmp_path_factory.mktemp("behind")) as running:
        yield running
