"""Watching the jobs of a sweep until they have come to an end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from soc_ft.errors import Interrupted
from soc_ft.records.job import JobState
from soc_ft.records.runs import distinguishing
from soc_ft.records.sweep import Sweep
from soc_ft.sweeps.status import JobStatus, SweepReader

_SHORTEST_PAUSE = 2.0
_LONGEST_PAUSE = 20.0


def wait(sweep: Sweep) -> None:
    """Show the state of the jobs until none is queued or running.

    Raises:
        Interrupted: the person stops watching; the jobs go on.
    """
    pause = _SHORTEST_PAUSE
    ended: set[int] = set()
    reader = SweepReader(sweep.folder)
    jobs = reader.read()
    total = sum(job.steps for job in jobs)
    try:
        with tqdm(total=total, unit="step", desc=sweep.name) as bar:
            while True:
                _announce(bar, jobs, ended)
                if not any(job.state.waiting for job in jobs):
                    return
                time.sleep(pause)
                pause = min(1.2 * pause, _LONGEST_PAUSE)
                jobs = reader.read()
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted.after(
            stop,
            "no longer watching; the jobs go on. Their state, and a report of what there is: "
            f"python -m soc_ft.report {sweep.folder}",
        ) from None


def summary(jobs: Sequence[JobStatus]) -> str:
    """``3 finished, 1 running``, in the order of :class:`JobState`."""
    counts = Counter(job.state for job in jobs)
    return ", ".join(f"{counts[state]} {state}" for state in JobState if counts[state])


def _announce(bar: tqdm, jobs: Sequence[JobStatus], ended: set[int]) -> None:
    settings = distinguishing([job.overrides for job in jobs])
    for job, overrides in zip(jobs, settings, strict=True):
        if not job.state.waiting and job.number not in ended:
            ended.add(job.number)
            reason = f": {job.reason}" if job.reason else ""
            bar.write(f"job {job.number} ({' '.join(overrides)}) {job.state}{reason}")
    bar.n = sum(job.step for job in jobs)
    bar.set_postfix_str(summary(jobs))
