"""What makes two runs the same experiment, whatever they are called and wherever they run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

WITHOUT_EFFECT = (
    "name",
    "run_dir",
    "resume",
    "export",
    "tracking",
    "trainer.checkpoint_every",
    "trainer.keep_every",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.threads",
)
"""Keys that do not change the result of a run."""


def config_hash(config: DictConfig | Mapping[str, Any]) -> str:
    """12 hexadecimal digits that configurations share if their runs have the same result.

    The order of keys does not matter, nor whether a number is written 100 or 100.0.

    Args:
        config: composed configuration, or the same resolved to plain values.
    """
    plain: Any = config
    if isinstance(config, DictConfig):
        plain = OmegaConf.to_container(config, resolve=True)
    effective = {
        key: _canonical(value)
        for key, value in leaves(plain).items()
        if not is_below(key, WITHOUT_EFFECT)
    }
    return hashlib.sha256(json.dumps(effective, sort_keys=True).encode()).hexdigest()[:12]


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


def _canonical(value: Any) -> Any:
    """Equal numbers become the same number, at any depth."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    return value
