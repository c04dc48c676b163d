"""From a validated configuration to the objects it names."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.strategies import Strategy
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from soc_ft.config import schema
from soc_ft.config.components import build_feedback
from soc_ft.config.processes import started_by_slurm
from soc_ft.config.prompts import held_out_prompts, training_prompts
from soc_ft.config.schema import RunConfig
from soc_ft.evaluation.reference import BaseRewards, law
from soc_ft.feedback.base import Circumstances
from soc_ft.instantiation import build
from soc_ft.layout import CHECKPOINT_FOLDER, FEEDBACK_FOLDER, SAMPLE_FOLDER
from soc_ft.methods import Method
from soc_ft.methods.problem import Problem
from soc_ft.models.loading import build_model
from soc_ft.models.model import DiffusionModel
from soc_ft.models.starting import start
from soc_ft.records.identity import config_hash
from soc_ft.rewards.base import Reward
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.checkpoints import AtomicCheckpointIO, Checkpoints
from soc_ft.training.collector import Collector
from soc_ft.training.module import RewardFineTuning
from soc_ft.training.progress import Progress
from soc_ft.training.rendezvous import DataParallel
from soc_ft.training.scorers import Scorers
from soc_ft.training.stopping import Stopping
from soc_ft.training.validator import Validator

_log = logging.getLogger(__name__)


def build_problem(run: RunConfig, model: DiffusionModel, reward: Reward) -> Problem:
    """The model, the process and the reward of a run."""
    return Problem(
        model=model,
        reward=reward,
        process=model.scheduler.control_process(run.scheduler.num_steps, run.scheduler.eta),
        reward_scale=run.lambda_,
        guidance_scale=run.cfg_mode.guidance_scale,
        guided=frozenset(run.cfg_mode.guided),
        reward_batch=run.trainer.reward_batch,
    )


def build_module(
    config: DictConfig,
    run: RunConfig,
    folder: Path,
    scorers: Scorers,
    model: DiffusionModel | None = None,
) -> RewardFineTuning:
    """The Lightning module of a run.

    Args:
        config: composed configuration.
        run: the same, validated.
        folder: of the run.
        scorers: what scores its pictures.
        model: to be trained instead of the one that the configuration names.

    Raises:
        ConfigError: weights are missing or unfit.
    """
    held_out = held_out_prompts(run.prompts, limit=run.validation.prompts)
    method: Method = build(config.method, "method")
    if model is None:
        model = build_model(config.model, config.finetune, run.scheduler.noise_levels())
        start(model, run.finetune.arguments)
    for anchor in method.needs.anchors:
        if anchor.name not in model.anchor_states():  # a model in memory may have it already
            model.add_anchor(anchor.name)
    problem = build_problem(run, model, scorers.reward)
    validator = Validator(
        model=model,
        problem=problem,
        prompts=held_out,
        settings=run.validation,
        seed=run.seed,
        embedding=scorers.embedding,
        metrics=scorers.metrics,
        folder=folder / SAMPLE_FOLDER,
        base_rewards=_base_rewards(config, run, held_out),
    )
    prompts = training_prompts(run.prompts)
    model.warn_of_truncated([*prompts, *held_out])
    trained_on = scorers.feedback.trained_on(problem)
    collector = Collector(model, trained_on, method, prompts, run)
    circumstances = Circumstances(
        model=model,
        problem=problem,
        prompts=prompts,
        seed=run.seed,
        folder=folder / FEEDBACK_FOLDER,
        identity=config_hash(config),
        rollout_batch=run.trainer.rollout_batch,
    )
    return RewardFineTuning(
        model, trained_on, method, collector, validator, run, scorers.feedback, circumstances
    )


def _base_rewards(config: DictConfig, run: RunConfig, prompts: Sequence[str]) -> Tensor | None:
    """(P, N) rewards of the base model's pictures, if they are known of what is measured here."""
    if run.validation.base_rewards is None:
        return None
    found = BaseRewards.load(run.validation.base_rewards)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    scheduler, scale = run.scheduler, run.validation.guidance_scale
    measured = law(
        plain["model"],
        scheduler.noise_levels(),
        scheduler.num_steps,
        scheduler.eta,
        scale,
        plain["reward"],
    )
    differing = found.differences(measured, prompts)
    if differing:
        _log.info(
            "validation.base_rewards are of another law, so the optimum is not shown: %s; "
            "python -m soc_ft.evaluate run=<this run> exact=true computes it",
            ", ".join(differing),
        )
        return None
    return found.of(prompts)


def build_checkpoints(
    run: RunConfig, folder: Path, stopping: Stopping | None = None
) -> Checkpoints:
    """What is saved of a run, and when."""
    settings = run.trainer
    return Checkpoints(
        folder / CHECKPOINT_FOLDER,
        settings.checkpoint_every,
        settings.keep_every,
        run.validation.every,
        settings.steps // build_feedback(run.feedback).stages,
        stopping,
    )


def uses_cpu(run: RunConfig) -> bool:
    """Whether the networks are evaluated on the CPU."""
    accelerator = run.trainer.accelerator
    return accelerator == "cpu" or (
        accelerator == "auto"
        and not (torch.cuda.is_available() or torch.backends.mps.is_available())
    )


def build_trainer(
    run: RunConfig,
    folder: Path,
    logger: RunLogger,
    checkpoints: Checkpoints,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """The Lightning trainer: one batch is one optimizer step, validated every few of them."""
    for announcing in ("lightning.pytorch", "lightning.fabric"):
        # Its tips are not the run's messages; it sets its own level when it is imported.
        logging.getLogger(announcing).setLevel(logging.ERROR)
    settings = run.trainer
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=_strategy(settings),
        precision=settings.precision,
        max_steps=settings.steps,
        max_epochs=-1,
        val_check_interval=run.validation.every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=logger,
        callbacks=[checkpoints, *callbacks, Progress()],
        plugins=[AtomicCheckpointIO(), *_cluster_environment(settings)],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        inference_mode=False,
        default_root_dir=folder,
    )


def _strategy(settings: schema.Trainer) -> str | Strategy:
    """Ours for several processes; in a notebook Lightning's, which forks them."""
    several = settings.devices * settings.num_nodes > 1
    return DataParallel() if several and not hasattr(sys, "ps1") else settings.strategy


def _cluster_environment(settings: schema.Trainer) -> list[ClusterEnvironment]:
    """Slurm's, if it started this process, but without Lightning's own way to requeue a job.

    Lightning would take the variables of an allocation for those of a step, and wait in vain for
    tasks that nobody starts; there it is told to start its processes itself.
    """
    if started_by_slurm():
        # Lightning wants to see what only `srun --ntasks-per-node` sets; the number is checked.
        os.environ["SLURM_NTASKS_PER_NODE"] = str(settings.devices)
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()] if "SLURM_NTASKS" in os.environ else []
