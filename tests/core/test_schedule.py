from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft.core import Schedule

from .closed_forms import cosine_schedule


def stable_diffusion_grid(eta: float, num_steps: int = 50) -> Schedule:
    """Scaled-linear betas with trailing spacing."""
    betas = torch.linspace(0.002**0.5, 0.009**0.5, 1000, dtype=torch.float64) ** 2
    timesteps = range(999, -1, -1000 // num_steps)
    return Schedule.from_alphas_cumprod((1 - betas).cumprod(0), timesteps, eta)


def textbook_ddim(
    x: Tensor, eps_hat: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, sigma: Tensor
) -> Tensor:
    """Mean of Song et al. 2021, eq. 12, by way of the prediction of the clean latent."""
    clean = (x - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    return alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next - sigma**2).sqrt() * eps_hat


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_mean_is_the_textbook_formula(eta: float) -> None:
    """Breaks if A or c is wrong in any term."""
    schedule = stable_diffusion_grid(eta)
    x, eps_hat = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator())
    for k in range(schedule.num_steps):
        here, there = schedule.alpha_bar[k], schedule.alpha_bar_next[k]
        sigma = eta * ((1 - there) / (1 - here) * (1 - here / there)).sqrt()
        torch.testing.assert_close(schedule.sigma[k], sigma)
        expected = textbook_ddim(x, eps_hat, here, there, sigma)
        torch.testing.assert_close(schedule.mean(k, x, eps_hat), expected, rtol=1e-12, atol=1e-12)


def test_eta_one_is_the_ddpm_posterior() -> None:
    """Breaks if eta = 1 is not the memoryless schedule (Ho et al. 2020, eqs. 6 and 7)."""
    schedule = stable_diffusion_grid(1.0)
    here, there = schedule.alpha_bar, schedule.alpha_bar_next
    alpha = here / there
    torch.testing.assert_close(schedule.sigma**2, (1 - there) / (1 - here) * (1 - alpha))
    clean, eps_hat = torch.tensor([0.7, -1.1], dtype=torch.float64)
    x = here.sqrt() * clean + (1 - here).sqrt() * eps_hat
    posterior = (there.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - there) * x) / (1 - here)
    torch.testing.assert_close(schedule.A * x + schedule.c * eps_hat, posterior)


def test_direction_changes_sign_where_the_noise_exceeds_the_marginal() -> None:
    """Breaks if the sign for eta > 1 is dropped, or a NaN comes out of the root."""
    schedule = cosine_schedule(20, eta=1.5)
    direction = 1 - schedule.alpha_bar_next - schedule.sigma**2
    assert direction.sign().unique().tolist() == [-1, 1]
    there, here = schedule.alpha_bar_next, schedule.alpha_bar
    root = schedule.c + (there * (1 - here) / here).sqrt()
    assert torch.equal(root.sign(), direction.sign())
    torch.testing.assert_close(root**2, direction.abs())


def test_last_transition_keeps_noise_and_ends_half_way() -> None:
    """Breaks if the last alpha is 1 (the control would be infinite) or that of timestep 0."""
    alphas_cumprod = torch.tensor([0.9, 0.8, 0.5, 0.2])
    schedule = Schedule.from_alphas_cumprod(alphas_cumprod, [3, 1], eta=1.0)
    expected = torch.tensor([[0.2, 0.8], [0.8, 0.9]], dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha_bar, expected[0], rtol=1e-7, atol=0)
    torch.testing.assert_close(schedule.alpha_bar_next, expected[1], rtol=1e-7, atol=0)
    assert schedule.sigma[-1] > 0
    torch.testing.assert_close(schedule.control_gain, schedule.c / schedule.sigma)
    assert schedule.num_steps == 2


@pytest.mark.parametrize(
    ("eta", "memoryless"), [(0.0, False), (0.99, False), (1.0, True), (2, True)]
)
def test_memoryless(eta: float, memoryless: bool) -> None:
    """Breaks if training with eta < 1 were let through, or eta > 1 refused."""
    assert cosine_schedule(3, eta).memoryless is memoryless


def test_coefficients_follow_the_tensor_they_act_on() -> None:
    """Breaks if mixed steps in a batch get each other's coefficients, or float64 leaks out."""
    schedule = cosine_schedule(5)
    x, eps_hat = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator())
    k = torch.tensor([4, 0, 2])
    for coefficient in schedule.coefficients(k, x):
        assert coefficient.shape == (3, 1, 1, 1)
        assert coefficient.dtype == torch.float32
    each = [schedule.mean(int(k[i]), x[i : i + 1], eps_hat[i : i + 1]) for i in range(3)]
    assert torch.equal(schedule.mean(k, x, eps_hat), torch.cat(each))


GOOD = {
    "timesteps": torch.tensor([9, 5]),
    "alpha_bar": torch.tensor([0.2, 0.6], dtype=torch.float64),
    "alpha_bar_next": torch.tensor([0.6, 0.8], dtype=torch.float64),
    "eta": 1.0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": torch.tensor([5, 9])}, "timesteps"),
        ({"timesteps": torch.tensor([5, -1])}, "timesteps"),
        ({"timesteps": torch.tensor([9.0, 5.0])}, "timesteps"),
        ({"timesteps": torch.tensor([], dtype=torch.int64)}, "timesteps"),
        ({"alpha_bar": GOOD["alpha_bar"].float()}, "alpha_bar"),
        ({"alpha_bar": GOOD["alpha_bar"].flip(0)}, "alpha_bar"),
        ({"alpha_bar": torch.tensor([0.0, 0.6], dtype=torch.float64)}, "alpha_bar"),
        ({"alpha_bar_next": torch.tensor([0.6, 1.0], dtype=torch.float64)}, "alpha_bar_next"),
        ({"alpha_bar_next": torch.tensor([0.1, 0.8], dtype=torch.float64)}, "alpha_bar_next"),
        ({"alpha_bar_next": torch.tensor([0.6], dtype=torch.float64)}, "alpha_bar_next"),
        ({"eta": -0.1}, "eta"),
        ({"eta": float("nan")}, "eta"),
    ],
)
def test_bad_grids_are_refused(change: dict, message: str) -> None:
    """Breaks if a grid without a defined control is accepted and yields NaN later."""
    with pytest.raises(ValueError, match=message):
        Schedule(**{**GOOD, **change})


def test_timesteps_beyond_the_training_process_are_refused() -> None:
    """Breaks if an index wraps around to the other end of the process."""
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        Schedule.from_alphas_cumprod(torch.tensor([0.9, 0.8, 0.5, 0.2]), [4, 1], eta=1.0)
