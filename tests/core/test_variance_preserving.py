from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    PredictionType,
    Process,
    control,
    ddim,
    ddim_on_grid,
    lean_adjoint,
    normal,
    rollout,
)

from .closed_forms import GaussianBase, as_output, cosine_alpha_bar, cosine_process, no_condition

PREDICTIONS = get_args(PredictionType)
MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)


def stable_diffusion_grid(num_steps: int = 50) -> tuple[Tensor, range, Tensor, Tensor]:
    """Scaled-linear betas with trailing spacing: alpha_bar, timesteps, and both ends of a step."""
    betas = torch.linspace(0.002**0.5, 0.009**0.5, 1000, dtype=torch.float64) ** 2
    timesteps = range(999, -1, -1000 // num_steps)
    alphas_cumprod = (1 - betas).cumprod(0)
    here = alphas_cumprod[list(timesteps)]
    return alphas_cumprod, timesteps, here, torch.cat([here[1:], (1 + here[-1:]) / 2])


def textbook_ddim(
    x: Tensor, eps_hat: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, sigma: Tensor
) -> Tensor:
    """Mean of Song et al. 2021, eq. 12, by way of the prediction of the clean latent."""
    clean = (x - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    return alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next - sigma**2).sqrt() * eps_hat


def output_for(prediction: str, x: Tensor, eps_hat: Tensor, alpha_bar: Tensor) -> Tensor:
    """The output that says the same as eps_hat at x."""
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return as_output(prediction, (x - noise * eps_hat) / signal, eps_hat, signal, noise)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_mean_is_the_textbook_formula(eta: float, prediction: PredictionType) -> None:
    """Breaks if A or c is wrong in any term."""
    alphas_cumprod, timesteps, alpha_bar, alpha_bar_next = stable_diffusion_grid()
    process = ddim_on_grid(alphas_cumprod, timesteps, eta, prediction)
    x, eps_hat = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator())
    for k in range(process.num_steps):
        here, there = alpha_bar[k], alpha_bar_next[k]
        sigma = eta * ((1 - there) / (1 - here) * (1 - here / there)).sqrt()
        torch.testing.assert_close(process.sigma[k], sigma)
        f = output_for(prediction, x, eps_hat, here)
        expected = textbook_ddim(x, eps_hat, here, there, sigma)
        torch.testing.assert_close(process.mean(k, x, f), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_eta_one_is_the_ddpm_posterior(prediction: PredictionType) -> None:
    """Breaks if eta = 1 is not the memoryless process (Ho et al. 2020, eqs. 6 and 7)."""
    alphas_cumprod, timesteps, here, there = stable_diffusion_grid()
    process = ddim_on_grid(alphas_cumprod, timesteps, 1.0, prediction)
    alpha = here / there
    torch.testing.assert_close(process.sigma**2, (1 - there) / (1 - here) * (1 - alpha))
    clean, eps_hat = torch.tensor([0.7, -1.1], dtype=torch.float64)
    x = here.sqrt() * clean + (1 - here).sqrt() * eps_hat
    posterior = (there.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - there) * x) / (1 - here)
    f = output_for(prediction, x, eps_hat, here)
    torch.testing.assert_close(process.A * x + process.c * f, posterior)


def test_direction_changes_sign_where_the_noise_exceeds_the_marginal() -> None:
    """Breaks if the sign for eta > 1 is dropped, or a NaN comes out of the root."""
    process, here = cosine_process(20, eta=1.5), cosine_alpha_bar(20)
    there = torch.cat([here[1:], (1 + here[-1:]) / 2])
    direction = 1 - there - process.sigma**2
    assert direction.sign().unique().tolist() == [-1, 1]
    root = process.c + (there * (1 - here) / here).sqrt()
    assert torch.equal(root.sign(), direction.sign())
    torch.testing.assert_close(root**2, direction.abs())


