"""Whole sweeps on a real Slurm: jobs that are disturbed, and those beside them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from soc_ft.records.identity import config_hash
from soc_ft.records.job import Job
from soc_ft.records.journal import Journal
from soc_ft.sweeps.rerun import rerun_failed
from soc_ft.sweeps.status import JobState, read_sweep
from tests.conftest import curve
from tests.sweeps.sweeps import (
    SLURM,
    is_submitted,
    kill_process,
    slurm_id,
    start,
    step_of,
    sweep_command,
    wait_until,
)
from tests.trained import largest_difference, weights

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

ENDINGS = ("undisturbed", "signalled", "requeued", "killed", "cancelled", "raises", "memory")


def scancel(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(["scancel", *arguments], env={**environment}, check=True)


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output


def after(job: Path, step: int, action: Callable[[], object]) -> None:
    """Do something to a job as soon as it has recorded an optimizer step."""
    wait_until(lambda: step_of(job) >= step)
    action()


def test_every_fate_of_a_job(
    tmp_path: Path, slurm_environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a disturbed job ends with other weights or another curve than an undisturbed one,
    takes others with it, is not said for what it was, or leaves gaps in MLflow."""
    sweep, mended = tmp_path / "sweep", tmp_path / "mended"
    command = sweep_command(
        sweep,
        *SLURM,
        "reward._target_=tests.scorers.EndsEarly",
        f"+reward.ending={','.join(ENDINGS)}",
        f"+reward.mended={mended}",
        "trainer.steps=9",
        "trainer.checkpoint_every=3",
        "tracking=mlflow",
        f"tracking.path={tmp_path}",
    )
    environment = slurm_environment
    job = {ending: sweep / str(number) for number, ending in enumerate(ENDINGS)}
    submitting = start(command, environment, tmp_path)
    wait_until(lambda: is_submitted(job["memory"]))
    identity = {ending: slurm_id(folder) for ending, folder in job.items()}

    def signal_twice() -> None:
        for step in (2, 5):
            after(job["signalled"], step, signalled)

    def signalled() -> None:
        scancel(environment, "--signal=USR2", identity["signalled"])

    def requeue() -> None:
        command = ["scontrol", "requeue", identity["requeued"]]
        subprocess.run(command, env={**environment}, check=True)

    actions = [
        signal_twice,
        lambda: after(job["requeued"], 4, requeue),
        lambda: after(job["killed"], 4, lambda: kill_process(job["killed"])),
        lambda: after(job["cancelled"], 4, lambda: scancel(environment, identity["cancelled"])),
    ]
    with ThreadPoolExecutor() as pool:  # jobs do not wait for each other's endings
        for done in [pool.submit(action) for action in actions]:
            done.result()
    output, _ = submitting.communicate(timeout=600)
    assert submitting.returncode == 4, output

    said = {job.folder.name: job for job in read_sweep(sweep)}
    state = {ending: said[folder.name].state for ending, folder in job.items()}
    reason = {ending: said[folder.name].reason for ending, folder in job.items()}
    assert state == {
        "undisturbed": JobState.FINISHED,
        "signalled": JobState.FINISHED,
        "requeued": JobState.FINISHED,
        "killed": JobState.FAILED,
        "cancelled": JobState.CANCELLED,
        "raises": JobState.FAILED,
        "memory": JobState.OUT_OF_MEMORY,
    }, output
    assert reason["raises"] == "ValueError: the reward broke"
    assert "memory limit" in reason["memory"]

    mended.touch()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    assert rerun_failed(sweep, ["mem_gb=3"]) == 4
    assert {job.state for job in read_sweep(sweep)} == {JobState.FINISHED}
    expected = weights(job["undisturbed"])
    for ending, folder in job.items():
        assert largest_difference(weights(folder), expected) == 0, ending
        assert curve(folder) == curve(job["undisturbed"]), ending
        assert step_of(folder) == 9
    assert_delivered(tmp_path / "mlflow.db", list(job.values()))


