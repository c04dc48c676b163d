"""Sweeps on this machine, as processes of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.records.job import JobState
from soc_ft.sweeps.rerun import rerun_failed
from soc_ft.sweeps.status import read_sweep
from tests.conftest import TESTS, command
from tests.sweeps.sweeps import TOP, start, step_of, sweep_command, wait_until
from tests.trained import largest_difference, weights

ENDINGS = ("reward._target_=tests.scorers.EndsEarly", "+reward.ending=raises,dies,none")


@pytest.mark.slow
def test_a_bad_job_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a job that raises or is killed takes others with it, if the exit code does not
    count it, if its end is said wrongly, or if a rerun repeats what has finished."""
    sweep, mended = tmp_path / "sweep", tmp_path / "mended"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(TOP)]))
    shutil.copy(TESTS / "sweeps" / "instant_training.py", tmp_path / "sitecustomize.py")
    words = sweep_command(sweep, *ENDINGS, f"+reward.mended={mended}")
    running = subprocess.run(words, capture_output=True, text=True, check=False)
    assert running.returncode == 2, running.stdout + running.stderr
    jobs = read_sweep(sweep)
    assert [job.state for job in jobs] == [JobState.FAILED, JobState.FAILED, JobState.FINISHED]
    assert jobs[0].reason == "ValueError: the reward broke"
    assert "SIGKILL" in jobs[1].reason
    report = (tmp_path / "multirun_reports" / "sweep" / "README.md").read_text()
    assert "the reward broke" in report

    mended.touch()
    rerun = command("soc_ft.report", str(sweep), "--rerun-failed")
    assert subprocess.run(rerun, check=False).returncode == 0
    assert {job.state for job in read_sweep(sweep)} == {JobState.FINISHED}
    attempts = [(sweep / str(number) / "attempts").read_text() for number in range(3)]
    assert attempts == ["xx", "xx", "x"]
    assert rerun_failed(sweep) == 0


@pytest.mark.slow
def test_a_rerun_ends_where_the_job_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if running a job again starts over, or goes on from another place than its last
    checkpoint."""
    sweep, mended = tmp_path / "sweep", tmp_path / "mended"
    running = start(
        sweep_command(sweep, *ENDINGS, f"+reward.mended={mended}"), os.environ, tmp_path
    )
    output, _ = running.communicate(timeout=400)
    assert running.returncode == 2, output
    mended.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    assert rerun_failed(sweep) == 2
    assert {job.state for job in read_sweep(sweep)} == {JobState.FINISHED}
    expected = weights(sweep / "2")
    assert largest_difference(weights(sweep / "0"), expected) == 0
    assert largest_difference(weights(sweep / "1"), expected) == 0


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


@pytest.mark.slow
def test_an_interrupted_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    """Breaks if Ctrl-C prints a page, or leaves jobs that seem to wait for ever."""
    sweep = tmp_path / "sweep"
    running = start(sweep_command(sweep, "seed=0,1", "trainer.steps=50"), os.environ, tmp_path)
    wait_until(lambda: step_of(sweep / "0") >= 1, 120)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    last = output.splitlines()[-1]
    assert f"python -m soc_ft.report {sweep} --rerun-failed goes on with the jobs" in last
    first, second = read_sweep(sweep)
    assert "stopped by Ctrl-C: optimizer step" in first.reason
    assert second.state == JobState.LOST


def test_a_rerun_names_what_it_cannot_change(tmp_path: Path) -> None:
    """Breaks if a misspelt parameter is ignored and the jobs run out of memory again."""
    with pytest.raises(ConfigError, match="is no folder of a sweep"):
        rerun_failed(tmp_path)
