"""The bonus for what is not known, against the posterior of a linear model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from soc_ft.errors import RunError
from soc_ft.feedback.optimism import (
    Optimism,
    SurrogateReward,
    confidence_factor,
    confidence_width,
)
from soc_ft.feedback.options import Bonus
from soc_ft.feedback.surrogate import Surrogate
from tests.feedback.test_surrogate import fit

BONUS = Bonus(matrix="gram", scale=0.5, ridge=0.1, cap=10.0)


def pixels(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return images.flatten(1)


def fitted(heads: int = 1) -> Surrogate:
    torch.manual_seed(0)
    surrogate = Surrogate(3, fit(heads=heads))
    surrogate.standardise(torch.rand(30, 3), torch.randn(30))
    return surrogate.double().requires_grad_(False)


def test_gram_is_the_posterior_deviation_and_shrinks_with_data() -> None:
    """Breaks if the ridge, the sum over data or the root is wrong."""
    torch.manual_seed(0)
    phi, new = torch.randn(12, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    width = confidence_width(new, confidence_factor(phi, "gram", 0.3))
    covariance = torch.linalg.inv(phi.T @ phi + 0.3 * torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(width, (new @ covariance * new).sum(dim=1).sqrt())
    often = confidence_width(new, confidence_factor(phi.repeat(100, 1), "gram", 0.3))
    assert (often < 0.11 * width).all()


def test_covariance_does_not_shrink_with_data() -> None:
    """Breaks if the parity mode is divided by the number of data, or not centred."""
    torch.manual_seed(0)
    phi, new = torch.randn(500, 4, dtype=torch.float64) + 3, torch.randn(5, 4, dtype=torch.float64)
    width = confidence_width(new, confidence_factor(phi, "covariance", 1e-3))
    matrix = phi.T.cov() + 1e-3 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(width, (new @ torch.linalg.inv(matrix) * new).sum(dim=1).sqrt())
    often = confidence_width(new, confidence_factor(phi.repeat(10, 1), "covariance", 1e-3))
    torch.testing.assert_close(often, width, rtol=2e-2, atol=0.0)


def test_the_upper_confidence_bound_and_its_gradient() -> None:
    """Breaks if the bonus is left out, not scaled, not capped, or has no gradient."""
    surrogate, asked = fitted(), torch.rand(30, 3, dtype=torch.float64)
    images = torch.rand(4, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    reward = SurrogateReward(pixels, "bonus", BONUS)
    reward.use(surrogate, asked)
    plain = SurrogateReward(pixels, "none", BONUS)
    plain.use(surrogate, asked)
    factor = confidence_factor(surrogate.penultimate(asked), "gram", BONUS.ridge)
    width = confidence_width(surrogate.penultimate(images.flatten(1)), factor)
    scores = reward(images, [""] * 4)
    torch.testing.assert_close(scores, plain(images, [""] * 4) + 0.5 * width)
    assert torch.autograd.gradcheck(lambda x: reward(x, [""] * 4), (images,))
    reward.bonus = BONUS.model_copy(update={"cap": 1e-3})
    torch.testing.assert_close(reward(images, [""] * 4), plain(images, [""] * 4) + 1e-3)


def test_the_largest_head_counts() -> None:
    """Breaks if heads are averaged where the largest is asked for, or the other way round."""
    surrogate = fitted(heads=3)
    images = torch.rand(6, 3, 1, 1, dtype=torch.float64)
    predicted = surrogate(images.flatten(1))
    cases: dict[Optimism, Tensor] = {
        "heads": predicted.amax(dim=0),
        "none": predicted.mean(dim=0),
    }
    for optimism, expected in cases.items():
        reward = SurrogateReward(pixels, optimism, BONUS)
        reward.use(surrogate, images.flatten(1))
        torch.testing.assert_close(reward(images, [""] * 6), expected)


def test_it_does_not_answer_before_it_was_fitted() -> None:
    """Breaks if training could start on an empty surrogate."""
    with pytest.raises(RunError, match="before it knew"):
        SurrogateReward(pixels, "none", BONUS)(torch.rand(1, 3, 2, 2), [""])
