"""Run again, into the same sweep, the jobs that did not finish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.records.job import JobState
from soc_ft.records.sweep import Sweep
from soc_ft.sweeps.local import LocalLauncher
from soc_ft.sweeps.slurm import SlurmLauncher
from soc_ft.sweeps.status import read_sweep

_LAUNCHERS = {launcher.name: launcher for launcher in (LocalLauncher, SlurmLauncher)}


def rerun_failed(folder: Path, changes: Sequence[str] = ()) -> int:
    """Submit the jobs that came to an end without finishing, as the sweep was submitted.

    They run the code as it is now, with the configuration as it was, from their last checkpoints.

    Args:
        folder: of the sweep.
        changes: ``key=value`` for parameters of the launcher, such as ``mem_gb=64``.

    Returns:
        How many jobs there were.

    Raises:
        ConfigError: it is no sweep, or a change names no parameter of its launcher or a wrong
            value, or this machine cannot launch its jobs.
    """
    sweep = Sweep.load(folder)
    unfinished = [
        job.folder
        for job in read_sweep(sweep.folder)
        if not job.state.waiting and job.state != JobState.FINISHED
    ]
    parameters = dict(sweep.parameters) | _parsed(changes, sweep)
    if unfinished:
        launcher = _LAUNCHERS[sweep.launcher](**parameters)
        launcher.check_machine()
        launcher.start(sweep, unfinished)
    return len(unfinished)


def _parsed(changes: Sequence[str], sweep: Sweep) -> dict[str, Any]:
    for change in changes:
        key = change.partition("=")[0]
        if key not in sweep.parameters:
            known = ", ".join(sorted(sweep.parameters)) or "none"
            hint = did_you_mean(key, sweep.parameters)
            raise ConfigError(
                f"{change}: the launcher {sweep.launcher} has no such parameter{hint} "
                f"(there are: {known})"
            )
    parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(changes)))
    return parsed
