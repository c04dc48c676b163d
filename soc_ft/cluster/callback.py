"""The end of a multirun: a report, its link in MLflow, and an exit code that counts failures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from soc_ft.cluster.record import State
from soc_ft.cluster.status import read_sweep
from soc_ft.cluster.sweep import SWEEP_FILE

_LARGEST_EXIT_CODE = 100


class SweepReport(Callback):
    """Reports on a sweep when all its jobs have come to an end."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report, and exit with the number of jobs that failed."""
        folder = Path(config.hydra.sweep.dir).absolute()
        if (folder / SWEEP_FILE).is_file():  # not of a launcher of Hydra's own
            from soc_ft.reporting.writing import finish_sweep

            finish_sweep(folder)
            # Hydra has no other way to hand an exit code on.
            sys.exit(exit_code(folder))


def exit_code(folder: Path) -> int:
    """How many jobs of a sweep did not finish, as far as an exit code can count."""
    unfinished = sum(job.state != State.FINISHED for job in read_sweep(folder))
    return min(unfinished, _LARGEST_EXIT_CODE)
