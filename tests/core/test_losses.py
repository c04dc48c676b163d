from __future__ import annotations

import torch

from soc_ft.core import adjoint_matching_loss, control, control_cost, log_ratio


def draws(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_losses_by_hand() -> None:
    """Breaks if a loss averages over the latent instead of summing, or loses a factor."""
    u = control(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 2.0]]]), torch.tensor([-2.0]))
    assert u.tolist() == [[[-4.0, 2.0]]]
    adjoint = torch.tensor([[[6.0, -2.0]]])
    assert adjoint_matching_loss(u, adjoint, torch.tensor([0.5])).tolist() == [1 + 1]
    assert control_cost(u).tolist() == [10.0]


def test_each_sample_has_its_own_coefficients() -> None:
    """Breaks if (N,) coefficients broadcast along a latent dim of the same size."""
    prediction, base, adjoint = draws(3, 2, 3, 3)
    gain, sigma = draws(2, 2)
    u = control(prediction, base, gain)
    together = adjoint_matching_loss(u, adjoint, sigma)
    for i in range(2):
        row = slice(i, i + 1)
        alone = control(prediction[row], base[row], gain[i])
        torch.testing.assert_close(u[row], alone)
        torch.testing.assert_close(
            together[row], adjoint_matching_loss(alone, adjoint[row], sigma[i])
        )


def test_coefficients_take_the_dtype_of_the_latents() -> None:
    """Breaks if float64 coefficients of the process promote the training graph."""
    gain = torch.ones(2, dtype=torch.float64)
    u = control(torch.ones(2, 3), torch.zeros(2, 3), gain)
    assert u.dtype == adjoint_matching_loss(u, u, gain).dtype == torch.float32


def test_control_cost_is_the_divergence_of_the_transition() -> None:
    """Breaks if the cost is not the KL term: E_new[log dP_new/dP_base] with E[z] = u."""
    new, base = draws(2, 5, 4)
    gain = draws(5).exp()
    u = control(new, base, gain)
    torch.testing.assert_close(log_ratio(new, base, u, gain), control_cost(u))
