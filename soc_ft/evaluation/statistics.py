"""Means over prompts with their standard errors.

The prompt is the unit of sampling: pictures of one prompt are averaged first, so that their
common difficulty does not pass for evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """A mean over ``count`` prompts and its standard error (NaN for a single prompt)."""

    mean: float
    error: float
    count: int

    def __str__(self) -> str:
        """Both with three decimals."""
        return f"{self.mean:.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class Scores:
    """What was measured of one set of pictures.

    Attributes:
        block: how they were sampled (``schedule``, ``eta``, ``num_steps``); empty if unknown.
        model: what they are of.
        pictures: how many there are.
        estimates: by metric: mean over prompts.
        differences: by metric: paired difference to the base model's pictures, if there are any.
    """

    block: Mapping[str, Any]
    model: str
    pictures: int
    estimates: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """How they were sampled, in words; nothing if that is unknown."""
        if not self.block:
            return ""
        return "{schedule}, eta {eta:g}, {num_steps} steps".format(**self.block)


def mean_and_error(values: ArrayLike | Sequence[ArrayLike]) -> Estimate:
    """Mean over prompts of the mean within each prompt.

    Args:
        values: (P,), or (P, n), or P groups of any sizes: the values of each prompt.

    Raises:
        ValueError: there is no prompt, or a prompt without values.
    """
    means = _prompt_means(values)
    count = len(means)
    error = float(means.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(float(means.mean()), error, count)


def paired_difference(
    a: ArrayLike | Sequence[ArrayLike], b: ArrayLike | Sequence[ArrayLike]
) -> Estimate:
    """Mean over prompts of a - b; pairing takes the spread between prompts out of the error.

    Args:
        a: as in :func:`mean_and_error`.
        b: the same, the prompts in the same order.

    Raises:
        ValueError: the numbers of prompts differ.
    """
    means_a, means_b = _prompt_means(a), _prompt_means(b)
    if len(means_a) != len(means_b):
        raise ValueError(f"cannot pair {len(means_a)} prompts with {len(means_b)}")
    return mean_and_error(means_a - means_b)


def diversity(embeddings: ArrayLike) -> Estimate:
    """Spread of the pictures of a prompt: half their mean squared distance, over prompts.

    For each prompt ``sum_ij ||e_i - e_j||^2 / (2 n (n - 1))``, which is the unbiased estimate of
    the total variance of the embedding.

    Args:
        embeddings: (P, n, D), n >= 2 pictures of each prompt.

    Raises:
        ValueError: the shape is another, or n < 2.
    """
    e = np.asarray(embeddings, dtype=np.float64)
    if e.ndim != 3 or e.shape[1] < 2:
        raise ValueError(
            f"embeddings of shape {e.shape}: must be (prompts, pictures >= 2, features)"
        )
    return mean_and_error([spread(pictures) for pictures in e])


def spread(embeddings: ArrayLike) -> float:
    """Half the mean squared distance between the n >= 2 pictures of one prompt, (n, D)."""
    e = np.asarray(embeddings, dtype=np.float64)
    return float(np.square(e - e.mean(axis=0)).sum()) / (len(e) - 1)


def _prompt_means(values: ArrayLike | Sequence[ArrayLike]) -> NDArray[np.float64]:
    groups = [np.asarray(group, dtype=np.float64) for group in values]  # type: ignore[union-attr]
    if not groups or any(group.size == 0 for group in groups):
        raise ValueError("there must be at least one prompt, and one value of each")
    return np.array([group.mean() for group in groups])
