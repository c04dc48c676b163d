"""The time limit of a job, and whether the scheduler's warning before it leaves time for a step."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from soc_ft.errors import RunError

_MARGIN = 1.25
"""How much longer than the longest so far a step may take, with what is saved after it."""
_NEAR = 0.2
"""Share of the time limit that may be left, or that the start of the job took, when it is over."""

_log = logging.getLogger(__name__)


class TimeLimit:
    """Raises a warning time that is shorter than the steps of the run turn out to be.

    Slurm fixes the time of its warning at submission, before anybody knows what a step takes. Where
    that is too late, the job stops by itself instead of beginning a step that would not end.
    """

    def __init__(
        self, seconds: float, warning: float, environment: Mapping[str, str] = os.environ
    ) -> None:
        """Begin to count.

        Args:
            seconds: from the start of the job to its end.
            warning: seconds before the end that a step and its save may take after the warning.
            environment: where newer versions of Slurm say when a job ends.
        """
        self.seconds = seconds
        self.warning = warning
        self._end = float(environment.get("SLURM_JOB_END_TIME") or time.time() + seconds)
        self._longest = 0.0
        self._began: float | None = None

    def begin(self) -> None:
        """The first step of this attempt begins."""
        self._began = time.time()

    def note_step(self) -> None:
        """A step has ended, and the next one begins."""
        now = time.time()
        took, self._began = now - (self._began or now), now
        if took > self.warning >= self._longest:
            _log.warning(
                "An optimizer step takes %.0f s, and the scheduler's warning leaves it %.0f s: the "
                "job stops by itself before a step that would not end in time; better give "
                "hydra.launcher.signal_delay_s=%.0f",
                took,
                self.warning,
                2 * took,
            )
        self._longest = max(self._longest, took)

    @property
    def patience(self) -> float:
        """Seconds for which the end of a step is worth waiting for."""
        return max(self.warning, _MARGIN * self._longest)

    @property
    def too_short_for_a_step(self) -> bool:
        """Whether the scheduler's warning would come too late for the next step, and it is near."""
        late = self._longest > self.warning
        return late and time.time() + _MARGIN * self._longest > self._end

    def refuse_without_progress(self) -> None:
        """Check, when the job is stopped, that running it again can lead further.

        Raises:
            RunError: the time limit is over and no step has come to its end.
        """
        near = self._end - _NEAR * self.seconds - self.warning
        if not self._longest and time.time() > near:
            raise RunError(
                f"no optimizer step ended within the time limit of {self.seconds / 60:.0f} min; "
                "another attempt would end the same: raise hydra.launcher.timeout_min (python -m "
                "soc_ft.report <sweep> --rerun-failed --launcher timeout_min=...) or make steps "
                "cheaper (trainer.batch_size, trainer.devices)"
            )
