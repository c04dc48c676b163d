"""Runs on disk, found and opened without importing torch, and what tells them apart."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.integrity import check_whole
from soc_ft.layout import CHECKPOINT_FOLDER, CONFIG_FILE
from soc_ft.records.saved import read_config

WITHOUT_MEANING = ("run_dir=", "trainer.threads=", "tracking", "export=", "resume=", "sweep=")
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
    choices = {str(group): option for group, option in settings.runtime.choices.items()}
    # `tuned` follows from two others.
    return {g: o for g, o in choices.items() if g != "tuned" and not g.startswith("hydra/")}


def identifying(overrides: Sequence[str]) -> list[str]:
    """The overrides that tell a run from its neighbours."""
    return [override for override in overrides if not override.startswith(WITHOUT_MEANING)]


def distinguishing(runs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of each run that the others do not all share."""
    settings = [identifying(overrides) for overrides in runs]
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


def open_run(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    """A run folder and the configuration of its run.

    Raises:
        ConfigError: it is not a run folder, or its configuration is none that soc_ft has written.
    """
    path = Path(folder)
    if not (path / CONFIG_FILE).is_file():
        raise ConfigError(
            f"run={folder}: there is no {path / 'config.yaml'}, so it is no run folder"
        )
    return path, read_config(path / CONFIG_FILE)


def find_weights(run_dir: Path, which: str) -> Path:
    """The checkpoint of a run that ``which`` names: last, best, a kept step, or a file.

    Raises:
        ConfigError: there is no such checkpoint, or it is damaged; names those there are.
    """
    folder = run_dir / CHECKPOINT_FOLDER
    names = (which, f"{which}.ckpt", f"{which}.safetensors")
    for file in (*(folder / name for name in names), Path(which)):
        if file.is_file():
            try:
                check_whole(file)
            except ConfigError as error:
                raise ConfigError(f"checkpoint={which}: {error}") from None
            return file
    there = sorted(path.stem for path in folder.glob("[!.]*") if path.is_file())
    raise ConfigError(
        f"checkpoint={which}: {folder} has no such checkpoint "
        f"(there are: {', '.join(there) or 'none'})"
    )


def run_of_checkpoint(file: Path) -> tuple[Path, dict[str, Any]]:
    """Folder and configuration of the run in whose folder a checkpoint lies.

    Raises:
        ConfigError: there is no such file, or it lies elsewhere.
    """
    if not file.is_file():
        raise ConfigError(f"checkpoint={file}: there is no such file; name one, or give run= too")
    folder = file.absolute().parent.parent
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"checkpoint={file}: lies in no run folder; say with run= which it is of")
    return open_run(folder)
