"""What makes two runs the same experiment, and whether one may go on with the other's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from soc_ft.config.components import build_feedback
from soc_ft.config.effects import keys_without_effect
from soc_ft.errors import ConfigError
from soc_ft.layout import CHECKPOINT_FOLDER, CONFIG_FILE, LAST_CHECKPOINT
from soc_ft.options import Component
from soc_ft.records.saved import read_config

EXTENDS = ("trainer.steps",)
"""Keys that decide how long a run is, and not what an optimizer step does."""


def config_hash(config: DictConfig | Mapping[str, Any]) -> str:
    """12 hexadecimal digits that configurations share if their runs have the same result.

    The order of keys does not matter, nor whether a number is written 100 or 100.0.

    Args:
        config: composed configuration, or the same resolved to plain values.
    """
    plain: Any = config
    if isinstance(config, DictConfig):
        plain = OmegaConf.to_container(config, resolve=True)
    effective = {key: _canonical(value) for key, value in deciding(leaves(plain)).items()}
    return hashlib.sha256(json.dumps(effective, sort_keys=True).encode()).hexdigest()[:12]


def deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a configuration's dotted keys that decide the result of its run."""
    free = keys_without_effect(values)
    return {key: value for key, value in values.items() if not is_below(key, free)}


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key; lists stay whole."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, child in value.items():
        found |= leaves(child, f"{prefix}.{key}" if prefix else str(key))
    return found


def is_below(key: str, sections: Iterable[str]) -> bool:
    """Whether a dotted key is one of ``sections`` or lies in one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def check_resume(config: DictConfig, folder: Path) -> None:
    """Check that the checkpoint in ``folder``, if there is one, belongs to this configuration.

    Raises:
        ConfigError: names the keys that differ.
    """
    saved = folder / CONFIG_FILE
    if config.resume == "never" or not (folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT).is_file():
        return
    if not saved.is_file():
        raise ConfigError(
            f"{folder}: has a checkpoint but no {CONFIG_FILE}; choose another run_dir"
        )
    before = deciding(leaves(read_config(saved)))
    now = deciding(leaves(OmegaConf.to_container(config, resolve=True)))
    # The rates of a longer run are others where they fall, and so are its stages of feedback.
    now_as_then = config.trainer.schedule == "constant" and _stages(config) == 1
    extends = EXTENDS if now_as_then else ()
    differing = [
        f"{key} ({before.get(key, 'absent')} in the checkpoint, {now.get(key, 'absent')} now)"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in extends
    ]
    if differing:
        raise ConfigError(
            f"{folder}: holds a checkpoint of another configuration: {', '.join(differing)}; "
            "choose another run_dir, the same settings, or resume=never to start over"
        )


def _stages(config: DictConfig) -> int:
    plain = OmegaConf.to_container(config.feedback, resolve=True)
    return build_feedback(Component.model_validate(plain)).stages


def _canonical(value: Any) -> Any:
    """Equal numbers become the same number, at any depth."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    return value
