"""How a scheduler asks a running job to stop, and how the job complies between optimizer steps.

The signal comes at any moment; saving is only exact between two optimizer steps. So the handler
notes the request, and training grants it at the end of the step: it saves and raises
:class:`~soc_ft.errors.Preempted`, upon which the job is requeued. If the step takes too long, the
request is granted without saving, and the job goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable
from enum import IntEnum
from types import FrameType
from typing import Any

from soc_ft.errors import Preempted
from soc_ft.training.time_limit import TimeLimit

Handler = Callable[[int, FrameType | None], Any]

_CHECKPOINT = "its last checkpoint, if there is one"

_log = logging.getLogger(__name__)


class StopRequest(IntEnum):
    """What was asked for, the more urgent the larger."""

    NOTHING = 0
    SAVE = 1
    STOP = 2


class Preemption:
    """Listens for the scheduler's signals while it is installed.

    A request to stop raises :class:`Preempted` at once, unless it is deferred: while optimizer
    steps are under way it waits to be polled. SIGTERM announces a kill that somebody has already
    decided on: the job saves and carries on, because one that exits by itself would not be requeued
    by a scheduler that preempts it.
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
        self.stop_signal = stop_signal
        self._limit = TimeLimit(seconds, patience)
        self._deferring = False
        self._request = StopRequest.NOTHING
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Preemption:
        """Take over the signals."""
        for number in self._handlers():
            self._previous[number] = signal.getsignal(number)
        self._install()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        self.release()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Let requests wait to be polled from now on."""
        self._install()  # again: Lightning has put a handler of its own before ours
        self._deferring = True
        self._limit.begin()

    def release(self) -> StopRequest:
        """Grant requests at once from now on; returns the one that is still waiting."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._deferring = False
        return self._request

    def poll(self) -> StopRequest:
        """The most urgent request that any process of the job has had since the last poll.

        Every process must call it at the same place.
        """
        from soc_ft.distributed import gather

        self._limit.note_step()
        if self._limit.too_short_for_a_step:
            self._request = StopRequest.STOP
        request = max(gather(self._request))
        if self._request != StopRequest.STOP:
            self._request = StopRequest.NOTHING
        return StopRequest(request)

    def grant(self, saved: str) -> None:
        """Stop.

        Args:
            saved: what the run goes on from.

        Raises:
            Preempted: always.
        """
        raise Preempted(f"asked to stop; goes on from {saved}")

    def _handlers(self) -> dict[signal.Signals, Handler]:
        return {
            self.stop_signal: self._note_stop,
            signal.SIGTERM: self._note_save,
            signal.SIGALRM: self._give_up,
        }

    def _install(self) -> None:
        for number, handler in self._handlers().items():
            signal.signal(number, handler)

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
        self.grant(_CHECKPOINT)
