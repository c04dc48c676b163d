"""Scoring in parts bounds what is kept, and changes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from soc_ft.rewards.networks.microbatch import score_in_parts


class Counting:
    """A score that records the sizes it was called with, and how many graphs were alive."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.alive = 0
        self.most_alive = 0

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        self.sizes.append(len(images))
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        return (_Alive.apply(images, self) ** 2).mean(dim=(1, 2, 3)) * lengths


class _Alive(torch.autograd.Function):
    """The identity; counts the activations between its forward and its backward pass."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, counter: Counting) -> Tensor:
        ctx.counter = counter
        counter.alive += len(images)
        counter.most_alive = max(counter.most_alive, counter.alive)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        ctx.counter.alive -= len(upstream)
        return upstream, None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_parts_give_the_scores_and_gradients_of_the_whole(size: int) -> None:
    """Breaks when a part is lost, or keeps another's prompts or upstream gradient."""
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    prompts = ["a", "bb", "ccc", "dddd", "eeeee"]
    weights = torch.arange(5.0)
    results = []
    for part in (5, size):
        x = images.clone().requires_grad_()
        scores = score_in_parts(Counting(), x, prompts, part)
        (scores * weights).sum().backward()
        results.append((scores.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])


def test_activations_of_one_part_at_a_time_are_kept() -> None:
    """Breaks when the graphs of all parts are kept until the backward pass."""
    counting = Counting()
    x = torch.rand(7, 3, 4, 4).requires_grad_()
    score_in_parts(counting, x, ["a"] * 7, 3).sum().backward()
    assert counting.sizes == [3, 3, 1]
    assert counting.most_alive == 3


def test_without_gradients_nothing_is_differentiated() -> None:
    """Breaks when scoring alone pays for a backward pass."""
    counting = Counting()
    with torch.no_grad():
        scores = score_in_parts(counting, torch.rand(4, 3, 4, 4, requires_grad=True), ["a"] * 4, 3)
    assert not scores.requires_grad
    assert counting.alive == 4
