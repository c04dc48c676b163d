"""How a scheduler asks a running job to stop.

The job saves at the end of the optimizer step and raises :class:`~soc_ft.errors.Preempted`, upon
which it is requeued. If the step takes too long, the request is granted without saving, and the job
goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

from soc_ft.errors import Preempted
from soc_ft.training.stopping import LAST_CHECKPOINT, Handler, Stopping, StopRequest
from soc_ft.training.time_limit import TimeLimit

_log = logging.getLogger(__name__)


class Preemption(Stopping):
    """A scheduler's signals.

    SIGTERM announces a kill that somebody has already decided on: the job saves and carries on,
    because one that exits by itself would not be requeued by a scheduler that preempts it.
    """

    def __init__(
        self, stop_signal: signal.Signals, patience: float, seconds: float = math.inf
    ) -> None:
        """Take what is needed.

        Args:
            stop_signal: asks the job to save and to be requeued.
            patience: seconds to wait for the end of an optimizer step.
            seconds: of the job's time limit.
        """
        super().__init__()
        self.stop_signal = stop_signal
        self._limit = TimeLimit(seconds, patience)

    @property
    def handlers(self) -> Mapping[signal.Signals, Handler]:
        """By what each signal means."""
        return {
            self.stop_signal: self._note_stop,
            signal.SIGTERM: self._note_save,
            signal.SIGALRM: self._give_up,
        }

    def defer(self) -> None:
        """Let requests wait to be polled from now on."""
        super().defer()
        self._limit.begin()

    def release(self) -> StopRequest:
        """Grant requests at once from now on; returns the one that is still waiting."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        return super().release()

    def poll(self) -> StopRequest:
        """The most urgent request; the job stops by itself before a step that would not end."""
        self._limit.note_step()
        if self._limit.too_short_for_a_step:
            self._request = StopRequest.STOP
        return super().poll()

    def grant(self, saved: str) -> NoReturn:
        """Stop.

        Args:
            saved: what the run goes on from.

        Raises:
            Preempted: always.
        """
        raise Preempted(f"asked to stop; goes on from {saved}")

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        if not self._deferring:
            self._stop_here()
        if self._request != StopRequest.STOP:
            _log.warning("Asked to stop: saving at the end of this optimizer step")
            signal.setitimer(signal.ITIMER_REAL, self._limit.patience)
        self._request = StopRequest.STOP

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        _log.warning("Told that the end is near: saving at the end of this optimizer step")
        self._request = max(self._request, StopRequest.SAVE)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        _log.warning("The optimizer step takes too long: stopping without saving it")
        self._stop_here()

    def _stop_here(self) -> None:
        self._limit.refuse_without_progress()
        self.grant(LAST_CHECKPOINT)
