"""The copy of the code that the jobs of a sweep run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.files import PACKAGE
from soc_ft.records.provenance import git_tags
from soc_ft.records.sweep import Sweep, code_tags, sweep_of
from soc_ft.sweeps.code import job_environment, snapshot_code


def test_jobs_import_the_copy_and_a_persons_own_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a job in a clone runs the clone, or no longer finds what lies beside it."""
    cwd = tmp_path / "clone"
    (cwd / "soc_ft").mkdir(parents=True)
    (cwd / "soc_ft" / "__init__.py").write_text("raise ImportError('edited')")
    (cwd / "my_reward.py").touch()
    (cwd / "extra").mkdir()
    (cwd / "extra" / "my_method.py").touch()
    monkeypatch.setenv("PYTHONPATH", "extra")
    code = snapshot_code(tmp_path / "sweep")
    probe = (
        "import soc_ft.files, my_reward, my_method;"
        "print(soc_ft.files.PACKAGE);"
        "print((soc_ft.files.conf_dir() / 'config.yaml').is_file())"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env={**os.environ, **job_environment(code, str(cwd))},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(code / "soc_ft"), "True"]


def test_a_copy_remembers_its_commit_and_the_next_is_another(tmp_path: Path) -> None:
    """Breaks if runs of a sweep cannot be traced to a commit, or a rerun overwrites the code."""
    first, second = snapshot_code(tmp_path), snapshot_code(tmp_path)
    assert first != second
    assert code_tags(first) == git_tags(PACKAGE)


def test_a_sweep_is_found_from_its_jobs_and_after_a_move(tmp_path: Path) -> None:
    """Breaks if a sweep cannot be moved, or jobs in nested folders lose theirs."""
    Sweep(tmp_path / "a", "a", "local", {}, ["python", "http://me:secret@host"]).save()
    assert "secret" not in (tmp_path / "a" / "sweep.json").read_text()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Sweep.load(tmp_path / "b")
    assert (moved.folder, moved.name) == (tmp_path / "b", "a")
    assert sweep_of(tmp_path / "b" / "lambda=1" / "seed=0") == tmp_path / "b"
    assert sweep_of(tmp_path / "c") is None
    with pytest.raises(ConfigError, match=r"there is no sweep\.json"):
        Sweep.load(tmp_path)
