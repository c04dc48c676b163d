"""A sweep as a whole: how it was submitted, and the code that its jobs run."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.files import replace_file
from soc_ft.paths import PACKAGE, conf_dir
from soc_ft.tracking.provenance import git_tags, without_password

SWEEP_FILE = "sweep.json"
TAGS_FILE = "tags.json"
LAUNCHER_LOCK = ".launcher"
"""Locked by the process that runs the jobs of a sweep on this machine, one after the other."""


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
    """

    folder: Path
    name: str
    launcher: str
    parameters: Mapping[str, Any]
    command: Sequence[str]
    cwd: str = field(default_factory=os.getcwd)
    submitted: float = field(default_factory=time.time)

    def save(self) -> None:
        """Write ``sweep.json``."""
        plain = asdict(self) | {"folder": str(self.folder)}
        plain["command"] = [without_password(word) for word in self.command]
        replace_file(self.folder / SWEEP_FILE, json.dumps(plain, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Sweep:
        """Read ``sweep.json``.

        Raises:
            ConfigError: there is none.
        """
        path = folder / SWEEP_FILE
        if not path.is_file():
            raise ConfigError(f"{folder}: is no folder of a sweep (there is no {SWEEP_FILE})")
        plain = json.loads(path.read_text())
        # It may have been moved since.
        return cls(**plain | {"folder": folder.absolute()})


def sweep_of(job: Path) -> Path | None:
    """The folder of the sweep that a job's folder lies in."""
    return next((folder for folder in job.parents if (folder / SWEEP_FILE).is_file()), None)


def snapshot_code(sweep: Path) -> Path:
    """Copy the package and its configuration, so that a job that waits runs what was submitted.

    Returns:
        The folder of the copy below the sweep's, to be searched before all others.
    """
    code = sweep / f"code-{len(list(sweep.glob('code-*'))) + 1}"
    ignored = shutil.ignore_patterns("__pycache__", "conf")
    shutil.copytree(PACKAGE, code / PACKAGE.name, ignore=ignored)
    shutil.copytree(conf_dir(), code / "conf")
    replace_file(code / TAGS_FILE, json.dumps(git_tags(PACKAGE)).encode())
    return code


def code_tags(code: Path) -> dict[str, str]:
    """Commit of a copy, which is no checkout itself; empty if unknown."""
    path = code / TAGS_FILE
    return json.loads(path.read_text()) if path.is_file() else {}


def job_environment(code: Path, cwd: str) -> dict[str, str]:
    """Variables that make a Python process import the copy.

    The current folder, which ``python -m`` would search first, comes last: in a clone it holds the
    package itself, elsewhere perhaps a person's own rewards.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [os.path.join(cwd, path) for path in given if path]
    return {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([str(code), *others, cwd]),
    }
