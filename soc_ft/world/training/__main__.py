"""``python -m soc_ft.world.training stage=vae|diffusion|student|judge|contrastive|reward|all``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from soc_ft.errors import ConfigError, SocFtError
from soc_ft.files import conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

STAGES = ("vae", "diffusion", "student", "judge", "contrastive", "reward")


def run(config: DictConfig) -> None:
    """Train the stages that ``config.stage`` names, in their order of dependence."""
    if config.stage not in (*STAGES, "all"):
        raise ConfigError(f"stage={config.stage}: expected all or one of {', '.join(STAGES)}")
    import torch

    torch.set_num_threads(config.threads)
    output_dir = Path(config.output_dir)
    for stage in STAGES if config.stage == "all" else (config.stage,):
        _train_stage(stage)(config, output_dir)


def _train_stage(stage: str) -> Callable[[DictConfig, Path], None]:
    """The stage's function, imported only now: torch and diffusers take seconds."""
    module = importlib.import_module(f"soc_ft.world.training.{stage}")
    return getattr(module, f"train_{stage}")


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="world")
def main(config: DictConfig) -> None:
    """Command line entry point."""
    try:
        run(config)
    except SocFtError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
