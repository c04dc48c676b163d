"""REBEL: regression of log ratios on differences of rewards (Gao et al. 2024, 2404.16767)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from soc_ft import core
from soc_ft.errors import ConfigError
from soc_ft.methods.base import Batch, Experience, Method, Needs, Request, Round, Terms
from soc_ft.methods.pairs import log_densities, sample_pairs
from soc_ft.options import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class Rebel(Method):
    """Regress the difference of two pictures' log ratios on the difference of their rewards.

    With Delta the sum over transitions of log p - log p_old, densities averaged over the latent's
    dimensions, the loss of a pair is (eta (Delta - Delta') - (A - A'))^2, A the standardised
    rewards; on text-to-image models: Oertell et al. 2024, RL for consistency models, 2404.03673.
    Sums are those of each pair alone. A sample of the batch is a pair of pictures.
    """

    class Config(Method.Config):
        """Options of conf/method/rebel.yaml."""

        transitions: Count | None = Field(
            None, description="transitions of a trajectory that are summed; null: all of them"
        )
        eta: Positive = Field(1.0, description="what log ratios are multiplied by")
        shared_start: bool = Field(False, description="whether a pair starts from the same noise")
        statistics_size: Count = Field(32, description="last rewards that are kept of a prompt")
        statistics_minimum: Count = Field(
            16, description="fewer rewards of a prompt are compared with the whole round"
        )

    needs = Needs(noise=True)
    config: Config

    def __init__(self, **options: Any) -> None:
        """Take the options, see :class:`Config`; no reward is known yet."""
        super().__init__(**options)
        self.statistics = core.PromptStatistics(
            self.config.statistics_size, self.config.statistics_minimum
        )

    def pairs_per_sample(self, num_steps: int) -> int:
        """One, a whole pair.

        Raises:
            ConfigError: more transitions are asked for than there are.
        """
        if (self.config.transitions or 1) > num_steps:
            raise ConfigError(
                f"method.transitions={self.config.transitions}: a trajectory has "
                f"scheduler.num_steps={num_steps}"
            )
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

        ok = round_.finite
        both = torch.stack([round_.stats["first_reward"], round_.stats["second_reward"]])
        prompts = [p for p, fine in zip(round_.prompts, ok.tolist(), strict=True) if fine]
        advantage = torch.zeros_like(both, dtype=torch.float64)
        standardised = self.statistics.standardise([*prompts, *prompts], both[:, ok].flatten())
        advantage[:, ok] = standardised.view(2, -1)
        return {"difference": (advantage[0] - advantage[1]).float()}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Of each pair, all its transitions in one graph."""
        steps = batch["steps"][:, batch.pass_index]
        N, n = steps.shape
        k = steps.flatten()
        rows = batch.rows.repeat_interleave(n)
        paths, old = batch.tensors["paths"], batch.tensors["old_log_density"]
        condition = batch.conditions[rows]
        density = log_densities(problem, k, paths[rows, k], paths[rows, k + 1], condition)
        change = (density - old[rows, k]).view(N, n, 2).sum(dim=1)
        moved = change[:, 0] - change[:, 1]
        loss = (self.config.eta * moved - batch["difference"]).square()
        return Terms(loss, {"log_ratio": moved.detach().abs()})

    def state_dict(self) -> dict[str, Any]:
        """The rewards of each prompt."""
        return {"statistics": self.statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.statistics.load_state_dict(state["statistics"])
