"""Runs are found by their MLflow id."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.tracking.store import Store, folder_of_mlflow_run, looks_like_mlflow_id


def test_an_mlflow_id_leads_to_the_run_folder(tmp_path: Path) -> None:
    """Breaks when a run cannot be evaluated by the id that MLflow shows."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store = Store(uri)
    experiment = store.experiment("soc_ft")
    run, old, empty = (store.find_or_create_run(experiment, uid, None, {}) for uid in "abc")
    store.begin(run, {}, {"soc_ft.run_dir": str(tmp_path / "run")})
    store.begin(old, {"run_dir": str(tmp_path / "old")}, {})  # before it became a tag
    assert folder_of_mlflow_run(run, uri) == str(tmp_path / "run")
    assert folder_of_mlflow_run(old, uri) == str(tmp_path / "old")
    for unfit in (empty, 32 * "0"):
        with pytest.raises(ConfigError, match=f"run={unfit}: .* no such run with a run folder"):
            folder_of_mlflow_run(unfit, uri)


def test_what_mlflow_cannot_answer_is_one_line(tmp_path: Path) -> None:
    """Breaks when a damaged store ends in the pages that MLflow prints."""
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    with pytest.raises(ConfigError, match="cannot be asked") as caught:
        folder_of_mlflow_run(32 * "0", f"sqlite:///{tmp_path}/mlflow.db")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when a folder that is named like an id is looked for in MLflow."""
    name = 32 * "a"
    assert looks_like_mlflow_id(name)
    assert not looks_like_mlflow_id("runs/mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert not looks_like_mlflow_id(name)
