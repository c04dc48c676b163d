"""ReFL: the reward of a clean prediction late in sampling (Xu et al. 2023, 2304.05977)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Batch, Experience, Method, Needs, Request, Terms
from soc_ft.options import Share

if TYPE_CHECKING:
    from soc_ft.methods.problem import Problem


class ReFL(Method):
    """Maximise the reward of the clean prediction at a random late step, through that step alone.

    The paper's loss is max(2 - r, 0): rewards above ``enough`` have no gradient.
    """

    class Config(Method.Config):
        """Options of conf/method/refl.yaml."""

        earliest: Share = Field(
            0.75, description="share of the steps before the first that may be chosen"
        )
        enough: float | None = Field(
            2.0, description="rewards above this give no gradient; null: all do", strict=True
        )

    needs = Needs(reward_gradient=True, replay=False)
    config: Config

    def collect(self, problem: Problem, request: Request) -> Experience:
        """States at the chosen steps, and the rewards of their clean predictions."""
        process, K = problem.process, problem.process.num_steps
        noise = request.normal("trajectory", (K + 1, *request.latent_shape))
        with problem.clock.phase("rollout"):
            path = core.rollout(
                problem.trained, process, request.condition, noise, keep_predictions=True
            )
        first = min(int(self.config.earliest * K), K - 1)
        step = first + (request.uniform("step", ()) * (K - first)).long()
        assert path.predictions is not None
        x, f = core.at_steps(path.states, step), core.at_steps(path.predictions, step)
        with problem.clock.phase("reward gradient"):
            rewards, gradient = problem.reward_and_gradient(
                process.clean(step, x, f), request.prompts
            )
        if self.config.enough is not None:
            gradient = gradient * core.match_leading(rewards < self.config.enough, gradient)
        return Experience(rewards, {"step": step, "state": x, "gradient": gradient})

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """-<dr / dx0_hat, x0_hat> of each sample."""
        process, k, x = problem.process, batch["step"], batch["state"]
        f = problem.trained(x, process.times_of(k, x), batch.condition)
        return Terms(-(batch["gradient"] * process.clean(k, x, f)).flatten(1).sum(dim=1))
