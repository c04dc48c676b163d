"""SDPO: dense rewards of every step of few-step models (Zhang et al. 2024, arXiv 2411.11727)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Batch, Experience, Needs, Request, Round, Terms, within_trajectory
from soc_ft.methods.pairs import PairPaths, log_densities, sample_pairs
from soc_ft.methods.standardised import Standardised
from soc_ft.options import Count, Positive, Share

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem

_LEAST = 1e-3
"""Similarities below are raised to it: negative ones would make weights of any size and sign."""


class SDPO(Standardised):
    """Regress differences of log ratios, step by step, on differences of dense advantages.

    A pair of trajectories starts from one noise. Three clean predictions of each are decoded and
    scored: the first, the last, and the one that is least like either; the rewards of the others
    are means of these three, weighted by similarity. With A_k the discounted return from step k on,
    standardised over the last ones of the prompt at this step, and Delta_k the change of the
    transition's log-density since it was sampled, per dimension, the loss of step k is

        max((w_k (Delta - Delta') - (A - A'))^2, the same with both Delta clipped),  w_k = decay^k.

    In the paper every optimizer step takes one transition of each sample: buffer.passes=K with
    ``transitions=1`` goes through all of them, each sample in an order of its own. A sample of the
    batch is a pair of pictures.
    """

    class Config(Standardised.Config):
        """Options of conf/method/sdpo.yaml."""

        transitions: Count = Field(
            1, description="steps of a pair in an optimizer step; each pass takes others"
        )
        clip: Positive = Field(1e-4, description="largest change of a log-density, per dimension")
        advantage_clip: Positive = Field(5.0, description="largest absolute advantage")
        discount: Share = Field(0.99, description="of rewards of later steps in a return")
        decay: Share = Field(0.99, description="weight of step k is decay^k: early steps first")

    needs = Needs(noise=True)
    config: Config

    def pairs_per_sample(self, num_steps: int) -> int:
        """The steps of an optimizer step.

        Raises:
            ConfigError: a trajectory has fewer.
        """
        return within_trajectory("transitions", self.config.transitions, num_steps)

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Pairs, and the returns of each step."""
        process, K = problem.process, problem.process.num_steps
        paths = sample_pairs(problem, request, shared_start=True, score=False)
        last, returns = self._returns(problem, request, paths)
        old = core.noise_log_density(process, paths.noise.flatten(0, 1)).unflatten(
            0, paths.noise.shape[:2]
        )
        order = request.uniform("steps", (K,)).argsort(dim=1)
        tensors = {
            "order": order,
            "paths": paths.states.transpose(1, 2),
            "old_log_density": old.transpose(1, 2),
        }
        stats = {"first_return": returns[:, 0], "second_return": returns[:, 1]}
        return Experience(last.mean(dim=1), tensors, stats)

    def _returns(
        self, problem: Problem, request: Request, paths: PairPaths
    ) -> tuple[Tensor, Tensor]:
        """Rewards (B, 2) of the last clean predictions, and discounted returns (B, 2, K)."""
        import torch

        process, K = problem.process, problem.process.num_steps
        x, f = (  # all first, then all second ones: samples in their order, as scores of parts are
            each.transpose(0, 1).flatten(0, 1)
            for each in (paths.states[:, :, :-1], paths.predictions)
        )
        clean = torch.stack([process.clean(k, x[:, k], f[:, k]) for k in range(K)], dim=1)
        similar_to_first, similar_to_last = (_cosine(clean, clean[:, end]) for end in (0, -1))
        anchor = (similar_to_first + similar_to_last).argmin(dim=1)
        anchors = core.at_steps(clean, anchor)
        similar_to_anchor = _cosine(clean, anchors)
        B = len(request.prompts)
        ends = torch.cat([clean[:, 0], anchors, clean[:, -1]])
        with problem.clock.phase("reward"):
            scored = problem.reward_of(ends, list(request.prompts) * 6)
        rewards = scored.view(3, -1)
        weights = torch.stack([similar_to_first, similar_to_anchor, similar_to_last])
        weights = weights.clamp(min=_LEAST)
        dense = (rewards[..., None] * weights).sum(dim=0) / weights.sum(dim=0)
        dense[:, 0], dense[:, -1] = rewards[0], rewards[2]
        dense[torch.arange(2 * B), anchor] = rewards[1]
        total = torch.zeros_like(dense)
        total[:, -1] = dense[:, -1]
        for k in reversed(range(K - 1)):
            total[:, k] = dense[:, k] + self.config.discount * total[:, k + 1]
        return rewards[2].view(2, B).T, total.view(2, B, K).transpose(0, 1)

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """Differences of clamped advantages (n, K)."""
        import torch

        both = torch.stack([round_.stats["first_return"], round_.stats["second_return"]])
        limit = self.config.advantage_clip
        first, second = self.standardise(round_, both).clamp(-limit, limit)
        return {"difference": (first - second).float()}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """Of each pair at its steps of this pass."""
        import torch

        process, K, clip = problem.process, problem.process.num_steps, self.config.clip
        place = (batch.pass_index * self.config.transitions + batch.slots) % K
        k = batch.at("order", place)
        x, after = batch.at("paths", k), batch.at("paths", k + 1)
        density = log_densities(problem.trained, process, k, x, after, batch.condition)
        change = density - batch.at("old_log_density", k)
        weight = self.config.decay**k
        wanted = batch.at("difference", k)
        free, clipped = (
            (weight * (each[:, 0] - each[:, 1]) - wanted).square()
            for each in (change, change.clamp(-clip, clip))
        )
        cut = (clipped.detach() > free.detach()).float()
        return Terms(torch.maximum(free, clipped), {"clipped_share": cut})


def _cosine(latents: Tensor, other: Tensor) -> Tensor:
    """(N, K) cosine similarity of latents (N, K, *latent) and one (N, *latent) for each N."""
    from torch.nn.functional import cosine_similarity

    return cosine_similarity(latents.flatten(2), other.flatten(1)[:, None], dim=2)
