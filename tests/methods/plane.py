"""Any method on a mixture in the plane, whose tilted law is known by quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from soc_ft import core
from soc_ft.core import Condition
from soc_ft.methods import Batch, Experience, Method, Request, Round
from soc_ft.methods.problem import Problem
from tests.core.closed_forms import no_condition, step_of
from tests.core.test_mixture_optimum import TiltedMixture


class PlanePolicies(nn.Module):
    """The mixture's exact output, and for each step a trained change, bumps on a grid."""

    def __init__(self, mixture: TiltedMixture) -> None:
        super().__init__()
        self.mixture = mixture
        self.weights = nn.Parameter(mixture.model.weights.clone())

    def base(
        self, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float = 1.0
    ) -> Tensor:
        return self.mixture.base(x, t, condition)

    def trained(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        guidance_scale: float = 1.0,
        base_prediction: Tensor | None = None,
    ) -> Tensor:
        k = step_of(self.mixture.process, t)
        features = self.mixture.model.features(x)
        u = torch.einsum("nf,nfd->nd", features, self.weights[k])
        gain = core.match_leading(self.mixture.process.control_gain_of(k, x), x)
        return self.base(x, t, condition) + u / gain

    def anchor(
        self, name: str, x: Tensor, t: Tensor, condition: Condition, guidance_scale: float = 1.0
    ) -> Tensor:
        raise NotImplementedError(name)

    def null_condition(self) -> Condition:
        return no_condition(1)

    def decode(self, latents: Tensor) -> Tensor:
        """The point itself."""
        return latents


@dataclass
class LinearReward:
    """<tilt, x> / lambda, so that lambda r is the mixture's tilt."""

    tilt: Tensor
    name = "linear"
    differentiable = True

    def __call__(self, images: Tensor, prompts: object) -> Tensor:
        return images @ self.tilt

    def to(self, device: object) -> LinearReward:
        return self


class Plane:
    """A problem of two dimensions, and training on it by optimizer steps of whole rounds."""

    def __init__(self, reward_scale: float = 4.0, num_steps: int = 12) -> None:
        self.mixture = TiltedMixture(eta=1.0, num_steps=num_steps)
        self.policies = PlanePolicies(self.mixture)
        self.found: Experience | None = None
        self.problem = Problem(
            model=self.policies,
            reward=LinearReward(self.mixture.tilt / reward_scale),
            process=self.mixture.process,
            reward_scale=reward_scale,
            guidance_scale=1.0,
            guided=frozenset(),
            reward_batch=100_000,
        )

    def train(self, method: Method, rounds: int, batch: int, lr: float) -> None:
        """Adam, its learning rate falling to zero, on one pass over each round."""
        optimizer = torch.optim.Adam(self.policies.parameters(), lr, betas=(0.9, 0.95))
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, rounds)
        for number in range(rounds):
            terms = method.loss(self.problem, self.round(method, number, batch))
            loss = terms.loss if terms.weight is None else terms.loss * terms.weight
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            schedule.step()
            method.finish_step(terms.loss.detach(), terms.notes)

    def round(self, method: Method, number: int, batch: int) -> Batch:
        """All pairs of a fresh round."""
        prompts = ["a point"] * batch
        addresses = [(number, sample) for sample in range(batch)]
        request = Request(
            prompts,
            no_condition(batch),
            (2,),
            seed=0,
            addresses=addresses,
            group_size=method.needs.group_size,
        )
        with torch.no_grad():
            found = method.collect(self.problem, request)
        self.found = found
        finite = torch.ones(batch, dtype=torch.bool)
        whole = Round(number, found.rewards, finite, found.stats, prompts, request.group_size)
        tensors = found.tensors | {"reward": found.rewards} | method.prepare(self.problem, whole)
        slots = method.pairs_per_sample(self.problem.process.num_steps)
        return Batch(
            tensors,
            request.condition,
            prompts,
            addresses,
            0,
            0,
            torch.arange(batch).repeat_interleave(slots),
            torch.arange(slots).repeat(batch),
        )

    def move(self, size: float = 0.3) -> None:
        """Let the trained policy differ from the base model."""
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            self.policies.weights += size * torch.randn(
                self.policies.weights.shape, generator=generator
            )

    @torch.no_grad()
    def states(self, number: int, batch: int) -> Tensor:
        """(B, K+1, 2), the trajectories of a round, sampled again."""
        shape = (self.problem.process.num_steps + 1, 2)
        noise = core.normal(shape, 0, "trajectory", [(number, i) for i in range(batch)])
        predict = self.policies.trained
        return core.rollout(predict, self.problem.process, no_condition(batch), noise).states

    @torch.no_grad()
    def samples(self, count: int = 20_000) -> Tensor:
        """Points that the trained policy draws."""
        steps = self.problem.process.num_steps
        noise = torch.randn(count, steps + 1, 2, generator=torch.Generator().manual_seed(1))
        predict = self.policies.trained
        return core.rollout(predict, self.problem.process, no_condition(count), noise).states[:, -1]

    def distance_to_tilt(self) -> float:
        """Largest error of the share of a mode under p exp(lambda r)."""
        error = self.mixture.mode_weights(self.samples()) - self.mixture.target_mode_weights()
        return float(error.abs().max())
