"""Two trajectories of each prompt, which pairwise methods compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soc_ft import core

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.core import Condition, Predictor, Process
    from soc_ft.methods.base import Request
    from soc_ft.methods.problem import Problem


@dataclass(frozen=True)
class PairPaths:
    """Sampled pairs; what is first and second of each prompt stands along the second dim.

    Attributes:
        states: (B, 2, K+1, *latent).
        latents: (B, 2, *latent), what is decoded.
        predictions: (B, 2, K, *latent), outputs that sampled each transition.
        noise: (B, 2, K, *latent), z_0 to z_{K-1}.
        rewards: (B, 2), of the pictures; empty if they were not asked for.
    """

    states: Tensor
    latents: Tensor
    predictions: Tensor
    noise: Tensor
    rewards: Tensor


def sample_pairs(
    problem: Problem, request: Request, *, shared_start: bool, score: bool = True
) -> PairPaths:
    """Two trajectories for each of the B samples that are asked for, and their rewards.

    Args:
        problem: what is sampled.
        request: B samples, each of which becomes a pair.
        shared_start: whether the two start from the same noise.
        score: whether the latents are decoded and scored.
    """
    process, B = problem.process, len(request.prompts)
    noise = request.normal("trajectory", (2, process.num_steps + 1, *request.latent_shape))
    if shared_start:
        noise[:, 1, 0] = noise[:, 0, 0]
    with problem.clock.phase("rollout"):
        paths = core.rollout(
            problem.trained,
            process,
            twice(request.condition),
            noise.transpose(0, 1).flatten(0, 1),
            keep_predictions=True,
        )
    rewards = noise.new_empty(B, 0)
    if score:
        with problem.clock.phase("reward"):
            scores = problem.reward_of(paths.latents, [*request.prompts, *request.prompts])
        rewards = scores.view(2, B).T
    assert paths.predictions is not None
    states, latents, predictions = (
        each.unflatten(0, (2, B)).transpose(0, 1)
        for each in (paths.states, paths.latents, paths.predictions)
    )
    return PairPaths(states, latents, predictions, noise[:, :, 1:], rewards)


def twice(condition: Condition) -> Condition:
    """(2 N) rows: all of the first, then all of the second of each pair."""
    import torch

    return condition[torch.arange(len(condition), device=condition.device).repeat(2)]


def log_densities(
    predict: Predictor,
    process: Process,
    k: Tensor,
    x: Tensor,
    x_next: Tensor,
    condition: Condition,
) -> Tensor:
    """Log-densities (N, 2), per dimension, of both transitions of N pairs.

    Args:
        predict: output of the model whose densities are asked for.
        process: its transitions, with sigma > 0.
        k: (N,) int64, the step, the same for both.
        x: (N, 2, *latent), states.
        x_next: (N, 2, *latent), the states after them.
        condition: N rows.
    """
    flat, after = x.transpose(0, 1).flatten(0, 1), x_next.transpose(0, 1).flatten(0, 1)
    steps = k.repeat(2)
    output = predict(flat, process.times_of(steps, flat), twice(condition))
    return core.log_density(process, steps, flat, after, output).view(2, -1).T
