"""How a run is asked to stop, and how it complies between two optimizer steps.

A signal comes at any moment; saving is only exact between two optimizer steps. So the handler
notes the request, and training grants it at the end of the step: it saves, and raises what ends
the run.
"""

from __future__ import annotations

import logging
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FrameType
from typing import Any, NoReturn, Self

from soc_ft.errors import Interrupted
from soc_ft.processes import ENDING_SIGNALS

Handler = Callable[[int, FrameType | None], Any]

LAST_CHECKPOINT = "its last checkpoint, if there is one"

_log = logging.getLogger(__name__)


class StopRequest(IntEnum):
    """What was asked for, the more urgent the larger."""

    NOTHING = 0
    SAVE = 1
    STOP = 2


class Stopping(ABC):
    """Listens for signals while it is installed.

    A request to stop is granted at once, unless it is deferred: while optimizer steps are under way
    it waits to be polled.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self._deferring = False
        self._request = StopRequest.NOTHING
        self._previous: dict[int, Any] = {}

    @property
    @abstractmethod
    def handlers(self) -> Mapping[signal.Signals, Handler]:
        """What to do at each signal."""

    @abstractmethod
    def grant(self, saved: str) -> NoReturn:
        """Stop.

        Args:
            saved: what the run goes on from.
        """

    def __enter__(self) -> Self:
        """Take over the signals; those that are ignored, as by ``nohup``, stay so.

        Python lets the main thread alone do so.
        """
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in self.handlers}
            self._previous = {n: old for n, old in found.items() if old != signal.SIG_IGN}
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        self.release()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Have the signals again, after Lightning has put a handler of its own before ours."""
        for number in self._previous:
            signal.signal(number, self.handlers[signal.Signals(number)])

    def defer(self) -> None:
        """Let requests wait to be polled from now on."""
        self.listen()
        self._deferring = True

    def release(self) -> StopRequest:
        """Grant requests at once from now on; returns the one that is still waiting."""
        self._deferring = False
        return self._request

    def poll(self) -> StopRequest:
        """The most urgent request that any process of the job has had since the last poll.

        Every process must call it at the same place.
        """
        from soc_ft.distributed import gather

        request = max(gather(self._request))
        if self._request != StopRequest.STOP:
            self._request = StopRequest.NOTHING
        return StopRequest(request)


class Interruption(Stopping):
    """Ctrl-C, SIGTERM or SIGHUP: the optimizer step that is under way is saved.

    Another Ctrl-C ends the run at once.
    """

    def __init__(self) -> None:
        """Start without a request."""
        super().__init__()
        self._signal = signal.SIGINT

    @property
    def handlers(self) -> Mapping[signal.Signals, Handler]:
        """One for all of them."""
        return dict.fromkeys(ENDING_SIGNALS, self._note)

    def grant(self, saved: str) -> NoReturn:
        """Stop.

        Raises:
            Interrupted: always.
        """
        raise Interrupted(self._signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        waiting = self._request == StopRequest.STOP
        if not self._deferring or (waiting and number == signal.SIGINT):
            raise Interrupted(number)
        if not waiting:
            _log.warning(
                "Asked to stop: saving at the end of this optimizer step (Ctrl-C stops at once)"
            )
            self._signal = signal.Signals(number)
        self._request = StopRequest.STOP
