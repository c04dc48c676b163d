"""Options of the groups under conf/, by name, for commands that take them as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from soc_ft.config.checks import resolved
from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.files import conf_dir


def options(group: str, own: Sequence[Path] = ()) -> list[str]:
    """Names of a group's options: the shipped ones, those of ``--config-dir``, and of ``own``."""
    if not group:
        return []
    folders = [conf_dir(), *_own_folders(), *own]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def chosen(key: str, group: str, value: str | Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a value stands for.

    Args:
        key: names the value in messages.
        group: folder under conf/.
        value: the name of an option; or a mapping, of ``option`` and what differs from it, or of
            the whole settings with their ``_target_``.

    Raises:
        ConfigError: there is no such option.
    """
    if isinstance(value, str):
        return _composed(key, group, value, {})
    if "option" in value:
        changes = {name: setting for name, setting in value.items() if name != "option"}
        return _composed(key, group, str(value["option"]), changes)
    if "_target_" not in value:
        raise ConfigError(
            f"{key}={dict(value)}: give the name of an option ({', '.join(options(group))}), a "
            "mapping with `option`, or one with `_target_`"
        )
    return dict(value)


def unknown_option(key: str, name: str, known: Sequence[str]) -> ConfigError:
    """The error that names the options there are."""
    hint = did_you_mean(name, known)
    return ConfigError(f"{key}={name}: no such option{hint} (there are: {', '.join(known)})")


def _composed(key: str, group: str, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    known = options(group)
    if name not in known:
        raise unknown_option(key, name, known)
    search_path = ",".join(f"file://{folder}" for folder in _own_folders())
    GlobalHydra.instance().clear()  # the command's own configuration is composed already
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = compose(f"{group}/{name}", overrides=[f"hydra.searchpath=[{search_path}]"])
    for setting, value in changes.items():  # before what refers to them is resolved
        OmegaConf.update(config, f"{group}.{setting}", value, merge=False, force_add=True)
    return resolved(config)[group]


def _own_folders() -> list[Path]:
    """What ``--config-dir`` and ``hydra.searchpath`` name."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [
        Path(source.path)
        for source in sources
        if source.schema == "file" and source.provider != "main"
    ]
