"""Multistep sampling of consistency models, against its formulas and a model that is exact."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    Condition,
    PredictionType,
    Process,
    differentiable_rollout,
    log_density,
    multistep_consistency,
    noise_log_density,
    normal,
    path_control_cost,
    rollout,
)

from .closed_forms import as_output, exact_moment_noise, no_condition, step_of

PREDICTIONS = get_args(PredictionType)
TIMESTEPS = torch.tensor([999, 759, 499, 259])
ALPHA_BAR = torch.tensor([0.005, 0.06, 0.28, 0.65], dtype=torch.float64)
POINT = torch.tensor([1.0, -0.5], dtype=torch.float64)


def process_of(prediction: PredictionType = "epsilon", steps: int = 4) -> Process:
    return multistep_consistency(TIMESTEPS[:steps], ALPHA_BAR[:steps], prediction)


class OnePoint:
    """The exact model of data that are a single point: from anywhere it goes there."""

    def __init__(self, prediction: PredictionType, point: Tensor = POINT) -> None:
        self.prediction, self.point = prediction, point
        self.process = process_of(prediction)

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        alpha_bar = ALPHA_BAR[step_of(self.process, t)][:, None]
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        eps = (x - signal * self.point) / noise
        return as_output(self.prediction, self.point.expand_as(x), eps, signal, noise)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_transition_is_the_formula(prediction: PredictionType, steps: int) -> None:
    """Breaks if A, c, sigma or d miss a term, or the last alpha_bar' is 1 or another step's."""
    process = process_of(prediction, steps)
    assert process.num_steps == steps
    assert process.times.tolist() == TIMESTEPS[:steps].tolist()
    x, clean = normal((7, 2), 0, "x", [(0,), (1,)], torch.float64)
    for k in range(steps):
        here, there = ALPHA_BAR[k], ALPHA_BAR[min(k + 1, steps - 1)]
        eps = (x - here.sqrt() * clean) / (1 - here).sqrt()
        f = as_output(prediction, clean, eps, here.sqrt(), (1 - here).sqrt())
        s = 10 * float(TIMESTEPS[k])
        d = s / (s**2 + 0.25) ** 0.5 * clean + 0.25 / (s**2 + 0.25) * x
        torch.testing.assert_close(process.clean(k, x, f), d, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(process.mean(k, x, f), there.sqrt() * d, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(process.sigma[k], (1 - there).sqrt())
        torch.testing.assert_close(process.signal[k], here.sqrt())
        torch.testing.assert_close(process.noise[k], (1 - here).sqrt())


def test_the_boundary_conditions_matter_at_small_times() -> None:
    """Breaks if c_skip and c_out change places, or their times are not scaled."""
    start = multistep_consistency(torch.tensor([0]), ALPHA_BAR[-1:], timestep_scaling=10.0)
    assert (start.clean_x.item(), start.clean_f.item()) == (1.0, 0.0)
    early = multistep_consistency(torch.tensor([1]), ALPHA_BAR[-1:], "sample", timestep_scaling=0.5)
    assert early.clean_x.item() == pytest.approx(0.5)
    assert early.clean_f.item() == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_exact_model_ends_at_its_point_and_passes_through_its_marginals(
    prediction: PredictionType,
) -> None:
    """Breaks if noise gets into what is decoded, or states are not those that the model knows."""
    process, noise = process_of(prediction), exact_moment_noise(4, dims=2)
    path = rollout(OnePoint(prediction), process, no_condition(len(noise)), noise)
    torch.testing.assert_close(path.latents, POINT.expand(len(noise), 2), rtol=0, atol=1e-4)
    for k, alpha_bar in enumerate([*ALPHA_BAR[1:], ALPHA_BAR[-1]], start=1):
        mean, covariance = (
            path.states[:, k].mean(dim=0),
            torch.cov(path.states[:, k].T, correction=0),
        )
        torch.testing.assert_close(mean, alpha_bar.sqrt() * POINT, rtol=0, atol=1e-4)
        expected = (1 - alpha_bar) * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-4)


def wavy(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """A network that depends on everything it is given."""
    return (1.3 * x + 0.002 * t[:, None]).sin()


def drawn(stream: str = "noise", steps: int = 4) -> Tensor:
    return normal((steps + 1, 2), 0, stream, [(i,) for i in range(5)], torch.float64)


def test_the_last_noise_reaches_the_last_state_alone() -> None:
    """Breaks if the decoded latent is the noised one, or the last transition has no density."""
    process, noise = process_of(), drawn()
    other = noise.clone()
    other[:, -1] = drawn("other")[:, -1]
    path, changed = (
        rollout(wavy, process, no_condition(5), each, keep_predictions=True)
        for each in (noise, other)
    )
    assert torch.equal(path.latents, changed.latents)
    assert (path.states[:, -1] - changed.states[:, -1]).abs().min() > 1e-3
    assert path.predictions is not None
    x, f = path.states[:, 3], path.predictions[:, 3]
    torch.testing.assert_close(path.latents, process.clean(3, x, f))
    for k in range(4):
        found = log_density(
            process, k, path.states[:, k], path.states[:, k + 1], path.predictions[:, k]
        )
        torch.testing.assert_close(found, noise_log_density(process, noise[:, 1:])[:, k])


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("recompute", [False, True])
def test_the_end_with_gradient_is_what_is_decoded(steps: int, recompute: bool) -> None:
    """Breaks if a reward's gradient belongs to another latent than its reward."""
    process, noise = process_of(), drawn()
    path = rollout(wavy, process, no_condition(5), noise)
    start = path.states[:, 4 - steps].clone().requires_grad_()
    end, cost = differentiable_rollout(
        wavy, process, no_condition(5), start, noise[:, 5 - steps :], recompute=recompute
    )
    torch.testing.assert_close(end, path.latents)
    assert not cost.any()
    x = start
    for k in range(4 - steps, 4):
        f = wavy(x, process.times_of(k, x), no_condition(5))
        d = process.clean_x[k] * x + process.clean_f[k] * f
        following = ALPHA_BAR[min(k + 1, 3)]
        x = following.sqrt() * d + (1 - following).sqrt() * noise[:, k + 1]
    weights = drawn("weights")[:, 0]
    (found,) = torch.autograd.grad((weights * end).sum(), start)
    (expected,) = torch.autograd.grad((weights * d).sum(), start)
    torch.testing.assert_close(found, expected)


