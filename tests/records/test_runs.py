"""What runs and sweeps on disk are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.records.runs import find_weights, sweep_name
from tests.conftest import write_weights


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


@pytest.mark.parametrize("name", ["last.ckpt", "best.safetensors"])
def test_a_damaged_checkpoint_is_told(name: str, tmp_path: Path) -> None:
    """Breaks if half a checkpoint is only met after torch is imported."""
    file, which = tmp_path / "checkpoints" / name, name.partition(".")[0]
    file.parent.mkdir()
    write_weights(file)
    assert find_weights(tmp_path, which) == file
    file.write_bytes(b"\x09")
    with pytest.raises(ConfigError, match=rf"checkpoint={which}: {file} is cut off or damaged"):
        find_weights(tmp_path, which)
