"""Addresses of MLflow stores."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from soc_ft.errors import ConfigError
from soc_ft.records.provenance import without_password

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "databricks-uc")
"""Of the stores that MLflow brings, but for its file store, which it gave up."""


def known_uri(uri: str) -> str:
    """The same address, if MLflow, or a plugin of it, has a store for its kind.

    Raises:
        ValueError: it has none.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    plugins = [plugin.name for plugin in entry_points(group="mlflow.tracking_store")]
    if scheme not in (*SCHEMES, *plugins) or (uri.count(":") == 0 and "databricks" not in scheme):
        raise ValueError(
            "is no address of an MLflow store; write http://HOST:PORT of a server, or "
            "sqlite:////FOLDER/mlflow.db"
        )
    return uri


def check_variable() -> None:
    """Check the address that the environment gives, if it gives one.

    Raises:
        ConfigError: MLflow has no store for it.
    """
    if given := os.environ.get(URI_VARIABLE):
        try:
            known_uri(given)
        except ValueError as error:
            raise ConfigError(f"{URI_VARIABLE}={display_uri(given)}: {error}") from None


TrackingURI = Annotated[str, AfterValidator(known_uri)]


def default_uri(folder: Path) -> str:
    """``MLFLOW_TRACKING_URI`` if it is set, else an SQLite database in ``folder``.

    The time-out lets the jobs of a sweep take turns at the database.
    """
    database = (folder.expanduser().absolute() / "mlflow.db").as_posix()
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{database}?timeout=60"


def with_credentials(uri: str) -> str:
    """Put back what is not written to disk, if the environment has it for the same address."""
    current = os.environ.get(URI_VARIABLE, "")
    return current if without_password(current) == uri else uri


def display_uri(uri: str) -> str:
    """The address as one would give it to ``mlflow ui --backend-store-uri``."""
    return without_password(uri).partition("?")[0]


def sqlite_path(uri: str) -> Path | None:
    """The database file of an SQLite address."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return None
    return Path(uri.removeprefix(prefix).partition("?")[0]).absolute()
