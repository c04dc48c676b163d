"""The processes of a job: which one speaks for all, and how one ends when a signal asks for it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from soc_ft.errors import Interrupted

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ask a process to end: Ctrl-C, the system or a container's, a terminal that closes."""

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")


def is_first_process() -> bool:
    """Whether this is the process of a job that writes its files and messages."""
    return all(os.environ.get(name, "0") == "0" for name in _RANK_VARIABLES)


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: tidied up, with one line.

    The exit code is the shell's, 128 + the signal's number. Signals that somebody has a handler
    for, or that are ignored (``nohup``), stay as they are.
    """
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        _exit(Interrupted(signal.SIGINT))
    except Interrupted as stop:
        _exit(stop)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _exit(stop: Interrupted) -> None:
    """The others of a job end quietly: for an exit code a launcher would kill the first."""
    if not is_first_process():
        sys.exit(0)
    print(f"soc_ft: {stop}", file=sys.stderr)
    sys.exit(128 + stop.signal)
