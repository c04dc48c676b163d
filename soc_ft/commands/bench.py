"""``python -m soc_ft.bench``: what an optimizer step costs."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

from soc_ft.commands.entry import run_command
from soc_ft.errors import ConfigError


def bench(config: DictConfig) -> None:
    """Time the optimizer steps of a configuration and print where the time goes."""
    from soc_ft.config import check
    from soc_ft.config.machine import check_accelerator

    with open_dict(config):
        settings = config.pop("bench")
        config.tracking = None
        config.validation.every = config.trainer.steps
    for key in ("steps", "evaluations"):
        if settings[key] < 1:
            raise ConfigError(f"bench.{key}={settings[key]}: must be at least 1")
    OmegaConf.resolve(config)
    run = check(config)
    check_accelerator(run.trainer)
    from soc_ft.training.benchmark import measure

    print(measure(config, run, settings.steps, settings.evaluations).report())


def main() -> None:
    """Entry point of the command line."""
    run_command(bench, "bench")
