"""From what metrics say of pictures to estimates over prompts, wherever the pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soc_ft.evaluation.plan import Measure
from soc_ft.evaluation.statistics import Scores, mean_and_error, paired_difference, spread
from soc_ft.instantiation import build
from soc_ft.rewards.trial import try_embedding, try_reward

Metric = Callable[[Tensor, Sequence[str]], Tensor]
"""(images (B, 3, H, W) in [0, 1], prompts) -> (B,)."""
Embedding = Callable[[Tensor], Tensor]
"""images (B, 3, H, W) in [0, 1] -> (B, D), of unit norm."""


def build_measure(label: str, measure: Measure, device: torch.device, size: int) -> Any:
    """Build what a column of the table is measured by, and try it on pictures of a size.

    Raises:
        ConfigError: its weights are missing, or it does not measure as it should.
    """
    metric = build(measure.component, f"metrics.{label}")
    try_measure(metric, f"metrics.{label}", device, size)
    return metric


def try_measure(metric: Any, key: str, device: torch.device, size: int) -> None:
    """Move a metric to a device and try it there on pictures of a size; ``key`` names it.

    Raises:
        ConfigError: it does not measure as it should.
    """
    tried = try_embedding if getattr(metric, "embeds", False) else try_reward
    tried(metric, key, device, size)


def measured(metric: Any, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """What a metric says of pictures: (B,) scores, or (B, D) vectors if it ``embeds``."""
    values: Tensor = metric(images) if getattr(metric, "embeds", False) else metric(images, prompts)
    return values


def of_prompts(values: Sequence[Any] | Tensor, embeds: bool = False) -> NDArray[np.float64]:
    """(P,) means of each prompt's values, or of vectors half their mean squared distance.

    Args:
        values: P groups: the values (n,) or vectors (n, D) of a prompt's pictures.
        embeds: they are vectors.
    """
    # NumPy has no bfloat16.
    arrays = values.double().numpy() if isinstance(values, Tensor) else values
    groups = [np.asarray(group, dtype=np.float64) for group in arrays]
    return np.array([spread(group) if embeds else group.mean() for group in groups])


def compared(
    scores: Scores,
    values: Mapping[str, NDArray[np.float64]],
    base: Mapping[str, NDArray[np.float64]] | None = None,
) -> Scores:
    """Add estimates of metrics to what is known of a set of pictures.

    Args:
        scores: of the set, which is changed and returned.
        values: (P,) of each metric.
        base: the same of the base model's pictures, for paired differences.
    """
    for label, own in values.items():
        scores.estimates[label] = mean_and_error(own)
        if base is not None:
            scores.differences[label] = paired_difference(own, base[label])
    return scores
