from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from soc_ft.core import (
    Process,
    control_cost,
    log_density,
    log_ratio,
    normal,
    rollout,
    transition_noise,
)

from .closed_forms import cosine_process, memoryless_flow, no_condition

STEPS, BATCH, LATENT = 5, 4, (2, 3, 3)
DIMS = 18
PROCESSES = {
    "epsilon": cosine_process(STEPS),
    "v_prediction": cosine_process(STEPS, 0.5, "v_prediction"),
    "flow": memoryless_flow(STEPS),
}


@pytest.fixture(params=sorted(PROCESSES))
def process(request: pytest.FixtureRequest) -> Process:
    return PROCESSES[request.param]


def addressed(stream: str, *shape: int) -> Tensor:
    return normal(shape, 0, stream, [(0,)], torch.float64)[0]


def transitions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Steps (N,), and x, x_next and the output of any transitions."""
    x, x_next, f = addressed("transitions", 3, STEPS, *LATENT)
    return torch.tensor([2, 4, 0, 1, 3]), x, x_next, f


def by_hand(process: Process, k: int, x: Tensor, x_next: Tensor, f: Tensor) -> Tensor:
    law = Normal(process.A[k] * x + process.c[k] * f, process.sigma[k])
    return law.log_prob(x_next).flatten(1).mean(dim=1)


def test_log_density_is_that_of_the_gaussian_transition(process: Process) -> None:
    """Breaks if a term, the mean over dims, or the step of a sample is wrong."""
    k, x, x_next, f = transitions()
    together = log_density(process, k, x, x_next, f)
    assert together.shape == (STEPS,)
    for i, step in enumerate(k.tolist()):
        row = slice(i, i + 1)
        expected = by_hand(process, step, x[row], x_next[row], f[row])
        torch.testing.assert_close(together[row], expected, rtol=1e-12, atol=1e-12)
    for step in range(STEPS):
        found = log_density(process, step, x, x_next, f)
        torch.testing.assert_close(found, by_hand(process, step, x, x_next, f))


def test_log_density_does_not_grow_with_the_latent() -> None:
    """Breaks if it is summed over dims: clip ranges would then depend on the resolution."""
    k, x, x_next, f = transitions()
    once = log_density(PROCESSES["flow"], k, x, x_next, f)
    twice = [torch.cat([tensor, tensor], dim=1) for tensor in (x, x_next, f)]
    torch.testing.assert_close(log_density(PROCESSES["flow"], k, *twice), once)


def test_gradient_of_the_log_density(process: Process) -> None:
    """Breaks if the policy gradient is not c / sigma times the noise, per dimension."""
    k, x, x_next, f = transitions()
    f.requires_grad_()
    weights = addressed("weights", STEPS)
    (weights @ log_density(process, k, x, x_next, f)).backward()
    steps = k.view(-1, 1, 1, 1)
    A, c, sigma = (values[steps] for values in (process.A, process.c, process.sigma))
    z = (x_next - A * x - c * f.detach()) / sigma
    expected = weights.view_as(steps) * c / sigma * z / DIMS
    torch.testing.assert_close(f.grad, expected, rtol=1e-11, atol=1e-13)


def test_differences_of_log_densities_are_log_ratio(process: Process) -> None:
    """Breaks if policy gradients and importance weights disagree on the ratio of two models."""
    k, x, x_next, old = transitions()
    new = old + 0.1 * addressed("change", STEPS, *LATENT)
    noise = transition_noise(process, k, x, x_next, old)
    weights = log_ratio(new, old, noise, process.control_gain[k])
    difference = log_density(process, k, x, x_next, new) - log_density(process, k, x, x_next, old)
    torch.testing.assert_close(DIMS * difference, weights, rtol=1e-9, atol=1e-10)


def test_expected_log_ratio_is_the_control_cost() -> None:
    """Breaks if the divergence of two policies is not the cost of the control between them."""
    process = PROCESSES["flow"]
    k, x, _, base = transitions()
    new = base + addressed("change", STEPS, *LATENT)
    # At its mean, a law's log ratio to another one of the same variance is their divergence.
    x_next = process.mean(k, x, new)
    ratio = log_density(process, k, x, x_next, new) - log_density(process, k, x, x_next, base)
    gain = process.control_gain[k].view(-1, 1, 1, 1)
    torch.testing.assert_close(DIMS * ratio, control_cost(gain * (new - base)))


def test_transition_noise_is_what_sampled(process: Process) -> None:
    """Breaks if states, outputs and noise are indexed against each other."""
    noise = addressed("noise", BATCH, STEPS + 1, *LATENT)
    sampled = rollout(
        lambda x, t, c: 0.8 * x.sin(), process, no_condition(BATCH), noise, keep_predictions=True
    )
    assert sampled.predictions is not None
    for k in range(STEPS):
        x, x_next = sampled.states[:, k], sampled.states[:, k + 1]
        found = transition_noise(process, k, x, x_next, sampled.predictions[:, k])
        torch.testing.assert_close(found, noise[:, k + 1])
    # Pairs of a sample and a step, all at once.
    k = torch.arange(STEPS).repeat(BATCH)
    pairs = [
        part.flatten(0, 1)
        for part in (sampled.states[:, :-1], sampled.states[:, 1:], sampled.predictions)
    ]
    torch.testing.assert_close(transition_noise(process, k, *pairs), noise[:, 1:].flatten(0, 1))


@pytest.mark.parametrize("sigma", [[0.0, 0.0], [0.3, 0.0]])
def test_without_noise_there_is_none_to_recover(sigma: list[float]) -> None:
    """Breaks if a division by sigma = 0, at any step, surfaces as something else."""
    vectors = torch.ones(5, 2, dtype=torch.float64)
    noise = torch.tensor(sigma, dtype=torch.float64)
    times = torch.tensor([1, 0], dtype=torch.float64)
    process = Process(times, *vectors[:2], noise, *vectors[1:], eta=0.0)
    x, x_next, f = torch.zeros(3, 4, 2, dtype=torch.float64)
    for k in (1, torch.tensor([0, 1, 0, 1])):
        with pytest.raises(ValueError, match="noise"):
            transition_noise(process, k, x, x_next, f)
    with pytest.raises(ValueError, match="eta"):
        transition_noise(cosine_process(2, eta=0.0), 0, x, x_next, f)
