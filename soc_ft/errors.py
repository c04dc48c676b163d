"""Errors whose message is meant for the person at the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SocFtError(Exception):
    """Base of the errors that are printed as one line, without a traceback."""


class ConfigError(SocFtError):
    """The configuration or an input is wrong: says what, where, and what to do."""


class RunError(SocFtError):
    """The run cannot go on: says why and what is left on disk."""


class Preempted(BaseException):
    """A scheduler asked the run to stop; it goes on when it is started again.

    Like KeyboardInterrupt it is no Exception: whatever recovers from errors shall let it pass.
    """


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint at the candidate that is closest to ``word``, or nothing if none is close."""
    close = difflib.get_close_matches(word, list(candidates), n=1)
    return f"; did you mean {close[0]}?" if close else ""
