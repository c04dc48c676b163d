"""Where a run comes from: code, library versions, machine, job. Never the environment itself."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import soc_ft

LIBRARIES = ("torch", "diffusers", "transformers", "lightning", "peft", "mlflow")
SLURM_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_PARTITION",
    "SLURM_NTASKS",
    "SLURM_RESTART_COUNT",
)
_PASSWORD = re.compile(r"(?<=://)[^/\s]*@")


def provenance() -> dict[str, str]:
    """Tags that say which code ran where."""
    tags = {"soc_ft.version": soc_ft.__version__, "python": platform.python_version()}
    tags |= {f"version.{name}": version for name, version in library_versions().items()}
    tags |= git_tags(Path(soc_ft.__file__).parent)
    tags["hostname"] = socket.gethostname()
    tags |= {name.lower(): os.environ[name] for name in SLURM_VARIABLES if os.environ.get(name)}
    return tags


def library_versions() -> dict[str, str]:
    """Installed versions, read without importing the libraries."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_tags(folder: Path) -> dict[str, str]:
    """Commit of the checkout that ``folder`` belongs to, and whether tracked files differ from it.

    Empty unless the folder's files are tracked: a package installed inside somebody's repository
    is not described by that repository's commit.
    """
    try:
        tracked = _git(folder, "ls-files", "--", ".")
        commit = _git(folder, "rev-parse", "HEAD") if tracked else ""
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else ""
    except (OSError, subprocess.SubprocessError):
        return {}
    if not commit:
        return {}
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(changes)).lower()}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
    """A nested configuration as ``{"method.num_steps": "50", "trainer.betas": "[0.9, 0.95]"}``.

    Lists of plain values stay together; user names and passwords in addresses are left out.
    """
    return {key: without_password(value) for key, value in _leaves("", config)}


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        children = [(str(key), child) for key, child in value.items()]
    elif _is_list(value) and any(isinstance(item, Mapping) or _is_list(item) for item in value):
        children = [(str(index), child) for index, child in enumerate(value)]
    else:
        yield prefix, str(list(value)) if _is_list(value) else str(value)
        return
    for key, child in children:
        yield from _leaves(f"{prefix}.{key}" if prefix else key, child)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def without_password(text: str) -> str:
    """Remove ``user:password@`` from the addresses in a text."""
    return _PASSWORD.sub("", text)
