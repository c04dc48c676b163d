"""REBEL: regression of log ratios on differences of rewards (Gao et al. 2024, 2404.16767)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Batch, Experience, Needs, Request, Round, Terms, within_trajectory
from soc_ft.methods.pairs import log_densities, sample_pairs
from soc_ft.methods.standardised import Standardised
from soc_ft.options import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class Rebel(Standardised):
    """Regress the difference of two pictures' log ratios on the difference of their rewards.

    With Delta the sum over transitions of log p - log p_old, densities averaged over the latent's
    dimensions, the loss of a pair is (eta (Delta - Delta') - (A - A'))^2, A the standardised
    rewards; on text-to-image models: Oertell et al. 2024, RL for consistency models, 2404.03673.
    Sums are those of each pair alone. A sample of the batch is a pair of pictures.
    """

    class Config(Standardised.Config):
        """Options of conf/method/rebel.yaml."""

        transitions: Count | None = Field(
            None, description="transitions of a trajectory that are summed; null: all of them"
        )
        eta: Positive = Field(1.0, description="what log ratios are multiplied by")
        shared_start: bool = Field(False, description="whether a pair starts from the same noise")

    needs = Needs(noise=True)
    config: Config

    def pairs_per_sample(self, num_steps: int) -> int:
        """One, a whole pair.

        Raises:
            ConfigError: more transitions are asked for than there are.
        """
        within_trajectory("transitions", self.config.transitions or 1, num_steps)
        return 1

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Pairs and their densities."""
        process, K = problem.process, problem.process.num_steps
        paths = sample_pairs(problem, request, shared_start=self.config.shared_start)
        keys = request.uniform("steps", (request.passes, K))
        steps = keys.argsort(dim=-1)[..., : self.config.transitions or K]
        old = core.noise_log_density(process, paths.noise.flatten(0, 1)).unflatten(
            0, paths.noise.shape[:2]
        )
        tensors = {
            "steps": steps,
            "paths": paths.states.transpose(1, 2),
            "old_log_density": old.transpose(1, 2),
        }
        first, second = paths.rewards.unbind(dim=1)
        return Experience(
            paths.rewards.mean(dim=1), tensors, {"first_reward": first, "second_reward": second}
        )

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """Differences of standardised rewards (n,)."""
        import torch

        both = torch.stack([round_.stats["first_reward"], round_.stats["second_reward"]])
        first, second = self.standardise(round_, both)
        return {"difference": (first - second).float()}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Of each pair, all its transitions in one graph."""
        steps = batch["steps"][:, batch.pass_index]
        N, n = steps.shape
        k = steps.flatten()
        rows = batch.rows.repeat_interleave(n)
        paths, old = batch.tensors["paths"], batch.tensors["old_log_density"]
        condition = batch.conditions[rows]
        x, after = paths[rows, k], paths[rows, k + 1]
        density = log_densities(problem.trained, problem.process, k, x, after, condition)
        change = (density - old[rows, k]).view(N, n, 2).sum(dim=1)
        moved = change[:, 0] - change[:, 1]
        loss = (self.config.eta * moved - batch["difference"]).square()
        return Terms(loss, {"log_ratio": moved.detach().abs()})
