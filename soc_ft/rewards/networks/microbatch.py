"""Scoring a batch in parts, so that memory is bounded for gradients too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from soc_ft.core.process import match_leading

Score = Callable[[Tensor, Sequence[str]], Tensor]
"""(images (B, 3, H, W), prompts) -> (B,), each score a function of its own sample alone."""


def score_in_parts(score: Score, images: Tensor, prompts: Sequence[str], size: int) -> Tensor:
    """(B,) scores as of ``score(images, prompts)``, at most ``size`` samples at a time.

    Where a gradient is wanted, each part is differentiated right after it is scored, and the
    pictures' gradients are kept instead of the network's activations: scores of different samples
    do not depend on each other, so these are all that a backward pass needs. The result can be
    differentiated once.
    """
    if torch.is_grad_enabled() and images.requires_grad:
        scores: Tensor = _ScoreInParts.apply(images, score, prompts, size)
        return scores
    parts = range(0, len(images), size)
    return torch.cat([score(images[i : i + size], prompts[i : i + size]) for i in parts])


class _ScoreInParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, score: Score, prompts: Sequence[str], size: int
    ) -> Tensor:
        scores = []
        gradient = torch.empty_like(images)
        for i in range(0, len(images), size):
            part = images[i : i + size].detach().requires_grad_()
            with torch.enable_grad():
                scored = score(part, prompts[i : i + size])
                gradient[i : i + size] = torch.autograd.grad(scored.sum(), part)[0]
            scores.append(scored.detach())
        ctx.save_for_backward(gradient)
        return torch.cat(scores)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return match_leading(upstream, gradient).to(gradient) * gradient, None, None, None
