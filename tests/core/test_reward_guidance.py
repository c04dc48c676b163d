"""Guidance by a reward, on Gaussian data and linear rewards, where it is exact."""

from __future__ import annotations

import pytest
import torch

from soc_ft.core import Process, reward_guided, rollout

from .closed_forms import (
    GaussianBase,
    Output,
    convergence_order,
    cosine_process,
    exact_moment_noise,
    memoryless_flow,
    moments,
    no_condition,
)

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)
TILT = 2.0 * torch.tensor([0.7, -1.2], dtype=torch.float64)  # lambda times the reward's gradient


def errors(process: Process, output: Output) -> tuple[float, float]:
    """How far the mean is from that of p exp(<TILT, x>), and the covariance from unguided ones."""
    base = GaussianBase(process, MEAN, COVARIANCE, output)
    guided = reward_guided(base, process, lambda clean: TILT.expand_as(clean))
    noise = exact_moment_noise(process.num_steps, dims=2)
    condition = no_condition(len(noise))
    (mean, covariance), (_, unguided) = (
        moments(rollout(predict, process, condition, noise).latents) for predict in (guided, base)
    )
    shift = COVARIANCE @ TILT
    return (
        float((mean - MEAN - shift).norm() / shift.norm()),
        float((covariance - unguided).norm() / unguided.norm()),
    )


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample"])
def test_samples_the_tilt_of_a_linear_reward(output: Output, eta: float) -> None:
    """Breaks if sign, scale or a factor of noise and signal is wrong, for any output or noise of
    the sampler: the error would not vanish with the step size."""
    steps = (25, 50, 100)
    of_mean = []
    for number in steps:
        mean, covariance = errors(cosine_process(number, eta, output), output)
        of_mean.append(mean)
        assert covariance < 1e-9
    assert of_mean[-1] < 0.02
    assert convergence_order(steps, of_mean) > 0.8


def test_samples_the_tilt_with_a_flow_model() -> None:
    """Breaks if only variance-preserving processes are guided rightly."""
    mean, covariance = errors(memoryless_flow(100), "flow")
    assert mean < 0.03
    assert covariance < 1e-9


def test_leaves_no_graph_behind() -> None:
    """Breaks if memory grows with every step, or a caller's no_grad keeps the reward's gradient."""
    process = cosine_process(4)
    base = GaussianBase(process, MEAN, COVARIANCE)
    x = torch.zeros(3, 2, dtype=torch.float64)
    guided = reward_guided(base, process, lambda clean: TILT.expand_as(clean))
    with torch.no_grad():
        output = guided(x, process.times_of(1, x), no_condition(3))
    assert not output.requires_grad
    assert not torch.equal(output, base(x, process.times_of(1, x), no_condition(3)))
