"""D3PO: direct preference optimisation of denoising steps (Yang et al. 2023, 2311.13231)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import (
    Batch,
    Experience,
    Method,
    Needs,
    Request,
    Terms,
    within_trajectory,
)
from soc_ft.methods.pairs import log_densities, sample_pairs
from soc_ft.options import Count, Positive, Share

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class D3PO(Method):
    """Of two pictures of a prompt, make every transition of the better one likelier.

    With rho_i the ratio of a transition's density to the base model's, densities averaged over the
    latent's dimensions and ratios clamped to 1 -+ clip, the loss of a step is
    -log sigmoid(beta (log rho_better - log rho_worse)). Equal rewards have no loss. A sample of the
    batch is a pair of pictures.
    """

    class Config(Method.Config):
        """Options of conf/method/d3po.yaml."""

        transitions: Count | None = Field(
            None, description="steps of a pair in an optimizer step; null: all of them"
        )
        beta: Positive = Field(0.1, description="how fast a preference saturates")
        clip: Share = Field(0.1, description="ratios further from 1 than this have no gradient")
        shared_start: bool = Field(True, description="whether a pair starts from the same noise")

    needs = Needs(noise=True)
    config: Config

    def pairs_per_sample(self, num_steps: int) -> int:
        """The steps of an optimizer step.

        Raises:
            ConfigError: a trajectory has fewer.
        """
        return within_trajectory("transitions", self.config.transitions or num_steps, num_steps)

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Pairs, which of them is better, and densities under the base model."""
        K = problem.process.num_steps
        paths = sample_pairs(problem, request, shared_start=self.config.shared_start)
        keys = request.uniform("steps", (request.passes, K))
        steps = keys.argsort(dim=-1)[..., : self.pairs_per_sample(K)]
        kept, places = core.kept_steps(steps, K)
        both = kept[:, None].expand(-1, 2, -1)
        x, after = (_at(paths.states, each) for each in (both, both + 1))
        base = self._base_densities(problem, request, x, after, kept)
        first, second = paths.rewards.unbind(dim=1)
        tensors = {
            "steps": steps,
            "places": places,
            "states": x.transpose(1, 2),
            "next_states": after.transpose(1, 2),
            "base_log_density": base,
            "preference": (first - second).sign(),
        }
        return Experience(paths.rewards.mean(dim=1), tensors)

    def _base_densities(
        self, problem: Problem, request: Request, x: Tensor, after: Tensor, kept: Tensor
    ) -> Tensor:
        """(B, n, 2) log-densities of the kept transitions under the base model."""
        import torch

        process, found = problem.process, []
        with problem.clock.phase("base model"):
            for place, k in enumerate(kept.unbind(dim=1)):
                at = x[:, :, place], after[:, :, place]
                found.append(log_densities(problem.base, process, k, *at, request.condition))
        return torch.stack(found, dim=1)

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Of each step of each pair."""
        from torch.nn.functional import logsigmoid

        place, clip = batch.slot("places"), self.config.clip
        density = log_densities(
            problem.trained,
            problem.process,
            batch.slot("steps"),
            batch.at("states", place),
            batch.at("next_states", place),
            batch.condition,
        )
        ratio = (density - batch.at("base_log_density", place)).exp().clamp(1 - clip, 1 + clip)
        margin = (ratio[:, 0].log() - ratio[:, 1].log()) * batch["preference"]
        unequal = (batch["preference"] != 0).float()
        loss = -logsigmoid(self.config.beta * margin)
        return Terms(loss, {"preference": (-loss.detach()).exp()}, unequal)


def _at(states: Tensor, steps: Tensor) -> Tensor:
    """(B, 2, n, *latent) states of both paths at steps (B, 2, n)."""
    return core.at_steps(states.flatten(0, 1), steps.flatten(0, 1)).unflatten(0, states.shape[:2])
