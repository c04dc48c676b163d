"""Every prediction type gives the same noise."""

from __future__ import annotations

import pytest
import torch
from soc_ft.models.prediction import to_epsilon


def test_exact_predictions_of_each_type_agree() -> None:
    """Breaks if a conversion is not the algebra of x = sqrt(a) x_0 + sqrt(1-a) eps."""
    generator = torch.Generator().manual_seed(0)
    clean, eps = torch.randn(2, 5, 4, 3, 3, generator=generator, dtype=torch.float64)
    alpha_bar = torch.tensor([1e-3, 0.2, 0.5, 0.9, 0.999], dtype=torch.float64).view(-1, 1, 1, 1)
    x = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * eps
    v = alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * clean

    assert torch.equal(to_epsilon(eps, x, alpha_bar, "epsilon"), eps)
    torch.testing.assert_close(to_epsilon(v, x, alpha_bar, "v_prediction"), eps)
    torch.testing.assert_close(to_epsilon(clean, x, alpha_bar, "sample"), eps)


def test_unknown_type() -> None:
    """Breaks if a new prediction type is silently taken for another one."""
    with pytest.raises(ValueError, match="flow"):
        to_epsilon(torch.zeros(1), torch.zeros(1), torch.tensor(0.5), "flow")
