"""The Lightning logger of a run: the journal on disk, and a tracker that delivers it."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.tracker import Tracker

_log = logging.getLogger(__name__)

_HURRY = 5.0
"""Seconds for MLflow when a signal has asked the process to end."""
_STATUS = {"success": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class RunLogger(Logger):
    """Records a run in its folder; only the process of rank zero does anything."""

    def __init__(self, run_dir: Path, tracker: Tracker | None = None) -> None:
        """Name the run folder, in which nothing is written before there is a record.

        Args:
            run_dir: the run folder; the curves go to ``metrics.jsonl`` inside it.
            tracker: delivers the record elsewhere; None keeps it on disk alone.
        """
        super().__init__()
        self.run_dir = run_dir
        self.journal = Journal(run_dir / JOURNAL_FILE)
        self._tracker = tracker
        self._started = False

    @property
    def name(self) -> str:
        """Empty, so that Lightning puts no folder between :attr:`save_dir` and its files."""
        return ""

    @property
    def version(self) -> str:
        """Empty, for the same reason."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.run_dir)

    @rank_zero_only
    def start(
        self,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        resumed: bool = False,
        sweep_folder: Path | None = None,
    ) -> None:
        """Begin the run, or go on with the one in the folder; params and tags are flat.

        A run that starts over under the same params goes on with what an earlier attempt began.
        """
        self._started = True
        if self._tracker is not None:
            self._tracker.start(self.run_dir, params, tags, resumed, sweep_folder)

    def position(self) -> int:
        """Where the journal stands, for a checkpoint; 0 on other ranks."""
        return self.journal.position()

    @rank_zero_only
    def rewind(self, position: int) -> None:
        """Forget what was recorded after the checkpoint that remembered ``position``."""
        self.journal.rewind(position)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics of an optimizer step; takes microseconds whatever the tracker does."""
        if step is None:
            raise ValueError("metrics are recorded by optimizer step: step must be given")
        self.journal.append(step, metrics)
        if self._tracker is not None:
            self._tracker.notify()

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Nothing: the resolved configuration is given to :meth:`start`."""

    @rank_zero_only
    def log_picture(self, path: Path, name: str, step: int) -> None:
        """Attach a picture file as ``pictures/<name>/<step>``."""
        if self._tracker is not None:
            self._tracker.upload(path, f"pictures/{name}", f"{step:08d}{path.suffix}")

    @rank_zero_only
    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Attach any other file, such as the configuration or a table."""
        if self._tracker is not None:
            self._tracker.upload(path, folder)

    def finalize(self, status: str) -> None:
        """Nothing: Lightning says so after each validation and fit; see :meth:`end`."""

    @rank_zero_only
    def end(self, status: str) -> None:
        """The end of the run: ``success``, ``failed`` or ``interrupted``; flushes the tracker.

        After ``preempted`` the run is to go on, and there is little time: the record is on disk.
        What is ``discarded`` is nobody told of.
        """
        if self._tracker is None or not self._started:
            return
        if status == "preempted":
            self._tracker.flush(_HURRY)
        elif status == "interrupted":
            self._tracker.end(_STATUS[status])
            _log.info(self._tracker.flush(_HURRY))
        elif status != "discarded":
            self._tracker.end(_STATUS[status])
            _log.info(self._tracker.flush())
        self._tracker.close()
