"""Run a job of a sweep from its folder: ``python -m soc_ft.sweeps.job FOLDER``.

The configuration is the one that was composed at submission; no file of ``conf/`` is read.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from soc_ft.errors import ConfigError, Interrupted, Preempted, SocFtError
from soc_ft.files import PACKAGE
from soc_ft.processes import ending_in_one_line, is_first_process
from soc_ft.records.job import Job, JobState, write_state
from soc_ft.records.lock import alone_in
from soc_ft.records.runs import Origin
from soc_ft.records.sweep import code_tags, sweep_of
from soc_ft.training.preemption import Preemption


def run_job(folder: Path, preemption: Preemption | None = None) -> None:
    """Train what ``job.yaml`` says, or go on with it, and note what becomes of it.

    Args:
        folder: of the job.
        preemption: how a scheduler asks the job to stop, if there is one.

    Raises:
        Preempted: the job was asked to stop, is saved, and shall be run again.
        Exception: whatever ended the job; it is noted in ``status.json``.
    """
    with alone_in(folder):
        _run(folder, preemption)


def _run(folder: Path, preemption: Preemption | None) -> None:
    note = write_state if is_first_process() else _no_note
    note(folder, JobState.RUNNING)
    try:
        with preemption or nullcontext():
            _train(folder, preemption)
    except Preempted as stop:
        note(folder, JobState.QUEUED, str(stop))
        raise
    except (SocFtError, OSError, Interrupted) as error:
        note(folder, JobState.FAILED, " ".join(str(error).split()))
        raise
    except BaseException as error:
        reason = traceback.format_exception_only(error)[-1]
        note(folder, JobState.FAILED, " ".join(reason.split()))
        raise
    note(folder, JobState.FINISHED)


def _train(folder: Path, preemption: Preemption | None) -> None:
    # Handlers that a library has set already make basicConfig do nothing.
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s][%(name)s][%(levelname)s] - %(message)s",
        stream=sys.stdout,
        force=True,
    )
    logging.getLogger("submitit").propagate = False  # it prints by itself
    from soc_ft.config import check
    from soc_ft.config.machine import check_accelerator
    from soc_ft.config.processes import check_processes
    from soc_ft.records.identity import check_resume

    job = Job.load(folder)
    config = OmegaConf.create(dict(job.config))
    assert isinstance(config, DictConfig)
    run = check(config)
    check_accelerator(run.trainer)
    check_processes(run)
    check_resume(config, folder)
    from soc_ft.training.run import train

    origin = Origin(job.overrides, job.choices, sweep_of(folder), code_tags(PACKAGE.parent))
    train(config, run, folder, origin, preemption)


def _no_note(folder: Path, state: JobState, reason: str = "") -> None:
    """Other processes of a job keep quiet: the first one speaks for all."""


def main() -> int:
    """Entry point of the command line, for the processes that the local launcher starts."""
    folder = Path(sys.argv[1]).absolute()
    try:
        with ending_in_one_line():
            run_job(folder)
    except (SocFtError, OSError) as error:
        print(f"soc_ft: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
