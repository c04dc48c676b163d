"""Online Diffusion-DPO: the best of a prompt's pictures against the worst (2311.12908)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Batch, Experience, Method, Needs, Request, Terms
from soc_ft.methods.pairs import sample_pairs, twice
from soc_ft.options import Count, Positive

if TYPE_CHECKING:
    from soc_ft.methods.problem import Problem


class OnlineDPO(Method):
    """Denoise the better of two own pictures well and the worse badly, compared with the base.

    With e the mean squared error of the output at a noise level and noise that both pictures
    share, the loss is -log sigmoid(-beta / 2 [(e_better - e_better,base) - (e_worse -
    e_worse,base)]) (Wallace et al. 2023, Diffusion-DPO, equation 14, on pictures of the current
    model). Equal rewards have no loss. A sample of the batch is a pair of pictures.
    """

    class Config(Method.Config):
        """Options of conf/method/online_dpo.yaml."""

        levels: Count = Field(4, description="noise levels of a pair in an optimizer step")
        beta: Positive = Field(100.0, description="how fast a preference saturates")

    needs = Needs(denoiser=True)
    config: Config

    def pairs_per_sample(self, num_steps: int) -> int:
        """The noise levels."""
        return self.config.levels

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Pairs of clean latents, and which of them is better."""
        paths = sample_pairs(problem, request, shared_start=False)
        first, second = paths.rewards.unbind(dim=1)
        tensors = {"clean": paths.latents, "preference": (first - second).sign()}
        return Experience(paths.rewards.mean(dim=1), tensors)

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Of each pair at a fresh noise level."""
        import torch
        from torch.nn.functional import logsigmoid

        process = problem.process
        clean = batch["clean"].transpose(0, 1).flatten(0, 1)
        k = (batch.uniform("level", ()) * process.num_steps).long().repeat(2)
        noise = batch.normal("noise", clean.shape[1:])
        x = process.noised(k, clean, torch.cat([noise, noise]))
        condition, t = twice(batch.condition), process.times_of(k, x)
        with torch.no_grad():
            base = problem.base(x, t, condition, "denoising")
        f = problem.trained(x, t, condition, "denoising", base)
        error, before = (
            core.denoising_error(process, k, x, output, clean).view(2, -1) for output in (f, base)
        )
        first, second = error - before
        margin = -batch["preference"] * (first - second)
        unequal = (batch["preference"] != 0).float()
        loss = -logsigmoid(self.config.beta / 2 * margin)
        return Terms(loss, {"preference": (-loss.detach()).exp()}, unequal)
