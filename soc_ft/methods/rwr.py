"""RWR: reward-weighted regression on the model's own pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Batch, Experience, Method, Needs, Request, Round, Terms
from soc_ft.options import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class RWR(Method):
    """Denoise own pictures, the better ones with more weight.

    The baseline of DDPO (Black et al. 2023, 2305.13301, section 4.2; Lee et al. 2023, 2302.12192):
    weights are exp(A / temperature), A the reward standardised over the round, and have mean one.
    The pictures are noised to levels of the process anew in every pass, and the error is that of
    the network's output, as in pretraining.
    """

    class Config(Method.Config):
        """Options of conf/method/rwr.yaml."""

        levels: Count = Field(4, description="noise levels of a picture in an optimizer step")
        temperature: Positive = Field(0.5, description="of the weights exp(A / temperature)")

    needs = Needs(denoiser=True)
    config: Config

    def pairs_per_sample(self, num_steps: int) -> int:
        """The noise levels."""
        return self.config.levels

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Pictures' clean latents and their rewards."""
        steps = problem.process.num_steps
        noise = request.normal("trajectory", (steps + 1, *request.latent_shape))
        with problem.clock.phase("rollout"):
            path = core.rollout(problem.trained, problem.process, request.condition, noise)
        with problem.clock.phase("reward"):
            rewards = problem.reward_of(path.latents, request.prompts)
        return Experience(rewards, {"clean": path.latents})

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """Weights (n,) with mean one over the samples that count."""
        rewards, ok = round_.rewards.double(), round_.finite
        spread = rewards[ok].std(correction=0) + core.PromptStatistics.EPSILON
        scaled = (rewards - rewards[ok].mean()) / (spread * self.config.temperature)
        weights = scaled.masked_fill(~ok, -float("inf")).softmax(dim=0) * ok.sum()
        return {"reward_weight": weights.float()}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Weighted error of the network's output at a fresh noise level."""
        process, clean = problem.process, batch["clean"]
        k = (batch.uniform("level", ()) * process.num_steps).long()
        x = process.noised(k, clean, batch.normal("noise", clean.shape[1:]))
        f = problem.trained(x, process.times_of(k, x), batch.condition, "denoising")
        error = core.denoising_error(process, k, x, f, clean)
        return Terms(batch["reward_weight"] * error, {"denoising_error": error.detach()})
