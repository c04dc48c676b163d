"""Adjoint Matching with the lean adjoint (Domingo-Enrich et al. 2024, arXiv 2409.08861)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from soc_ft import core
from soc_ft.errors import ConfigError
from soc_ft.methods.adjoint_target import AdjointTarget, TargetOptions
from soc_ft.methods.base import Batch, Experience, Method, Needs, Request, Round, Terms
from soc_ft.options import (
    BatchSize,
    Count,
    CountOrZero,
    Decay,
    NonNegative,
    Quantile,
    Share,
)

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.core import Condition
    from soc_ft.methods.problem import Problem


_CONTROL_BASE = "control_base"
"""Name of the base predictions (B, slots, *latent) of an optimizer batch's pairs."""


class AdjointMatching(Method):
    """Regress the control on the lean adjoint along sampled trajectories.

    At sampled steps k, with everything but the trained prediction held fixed,

        loss = || sqrt(delta) u_k + sigma_k a_k ||^2,
        sqrt(delta) u_k = (c_k / sigma_k) (f_trained - f_base).

    The loss is the plain mean over the drawn pairs, as in the reference: steps of a part of the
    trajectory that gets more draws a step weigh more. With enough capacity the minimiser is the
    same for any positive weights. ``step_weighting=unbiased`` weights each pair by the inverse
    probability of its step, so that the loss estimates the mean over all steps.

    A few adjoints are many times longer than the rest: where pictures can become one thing or
    another, the reward changes fast with the state. ``mask_quantile`` leaves pairs with a large
    loss out, as the reference does. ``adjoint_clip`` cuts long adjoints to a multiple of their
    step's median length instead, which keeps their direction. Both trade bias for noise;
    ``python -m soc_ft.world.estimators`` measures how much of each. ``clip_correction`` takes off
    the bias of length, not of direction: cut adjoints are lengthened, by step, to what uncut ones
    say along the control that was learned.

    With ``anneal`` lambda is zero at first and rises as far as samples of the present tilt can be
    weighted into those of the next one (trust-region optimal control): the adjoint, which is
    proportional to lambda, is scaled by the present share of it.

    Guidance may enter at three places: ``trajectories``, ``adjoint`` and ``control``. Where the
    control is guided no prompt is dropped, as in the reference.
    """

    class Config(TargetOptions):
        """Options of conf/method/adjoint_matching.yaml."""

        regression_steps: Count = Field(
            4, description="steps of each trajectory that are regressed in one pass"
        )
        early_fraction: Share = Field(0.6, description="the first share of the steps ...")
        early_share: Share = Field(0.5, description="... receives this share of the draws")
        step_weighting: Literal["plain", "unbiased"] = Field(
            "plain", description="plain: the mean over drawn pairs; unbiased: that over all steps"
        )
        adjoint_batch: BatchSize = Field(
            5, description="trajectories whose adjoint is solved together; changes no result"
        )
        prompt_dropout: Share = Field(
            0.2,
            description="share of samples whose control is regressed with the empty prompt; "
            "none where the control is guided",
        )
        mask_quantile: Quantile | None = Field(
            0.9,
            description="pairs beyond the average of this quantile of sqrt(loss) are left out; "
            "null: none are",
        )
        mask_decay: Decay = Field(0.9, description="of the moving average of that quantile")
        smoothing_copies: CountOrZero = Field(
            0, description="perturbed latents that the reward gradient is averaged over; 0: none"
        )
        smoothing_std: NonNegative = Field(0.02, description="scale of that perturbation")
        smoothing_clip_quantile: Quantile = Field(
            0.85, description="of the copies' gradient norms, that these are clipped to"
        )

    needs = Needs(reward_gradient=True, memoryless=True, denoiser=True, importance=True)
    config: Config

    def __init__(self, **options: Any) -> None:
        """Take the options, see :class:`Config`; nothing is masked yet."""
        super().__init__(**options)
        quantile, decay = self.config.mask_quantile, self.config.mask_decay
        self.mask = None if quantile is None else core.QuantileMask(quantile, decay)
        self.target = AdjointTarget(self.config)
        self.strata = core.Strata(self.config.early_fraction, self.config.early_share)

    def pairs_per_sample(self, num_steps: int) -> int:
        """The steps that are regressed.

        Raises:
            ConfigError: a trajectory has fewer steps, some of its steps would never be drawn
                although the loss shall stand for all, or what shall be corrected is not cut.
        """
        if self.config.clip_correction and self.config.adjoint_clip is None:
            raise ConfigError(
                "method.clip_correction=true: makes up for what method.adjoint_clip cuts off, and "
                "that is null; set it, for example to 1"
            )
        steps = self.config.regression_steps
        if steps > num_steps:
            raise ConfigError(
                f"method.regression_steps={steps}: at most scheduler.num_steps={num_steps} steps "
                "can be drawn from a trajectory"
            )
        unbiased = self.config.step_weighting == "unbiased"
        if unbiased and not self.strata.reach_every_step(num_steps, steps):
            raise ConfigError(
                "method.step_weighting=unbiased: some steps are never drawn with "
                f"method.regression_steps={steps}, early_fraction={self.config.early_fraction:g} "
                f"and early_share={self.config.early_share:g}; draw more steps, or use plain"
            )
        return steps

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Sample trajectories and solve their lean adjoints down to the smallest drawn step."""
        process = problem.process
        steps = core.draw_steps(
            request.uniform("steps", (request.passes, process.num_steps)),
            self.config.regression_steps,
            self.strata,
        )
        with problem.clock.phase("rollout"):
            trajectory = core.rollout(
                problem.trained,
                process,
                request.condition,
                request.normal("trajectory", (process.num_steps + 1, *request.latent_shape)),
                keep_predictions=request.transitions != "none",
            )
        with problem.clock.phase("reward gradient"):
            rewards, gradient = self._reward_gradient(problem, request, trajectory.latents)
        with problem.clock.phase("adjoint"):
            adjoints, base_predictions = self._solve(
                problem, request.condition, trajectory.states, gradient, steps
            )
        kept, places = core.kept_steps(steps, process.num_steps)
        later = kept if self.config.adjoint_at == "current" else kept + 1
        tensors = {
            "steps": steps,
            "places": places,
            "states": core.at_steps(trajectory.states, kept),
            "adjoints": core.at_steps(adjoints, later),
            "base_predictions": core.at_steps(base_predictions, kept),
            "without_prompt": request.uniform("dropout", (request.passes,))
            < self._dropout(problem),
        }
        if trajectory.predictions is not None and request.transitions == "all":
            tensors["path_states"] = trajectory.states
            tensors["path_predictions"] = trajectory.predictions
        elif trajectory.predictions is not None:
            tensors["next_states"] = core.at_steps(trajectory.states, kept + 1)
            tensors["predictions"] = core.at_steps(trajectory.predictions, kept)
        return Experience(rewards, tensors, {"adjoint_norm": adjoints.flatten(2).norm(dim=2)})

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """What the targets take of a round."""
        return self.target.prepare(problem, round_)

    def complete(self, problem: Problem, samples: Batch) -> dict[str, Tensor]:
        """Base predictions of the control, where they are not those of the adjoint solve."""
        import torch

        from soc_ft.methods.problem import chunks

        guided_alike = problem.same_guidance("adjoint", "control")
        if guided_alike and not self._dropout(problem):
            return {}
        tensors, pass_index = samples.tensors, samples.pass_index
        base = core.at_steps(tensors["base_predictions"], tensors["places"][:, pass_index])
        again = tensors["without_prompt"][:, pass_index]
        if not guided_alike:
            again = torch.ones_like(again)
        rows, slots = again[:, None].expand(base.shape[:2]).nonzero(as_tuple=True)
        parts = chunks(len(rows), self.config.adjoint_batch)
        nothing = slice(0, 0)
        with torch.no_grad(), problem.clock.phase("regression"):
            for part in parts + [nothing] * (problem.most(len(parts)) - len(parts)):
                pairs = replace(samples, rows=rows[part], slots=slots[part])
                if part == nothing:  # a call beside those of other processes
                    pairs = replace(samples, rows=rows.new_zeros(1), slots=slots.new_zeros(1))
                x = pairs.at("states", pairs.slot("places"))
                t = problem.process.times_of(self.steps_of(pairs), x)
                found = problem.base(x, t, self._condition(problem, pairs), "control")
                base[rows[part], slots[part]] = found[: len(rows[part])].to(base)
        return {_CONTROL_BASE: base}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """|| sqrt(delta) u_k + sigma_k a_k ||^2 for each pair."""
        import torch

        process = problem.process
        k, place = self.steps_of(batch), batch.slot("places")
        x = batch.at("states", place)
        t = process.times_of(k, x)
        condition = self._condition(problem, batch)
        if _CONTROL_BASE in batch.tensors:
            base = batch.at(_CONTROL_BASE, batch.slots)
        else:
            base = batch.at("base_predictions", place)
        prediction = problem.trained(x, t, condition, "control", base)
        u = core.control(prediction, base, process.control_gain_of(k, x))
        sigma = process.sigma_of(k, x)
        adjoint, notes = self.target.of(batch, k, place, -sigma * u.detach(), process.num_steps)
        loss = core.adjoint_matching_loss(u, adjoint, sigma)
        regressed = self.config.regression_steps
        inclusion = core.inclusion_weights(process.num_steps, regressed, self.strata).to(loss)[k]
        cost = core.control_cost(u.detach()) * inclusion * regressed
        weight = torch.ones_like(loss) if self.mask is None else self.mask.keep(loss).to(loss.dtype)
        if self.config.step_weighting == "unbiased":
            weight *= inclusion * regressed / process.num_steps
        return Terms(loss, {"control_cost": cost}, weight, notes)

    def steps_of(self, batch: Batch) -> Tensor:
        """The drawn steps."""
        return batch.slot("steps")

    def log_ratio(self, problem: Problem, batch: Batch, steps: Tensor | None = None) -> Tensor:
        """Girsanov log ratios; both sides are the law that samples, guidance included."""
        import torch

        process = problem.process
        k = self.steps_of(batch) if steps is None else steps
        if "path_states" in batch.tensors:
            x, x_next = batch.at("path_states", k), batch.at("path_states", k + 1)
            predicted = batch.at("path_predictions", k)
        else:
            place = batch.slot("places")
            x, x_next = batch.at("states", place), batch.at("next_states", place)
            predicted = batch.at("predictions", place)
        with torch.no_grad():
            now = problem.trained(x, process.times_of(k, x), batch.condition)
        noise = core.transition_noise(process, k, x, x_next, predicted)
        return core.log_ratio(now, predicted, noise, process.control_gain_of(k, x))

    def finish_step(self, losses: Tensor, notes: Mapping[str, Tensor]) -> dict[str, float]:
        """Move what the next optimizer step will use: the targets, and the running quantile."""
        logged = self.target.finish_step(notes)
        if self.mask is None:
            return logged
        masked = float((~self.mask.keep(losses)).float().mean())
        self.mask.update(losses)
        return logged | {"masked_share": masked, "mask_threshold": self.mask.threshold}

    def state_dict(self) -> dict[str, Any]:
        """The running quantile, and what the targets have learned."""
        mask = {} if self.mask is None else {"mask": self.mask.state_dict()}
        return mask | {"target": self.target.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.target.load_state_dict(state["target"])
        if self.mask is not None:
            self.mask.load_state_dict(state["mask"])

    def _reward_gradient(
        self, problem: Problem, request: Request, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        copies = self.config.smoothing_copies
        if copies == 0:
            return problem.reward_and_gradient(latents, request.prompts)
        return core.smoothed_gradient(
            lambda perturbed: problem.reward_and_gradient(perturbed, request.prompts),
            latents,
            request.normal("smoothing", (copies, *request.latent_shape)),
            self.config.smoothing_std,
            self.config.smoothing_clip_quantile,
        )

    def _solve(
        self,
        problem: Problem,
        condition: Condition,
        states: Tensor,
        gradient: Tensor,
        steps: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Adjoints (B, K+1, *latent) and base predictions (B, K, *latent), in batches."""
        import torch

        from soc_ft.methods.problem import chunks

        first_steps = steps.flatten(1).amin(1).cpu()
        total = problem.process.num_steps
        solutions = [
            self._adjoint_solution(
                problem,
                states[rows],
                -problem.reward_scale * gradient[rows],
                condition[rows],
                first_steps[rows],
                total - problem.most(total - int(first_steps[rows].min())),
            )
            for rows in chunks(len(states), self.config.adjoint_batch)
        ]
        return (
            torch.cat([solution.adjoints for solution in solutions]),
            torch.cat([solution.base_predictions for solution in solutions]),
        )

    def _adjoint_solution(
        self,
        problem: Problem,
        states: Tensor,
        terminal: Tensor,
        condition: Condition,
        first_steps: Tensor,
        call_from: int,
    ) -> core.AdjointSolution:
        """Adjoints of some of the samples; arguments as of ``core.lean_adjoint``."""
        return core.lean_adjoint(
            partial(problem.base, place="adjoint"),
            problem.process,
            states,
            terminal,
            condition,
            first_steps,
            adjoint_at=self.config.adjoint_at,
            call_from=call_from,
        )

    def _dropout(self, problem: Problem) -> float:
        """Share of samples whose control is regressed with the empty prompt."""
        return 0.0 if problem.is_guided("control") else self.config.prompt_dropout

    def _condition(self, problem: Problem, batch: Batch) -> Condition:
        """(N,) conditions of the control: the empty prompt's where it is dropped."""
        if not self._dropout(problem):
            return batch.condition
        without_prompt = batch["without_prompt"][:, batch.pass_index]
        return batch.condition.where(~without_prompt, problem.model.null_condition())
