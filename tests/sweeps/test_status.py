"""The state of jobs, from their folders and from what Slurm says."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from soc_ft.files import locked
from soc_ft.layout import LAUNCHER_LOCK, RUN_LOCK
from soc_ft.records.job import Job, JobState, Submission, write_state
from soc_ft.records.journal import Journal
from soc_ft.records.sweep import Sweep
from soc_ft.sweeps.status import SweepReader, last_lines, read_sweep, unfinished

Say = Callable[[str], None]

START = "submitit INFO (2026-01-01 00:00:00,000) - Starting with JobEnvironment(job_id=7_0)\n"


@pytest.fixture
def slurm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Put a ``squeue`` that prints something on the path, and no ``sacct``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def say(lines: str) -> None:
        (folder / "squeue").write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
        (folder / "sacct").write_text("#!/bin/sh\necho no accounting >&2\nexit 1\n")
        for program in folder.iterdir():
            program.chmod(0o755)

    return say


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    sweep = Sweep(tmp_path / "sweep", "sweep", "slurm", {}, ["python"])
    sweep.save()
    return sweep


def add_job(sweep: Sweep, number: int, launcher: str = "slurm", log: str = "") -> Path:
    folder = sweep.folder / str(number)
    Job(number, (f"seed={number}",), {}, {"trainer": {"steps": 9}}).save(folder)
    (folder / "log.txt").write_text(log)
    slurm_id = f"7_{number}" if launcher == "slurm" else None
    Submission(launcher, "log.txt", "code-1", slurm_id).append(folder)
    write_state(folder, JobState.RUNNING)
    return folder


def only(sweep: Sweep) -> tuple[JobState, str]:
    (job,) = read_sweep(sweep.folder)
    return job.state, job.reason


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("PENDING|Resources", JobState.QUEUED),
        ("RUNNING|None", JobState.RUNNING),
        ("COMPLETING|None", JobState.RUNNING),
        ("CANCELLED|None", JobState.CANCELLED),
        ("TIMEOUT|TimeLimit", JobState.TIMED_OUT),
        ("OUT_OF_MEMORY|OutOfMemory", JobState.OUT_OF_MEMORY),
        ("NODE_FAIL|NodeDown", JobState.FAILED),
        ("COMPLETED|None", JobState.LOST),  # though the job never said so
    ],
)
def test_slurm_is_asked_for_jobs_that_have_not_ended(
    sweep: Sweep, slurm_says: Say, said: str, state: JobState
) -> None:
    """Breaks if a state of Slurm is taken for another one."""
    add_job(sweep, 0)
    slurm_says(f"6_0|RUNNING|None\n7_0|{said}\n8|PENDING|None")
    assert only(sweep)[0] == state


def test_what_slurm_said_is_kept(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if a job is lost once Slurm has forgotten it."""
    add_job(sweep, 0)
    slurm_says("7_0|TIMEOUT|TimeLimit")
    said = only(sweep)
    slurm_says("")
    assert only(sweep) == said == (JobState.TIMED_OUT, "Slurm: TIMEOUT, TimeLimit")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (
            "*** STEP 7.0 ON a CANCELLED AT 2026 DUE TO TIME LIMIT ***",
            JobState.TIMED_OUT,
        ),
        ("Detected 1 oom-kill event(s) in StepId=7.0", JobState.OUT_OF_MEMORY),
        ("Exceeded job memory limit", JobState.OUT_OF_MEMORY),
        ("*** JOB 7 ON a CANCELLED AT 2026-01-01T00:00:00 ***", JobState.CANCELLED),
        ("*** JOB 7 ON a CANCELLED AT 2026 DUE TO NODE FAILURE ***", JobState.FAILED),
    ],
)
def test_the_log_tells_of_a_job_that_slurm_has_forgotten(
    sweep: Sweep, slurm_says: Say, words: str, state: JobState
) -> None:
    """Breaks if the words that Slurm ends a log with are not understood."""
    add_job(sweep, 0, log=f"{START}step 1\rstep 2slurmstepd-a: error: {words}\n")
    slurm_says("")
    assert only(sweep) == (state, f"slurmstepd-a: error: {words}")


