"""The command line as a user meets it: quick answers, one line an error, exit codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import command, light_answer


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("soc_ft", *arguments), capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["lambda=-1"], "lambda"),
        (["method=adjoint_match"], "did you mean adjoint_matching"),
        (["nothing=1"], "nothing"),
        (["method.nothing=1"], "method.nothing"),
        (["model.path=/nowhere"], "/nowhere"),
        (["lambda=1", "lambda"], "lambda"),
        (["experiment=quickstart", "sweep=lambda"], "python -m soc_ft -m"),
        (["experiment=quickstart", "hydra/launcher=slurm"], "without -m the run would start here"),
    ],
)
def test_configuration_errors_are_one_line_and_exit_code_2(
    arguments: list[str], word: str, tmp_path: Path
) -> None:
    """Breaks when Hydra's own report or a traceback comes through, or a folder is left behind."""
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("soc_ft: error: ")
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_folders_that_are_not_its_own(tmp_path: Path) -> None:
    """Breaks when tidying up after a refusal removes a folder that the user had made."""
    mine, here = tmp_path / "mine", tmp_path / "here"
    mine.mkdir()
    here.mkdir()
    run("lambda=-1", f"run_dir={mine}/run", cwd=here)
    assert mine.is_dir()
    assert not list(mine.iterdir())


def test_an_unwritable_output_folder_is_one_line(tmp_path: Path) -> None:
    """Breaks when the folder is first written after the model has loaded."""
    (tmp_path / "file").touch()
    done = run(f"run_dir={tmp_path}/file/run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}/file" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["lambda=-1"]])
def test_answers_come_without_the_heavy_imports(arguments: list[str], tmp_path: Path) -> None:
    """Breaks when torch is imported before the configuration is checked."""
    light_answer(command("soc_ft", *arguments), tmp_path)


def test_the_help_lists_the_groups() -> None:
    """Breaks when the help loses the groups or the first command."""
    text = run("--help").stdout
    for word in ("cfg_mode: full, none, trajectories", "experiment=quickstart", "method:"):
        assert word in text


def test_a_missing_run_folder_is_one_line(tmp_path: Path) -> None:
    """Breaks when sampling from a folder that is no run ends in a traceback."""
    done = subprocess.run(
        command("soc_ft.sample", f"run={tmp_path}"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(tmp_path) in done.stderr
