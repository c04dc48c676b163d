"""What Slurm says of jobs: its queue, which soon forgets ended jobs, and its accounting."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from soc_ft.records.job import JobState

_SECONDS = 20

_STATES = {
    "COMPLETED": JobState.FINISHED,
    "PENDING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "SPECIAL_EXIT": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "CONFIGURING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "CANCELLED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMED_OUT,
    "DEADLINE": JobState.TIMED_OUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
}
"""Other states, such as FAILED, NODE_FAIL or PREEMPTED, are failures."""


def ask_slurm(ids: Iterable[str]) -> dict[str, tuple[JobState, str]] | None:
    """State and reason of those jobs that Slurm remembers; None if it cannot be asked.

    Args:
        ids: ``12`` or ``12_3``.
    """
    wanted = set(ids)
    queue = _output(["squeue", "--me", "--noheader", "--array", "--states=all", "-o", "%i|%T|%r"])
    if queue is None:
        return None
    found = {job: said for job, said in map(_parsed, queue) if job in wanted}
    forgotten = wanted - found.keys()
    if forgotten:
        accounting = _output(
            [
                "sacct",
                "--noheader",
                "--parsable2",
                "--allocations",
                "-o",
                "JobID,JobState,Reason",
                "-j",
                ",".join(sorted(forgotten)),
            ]
        )
        found |= {job: said for job, said in map(_parsed, accounting or ()) if job in forgotten}
    return found


def _parsed(line: str) -> tuple[str, tuple[JobState, str]]:
    job, name, reason = ([*line.strip().split("|"), "", ""])[:3]
    word = name.split()[0] if name else ""  # accounting says "CANCELLED by 1000"
    said = "" if reason in ("None", "(null)") else reason
    return job, (_STATES.get(word, JobState.FAILED), f"Slurm: {name}{f', {said}' if said else ''}")


def _output(command: list[str]) -> list[str] | None:
    """Lines that a command prints; None if it is not there, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()
