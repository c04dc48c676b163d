"""The end of a multirun: a report, its link in MLflow, and an exit code that counts failures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from soc_ft.layout import SWEEP_FILE
from soc_ft.sweeps.status import unfinished


class SweepReport(Callback):
    """Reports on a sweep when all its jobs have come to an end.

    Attributes:
        begun: folder of the sweep that this process has begun.
    """

    begun: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note where Hydra writes before it composes the jobs."""
        SweepReport.begun = Path(config.hydra.sweep.dir).absolute()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report, and exit with the number of jobs that failed."""
        folder = Path(config.hydra.sweep.dir).absolute()
        if (folder / SWEEP_FILE).is_file():  # not of a launcher of Hydra's own
            from soc_ft.reporting.writing import report_sweep

            try:
                report_sweep(folder)
            except Exception as error:  # the jobs' results, and the exit code, are there without it
                print(
                    f"soc_ft: error: the report is not written ({error}); to try again: "
                    f"python -m soc_ft.report {folder}",
                    file=sys.stderr,
                )
            # Hydra has no other way to hand an exit code on.
            sys.exit(unfinished(folder))
