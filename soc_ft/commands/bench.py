"""``python -m soc_ft.bench``: what an optimizer step costs."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

from soc_ft.checking import validated
from soc_ft.commands.entry import run_command
from soc_ft.options import Count, Section


class BenchSettings(Section):
    """Keys of conf/bench.yaml."""

    steps: Count
    evaluations: Count


def bench(config: DictConfig) -> None:
    """Time the optimizer steps of a configuration and print where the time goes."""
    from soc_ft.config import check
    from soc_ft.config.machine import check_accelerator

    with open_dict(config):
        plain = OmegaConf.to_container(config.pop("bench"))
        config.tracking = None
        config.validation.every = config.trainer.steps
    assert isinstance(plain, dict)
    settings = validated(BenchSettings, {str(key): plain[key] for key in plain}, ("bench",))
    OmegaConf.resolve(config)
    run = check(config)
    check_accelerator(run.trainer)
    from soc_ft.training.run import quiet_libraries
    from soc_ft.training.scorers import build_scorers, prepare_torch

    prepare_torch(run)
    with quiet_libraries():
        scorers = build_scorers(config, run)
        from soc_ft.training.benchmark import measure

        measured = measure(config, run, scorers, settings.steps, settings.evaluations)
    print(measured.report())


def main() -> None:
    """Entry point of the command line."""
    run_command(bench, "bench")