def test_last_transition_keeps_noise_and_ends_half_way() -> None:
    """Breaks if the last alpha is 1 (the control would be infinite) or that of timestep 0."""
    process = ddim_on_grid(torch.tensor([0.9, 0.8, 0.5, 0.2]), [3, 1], eta=1.0)
    expected = torch.tensor([[0.2, 0.8], [0.8, 0.9]], dtype=torch.float64)
    alpha_bar = process.clean_x**-2
    torch.testing.assert_close(alpha_bar, expected[0], rtol=1e-7, atol=0)
    torch.testing.assert_close(process.A**2 * alpha_bar, expected[1], rtol=1e-7, atol=0)
    assert process.sigma[-1] > 0
    torch.testing.assert_close(process.control_gain, process.c / process.sigma)
    assert process.num_steps == 2
    assert process.times.tolist() == [3, 1]
    assert process.eta == 1


Say = Callable[[PredictionType], tuple[Process, GaussianBase, GaussianBase]]


@pytest.fixture(params=[0.0, 0.5, 1.0, 1.5])
def say(request: pytest.FixtureRequest) -> Say:
    """A process, a base and a fine-tuned model of one eps_hat, said in any of the three types."""

    def of(prediction: PredictionType) -> tuple[Process, GaussianBase, GaussianBase]:
        process = cosine_process(10, request.param, prediction)
        base = GaussianBase(process, MEAN, COVARIANCE, prediction)
        return process, base, GaussianBase(process, MEAN + 0.3, 0.7 * COVARIANCE, prediction)

    return of


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_prediction_types_say_the_same_at_every_step(say: Say, prediction: PredictionType) -> None:
    """Breaks if mean, clean prediction or control depends on how the network says its noise."""
    reference, base, tuned = say("epsilon")
    process, base_too, tuned_too = say(prediction)
    same(process.sigma, reference.sigma)
    x, condition = normal((6, 2), 0, "x", [(0,)], torch.float64)[0], no_condition(6)
    for k in range(reference.num_steps):
        t = reference.times_of(k, x)
        f, f_too = tuned(x, t, condition), tuned_too(x, t, condition)
        same(process.mean(k, x, f_too), reference.mean(k, x, f))
        same(process.clean(k, x, f_too), reference.clean(k, x, f))
        if reference.eta > 0:
            expected = control(f, base(x, t, condition), reference.control_gain[k])
            found = control(f_too, base_too(x, t, condition), process.control_gain[k])
            assert expected.abs().max() > 1e-3
            same(found, expected)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_prediction_types_give_the_same_paths_and_adjoints(
    say: Say, prediction: PredictionType
) -> None:
    """Breaks if training a model of another prediction type is another problem."""
    noise = normal((11, 2), 0, "noise", [(i,) for i in range(6)], torch.float64)
    terminal, start = noise[:, 3], torch.zeros(6, dtype=torch.int64)
    condition = no_condition(6)

    def solve(prediction: PredictionType) -> tuple[Tensor, Tensor]:
        process, base, tuned = say(prediction)
        states = rollout(tuned, process, condition, noise).states
        solution = lean_adjoint(base, process, states, terminal, condition, start)
        return states, solution.adjoints

    for found, expected in zip(solve(prediction), solve("epsilon"), strict=True):
        same(found, expected)


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
        ({"prediction": "velocity"}, "unknown prediction type 'velocity'"),
    ],
)
def test_bad_grids_are_refused(change: dict, message: str) -> None:
    """Breaks if a grid without a defined control is accepted and yields NaN later."""
    with pytest.raises(ValueError, match=message):
        ddim(**{**GOOD, **change})


@pytest.mark.parametrize("timesteps", [[4, 1], [3, -1]])
def test_timesteps_beyond_the_training_process_are_refused(timesteps: list[int]) -> None:
    """Breaks if an index wraps around to the other end of the process."""
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        ddim_on_grid(torch.tensor([0.9, 0.8, 0.5, 0.2]), timesteps, eta=1.0)


def test_a_grid_without_steps_is_refused() -> None:
    """Breaks if no timesteps at all run as a process that returns its noise."""
    with pytest.raises(ValueError, match="timesteps"):
        ddim_on_grid(torch.tensor([0.9, 0.8]), [], eta=1.0)
