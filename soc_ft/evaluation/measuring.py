"""From what metrics say of pictures to estimates over prompts, wherever the pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soc_ft.data.metadata import Metadata
from soc_ft.evaluation.plan import Measure
from soc_ft.evaluation.statistics import Scores, mean_and_error, paired_difference, spread
from soc_ft.instantiation import build
from soc_ft.rewards.metadata import share_metadata
from soc_ft.rewards.trial import try_embedding, try_reward

Metric = Callable[[Tensor, Sequence[str]], Tensor]
"""(images (B, 3, H, W) in [0, 1], prompts) -> (B,)."""
Embedding = Callable[[Tensor], Tensor]
"""images (B, 3, H, W) in [0, 1] -> (B, D), of unit norm."""


def tried_measure(
    label: str,
    measure: Measure,
    device: torch.device,
    size: int,
    prompts: Sequence[str],
    metadata: Metadata,
) -> Any:
    """Build what a column of the table is measured by, and try it.

    Args:
        label: of the column.
        measure: what it is.
        device: where it will be used.
        size: of the pictures, in pixels.
        prompts: that will be used.
        metadata: of these prompts, if the measure uses it.

    Raises:
        ConfigError: its weights are missing, or it does not measure as it should.
    """
    metric = built_measure(measure.component, f"metrics.{label}", lambda: metadata)
    try_measure(metric, f"metrics.{label}", device, size, prompts)
    return metric


def built_measure(component: Mapping[str, Any], key: str, metadata: Callable[[], Metadata]) -> Any:
    """What a column of the table is measured by, told what is said of prompts; ``key`` names it.

    Raises:
        ConfigError: its weights are missing, or it cannot use the metadata.
    """
    metric = build(component, key)
    share_metadata(metric, key, metadata)
    return metric


def try_measure(
    metric: Any, key: str, device: torch.device, size: int, prompts: Sequence[str]
) -> None:
    """Move a metric to a device and try it there on pictures of a size.

    Args:
        metric: just built.
        key: names it.
        device: where it will be used.
        size: of the pictures, in pixels.
        prompts: that will be used.

    Raises:
        ConfigError: it does not measure as it should.
    """
    if getattr(metric, "embeds", False):
        try_embedding(metric, key, device, size)
    else:
        try_reward(metric, key, device, size, prompts)


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
