"""``python -m soc_ft.report`` on real run folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from soc_ft.commands.report import main
from tests.conftest import command
from tests.reporting.synthetic import write_run

TinyRun = Callable[..., Path]


def report(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["report", *arguments])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()


def test_runs_as_training_leaves_them(
    tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Breaks if training writes its folder otherwise than reports read it."""
    for number, mode in enumerate(["none", "full"]):
        tiny_run("trainer.steps=1", f"cfg_mode={mode}", folder=f"s/{number}")
    capsys.readouterr()
    report(monkeypatch, str(tmp_path / "s"), "--output", str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert printed.startswith("2 jobs: 2 finished\n")
    labels = [line.split()[0] for line in printed.splitlines() if " ± " in line]
    assert labels == ["base", "cfg_mode=none", "cfg_mode=full"]
    assert f"report: {tmp_path}/out/README.md, {tmp_path}/out/index.html\n" in printed
    plots = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert plots >= {"reward.png", "training.png", "adjoint_norm.png", "samples.png"}
    header, *rows = (tmp_path / "out/results.csv").read_text().splitlines()
    assert len(rows) == 2
    assert {"evaluations_total", "peak_memory_mib", "seconds_total"} <= set(header.split(","))


def test_the_first_line_comes_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    """Breaks if the state of a sweep takes seconds to appear, for the sake of its plots."""
    write_run(tmp_path / "s/0")
    code = (
        "import sys; import soc_ft.reporting.writing\n"
        "heavy = {'torch', 'mlflow', 'matplotlib', 'scipy', 'lightning', 'diffusers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    """Breaks when a wrong path gives a traceback, or a report of nothing."""
    done = subprocess.run(
        command("soc_ft.report", str(tmp_path)), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert done.stderr == f"soc_ft: error: {tmp_path}: holds no run and no sweep\n"
    assert not (tmp_path / "multirun_reports").exists()