def assert_delivered(database: Path, jobs: list[Path]) -> None:
    """MLflow has a finished run for each job, below the sweep's, with its journal's curves."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    (experiment,) = client.search_experiments(filter_string="name = 'soc_ft'")
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    (parent,) = [run for run in runs if run.info.run_id in parents]
    children = {run.data.tags["soc_ft.run_dir"]: run for run in runs if run is not parent}
    assert parent.info.status == "FINISHED"
    assert sorted(children) == sorted(map(str, jobs))
    for job in jobs:
        run = children[str(job)]
        assert run.info.status == "FINISHED"
        records = Journal(job / "metrics.jsonl").read()
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            expected = [(r.step, r.metrics[name]) for r in records if name in r.metrics]
            points = sorted((metric.step, metric.value) for metric in history)
            if "seconds" in name or "memory" in name:  # a repeated step takes its own time
                assert [step for step, _ in points] == [step for step, _ in expected], (job, name)
            else:
                assert points == sorted(expected), (job, name)


def test_a_job_may_reach_its_time_limit_only_so_often(
    tmp_path: Path, slurm_environment: Mapping[str, str]
) -> None:
    """Breaks if a job that is not requeued any more is waited for, or its end not said."""
    sweep = tmp_path / "sweep"
    overrides = (*SLURM, "seed=0", "trainer.steps=50", "hydra.launcher.max_num_timeout=0")
    # submitit takes a signal for the time limit in all jobs that may last ten minutes at most.
    limit = "hydra.launcher.timeout_min=10"
    submitting = start(sweep_command(sweep, *overrides, limit), slurm_environment, tmp_path)
    stop = ("--signal=USR2",)
    after(sweep / "0", 2, lambda: scancel(slurm_environment, *stop, slurm_id(sweep / "0")))
    output, _ = submitting.communicate(timeout=120)
    assert submitting.returncode == 1, output
    (job,) = read_sweep(sweep)
    assert (job.state, job.reason) == (
        JobState.TIMED_OUT,
        "Job not requeued because: timed-out too many times.",
    )


def test_closing_the_terminal_loses_nothing(
    tmp_path: Path, slurm_environment: Mapping[str, str]
) -> None:
    """Breaks if jobs end with the command that submitted them, or their results with it."""
    sweep = tmp_path / "sweep"
    overrides = (*SLURM, "seed=0,1", "trainer.steps=2")
    submitting = start(sweep_command(sweep, *overrides), slurm_environment, tmp_path)
    wait_until(lambda: is_submitted(sweep / "1"))
    submitting.send_signal(signal.SIGHUP)
    assert submitting.wait(timeout=30) != 0
    with pytest.MonkeyPatch.context() as patch:
        for name, value in slurm_environment.items():
            patch.setenv(name, value)
        assert {job.state for job in read_sweep(sweep)} <= {JobState.QUEUED, JobState.RUNNING}
        wait_until(lambda: not any(job.state.waiting for job in read_sweep(sweep)))
        assert [job.state for job in read_sweep(sweep)] == [JobState.FINISHED] * 2


def test_what_was_submitted_is_what_runs(
    tmp_path: Path, slurm_environment: Mapping[str, str]
) -> None:
    """Breaks if a job that waits in the queue reads a file that somebody edits meanwhile."""
    clone = tmp_path / "clone"
    top = Path(__file__).parent.parent.parent
    subprocess.run(["git", "clone", "--quiet", str(top), str(clone)], check=True)
    sweep = tmp_path / "sweep"
    environment = {**slurm_environment}
    command = sweep_command(sweep, *SLURM, "seed=0,1", "trainer.steps=2", "~trainer.lr")
    hold = "+hydra.launcher.additional_parameters.hold=true"
    submitting = start([*command[:-1], "trainer.steps=2", hold], environment, clone)
    wait_until(lambda: is_submitted(sweep / "1"))
    trainer = clone / "conf" / "trainer" / "default.yaml"
    trainer.write_text(trainer.read_text().replace("steps: 800", "steps: broken"))
    (clone / "soc_ft" / "training.py").write_text("raise ImportError('edited')\n")
    identity = slurm_id(sweep / "0").partition("_")[0]
    subprocess.run(["scontrol", "release", identity], env=environment, check=True)
    finish(submitting)
    assert step_of(sweep / "1") == 2


SHORT = ("seed=0", "trainer.steps=4", "validation.every=4")


@pytest.fixture(scope="module")
def one_task(
    slurm_environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a job that ran on Slurm in one task."""
    folder = tmp_path_factory.mktemp("one")
    finish(start(sweep_command(folder / "s", *SLURM, *SHORT), slurm_environment, folder))
    return folder / "s" / "0"


def test_the_launcher_changes_nothing_in_the_run(one_task: Path, tmp_path: Path) -> None:
    """Breaks if a run depends on where it was started."""
    finish(start(sweep_command(tmp_path / "s", *SHORT), os.environ, tmp_path))
    here = tmp_path / "s" / "0"
    assert config_hash(Job.load(here).config) == config_hash(Job.load(one_task).config)
    assert largest_difference(weights(here), weights(one_task)) == 0
    assert curve(here) == curve(one_task)


def test_two_tasks_train_as_one_process_does(
    one_task: Path, tmp_path: Path, slurm_environment: Mapping[str, str]
) -> None:
    """Breaks if the processes of a job do not find each other, or do each the work of all."""
    overrides = (*SLURM, *SHORT, "trainer.devices=2")
    finish(start(sweep_command(tmp_path / "s", *overrides), slurm_environment, tmp_path))
    one, two = curve(one_task), curve(tmp_path / "s" / "0")
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, expected), (_, metrics) in zip(one, two, strict=True):
        assert metrics.keys() == expected.keys()
        # Processes evaluate networks equally often, so some evaluate what counts for nothing.
        for name in expected.keys() - {"train/evaluations_forward", "train/evaluations_backward"}:
            # Of the objective the reward is lambda=100 times as large, and so is its rounding.
            rounding = 1e-4 if "objective" in name else 1e-5
            assert metrics[name] == pytest.approx(expected[name], rel=1e-3, abs=rounding), name


def test_tasks_that_do_not_fit_are_refused_before_submission(
    tmp_path: Path, slurm_environment: Mapping[str, str]
) -> None:
    """Breaks if a job would start with fewer processes than the training waits for."""
    overrides = (*SLURM, "trainer.devices=2", "hydra.launcher.tasks_per_node=1", "seed=0,1")
    submitting = start(sweep_command(tmp_path / "s", *overrides), slurm_environment, tmp_path)
    output, _ = submitting.communicate(timeout=60)
    assert submitting.returncode == 2
    assert "hydra.launcher.tasks_per_node=1: must be trainer.devices=2" in output
    assert not (tmp_path / "s" / "0").exists()
