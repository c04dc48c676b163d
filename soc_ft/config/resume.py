"""Whether a run folder may be gone on with under a configuration."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from soc_ft.config.identity import WITHOUT_EFFECT, is_below, leaves
from soc_ft.errors import ConfigError

FREE_TO_CHANGE = (*WITHOUT_EFFECT, "trainer.steps")
"""Keys that do not change what an optimizer step does."""


def check_resume(config: DictConfig, folder: Path) -> None:
    """Check that the checkpoint in ``folder``, if there is one, belongs to this configuration.

    Raises:
        ConfigError: names the keys that differ.
    """
    saved = folder / "config.yaml"
    if config.resume == "never" or not (folder / "checkpoints" / "last.ckpt").is_file():
        return
    if not saved.is_file():
        raise ConfigError(f"{folder}: has a checkpoint but no config.yaml; choose another run_dir")
    before = leaves(OmegaConf.to_container(OmegaConf.load(saved), resolve=True))
    now = leaves(OmegaConf.to_container(config, resolve=True))
    differing = [
        f"{key} ({before.get(key, 'absent')} in the checkpoint, {now.get(key, 'absent')} now)"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not is_below(key, FREE_TO_CHANGE)
    ]
    if differing:
        raise ConfigError(
            f"{folder}: holds a checkpoint of another configuration: {', '.join(differing)}; "
            "choose another run_dir, the same settings, or resume=never to start over"
        )
