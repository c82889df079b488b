"""What tests of load through Dask share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.dask_hosts import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With one load host of two Dask workers, which each test leaves so."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start_scheduler()
        made.start_host(2)
        made.joined(2)
        yield made
    finally:
        made.close()


@pytest.fixture
def own_cluster(tmp_path: Path, unused_port: int) -> Iterator[Cluster]:
    """Nothing is started; for tests that break it."""
    made = Cluster(tmp_path, unused_port)
    try:
        yield made
    finally:
        made.close()
