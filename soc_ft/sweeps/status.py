"""The state of every job of a sweep, at any time, from disk and from Slurm."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from soc_ft.errors import SocFtError
from soc_ft.files import is_locked
from soc_ft.layout import (
    CONFIG_FILE,
    JOB_FILE,
    JOURNAL_FILE,
    LAUNCHER_LOCK,
    OVERRIDES_FILE,
    RESULTS_FILE,
    RUN_LOCK,
    STATUS_FILE,
    SWEEP_FILE,
)
from soc_ft.plain_yaml import read_mapping, read_yaml
from soc_ft.records.job import Job, JobState, Submission, read_state, write_state
from soc_ft.records.sweep import job_folders, sweep_of
from soc_ft.sweeps.queue import ask_slurm

_Version = tuple[int, int, int]

_LARGEST_EXIT_CODE = 100
_TAIL = 1 << 17
_START = re.compile(r"submitit INFO .* Starting with")

_LAST_WORDS = (
    (re.compile(r"DUE TO TIME LIMIT"), JobState.TIMED_OUT),
    (
        re.compile(r"oom.kill|exceeded (?:\w+ )?memory limit", re.I),
        JobState.OUT_OF_MEMORY,
    ),
    (re.compile(r"DUE TO NODE FAILURE"), JobState.FAILED),
    (re.compile(r"CANCELLED AT"), JobState.CANCELLED),
)
"""How Slurm ends a job's log when it ends the job, the telling words first."""


_NO_REASON = "NonZeroExitCode"
_ENDED = re.compile(r"srun: (error: .*Exited with exit code|launch/slurm:|Terminating StepId)")


@dataclass(frozen=True)
class JobStatus:
    """What became of a job.

    Attributes:
        number: in the sweep.
        folder: of the run.
        overrides: what was typed.
        state: of the job.
        reason: why, in one line; empty if there is nothing to say.
        log: what it printed, if that is known.
        slurm_id: of its last submission.
        step, steps: optimizer steps done and planned.
        submitted: what was handed to the launcher.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]
    state: JobState
    reason: str
    log: Path | None
    slurm_id: str | None
    step: int
    steps: int
    submitted: Job


class SweepReader:
    """Reads the states of a sweep's jobs again and again, of each only what can have changed."""

    def __init__(self, folder: Path) -> None:
        """Name the folder of the sweep.

        Args:
            folder: or one that merely holds runs.
        """
        self._folder = folder
        self._jobs: dict[Path, Job] = {}
        self._ended: dict[Path, tuple[_Version, JobStatus]] = {}

    def read(self) -> list[JobStatus]:
        """The jobs by number.

        What Slurm says of a job's end is written into the job's folder, since Slurm forgets it.
        """
        mark = JOB_FILE if (self._folder / SWEEP_FILE).is_file() else OVERRIDES_FILE
        places = sorted(job_folders(self._folder, mark), key=numbers_by_value)
        jobs = [self._status(place, number) for number, place in enumerate(places)]
        return _as_slurm_says(sorted(jobs, key=lambda job: job.number))

    def _status(self, folder: Path, place: int) -> JobStatus:
        noted = _version(folder / STATUS_FILE)
        before, status = self._ended.get(folder, (None, None))
        if status is not None and before == noted:
            return status
        try:
            if folder not in self._jobs:
                self._jobs[folder] = _submitted(folder, place)
            status = _on_disk(folder, self._jobs[folder])
        except (SocFtError, OSError) as error:  # the others count all the same
            return _unreadable(folder, self._jobs.get(folder) or Job(place, (), {}, {}), str(error))
        if noted and not status.state.waiting and status.state != JobState.LOST:
            self._ended[folder] = noted, status
        return status


def read_sweep(folder: Path) -> list[JobStatus]:
    """The jobs of a sweep by number; of a folder that merely holds runs, these."""
    return SweepReader(folder).read()


def unfinished(folder: Path) -> int:
    """How many jobs of a sweep have not finished, as far as an exit code can count."""
    return min(
        sum(job.state != JobState.FINISHED for job in read_sweep(folder)), _LARGEST_EXIT_CODE
    )