def test_the_control_cost_is_finite_and_counts_the_last_evaluation() -> None:
    """Breaks if a changed end costs nothing, or infinitely much."""
    process, condition = process_of(), no_condition(5)

    def late(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return wavy(x, t, condition) + 0.1 * (t[:, None] == 259)

    path = rollout(late, process, condition, drawn(), keep_predictions=True)
    cost = path_control_cost(wavy, process, path, condition)
    gap = 0.1 * process.c[-1] / process.sigma[-1]
    torch.testing.assert_close(cost, (gap**2).expand(5))  # half of it in each of two dimensions


def test_no_such_process_forgets_its_start() -> None:
    """Breaks if methods that need it are let through: the first noise decides the last picture."""
    assert not process_of().memoryless
    noise = drawn()
    moved = noise.clone()
    moved[:, 0] = -moved[:, 0]
    ends = [rollout(wavy, process_of(steps=1), no_condition(5), n[:, :2]) for n in (noise, moved)]
    assert (ends[0].latents - ends[1].latents).abs().min() > 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": TIMESTEPS.flip(0)}, "timesteps"),
        ({"timesteps": TIMESTEPS.double()}, "timesteps"),
        ({"timesteps": TIMESTEPS[:0], "alpha_bar": ALPHA_BAR[:0]}, "timesteps"),
        ({"alpha_bar": ALPHA_BAR.flip(0)}, "alpha_bar"),
        ({"alpha_bar": ALPHA_BAR[:3]}, "alpha_bar"),
        ({"alpha_bar": ALPHA_BAR.float()}, "alpha_bar"),
        ({"alpha_bar": ALPHA_BAR - 0.005}, "alpha_bar"),
        ({"prediction": "flow"}, "unknown prediction type 'flow'"),
    ],
)
def test_bad_grids_are_refused(change: dict[str, Any], message: str) -> None:
    """Breaks if a grid that has no densities is accepted and yields NaN later."""
    with pytest.raises(ValueError, match=message):
        multistep_consistency(**{"timesteps": TIMESTEPS, "alpha_bar": ALPHA_BAR, **change})