def test_a_failed_job_says_what_it_printed_last(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if the reason of a job that died before it could give one is NonZeroExitCode."""
    ended = "srun: error: node: task 0: Exited with exit code 1\nsrun: launch/slurm: _step_signal\n"
    add_job(sweep, 0, log=f"{START}ImportError: no module named torch\n{ended}")
    slurm_says("7_0|FAILED|NonZeroExitCode")
    assert only(sweep) == (JobState.FAILED, "ImportError: no module named torch")


def test_a_watched_sweep_shows_every_change(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if what is kept between two looks hides a job's progress, its end, or its rerun."""
    slurm_says("7_0|RUNNING|None")
    folder = add_job(sweep, 0)
    reader = SweepReader(sweep.folder)

    def look() -> tuple[JobState, int]:
        (job,) = reader.read()
        return job.state, job.step

    assert look() == (JobState.RUNNING, 0)
    Journal(folder / "metrics.jsonl").append(4, {"train/reward": 1.0})
    assert look() == (JobState.RUNNING, 4)
    write_state(folder, JobState.FAILED, "broke")
    assert look() == look() == (JobState.FAILED, 4)
    write_state(folder, JobState.QUEUED)
    write_state(folder, JobState.RUNNING)
    assert look() == (JobState.RUNNING, 4)


def test_a_sweep_knows_its_jobs(sweep: Sweep) -> None:
    """Breaks if the state of a sweep takes a walk through all pictures below it."""
    for number in range(2):
        write_state(add_job(sweep, number), JobState.FINISHED)
    replace(sweep, jobs=["1"]).save()
    assert [job.number for job in read_sweep(sweep.folder)] == [1]


def test_a_job_that_is_cancelled_before_it_starts(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if such a job, of which Slurm keeps nothing, is waited for, or said to be lost."""
    write_state(add_job(sweep, 0), JobState.QUEUED)
    slurm_says("")
    assert only(sweep)[0] == JobState.CANCELLED


def test_words_of_an_earlier_attempt_do_not_count(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if a job that was requeued after its time limit and then lost is said to time out."""
    limit = "slurmstepd: error: *** STEP 7.0 ON a CANCELLED AT 2026 DUE TO TIME LIMIT ***\n"
    add_job(sweep, 0, log=f"{START}{limit}{START}step 3\n")
    slurm_says("")
    assert only(sweep) == (JobState.LOST, "Slurm does not know job 7_0")


def test_without_slurm_the_disk_speaks(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a report cannot be made on a machine that does not reach the cluster."""
    add_job(sweep, 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(sweep) == (JobState.RUNNING, "Slurm cannot be asked here")


def test_a_job_that_ended_by_itself_is_not_asked_for(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if Slurm's view, such as FAILED, hides the reason that the job itself gave."""
    write_state(add_job(sweep, 0), JobState.FAILED, "ValueError: too red")
    slurm_says("7_0|FAILED|NonZeroExitCode")
    assert only(sweep) == (JobState.FAILED, "ValueError: too red")


def test_local_jobs_live_as_long_as_their_processes(sweep: Sweep) -> None:
    """Breaks if a job of a machine that was switched off is said to run for ever."""
    running = add_job(sweep, 0, launcher="local")
    waiting = add_job(sweep, 1, launcher="local")
    write_state(waiting, JobState.QUEUED)
    with locked(running / RUN_LOCK), locked(sweep.folder / LAUNCHER_LOCK):
        assert [job.state for job in read_sweep(sweep.folder)] == [
            JobState.RUNNING,
            JobState.QUEUED,
        ]
    jobs = read_sweep(sweep.folder)
    assert [job.state for job in jobs] == [JobState.LOST, JobState.LOST]
    assert "never started" in jobs[1].reason


def test_progress_and_log(sweep: Sweep, slurm_says: Say) -> None:
    """Breaks if a half-written record of the journal hides how far a job is."""
    slurm_says("7_0|RUNNING|None")
    folder = add_job(sweep, 0, log="first\nstep 1\rstep 2\rstep 3\r\nlast\n")
    Journal(folder / "metrics.jsonl").append(4, {"train/reward": 1.0})
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"seq": 2, "step": 5, "ti')
    (job,) = read_sweep(sweep.folder)
    assert (job.step, job.steps) == (4, 9)
    assert last_lines(job.log, 2) == ["step 3", "last"]


def test_jobs_come_in_their_order_and_are_counted(sweep: Sweep) -> None:
    """Breaks if job 10 comes before job 9, or a job without a result is not counted."""
    for number in range(12):
        folder = add_job(sweep, number)
        write_state(folder, JobState.FINISHED if number else JobState.CANCELLED)
    assert [job.number for job in read_sweep(sweep.folder)] == list(range(12))
    assert unfinished(sweep.folder) == 1
