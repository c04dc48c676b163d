"""Adjoint Matching with the lean adjoint (Domingo-Enrich et al. 2024, arXiv 2409.08861)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from soc_ft.core import (
    AdjointAt,
    QuantileMask,
    adjoint_matching_loss,
    control,
    control_cost,
    draw_steps,
    inclusion_weights,
    lean_adjoint,
    log_weights,
    path_noise,
    rollout,
    smoothed_gradient,
)
from soc_ft.methods.base import ControlProblem, Experience, Method, PairLoss, Request, chunks


class AdjointMatching(Method):
    """Regress the control on the lean adjoint along sampled trajectories.

    At sampled steps k, with everything but the fine-tuned prediction held fixed,

        loss = || sqrt(delta) u_k + sigma_k a_k ||^2,
        sqrt(delta) u_k = (c_k / sigma_k) (eps_finetuned - eps_base).

    Args:
        early_fraction, early_share: see :func:`soc_ft.core.draw_steps`.
        adjoint_at: ``"current"`` regresses step k on a_k, as the reference implementation does;
            ``"next"`` on a_{k+1}, the exact optimum in discrete time.
        prompt_dropout: share of samples whose control is regressed with the empty prompt, which
            keeps the unconditional prediction, and so guidance, in step with the model.
        mask_quantile, mask_decay: see :class:`soc_ft.core.QuantileMask`.
        smoothing_copies, smoothing_std, smoothing_clip_quantile: see
            :func:`soc_ft.core.smoothed_gradient`; no smoothing with 0 copies.
    """

    def __init__(
        self,
        needs_reward_gradient: bool,
        regression_steps: int,
        early_fraction: float,
        early_share: float,
        adjoint_at: AdjointAt,
        prompt_dropout: float,
        mask_quantile: float,
        mask_decay: float,
        smoothing_copies: int,
        smoothing_std: float,
        smoothing_clip_quantile: float,
    ) -> None:
        super().__init__(needs_reward_gradient, regression_steps)
        self.strata = (early_fraction, early_share)
        self.adjoint_at = adjoint_at
        self.prompt_dropout = prompt_dropout
        self.mask = QuantileMask(mask_quantile, mask_decay)
        self.smoothing_copies = smoothing_copies
        self.smoothing_std = smoothing_std
        self.smoothing_clip_quantile = smoothing_clip_quantile

    def collect(self, problem: ControlProblem, request: Request) -> Experience:
        """Sample trajectories and solve their lean adjoints down to the smallest drawn step."""
        schedule = problem.schedule
        steps = draw_steps(
            request.uniform("steps", (request.passes, schedule.num_steps)),
            self.regression_steps,
            *self.strata,
        )
        with problem.clock.phase("rollout"):
            trajectory = rollout(
                problem.sample_with,
                schedule,
                request.condition,
                request.normal("trajectory", (schedule.num_steps + 1, *request.latent_shape)),
                keep_predictions=request.keep_predictions,
            )
        with problem.clock.phase("reward gradient"):
            rewards, gradient = self._reward_gradient(problem, request, trajectory.states[:, -1])
        with problem.clock.phase("adjoint"):
            solutions = [
                lean_adjoint(
                    problem.base_in_adjoint,
                    schedule,
                    trajectory.states[rows],
                    -problem.reward_scale * gradient[rows],
                    request.condition[rows],
                    steps[rows].flatten(1).amin(1),
                    adjoint_at=self.adjoint_at,
                )
                for rows in chunks(len(rewards), problem.adjoint_batch)
            ]
        adjoints = torch.cat([solution.adjoints for solution in solutions])
        tensors = {
            "condition": request.condition,
            "states": trajectory.states,
            "adjoints": adjoints,
            "base_predictions": torch.cat([solution.base_predictions for solution in solutions]),
            "steps": steps,
            "without_prompt": request.uniform("dropout", (request.passes,)) < self.prompt_dropout,
        }
        if trajectory.predictions is not None:
            tensors["predictions"] = trajectory.predictions
            tensors["noise"] = path_noise(schedule, trajectory)
        return Experience(rewards, tensors, {"adjoint_norm": adjoints.flatten(2).norm(dim=2)})

    def loss(
        self,
        problem: ControlProblem,
        tensors: dict[str, Tensor],
        pass_index: int,
        rows: Tensor,
        slots: Tensor,
    ) -> PairLoss:
        """|| sqrt(delta) u_k + sigma_k a_k ||^2 for each pair."""
        schedule = problem.schedule
        k = tensors["steps"][rows, pass_index, slots]
        x, t = tensors["states"][rows, k], schedule.timesteps.to(k.device)[k]
        without_prompt = tensors["without_prompt"][rows, pass_index]
        condition = tensors["condition"][rows]
        if without_prompt.any():
            condition = condition.clone()
            condition[without_prompt] = problem.model.null_condition().to(condition)
        base = self._base_predictions(
            problem, tensors["base_predictions"][rows, k], x, t, condition, without_prompt
        )
        prediction = problem.finetuned_in_control(x, t, condition, base)
        u = control(prediction, base, schedule.control_gain[k.cpu()])
        at = k if self.adjoint_at == "current" else k + 1
        loss = adjoint_matching_loss(u, tensors["adjoints"][rows, at], schedule.sigma[k.cpu()])
        weights = inclusion_weights(schedule.num_steps, self.regression_steps, *self.strata).to(
            loss
        )
        cost = control_cost(u.detach()) * weights[k] * self.regression_steps
        return PairLoss(loss, {"control_cost": cost})

    def log_weights(
        self,
        problem: ControlProblem,
        tensors: dict[str, Tensor],
        pass_index: int,
        rows: Tensor,
        slots: Tensor,
    ) -> Tensor:
        """Stepwise Girsanov log ratios; both sides are the law that samples, guidance included."""
        schedule = problem.schedule
        k = tensors["steps"][rows, pass_index, slots]
        with torch.no_grad():
            now = problem.sample_with(
                tensors["states"][rows, k],
                schedule.timesteps.to(k.device)[k],
                tensors["condition"][rows],
            )
        return log_weights(
            now,
            tensors["predictions"][rows, k],
            tensors["noise"][rows, k],
            schedule.control_gain[k.cpu()],
        )

    def keep(self, losses: Tensor) -> Tensor:
        """Leave out pairs beyond the running quantile; they stay in the mean as zeros."""
        return self.mask.keep(losses)

    def finish_step(self, losses: Tensor) -> dict[str, float]:
        """Move the running quantile, which the next optimizer step will use."""
        masked = float((~self.mask.keep(losses)).float().mean())
        self.mask.update(losses)
        return {"masked_share": masked, "mask_threshold": self.mask.threshold}

    def state_dict(self) -> dict[str, Any]:
        return {"mask": self.mask.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mask.load_state_dict(state["mask"])

    def _reward_gradient(
        self, problem: ControlProblem, request: Request, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.smoothing_copies == 0:
            return problem.reward_and_gradient(latents, request.prompts)
        return smoothed_gradient(
            lambda perturbed: problem.reward_and_gradient(perturbed, request.prompts),
            latents,
            request.normal("smoothing", (self.smoothing_copies, *request.latent_shape)),
            self.smoothing_std,
            self.smoothing_clip_quantile,
        )

    def _base_predictions(
        self,
        problem: ControlProblem,
        solved: Tensor,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        without_prompt: Tensor,
    ) -> Tensor:
        """The adjoint solve's predictions; anew only where the control is conditioned otherwise."""
        anew = without_prompt
        if problem.guidance_in_adjoint != problem.guidance_in_control:
            anew = torch.ones_like(without_prompt)
        if not anew.any():
            return solved
        base = solved.clone()
        with torch.no_grad():
            base[anew] = problem.base_in_control(x[anew], t[anew], condition[anew]).to(base)
        return base
