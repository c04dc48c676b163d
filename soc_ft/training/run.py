"""One fine-tuning run: build, train or resume, validate, export, report."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from soc_ft.config.schema import RunConfig
from soc_ft.errors import Preempted, RunError
from soc_ft.evaluation.tables import write_tables
from soc_ft.files import displayed, replace_file
from soc_ft.instantiation import build
from soc_ft.models.export import export_pipeline
from soc_ft.models.model import DiffusionModel
from soc_ft.models.starting import OFFSET_FILE
from soc_ft.models.weights import save_weights
from soc_ft.plotting.plots import plot_training
from soc_ft.records.identity import config_hash
from soc_ft.records.layout import (
    CHECKPOINT_FOLDER,
    CHOICES_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    EVALUATION_FOLDER,
    EXPORT_FOLDER,
    LAST_CHECKPOINT,
    OVERRIDES_FILE,
    RESULTS_FILE,
)
from soc_ft.records.provenance import provenance
from soc_ft.records.runs import Origin
from soc_ft.rewards.base import Reward
from soc_ft.tracking.headline import run_name, run_params
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.building import (
    build_checkpoints,
    build_module,
    build_trainer,
    prepare_torch,
)
from soc_ft.training.module import RewardFineTuning
from soc_ft.training.preemption import Preemption
from soc_ft.training.summary import summarise

_log = logging.getLogger(__name__)


def train(
    config: DictConfig,
    run: RunConfig,
    folder: Path,
    origin: Origin | None = None,
    preemption: Preemption | None = None,
    model: DiffusionModel | None = None,
    reward: Reward | None = None,
) -> RewardFineTuning:
    """Run an experiment, or go on with it.

    Args:
        config: composed configuration.
        run: the same, validated.
        folder: of the run.
        origin: where the configuration comes from, for the record.
        preemption: how a scheduler asks the run to stop, if there is one.
        model: to be trained instead of the one that the configuration names.
        reward: to be trained on instead of the one that the configuration names.

    Returns:
        The module with the trained model.

    Raises:
        RunError: the run cannot go on; what was saved stays intact.
        Preempted: a scheduler asked it to stop; it goes on from its last checkpoint.
    """
    prepare_torch(run)
    with _quiet_libraries():
        resumed = folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT
        resume = run.resume == "auto" and resumed.is_file()
        module = build_module(config, run, folder, model, reward)
        logger = _start_logging(config, folder, origin or Origin(), resume)
        checkpoints = build_checkpoints(run, folder, preemption)
        trainer = build_trainer(run, folder, logger, checkpoints)
        status = "failed"
        try:
            _fit(trainer, module, resumed if resume else None, run.validation.at_end)
            checkpoints.save_last(trainer)
            module.finish()
            _finish(module, run, folder, trainer)
            status = "success"
            return module
        except Preempted:
            status = "preempted"
            raise
        except (KeyboardInterrupt, SystemExit):  # Lightning exits on the first Ctrl-C
            status = "interrupted"
            raise RunError(
                f"interrupted at optimizer step {trainer.global_step}; the same command with "
                f"run_dir={displayed(folder)} goes on from the last checkpoint"
            ) from None
        finally:
            logger.end(status)


def _fit(
    trainer: Trainer, module: RewardFineTuning, resumed: Path | None, measure_last: bool
) -> None:
    """Measure the base model, fine-tune, and measure the last step if asked and not done."""
    if resumed is None:
        trainer.logger.rewind(0)  # type: ignore[union-attr]
        trainer.validate(module, verbose=False)
    else:
        _log.info("Resuming from %s", resumed)
    trainer.fit(module, ckpt_path=resumed, weights_only=True)
    if measure_last and trainer.global_step not in module.validator.results:
        trainer.validate(module, verbose=False)


def _start_logging(config: DictConfig, folder: Path, origin: Origin, resume: bool) -> RunLogger:
    """Write the resolved configuration into the run folder and open the record of the run."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    params = run_params(origin.choices, plain)
    if config.tracking.get("run_name", "") is None:
        config.tracking.run_name = run_name(params, origin.overrides)
    logger = RunLogger(folder, build(config.tracking, "tracking"))
    _write_configuration(folder, plain, origin)
    tags = provenance() | dict(origin.tags)
    tags |= {"overrides": " ".join(origin.overrides), "soc_ft.config_hash": config_hash(plain)}
    logger.start(params, tags, resumed=resume, sweep_folder=origin.sweep)
    logger.log_artifact(folder / CONFIG_FILE)
    return logger


@rank_zero_only
def _write_configuration(folder: Path, plain: dict[str, Any], origin: Origin) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(plain), folder / CONFIG_FILE)
    OmegaConf.save(OmegaConf.create(list(origin.overrides)), folder / OVERRIDES_FILE)
    OmegaConf.save(OmegaConf.create(dict(origin.choices)), folder / CHOICES_FILE)


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
    try:
        if model.networks.additive:
            save_weights(model.trainable_state(), folder / OFFSET_FILE)
        else:
            export_pipeline(model, folder)
    except Exception as error:  # of three libraries
        said = " ".join(str(error).split())
        _log.error("%s: the model is not exported (%s); the rest of the run is whole", folder, said)
        return None
    return folder


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own announcements out of the way of the run's messages."""
    for name in ("lightning.pytorch", "lightning.fabric", "diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        yield
