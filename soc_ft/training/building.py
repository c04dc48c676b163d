"""From a validated configuration to the objects it names."""

from __future__ import annotations

from soc_ft.config.schema import RunConfig
from soc_ft.methods.base import ControlProblem
from soc_ft.models.model import DiffusionModel
from soc_ft.profiling import Clock
from soc_ft.rewards.base import Reward


def build_problem(
    run: RunConfig, model: DiffusionModel, reward: Reward, clock: Clock | None = None
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
