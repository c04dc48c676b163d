"""Finished runs, found and opened without importing torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from soc_ft.errors import ConfigError

UNTOLD = ("run_dir=", "trainer.threads=", "tracking", "export=", "resume=", "sweep=")
"""How overrides begin that do not change a result."""


@dataclass(frozen=True)
class Origin:
    """Where a configuration comes from, for the record of its run.

    Attributes:
        overrides: what was typed.
        choices: option of each configuration group.
        sweep: folder of the sweep that the run is a job of.
        tags: commit of the code, if it is not the checkout that is running.
    """

    overrides: Sequence[str] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    sweep: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def choices_of(settings: Any) -> dict[str, str | None]:
    """Chosen option of each configuration group, from Hydra's own node of a configuration."""
    choices = settings.runtime.choices.items()
    return {str(group): option for group, option in choices if not str(group).startswith("hydra/")}


def told(overrides: Sequence[str]) -> list[str]:
    """The overrides that tell a run from its neighbours."""
    return [override for override in overrides if not override.startswith(UNTOLD)]


def distinguishing(runs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of each run that the others do not all share."""
    settings = [told(overrides) for overrides in runs]
    shared = set.intersection(*map(set, settings)) if len(settings) > 1 else set()
    return [[each for each in one if each not in shared] for one in settings]


def sweep_name(folder: Path) -> str:
    """What a sweep is called: its folder's path below ``multirun``, else the folder's own name.

    ``multirun/2026-11-21/09-30-00-quickstart`` is ``2026-11-21_09-30-00-quickstart``.
    """
    path = Path(os.path.abspath(folder))
    parts = path.parts
    if "multirun" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("multirun", 1)
        return "_".join(parts[last + 1 :])
    return path.name


def open_run(folder: str | Path) -> tuple[Path, DictConfig]:
    """A run folder and the configuration of its run.

    Raises:
        ConfigError: it is not a run folder.
    """
    path = Path(folder)
    if not (path / "config.yaml").is_file():
        raise ConfigError(
            f"run={folder}: there is no {path / 'config.yaml'}, so it is no run folder"
        )
    config = OmegaConf.load(path / "config.yaml")
    assert isinstance(config, DictConfig)
    return path, config


def find_weights(run_dir: Path, which: str) -> Path:
    """The checkpoint of a run that ``which`` names: last, best, a kept step, or a file.

    Raises:
        ConfigError: there is no such checkpoint; names those there are.
    """
    folder = run_dir / "checkpoints"
    for name in (which, f"{which}.ckpt", f"{which}.safetensors"):
        if (folder / name).is_file():
            return folder / name
    if Path(which).is_file():
        return Path(which)
    there = sorted(path.stem for path in folder.glob("[!.]*"))
    raise ConfigError(
        f"checkpoint={which}: {folder} has no such checkpoint "
        f"(there are: {', '.join(there) or 'none'})"
    )


def run_of_checkpoint(file: Path) -> tuple[Path, DictConfig]:
    """Folder and configuration of the run in whose folder a checkpoint lies.

    Raises:
        ConfigError: there is no such file, or it lies elsewhere.
    """
    if not file.is_file():
        raise ConfigError(f"checkpoint={file}: there is no such file; name one, or give run= too")
    folder = file.absolute().parent.parent
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"checkpoint={file}: lies in no run folder; say with run= which it is of")
    return open_run(folder)


def looks_like_mlflow_id(run: str) -> bool:
    """Whether it may be the id of an MLflow run, and is no folder."""
    return re.fullmatch(r"[0-9a-f]{32}", run) is not None and not Path(run).is_dir()


def folder_of_mlflow_run(run_id: str, uri: str) -> str:
    """The run folder of an MLflow run. Imports MLflow, which takes seconds.

    Args:
        run_id: 32 hexadecimal digits.
        uri: of the tracking store.

    Raises:
        ConfigError: the store does not know the run or cannot be asked, or the run has no folder.
    """
    from soc_ft.tracking.store import Store, display_uri, reason, sqlite_path

    where = f"run={run_id}: MLflow at {display_uri(uri)}"
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise ConfigError(f"{where} does not exist; set tracking.uri or give the run folder")
    try:
        store = Store(uri)
        folder = store.param(run_id, "run_dir") if store.holds(run_id) else None
    except Exception as error:  # of MLflow, its database driver or its HTTP client
        raise ConfigError(f"{where} cannot be asked ({reason(error)})") from error
    if folder is None:
        raise ConfigError(f"{where} has no such run with a run folder; give the folder itself")
    return folder
