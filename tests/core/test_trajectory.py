from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    Condition,
    PredictionType,
    Process,
    Trajectory,
    control,
    control_cost,
    normal,
    path_control_cost,
    rollout,
)

from .closed_forms import (
    GaussianBase,
    cosine_alpha_bar,
    cosine_process,
    exact_moment_noise,
    memoryless_flow,
    no_condition,
)

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)


def memory(num_steps: int, eta: float) -> float:
    """Norm of Cov(x_0, x_K) of the exact Gaussian chain."""
    process = cosine_process(num_steps, eta)
    noise = exact_moment_noise(num_steps, dims=2)
    base = GaussianBase(process, MEAN, COVARIANCE)
    end = rollout(base, process, no_condition(len(noise)), noise).states[:, -1]
    return float((noise[:, 0].T @ (end - end.mean(dim=0)) / len(noise)).norm())


def test_eta_one_forgets_its_start_and_less_does_not() -> None:
    """Breaks if eta = 1 is not memoryless: the premise of adjoint matching."""
    assert memory(100, eta=1.0) < 0.01
    assert memory(100, eta=1.0) < memory(50, eta=1.0) / 1.9
    assert memory(100, eta=0.3) > 0.3
    assert memory(100, eta=0.0) > 0.9


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_marginals_are_those_of_the_noising_process(eta: float, prediction: PredictionType) -> None:
    """Breaks if mean and noise of a transition do not fit: here they are exact at every step."""
    process, levels = cosine_process(10, eta, prediction), cosine_alpha_bar(10)
    base = GaussianBase(process, MEAN, torch.zeros(2, 2, dtype=torch.float64), prediction)
    noise = exact_moment_noise(10, dims=2)
    start = levels[0]
    noise[:, 0] = start.sqrt() * MEAN + (1 - start).sqrt() * noise[:, 0]
    states = rollout(base, process, no_condition(len(noise)), noise).states
    alpha_bars = torch.cat([levels, (1 + levels[-1:]) / 2])
    for k, alpha_bar in enumerate(alpha_bars):
        torch.testing.assert_close(states[:, k].mean(dim=0), alpha_bar.sqrt() * MEAN)
        covariance = torch.cov(states[:, k].T, correction=0)
        expected = (1 - alpha_bar) * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(covariance, expected, rtol=1e-10, atol=1e-12)


def test_gaussian_data_are_sampled_in_the_limit() -> None:
    """Breaks if the process drifts from its data distribution as the grid is refined."""
    errors = []
    for num_steps in (32, 64, 128):
        process = cosine_process(num_steps)
        noise = exact_moment_noise(num_steps, dims=2)
        base = GaussianBase(process, MEAN, COVARIANCE)
        end = rollout(base, process, no_condition(len(noise)), noise).states[:, -1]
        errors.append(float((torch.cov(end.T, correction=0) - COVARIANCE).norm()))
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]
    assert errors[2] < 0.05


def test_shapes_dtypes_and_what_the_predictor_sees() -> None:
    """Breaks if times, conditions or dtypes are mixed up, or predictions are not recorded."""
    process = cosine_process(3)
    seen = []

    def predict(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        seen.append((t.tolist(), torch.is_grad_enabled()))
        return (x.tanh() + condition.shift[:, :1, None, None]).to(torch.bfloat16)

    noise = normal((4, 2, 5, 5), 0, "x", [(i,) for i in range(6)])
    condition = Condition(shift=torch.arange(12.0).view(6, 2))
    trajectory = rollout(predict, process, condition, noise, keep_predictions=True)
    assert trajectory.predictions is not None
    assert seen == [([2] * 6, False), ([1] * 6, False), ([0] * 6, False)]
    assert trajectory.states.shape == noise.shape
    assert trajectory.states.dtype == trajectory.predictions.dtype == torch.float32
    assert torch.equal(trajectory.states[:, 0], noise[:, 0])
    for k in range(3):
        x, f = trajectory.states[:, k], trajectory.predictions[:, k]
        assert torch.equal(f, predict(x, torch.zeros(6), condition).float())
        step = process.mean(k, x, f) + process.sigma[k].float() * noise[:, k + 1]
        torch.testing.assert_close(trajectory.states[:, k + 1], step)


def test_predictions_are_kept_on_request_only() -> None:
    """Breaks if memory is spent on predictions that nobody asked for."""
    noise = torch.zeros(2, 4, 3)
    trajectory = rollout(lambda x, t, c: x, cosine_process(3), no_condition(2), noise)
    assert trajectory.predictions is None


def test_noise_of_another_length_is_refused() -> None:
    """Breaks if a grid and noise of different lengths run silently."""
    with pytest.raises(ValueError, match="expected 4"):
        rollout(lambda x, t, c: x, cosine_process(3), no_condition(2), torch.zeros(2, 5, 3))


@pytest.mark.parametrize("process", [cosine_process(4), memoryless_flow(4)], ids=["ddim", "flow"])
def test_path_control_cost_sums_the_divergence_of_every_step(process: Process) -> None:
    """Breaks if a step, a sample or the gain is left out of the KL term of the objective."""
    condition = no_condition(3)
    noise = normal((5, 2), 0, "x", [(i,) for i in range(3)], torch.float64)
    sampled = rollout(lambda x, t, c: x.sin(), process, condition, noise, keep_predictions=True)
    cost = path_control_cost(lambda x, t, c: x, process, sampled, condition)
    steps = [
        control_cost(control(x.sin(), x, process.control_gain[k]))
        for k, x in enumerate(sampled.states[:, :-1].unbind(dim=1))
    ]
    torch.testing.assert_close(cost, sum(steps))
    by_hand = [
        ((process.c[k] / process.sigma[k] * (x.sin() - x)) ** 2).sum(dim=1) / 2
        for k, x in enumerate(sampled.states[:, :-1].unbind(dim=1))
    ]
    torch.testing.assert_close(cost, sum(by_hand))
    with pytest.raises(ValueError, match="keep_predictions"):
        path_control_cost(lambda x, t, c: x, process, Trajectory(sampled.states), condition)
