"""REINFORCE: the score-function gradient over denoising steps (Williams 1992)."""

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
    Round,
    Terms,
    within_trajectory,
)
from soc_ft.options import Count

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class Reinforce(Method):
    """Raise the density of transitions by how much their picture is better than others.

    The gradient of E[r(x_K)] is E[(r - b) sum_k grad log p(x_{k+1} | x_k)] for every b that does
    not depend on the sample's own noise (Williams 1992; on diffusion samplers: Fan and Lee 2023,
    2301.13362, and DDPO-SF of Black et al. 2023, 2305.13301). Here b is the mean reward of the
    other samples of the group (Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for
    free"), or of the round if groups are of one. The loss of a transition is

        -(r - b) log p(x_{k+1} | x_k),

    densities averaged over the latent's dimensions and relative to the policy that sampled, so on
    its samples the loss is zero and its gradient is not. Nothing is clipped, and no advantage is
    divided by a deviation, which would weigh prompts by how little their rewards vary: averaged
    over all pairs, the expected gradient is that of -E[r], divided by K and by the number of
    dimensions. Where trajectories are guided, the densities are those of the guided sampler.

    The policy has to be the one that sampled. Samples of an earlier one are refused unless they are
    weighted; of the weights those of whole paths (``buffer.importance=path``) keep the gradient.
    """

    class Config(Method.Config):
        """Options of conf/method/reinforce.yaml."""

        transitions: Count | None = Field(
            None, description="transitions of a sample in an optimizer step; null: all of them"
        )
        group_size: Count = Field(
            1,
            description="consecutive samples that share a prompt and are compared with each other; "
            "1: with the round",
        )

    config: Config

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Densities, samples that are used once or weighted, groups of the size asked for."""
        return Needs(noise=True, group_size=self.config.group_size, replay=False, importance=True)

    def pairs_per_sample(self, num_steps: int) -> int:
        """The transitions of an optimizer step.

        Raises:
            ConfigError: a trajectory has fewer.
        """
        return within_trajectory("transitions", self.config.transitions or num_steps, num_steps)

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Trajectories, of which the drawn transitions are kept, or all if weights will need them.

        Steps are drawn uniformly, so that some of them stand for all.
        """
        import torch

        process, K = problem.process, problem.process.num_steps
        noise = request.normal("trajectory", (K + 1, *request.latent_shape))
        with problem.clock.phase("rollout"):
            path = core.rollout(
                problem.trained, process, request.condition, noise, keep_predictions=True
            )
        with problem.clock.phase("reward"):
            rewards = problem.reward_of(path.latents, request.prompts)
        keys = request.uniform("steps", (request.passes, K))
        steps = keys.argsort(dim=-1)[..., : self.pairs_per_sample(K)]
        kept, places = core.kept_steps(steps, K)
        if request.transitions == "all":
            kept, places = torch.arange(K, device=steps.device).expand(len(steps), -1), steps
        assert path.predictions is not None
        tensors = {
            "steps": steps,
            "places": places,
            "states": core.at_steps(path.states, kept),
            "predictions": core.at_steps(path.predictions, kept),
            "noise": core.at_steps(noise[:, 1:], kept),
        }
        return Experience(rewards, tensors)

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """Advantages (n,): rewards less the mean of the others, in the reward's own unit.

        Zero for a sample that is not finite, and for one that has no finite other.
        """
        samples = len(round_.rewards)
        size = samples if round_.group_size == 1 else round_.group_size
        finite = round_.finite.view(-1, size)
        rewards = round_.rewards.double().view(-1, size).masked_fill(~finite, 0)
        others = finite.sum(dim=1, keepdim=True) - 1
        baseline = (rewards.sum(dim=1, keepdim=True) - rewards) / others.clamp(min=1)
        advantage = (rewards - baseline).masked_fill(~finite | (others < 1), 0)
        return {"advantage": advantage.flatten().float()}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """-(r - b) log p of each transition, per dimension."""
        ratio = self._log_ratio(problem, batch, self.steps_of(batch), batch.slot("places"))
        return Terms(-batch["advantage"] * ratio / batch.tensors["noise"][0, 0].numel())

    def steps_of(self, batch: Batch) -> Tensor:
        """The drawn steps."""
        return batch.slot("steps")

    def log_ratio(self, problem: Problem, batch: Batch, steps: Tensor | None = None) -> Tensor:
        """Girsanov log ratios; both sides are the law that samples, guidance included."""
        import torch

        k = self.steps_of(batch) if steps is None else steps
        place = batch.slot("places") if steps is None else steps
        with torch.no_grad():
            return self._log_ratio(problem, batch, k, place)

    def _log_ratio(self, problem: Problem, batch: Batch, k: Tensor, place: Tensor) -> Tensor:
        """(N,) log p - log p_sampled, differentiable, of the transitions k, which lie at places."""
        process, x = problem.process, batch.at("states", place)
        now = problem.trained(x, process.times_of(k, x), batch.condition)
        sampled, noise = batch.at("predictions", place), batch.at("noise", place)
        return core.log_ratio(now, sampled, noise, process.control_gain_of(k, x))
