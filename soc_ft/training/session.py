"""A run with its reward at hand: load, train or resume, validate, export, report."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from soc_ft.config.schema import RunConfig
from soc_ft.evaluation.tables import write_tables
from soc_ft.files import displayed, reason, replace_file
from soc_ft.instantiation import build
from soc_ft.layout import (
    CHOICES_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    EVALUATION_FOLDER,
    EXPORT_FOLDER,
    LAST_CHECKPOINT,
    OVERRIDES_FILE,
    RESULTS_FILE,
    STATISTICS_FILE,
)
from soc_ft.models.export import export_pipeline
from soc_ft.models.model import DiffusionModel
from soc_ft.models.starting import OFFSET_FILE
from soc_ft.models.weights import save_weights
from soc_ft.plain_yaml import write_yaml
from soc_ft.plotting.plots import plot_training
from soc_ft.records.drafts import remove_drafts_of_run
from soc_ft.records.identity import config_hash
from soc_ft.records.provenance import provenance
from soc_ft.records.runs import Origin
from soc_ft.rewards.base import Standardises
from soc_ft.tracking.headline import run_name, run_params
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.building import (
    build_checkpoints,
    build_module,
    build_trainer,
    uses_cpu,
)
from soc_ft.training.ending import ending
from soc_ft.training.module import RewardFineTuning
from soc_ft.training.preemption import Preemption
from soc_ft.training.scorers import Scorers
from soc_ft.training.stopping import Interruption
from soc_ft.training.summary import introduction, summarise
from soc_ft.training.threads import Threads

_log = logging.getLogger(__name__)


def carry_out(
    config: DictConfig,
    run: RunConfig,
    folder: Path,
    scorers: Scorers,
    origin: Origin,
    preemption: Preemption | None = None,
    model: DiffusionModel | None = None,
) -> RewardFineTuning:
    """Train, or go on, with what scores the pictures; all else is as of :func:`run.train`."""
    stops = Interruption() if preemption is None else nullcontext(preemption)
    with stops as stopping:
        checkpoints = build_checkpoints(run, folder, stopping)
        last = checkpoints.folder / LAST_CHECKPOINT
        resumed = last if run.resume == "auto" and last.is_file() else None
        threads = Threads(run.trainer.threads, run.trainer.devices, uses_cpu(run))
        module = build_module(config, run, folder, scorers, model)
        plain: Any = OmegaConf.to_container(config, resolve=True)
        logger = _logger(config, folder, plain, origin)
        trainer = build_trainer(run, folder, logger, checkpoints, [threads])
        with ending(trainer, logger, checkpoints, folder, resumed is not None):
            _begin(logger, folder, plain, origin, resumed is not None)
            device = str(trainer.strategy.root_device)
            trainer.print(introduction(run, folder, device, threads.count, resumed))
            if resumed is None:
                logger.rewind(0)
            _fit(trainer, module, folder, resumed, run.validation.at_end)
            checkpoints.save_last(trainer)
            module.finish()
            _finish(module, run, folder, trainer)
    return module


def _fit(
    trainer: Trainer,
    module: RewardFineTuning,
    folder: Path,
    resumed: Path | None,
    measure_last: bool,
) -> None:
    """Measure the base model, fine-tune, and measure the last step if asked and not done."""
    if resumed is None:
        trainer.validate(module, verbose=False, weights_only=True)
        _keep_statistics(module, folder)
    else:
        _log.info("Resuming from %s", resumed)
    trainer.fit(module, ckpt_path=resumed, weights_only=True)
    if measure_last and trainer.global_step not in module.validator.results:
        trainer.validate(module, verbose=False, weights_only=True)


def _logger(config: DictConfig, folder: Path, plain: dict[str, Any], origin: Origin) -> RunLogger:
    """The record of the run, which tells nobody yet."""
    if config.tracking.get("run_name", "") is None:
        config.tracking.run_name = run_name(run_params(origin.choices, plain), origin.overrides)
    return RunLogger(folder, build(config.tracking, "tracking"))


@rank_zero_only
def _begin(
    logger: RunLogger, folder: Path, plain: dict[str, Any], origin: Origin, resume: bool
) -> None:
    """Write the resolved configuration into the run folder and begin the record of the run."""
    remove_drafts_of_run(folder)
    for name, content in (
        (CONFIG_FILE, plain),
        (OVERRIDES_FILE, list(origin.overrides)),
        (CHOICES_FILE, dict(origin.choices)),
    ):
        replace_file(folder / name, OmegaConf.to_yaml(OmegaConf.create(content)).encode())
    tags = provenance() | dict(origin.tags)
    tags |= {"overrides": " ".join(origin.overrides), "soc_ft.config_hash": config_hash(plain)}
    params = run_params(origin.choices, plain)
    logger.start(params, tags, resumed=resume, sweep_folder=origin.sweep)
    logger.log_artifact(folder / CONFIG_FILE)


@rank_zero_only
def _keep_statistics(module: RewardFineTuning, folder: Path) -> None:
    """Write what the reward's parts are standardised by, for evaluations and further runs."""
    reward = module.problem.reward
    if not (isinstance(reward, Standardises) and reward.statistics):
        return
    moments = {name: list(each) for name, each in reward.statistics.items()}
    write_yaml(folder / STATISTICS_FILE, moments)
    module.logger.log_artifact(folder / STATISTICS_FILE)
    said = ",".join(f"{name}:[{mean},{std}]" for name, (mean, std) in moments.items())
    _log.info("The reward's parts are standardised by reward.statistics={%s}", said)


def _finish(module: RewardFineTuning, run: RunConfig, folder: Path, trainer: Trainer) -> None:
    if not trainer.is_global_zero:
        return
    results = module.validator.results
    replace_file(folder / RESULTS_FILE, json.dumps(results, indent=1).encode())
    logger: Any = module.logger
    plot_training(logger.journal.read(), folder / CURVES_FILE, run.name)
    logger.log_artifact(folder / CURVES_FILE)
    scores = module.validator.scores() if run.validation.at_end else []
    if scores:
        for table in write_tables(scores, folder / EVALUATION_FOLDER):
            logger.log_artifact(table, EVALUATION_FOLDER)
    exported = _export(module.model, folder / EXPORT_FOLDER) if run.export else None
    print(summarise(scores, results, run, folder, exported))


def _export(model: DiffusionModel, folder: Path) -> Path | None:
    """Write the fine-tuned model for diffusers; an offset network has no format there.

    Returns:
        The folder; None if it cannot be written, which costs the export alone.
    """
    is_new = not folder.exists()
    try:
        if model.networks.additive:
            save_weights(model.trainable_state(), folder / OFFSET_FILE)
        else:
            export_pipeline(model, folder)
    except Exception as error:  # of three libraries, or of the disk
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        _log.error(
            "%s: the model is not exported (%s); the rest of the run is whole",
            displayed(folder),
            reason(error),
        )
        return None
    return folder
