"""A Slurm for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.sweeps.client import Client
from tests.sweeps.slurm import Cluster, missing


@pytest.fixture(scope="session")
def slurm() -> Iterator[Client]:
    """A cluster that ends with the session; skips only where Slurm is not installed, or not root.

    Its folder is not one of pytest's: a Unix socket's path must be short.
    """
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Cluster(Path(folder) / "cluster")
        cluster.start()
        yield Client(cluster)
        cluster.stop()


@pytest.fixture(autouse=True)
def _empty_queue(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test meets another's jobs."""
    yield
    if "slurm" in request.fixturenames:
        request.getfixturevalue("slurm").cancel_all()


@pytest.fixture(scope="session")
def slurm_environment(slurm: Client) -> Mapping[str, str]:
    """Variables of a shell that reaches the cluster."""
    return slurm.environment
