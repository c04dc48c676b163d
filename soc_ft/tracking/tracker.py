"""What a run needs of a tracking service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Delivers what is recorded in a run folder. No method waits for a service but ``flush``."""

    def start(
        self,
        run_dir: Path,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        resumed: bool = False,
        sweep_folder: Path | None = None,
    ) -> None:
        """The run begins, or goes on, in ``run_dir``; once, before everything else.

        If it is not ``resumed``, what other params left in the folder is another run's.
        """

    def notify(self) -> None:
        """The journal of the run has new records."""

    def upload(self, path: Path, folder: str | None = None, name: str | None = None) -> None:
        """Attach a file, which stays where it is until it is delivered."""

    def end(self, status: str) -> None:
        """The run stands still: FINISHED, FAILED or KILLED. It may go on afterwards."""

    def flush(self, timeout: float | None = None) -> str:
        """Wait up to ``timeout`` seconds for the delivery; one line says what came of it.

        None is as long as the tracker's configuration says.
        """

    def close(self) -> None:
        """Stop delivering."""
