"""``python -m soc_ft``: compose, validate, train, evaluate."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from soc_ft.cli import run_command


def fine_tune(config: DictConfig) -> None:
    """Validate the configuration, then run it."""
    from soc_ft.config import check, check_resume

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    run = check(config)
    check_resume(config, folder)
    from soc_ft.training import train

    train(config, run, folder, settings.overrides.task)


def main() -> None:
    """Entry point of the command line."""
    run_command(fine_tune, "config")


if __name__ == "__main__":
    main()
