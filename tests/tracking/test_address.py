"""Addresses of MLflow stores."""

from __future__ import annotations

import pytest

from soc_ft.tracking.address import known_uri


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////tmp/mlflow.db?timeout=60",
        "postgresql+psycopg2://user@host/mlflow",
        "http://127.0.0.1:5000",
        "https://name:secret@host/path",
        "databricks",
        "databricks://profile",
    ],
)
def test_stores_of_mlflow_are_taken(uri: str) -> None:
    """Breaks if a store that MLflow has is refused."""
    assert known_uri(uri) == uri


@pytest.mark.parametrize("uri", ["ftp://host", "runs/mlruns", "file:///tmp/mlruns", "sqlite", ""])
def test_other_addresses_are_refused(uri: str) -> None:
    """Breaks if a whole run is trained before somebody learns that nothing can be delivered."""
    with pytest.raises(ValueError, match=r"no address of an MLflow store; write http://"):
        known_uri(uri)
