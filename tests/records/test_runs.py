"""What runs and sweeps on disk are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.records.runs import sweep_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("multirun/2026-11-21/09-30-00-quickstart", "2026-11-21_09-30-00-quickstart"),
        ("multirun/lambda/", "lambda"),
        ("/data/multirun/mine/multirun/lambda", "lambda"),
        ("/data/sweeps/lambda", "lambda"),
        ("/data/multirun", "multirun"),
        ("multirun/2026-11-21/../lambda", "lambda"),
    ],
)
def test_a_sweep_is_called_after_its_folder(folder: str, name: str) -> None:
    """Breaks if sweeps of two days share a name, or a name holds a path."""
    assert sweep_name(Path(folder)) == name


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a report of ``.`` is called nothing."""
    (tmp_path / "multirun" / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "multirun" / "a" / "b")
    assert sweep_name(Path()) == "a_b"
