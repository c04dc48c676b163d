"""From a validated configuration to the objects it names."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from soc_ft.config.schema import Run
from soc_ft.diffusion.model import DiffusionModel
from soc_ft.methods.base import ControlProblem
from soc_ft.methods.clock import Clock
from soc_ft.rewards.base import Reward


def build_model(config: DictConfig, run: Run) -> DiffusionModel:
    """The diffusion model with its fine-tuning mode and its scheduler.

    Raises:
        ConfigError: weights are missing or unfit.
    """
    load = instantiate(config.model, _partial_=True)
    noise_levels = run.scheduler.model_dump(exclude={"num_steps", "eta"})
    return load(finetune=instantiate(config.finetune), scheduler=noise_levels)


def build_problem(
    run: Run, model: DiffusionModel, reward: Reward, clock: Clock | None = None
) -> ControlProblem:
    """The control problem of a run."""
    cfg = run.cfg_mode
    return ControlProblem(
        model=model,
        reward=reward,
        schedule=model.scheduler.control_schedule(run.scheduler.num_steps, run.scheduler.eta),
        reward_scale=run.lambda_,
        guidance_scale=cfg.guidance_scale,
        guidance_in_adjoint=cfg.guidance_in_adjoint,
        guidance_in_control=cfg.guidance_in_control,
        reward_batch=run.trainer.reward_batch,
        adjoint_batch=run.trainer.adjoint_batch,
        clock=clock or Clock(),
    )
