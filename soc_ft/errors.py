"""Errors whose message is meant for the person at the terminal."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


class SocFtError(Exception):
    """Base of the errors that are printed as one line, without a traceback."""


class ConfigError(SocFtError):
    """The configuration or an input is wrong: says what, where, and what to do."""


@dataclass(frozen=True)
class MissingFile:
    """A file or folder of weights that is not there.

    Attributes:
        setting: key and value that name it, as messages begin.
        command: that downloads it.
        instead: what to write where a copy of it is named.
    """

    setting: str
    command: str
    instead: str


class MissingWeights(ConfigError):
    """Weights are neither here nor to be had from the hub.

    Attributes:
        problem: where they were looked for.
        files: that are missing.
        further: what else would help.
    """

    def __init__(self, problem: str, files: Sequence[MissingFile], further: str = "") -> None:
        """Say it in one line."""
        self.problem, self.files, self.further = problem, tuple(files), further
        them, settings = ("it", "a copy") if len(files) == 1 else ("them", "copies")
        super().__init__(
            f"{', '.join(file.setting for file in files)}: not found, {problem}. Download {them} "
            f"where there is a network (soc-ft weights with the same arguments, or "
            f"{' && '.join(file.command for file in files)}), or name {settings} "
            f"({' '.join(file.instead for file in files)}){further}"
        )


def check_all(checks: Iterable[Callable[[], None]]) -> None:
    """Make all checks, and tell of all missing weights at once.

    Raises:
        MissingWeights: of one or several checks.
        ConfigError: the first that is of another kind.
    """
    found: list[MissingWeights] = []
    for check in checks:
        try:
            check()
        except MissingWeights as error:
            found.append(error)
    if found:
        files = dict.fromkeys(file for error in found for file in error.files)
        raise MissingWeights(found[0].problem, list(files), found[-1].further)


class RunError(SocFtError):
    """The run cannot go on: says why and what is left on disk."""


class AwaitingAnswers(RunError):
    """People have not answered yet; the run goes on when they have and it is started again."""


class WriteError(RunError):
    """A file cannot be written, as on a full disk; what was there before is still there."""


class Interrupted(BaseException):
    """A signal asked the process to end: Ctrl-C, SIGTERM or SIGHUP.

    Like KeyboardInterrupt it is no Exception: whatever recovers from errors shall let it pass.

    Attributes:
        signal: its number.
        cause: the signal as a person calls it.
    """

    def __init__(self, number: int, said: str = "") -> None:
        """Note which signal it was, and what has become of the work."""
        self.signal = number
        self.cause = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(said or f"stopped by {self.cause}")

    @classmethod
    def after(cls, stop: BaseException, said: str) -> Interrupted:
        """The same signal, which a KeyboardInterrupt may stand for, with what to say of it."""
        return cls(stop.signal if isinstance(stop, Interrupted) else signal.SIGINT, said)


class Preempted(BaseException):
    """A scheduler asked the run to stop; it goes on when it is started again.

    Like KeyboardInterrupt it is no Exception: whatever recovers from errors shall let it pass.
    """


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint at the candidate that is closest to ``word``, or nothing if none is close.

    Of dotted keys the last parts must be close, since those before make any two alike; ``lr`` is
    close to ``learning_rate``, whose initials it has, and to ``lrate``, which begins with it.
    """
    section, dot, name = word.rpartition(".")
    known = list(candidates)
    initials = section + dot + "".join(part[:1] for part in name.split("_"))
    if "_" in name and initials in known:
        return f"; did you mean {initials}?"
    begun = [each for each in known if each.startswith(section + dot) and word.startswith(each)]
    if begun:
        return f"; did you mean {max(begun, key=len)}?"
    for candidate in difflib.get_close_matches(word, known):
        if difflib.get_close_matches(name, [candidate.rpartition(".")[2]]):
            return f"; did you mean {candidate}?"
    return ""
