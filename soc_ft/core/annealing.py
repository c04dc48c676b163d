"""How far lambda may go in one step, from the rewards of a round (trust regions, 2508.12511)."""

from __future__ import annotations

import math

from torch import Tensor

_HALVINGS = 50


def next_strength(rewards: Tensor, current: float, limit: float, divergence: float) -> float:
    """The largest lambda whose tilt lies within ``divergence`` of that of the present one.

    Samples of p_base exp(current r) have weights w ~ exp((lambda - current) r) under
    p_base exp(lambda r); the divergence is KL(w || uniform), which grows with lambda.

    Args:
        rewards: (n,), finite, of samples at ``current``.
        current: present lambda, >= 0.
        limit: the last lambda, >= ``current``.
        divergence: in nats, > 0.

    Returns:
        In [current, limit].
    """
    rewards = rewards.double()

    def reached(strength: float) -> float:
        log_weights = ((strength - current) * rewards).log_softmax(dim=0)
        return float((log_weights.exp() * log_weights).sum()) + math.log(len(rewards))

    if reached(limit) <= divergence:
        return limit
    low, high = current, limit
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) <= divergence else (low, middle)
    return low
