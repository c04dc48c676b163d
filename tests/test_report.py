"""Runs side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.report import main, read_runs, table

TinyRun = Callable[..., Path]


def test_seeds_of_a_setting_share_a_row(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Breaks when settings are mixed up or repeated in every row, or one run has an error."""
    for seed in (0, 1):
        tiny_run("trainer.steps=1", f"seed={seed}", folder=f"sweep/{seed}")
    tiny_run("trainer.steps=1", "cfg_mode=none", folder="sweep/2")
    lines = table(read_runs(tmp_path / "sweep")).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| base model |")
    assert "±" in lines[3]
    assert lines[3].endswith("| 2 |")
    assert lines[3].startswith("| fine-tuned |")
    assert lines[4].startswith("| cfg_mode=none |")
    assert "±" not in lines[4]


def test_jobs_keep_the_order_of_their_numbers(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Breaks when job 10 comes before job 2, which puts a sweep over lambda out of order."""
    for job, strength in (("2", "3"), ("10", "100"), ("10.5", "200")):
        tiny_run("trainer.steps=1", f"lambda={strength}", folder=f"sweep/{job}")
    rows = table(read_runs(tmp_path / "sweep")).splitlines()[3:]
    assert [row.split(" |")[0].split("lambda=")[1] for row in rows] == ["3", "100", "200"]


def test_experiments_are_settings_like_others(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Breaks when runs of two experiments are averaged as if they were two seeds of one."""
    for name in ("one", "two"):
        run = tiny_run("trainer.steps=1", folder=f"sweep/{name}")
        (run / "overrides.yaml").write_text(f"- experiment={name}\n")
    rows = table(read_runs(tmp_path / "sweep")).splitlines()[3:]
    assert [row.split(" | ")[0] for row in rows] == ["| experiment=one", "| experiment=two"]


def test_the_report_is_written_with_a_plot(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when long settings leave a plot no room, or --output writes something else."""
    long = ["trainer.lr=1e-5", "trainer.warmup_steps=1", "validation.prompts=2"]
    for job, strength in (("0", "3"), ("1", "100")):
        tiny_run("trainer.steps=1", f"lambda={strength}", *long[: 3 * int(job)], folder=f"s/{job}")
    arguments = ["report", str(tmp_path / "s"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()
    assert (tmp_path / "out/table.md").read_text() == table(read_runs(tmp_path / "s")) + "\n"
    assert (tmp_path / "out/reward.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    """Breaks when an empty folder gives an empty table."""
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read_runs(tmp_path)