def last_lines(log: Path | None, count: int = 15) -> list[str]:
    """The end of what a job printed; of a progress bar its last state."""
    if log is None or not log.is_file():
        return []
    with open(log, "rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-count:]


def numbers_by_value(path: Path) -> list[tuple[str, float]]:
    """Sorts job 10 after job 9."""
    parts = re.findall(r"([^0-9]*)([0-9]+(?:\.[0-9]+)?)?", str(path))
    return [(text, float(number or -1.0)) for text, number in parts]


def _submitted(folder: Path, place: int) -> Job:
    """What was submitted, or of a run that is no job of a sweep, what was typed.

    Raises:
        ConfigError: it is damaged.
    """
    if (folder / JOB_FILE).is_file():
        return Job.load(folder)
    overrides = tuple(map(str, read_yaml(folder / OVERRIDES_FILE) or ()))
    return Job(place, overrides, {}, read_mapping(folder / CONFIG_FILE))


def _version(path: Path) -> _Version | None:
    """Another one whenever the file was replaced; None without a file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _on_disk(folder: Path, job: Job) -> JobStatus:
    submission = Submission.latest(folder)
    state, reason = _noted(folder, submission)
    return JobStatus(
        number=job.number,
        folder=folder,
        overrides=job.overrides,
        state=state,
        reason=reason,
        log=Path(os.path.normpath(folder / submission.log)) if submission else None,
        slurm_id=submission.slurm_id if submission else None,
        step=_last_step(folder / JOURNAL_FILE),
        steps=_planned(job),
        submitted=job,
    )


def _unreadable(folder: Path, job: Job, problem: str) -> JobStatus:
    """What is said of a job whose folder is damaged."""
    return JobStatus(
        job.number, folder, job.overrides, JobState.LOST, problem, None, None, 0, 0, job
    )


def _planned(job: Job) -> int:
    """Optimizer steps that a job is to take; 0 if a damaged configuration does not tell."""
    try:
        return int(job.config["trainer"]["steps"])
    except (KeyError, TypeError, ValueError):
        return 0


def _noted(folder: Path, submission: Submission | None) -> tuple[JobState, str]:
    noted = read_state(folder)
    if noted is None:
        done = (folder / RESULTS_FILE).is_file()
        return (JobState.FINISHED, "") if done else (JobState.LOST, "it did not come to its end")
    state, _ = noted
    if submission is None or submission.launcher != "local":
        return noted
    if state == JobState.RUNNING and not is_locked(folder / RUN_LOCK):
        return JobState.LOST, "its process is gone and left no word"
    sweep = sweep_of(folder) or folder.parent
    if state == JobState.QUEUED and not is_locked(sweep / LAUNCHER_LOCK):
        return JobState.LOST, "never started: the command that ran the sweep is gone"
    return noted


def _as_slurm_says(jobs: Sequence[JobStatus]) -> list[JobStatus]:
    """Ask Slurm for the jobs that are not known to have ended."""
    ids = [job.slurm_id for job in jobs if job.slurm_id and job.state.waiting]
    said = ask_slurm(ids) if ids else {}
    return [_judged(job, said) if job.slurm_id in ids else job for job in jobs]


def _judged(job: JobStatus, said: Mapping[str, tuple[JobState, str]] | None) -> JobStatus:
    if said is None:
        return replace(job, reason="Slurm cannot be asked here")
    assert job.slurm_id is not None
    state, reason = said.get(job.slurm_id) or _forgotten(job)
    if state.waiting:
        return replace(job, state=state, reason=reason if state == JobState.QUEUED else "")
    now = read_state(job.folder)  # it may have come to its end since it was read
    if now is not None and not now[0].waiting:
        return replace(job, state=now[0], reason=now[1])
    if state == JobState.FINISHED:
        state, reason = JobState.LOST, "Slurm: COMPLETED, but the job left no word"
    state, reason = _last_words(job.log) or (state, reason)
    if reason.endswith(_NO_REASON):
        reason = end_of_log(job.log) or reason
    write_state(job.folder, state, reason)
    return replace(job, state=state, reason=reason)


def _forgotten(job: JobStatus) -> tuple[JobState, str]:
    if job.state == JobState.QUEUED:  # Slurm forgets at once what is cancelled before it starts
        return JobState.CANCELLED, f"Slurm does not know job {job.slurm_id}, which had not started"
    return JobState.LOST, f"Slurm does not know job {job.slurm_id}"


def end_of_log(log: Path | None) -> str:
    """The last line that a job printed, without what srun adds to say that it ended; or ""."""
    lines = [line for line in last_lines(log, 50) if not _ENDED.match(line)]
    return lines[-1] if lines else ""


def _last_words(log: Path | None) -> tuple[JobState, str] | None:
    """What Slurm wrote into the log of the last attempt, if it ended it."""
    lines = last_lines(log, count=1000)
    starts = [number for number, line in enumerate(lines) if _START.search(line)]
    attempt = lines[starts[-1] :] if starts else lines
    for pattern, state in _LAST_WORDS:
        for line in reversed(attempt):
            if pattern.search(line):
                return state, line[max(line.find("slurmstepd"), 0) :]  # behind a progress bar
    return None


def _last_step(journal: Path) -> int:
    """Of the last whole record; 0 if there is none."""
    if not journal.is_file():
        return 0
    with open(journal, "rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
        lines = file.read().split(b"\n")[:-1]
    steps = re.findall(rb'"step": (\d+)', lines[-1]) if lines else []
    return int(steps[0]) if steps else 0
