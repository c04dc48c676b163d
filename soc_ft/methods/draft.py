"""DRaFT: reward gradients through the end of sampling (Clark et al. 2023, arXiv 2309.17400)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft.errors import ConfigError
from soc_ft.methods.base import Batch, Experience, Request, Terms, within_trajectory
from soc_ft.methods.pathwise import Pathwise
from soc_ft.options import Count, CountOrZero

if TYPE_CHECKING:
    from soc_ft.methods.problem import Problem


class DRaFT(Pathwise):
    """The gradient of the reward through the last K transitions; the state before them is fixed.

    With ``variance_copies`` (DRaFT-LV, for K = 1) the finished latent is noised again to the last
    step's level that often, each time denoised in one evaluation, and the gradients at these clean
    predictions are averaged with that of the sample.
    """

    class Config(Pathwise.Config):
        """Options of conf/method/draft.yaml."""

        last: Count | None = Field(
            1, description="transitions with gradient, from the end; null: all of them"
        )
        variance_copies: CountOrZero = Field(
            0, description="further noised copies of the sample (DRaFT-LV); needs last=1"
        )

    config: Config

    def with_gradient(self, num_steps: int) -> int:
        """K of DRaFT-K."""
        return num_steps if self.config.last is None else self.config.last

    def pairs_per_sample(self, num_steps: int) -> int:
        """One, a whole sample.

        Raises:
            ConfigError: there are fewer transitions, or copies are asked for of more than one.
        """
        last = within_trajectory("last", self.with_gradient(num_steps), num_steps)
        copies = self.config.variance_copies
        if copies and last != 1:
            raise ConfigError(f"method.variance_copies={copies}: needs method.last=1")
        return 1

    def collect(self, problem: Problem, request: Request) -> Experience:
        """The sample, and rewards with gradients at the clean predictions of its copies."""
        import torch

        found = super().collect(problem, request)
        copies = self.config.variance_copies
        if not copies:
            return found
        process, k = problem.process, problem.process.num_steps - 1
        noise = request.normal("copies", (copies, *request.latent_shape))
        x = process.noised(k, found.tensors["end"][:, None], noise)
        states, gradients = [], []
        for copy in x.unbind(dim=1):
            f = problem.trained(copy, process.times_of(k, copy), request.condition)
            clean = process.clean(k, copy, f)
            states.append(copy)
            gradients.append(problem.reward_and_gradient(clean, request.prompts)[1])
        copied = {"copies": torch.stack(states, 1), "copy_gradients": torch.stack(gradients, 1)}
        return Experience(found.rewards, found.tensors | copied, found.stats)

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """The mean over the sample and its copies."""
        terms = super().loss(problem, batch)
        copies = self.config.variance_copies
        if not copies:
            return terms
        process, k = problem.process, problem.process.num_steps - 1
        total = terms.loss
        for x, g in zip(batch["copies"].unbind(1), batch["copy_gradients"].unbind(1), strict=True):
            f = problem.trained(x, process.times_of(k, x), batch.condition)
            total = total - (g * process.clean(k, x, f)).flatten(1).sum(dim=1)
        return Terms(total / (1 + copies), terms.stats)
