"""What a job's folder says of the job: how it was submitted, and what it last said of itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError, RunError
from soc_ft.files import first_words, replace_file
from soc_ft.layout import JOB_FILE, STATUS_FILE, SUBMISSIONS_FILE
from soc_ft.plain_yaml import read_mapping, write_yaml
from soc_ft.records.json_lines import JsonLines, parsed


class JobState(StrEnum):
    """What became of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    LOST = "lost"

    @property
    def waiting(self) -> bool:
        """Whether the job is still to come to an end."""
        return self in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as it was submitted.

    Attributes:
        number: in the sweep, from 0.
        overrides: what was typed, and what the sweep made of it.
        choices: option of each configuration group.
        config: the whole resolved configuration.
    """

    number: int
    overrides: tuple[str, ...]
    choices: Mapping[str, str | None]
    config: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write ``job.yaml``."""
        plain = {
            "number": self.number,
            "overrides": list(self.overrides),
            "choices": dict(self.choices),
            "config": dict(self.config),
        }
        write_yaml(folder / JOB_FILE, plain)

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read ``job.yaml``.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        path = folder / JOB_FILE
        if not path.is_file():
            raise ConfigError(f"{folder}: holds no job of a sweep (there is no {JOB_FILE})")
        plain = read_mapping(path)
        try:
            overrides = tuple(map(str, plain["overrides"]))
            return cls(int(plain["number"]), overrides, dict(plain["choices"]), plain["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: is damaged ({first_words(error)})") from None


@dataclass(frozen=True)
class Submission:
    """One time that a job was handed to a launcher.

    Attributes:
        launcher: ``slurm`` or ``local``.
        log: file with what the job prints, relative to its folder.
        code: folder with the code it runs, relative to the sweep's.
        slurm_id: ``12_3`` for task 3 of array 12.
        time: seconds since the epoch.
    """

    launcher: str
    log: str
    code: str
    slurm_id: str | None = None
    time: float = field(default_factory=time.time)

    def append(self, folder: Path) -> None:
        """Add it to the job's submissions."""
        lines = JsonLines(folder / SUBMISSIONS_FILE)
        lines.append(asdict(self))
        lines.close()

    @classmethod
    def latest(cls, folder: Path) -> Submission | None:
        """The last one, if the job was ever submitted.

        Raises:
            RunError: the file is damaged.
        """
        lines = JsonLines(folder / SUBMISSIONS_FILE)
        entries = lines.read()
        try:
            return cls(**entries[-1]) if entries else None
        except TypeError as error:
            raise RunError(f"{lines.path}: is damaged ({first_words(error)})") from None


def write_state(folder: Path, state: JobState, reason: str = "") -> None:
    """Note what became of a job."""
    entry = {"state": state.value, "reason": reason, "time": time.time()}
    replace_file(folder / STATUS_FILE, json.dumps(entry).encode())


def read_state(folder: Path) -> tuple[JobState, str] | None:
    """State and reason, if there is a note.

    Raises:
        RunError: it is damaged.
    """
    path = folder / STATUS_FILE
    if not path.is_file():
        return None
    try:
        entry = parsed(path.read_bytes())
        return JobState(entry["state"]), str(entry["reason"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: is damaged ({first_words(error)})") from None
