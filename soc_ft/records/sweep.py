"""A sweep as a whole: how it was submitted, and what it is called."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.files import first_words, replace_file
from soc_ft.layout import CODE_TAGS_FILE, JOB_FILE, SWEEP_FILE
from soc_ft.records.json_lines import parsed
from soc_ft.records.provenance import without_password


@dataclass(frozen=True)
class Sweep:
    """How a sweep was submitted.

    Attributes:
        folder: of the sweep.
        name: in reports and in MLflow.
        launcher: ``slurm`` or ``local``.
        parameters: of the launcher.
        command: what was typed.
        cwd: the folder it was typed in, which relative paths start from.
        submitted: seconds since the epoch.
        jobs: their folders, below that of the sweep; none in sweeps of earlier versions.
    """

    folder: Path
    name: str
    launcher: str
    parameters: Mapping[str, Any]
    command: Sequence[str]
    cwd: str = field(default_factory=os.getcwd)
    submitted: float = field(default_factory=time.time)
    jobs: Sequence[str] = ()

    def save(self) -> None:
        """Write ``sweep.json``."""
        plain = asdict(self) | {"folder": str(self.folder)}
        plain["command"] = [without_password(word) for word in self.command]
        replace_file(self.folder / SWEEP_FILE, json.dumps(plain, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Sweep:
        """Read ``sweep.json``.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        path = folder / SWEEP_FILE
        if not path.is_file():
            raise ConfigError(f"{folder}: is no folder of a sweep (there is no {SWEEP_FILE})")
        try:
            plain = parsed(path.read_bytes())
            # It may have been moved since.
            return cls(**plain | {"folder": folder.absolute()})
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path}: is damaged ({first_words(error)})") from None


def job_folders(sweep: Path, mark: str = JOB_FILE) -> list[Path]:
    """The folders of a sweep's jobs that hold a file.

    The sweep knows them: looking through everything below it takes a cluster's file system long.

    Args:
        sweep: its folder; of a folder that merely holds runs, these are found.
        mark: path of the file in the folder of a job.
    """
    try:
        listed = parsed((sweep / SWEEP_FILE).read_bytes())["jobs"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of another kind
        listed = None
    if listed:
        return [sweep / name for name in listed if (sweep / name / mark).is_file()]
    depth = len(Path(mark).parts)
    return [path.parents[depth - 1] for path in sweep.rglob(mark)]


def sweep_of(job: Path) -> Path | None:
    """The folder of the sweep that a job's folder lies in."""
    return next((folder for folder in job.parents if (folder / SWEEP_FILE).is_file()), None)


def code_tags(code: Path) -> dict[str, str]:
    """Commit of a copy, which is no checkout itself; empty if unknown."""
    path = code / CODE_TAGS_FILE
    try:
        return dict(parsed(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # none, or damaged: the code runs without them
        return {}
