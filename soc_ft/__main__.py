"""``python -m soc_ft``: compose, validate, train, evaluate."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from soc_ft.cli import run_command


def fine_tune(config: DictConfig) -> None:
    """Validate the configuration, then run it."""
    from soc_ft.config import check, check_resume

    run = check(config)
    check_resume(config, Path(HydraConfig.get().runtime.output_dir))
    from soc_ft.training import train

    train(config, run)


def main() -> None:
    """Entry point of the command line."""
    run_command(fine_tune, "config")


if __name__ == "__main__":
    main()
