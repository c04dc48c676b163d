"""AdamW, its learning rate by optimizer step, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from soc_ft.config.schema import Trainer

Schedule = Literal["constant", "cosine", "linear"]


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: Trainer
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW (Loshchilov & Hutter 2019) and the schedule of its learning rate."""
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: rate_factor(step, settings.steps, settings.warmup_steps, settings.schedule),
    )
    return optimizer, scheduler


def rate_factor(step: int, steps: int, warmup: int, schedule: Schedule) -> float:
    """What the learning rate is multiplied with, in (0, 1] for steps of the run.

    It rises linearly over the warm-up, whose first step already learns, and then stays, or falls
    along half a cosine or a line towards zero, which it would reach after the last step.

    Args:
        step: of the optimizer, from 0.
        steps: of the whole run.
        warmup: steps, of which the last one has the whole rate; 0 starts with it.
        schedule: after the warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    remaining = max(1 - (step - warmup) / max(steps - warmup, 1), 0.0)
    if schedule == "linear":
        return remaining
    return (1 - math.cos(math.pi * remaining)) / 2


class WeightAverage:
    """An exponential moving average of the trained weights.

    average <- d average + (1 - d) trained after each optimizer step n = 0, 1, ..., with
    d = min(decay, (1 + n) / (10 + n)), so that early steps are not outweighed by the weights that
    the run started from.

    Attributes:
        decay: in [0, 1); larger ones average over more steps, about 1 / (1 - decay).
        weights: the average, under the names of the trained weights.
    """

    def __init__(self, decay: float, start: Mapping[str, Tensor]) -> None:
        """Start from the weights that the run starts from, which are copied."""
        self.decay = decay
        self.weights = {name: tensor.clone() for name, tensor in start.items()}

    @torch.no_grad()
    def update(self, step: int, trained: Mapping[str, Tensor]) -> None:
        """Take in the weights after an optimizer step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.weights.items():
            average.lerp_(trained[name], 1 - decay)

    @torch.no_grad()
    def exchange(self, trained: Mapping[str, Tensor]) -> None:
        """Swap the average with the trained weights, in place; a second call undoes it."""
        for name, average in self.weights.items():
            held = average.clone()
            average.copy_(trained[name])
            trained[name].copy_(held)

    def to(self, device: torch.device) -> None:
        """Move to where the trained weights are."""
        self.weights = {name: tensor.to(device) for name, tensor in self.weights.items()}
