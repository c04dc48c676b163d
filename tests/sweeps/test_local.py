"""Sweeps on this machine, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.records.job import JobState
from soc_ft.sweeps.rerun import rerun_failed
from soc_ft.sweeps.status import read_sweep
from tests.conftest import command
from tests.sweeps.sweeps import start, step_of, sweep_command, wait_until
from tests.trained import largest_difference, weights


def test_a_bad_job_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a job that raises or is killed takes others with it, if the exit code does not
    count it, or if running it again does not end where it would have ended."""
    sweep, mended = tmp_path / "sweep", tmp_path / "mended"
    overrides = ["reward._target_=tests.scorers.EndsEarly", f"+reward.mended={mended}"]
    endings = "+reward.ending=raises,dies,none"
    running = start(sweep_command(sweep, *overrides, endings), os.environ, tmp_path)
    output, _ = running.communicate(timeout=200)
    assert running.returncode == 2, output
    jobs = read_sweep(sweep)
    assert [job.state for job in jobs] == [JobState.FAILED, JobState.FAILED, JobState.FINISHED]
    assert jobs[0].reason == "ValueError: the reward broke"
    assert "SIGKILL" in jobs[1].reason
    report = (tmp_path / "multirun_reports" / "sweep" / "README.md").read_text()
    assert "the reward broke" in report

    mended.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    rerun = command("soc_ft.report", str(sweep), "--rerun-failed")
    assert subprocess.run(rerun, check=False).returncode == 0
    assert {job.state for job in read_sweep(sweep)} == {JobState.FINISHED}
    expected = weights(sweep / "2")
    assert largest_difference(weights(sweep / "0"), expected) == 0
    assert largest_difference(weights(sweep / "1"), expected) == 0
    assert rerun_failed(sweep) == 0


def test_a_wrong_job_is_refused_before_the_first_starts(tmp_path: Path) -> None:
    """Breaks if a sweep of hours ends with a typo in its last job."""
    refused = start(sweep_command(tmp_path / "s", "lambda=1,-1"), os.environ, tmp_path)
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    (line,) = output.splitlines()
    assert "job 1 (" in line
    assert "lambda=-1" in line
    assert not list(tmp_path.iterdir())


def test_without_slurm_one_line_says_so(tmp_path: Path) -> None:
    """Breaks if a person on the wrong machine gets a traceback, or a sweep that never starts."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    refused = start(sweep_command(tmp_path / "s", "hydra/launcher=slurm"), environment, tmp_path)
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert output.startswith("soc_ft: error: hydra/launcher=slurm: there is no Slurm here")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    """Breaks if Ctrl-C prints a page, or leaves jobs that seem to wait for ever."""
    sweep = tmp_path / "sweep"
    running = start(sweep_command(sweep, "seed=0,1", "trainer.steps=50"), os.environ, tmp_path)
    wait_until(lambda: step_of(sweep / "0") >= 1, 120)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    last = output.splitlines()[-1]
    assert f"python -m soc_ft.report {sweep} --rerun-failed goes on with the jobs" in last
    first, second = read_sweep(sweep)
    assert "interrupted at optimizer step" in first.reason
    assert second.state == JobState.LOST


def test_a_rerun_names_what_it_cannot_change(tmp_path: Path) -> None:
    """Breaks if a misspelt parameter is ignored and the jobs run out of memory again."""
    with pytest.raises(ConfigError, match="is no folder of a sweep"):
        rerun_failed(tmp_path)
