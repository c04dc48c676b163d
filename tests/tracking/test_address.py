"""Addresses of MLflow stores."""

from __future__ import annotations

import pytest

from soc_ft.config import parse
from soc_ft.errors import ConfigError
from soc_ft.tracking.address import known_uri
from tests.conftest import composed


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


def test_the_variable_is_looked_at_where_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a wrong variable is found out after the training, or bars a run that has its own
    address, or a password of it is said."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://me:secret@host")
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI=ftp://host: is no address"):
        parse(composed("tracking=mlflow"))
    parse(composed("tracking=mlflow", "tracking.uri=http://localhost:5000"))
    parse(composed("tracking=none"))
