"""Steps of lambda, on rewards whose tilt is known."""

from __future__ import annotations

import math

import pytest
import torch

from soc_ft.core import next_strength


def test_a_step_ends_at_its_divergence() -> None:
    """Breaks if the divergence is of other weights, or lambda is counted from zero again.

    Of rewards 0 and 1 in equal numbers the tilt by d has the weights 1 : e^d.
    """
    rewards = torch.tensor([0.0, 1.0]).repeat(50)
    found = next_strength(rewards, current=2.0, limit=100.0, divergence=0.2)
    p = 1 / (1 + math.exp(-(found - 2.0)))
    reached = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert reached == pytest.approx(0.2, rel=1e-6)


def test_lambda_ends_at_its_limit() -> None:
    """Breaks if lambda overshoots, or never reaches the value that was asked for."""
    rewards = torch.tensor([0.0, 1.0])
    assert next_strength(rewards, 2.0, 2.1, divergence=0.2) == 2.1
    assert next_strength(torch.ones(8), 0.0, 50.0, divergence=0.01) == 50.0
    # No divergence of two samples is larger than log 2.
    assert next_strength(rewards, 0.0, 1e6, divergence=0.7) == 1e6
