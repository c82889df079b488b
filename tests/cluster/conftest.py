"""What tests of load through Dask share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.dask_hosts import Cluster, connections, driven


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With one load host of two Dask workers."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start_scheduler()
        made.start_host(2)
        made.until(lambda: made.said().count("has joined") == 2)
        yield made
    finally:
        made.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nothing is started; for tests that break it."""
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def drive() -> Callable[..., object]:
    return driven


@pytest.fixture
def in_flight_at() -> Callable[[str], int]:
    return connections
