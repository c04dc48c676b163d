"""``python -m soc_ft``: compose, validate, train, evaluate."""

from __future__ import annotations

from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from soc_ft.commands.entry import run_command
from soc_ft.errors import ConfigError
from soc_ft.records.lock import alone_in
from soc_ft.records.runs import Origin, choices_of


def fine_tune(config: DictConfig) -> None:
    """Validate the configuration, then run it."""
    from soc_ft.config import check
    from soc_ft.config.machine import check_accelerator
    from soc_ft.config.processes import check_processes
    from soc_ft.records.identity import check_resume

    settings = HydraConfig.get()
    _require_multirun(settings)
    folder = Path(settings.runtime.output_dir)
    run = check(config)
    check_accelerator(run.trainer)
    check_processes(run)
    with alone_in(folder):
        check_resume(config, folder)
        from soc_ft.training.run import train

        sweep = Path(settings.sweep.dir) if settings.mode == RunMode.MULTIRUN else None
        train(config, run, folder, Origin(settings.overrides.task, choices_of(settings), sweep))


def _require_multirun(settings: HydraConf) -> None:
    """Refuse what means nothing without ``-m``, and what Hydra would pass over in silence."""
    if settings.mode == RunMode.MULTIRUN:
        return
    preset = settings.runtime.choices.get("sweep")
    if preset is not None:
        raise ConfigError(f"sweep={preset}: is a list of jobs; start it with python -m soc_ft -m")
    launcher = settings.runtime.choices["hydra/launcher"]
    if launcher != "local":
        raise ConfigError(
            f"hydra/launcher={launcher}: launches the jobs of python -m soc_ft -m, if need be of "
            "one job; without -m the run would start here"
        )


def main() -> None:
    """Entry point of the command line."""
    run_command(fine_tune, "config")
