from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from soc_ft.core import (
    Condition,
    Trajectory,
    effective_sample_size,
    log_ratio,
    normal,
    normalised_weights,
    rollout,
)

from .closed_forms import cosine_process, no_condition

STEPS = 8


def old(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
    return 0.8 * x.sin()


def new(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
    return old(x, t, condition) + 0.05 * (x.cos() + 0.1 * t[:, None])


def sampled_from_old(batch: int) -> tuple[Trajectory, Tensor]:
    noise = normal((STEPS + 1, 3), 0, "x", [(i,) for i in range(batch)], torch.float64)
    process = cosine_process(STEPS)
    return rollout(old, process, no_condition(batch), noise, keep_predictions=True), noise


def stepwise(trajectory: Trajectory, noise: Tensor) -> Tensor:
    """(B, K) log weights of the new model."""
    process = cosine_process(STEPS)
    batch = len(noise)
    columns = []
    for k in range(STEPS):
        x = trajectory.states[:, k]
        prediction = new(x, process.times_of(k, x), no_condition(batch))
        columns.append(
            log_ratio(
                prediction, trajectory.predictions[:, k], noise[:, k + 1], process.control_gain[k]
            )
        )
    return torch.stack(columns, dim=1)


def test_equal_the_ratio_of_transition_densities() -> None:
    """Breaks if the sign, the factor 1/2 or the gain is wrong."""
    process = cosine_process(STEPS)
    trajectory, noise = sampled_from_old(6)
    log_w = stepwise(trajectory, noise)
    for k in range(STEPS):
        x = trajectory.states[:, k]
        t = process.times_of(k, x)
        ratio = [
            Normal(process.mean(k, x, model(x, t, no_condition(6))), process.sigma[k])
            .log_prob(trajectory.states[:, k + 1])
            .sum(dim=1)
            for model in (new, old)
        ]
        torch.testing.assert_close(log_w[:, k], ratio[0] - ratio[1], rtol=1e-9, atol=1e-10)


def test_path_weights_average_to_one() -> None:
    """Breaks if the weights are not a change of measure (Girsanov)."""
    weights = stepwise(*sampled_from_old(10_000)).sum(dim=1).exp()
    standard_error = weights.std() / len(weights) ** 0.5
    assert weights.std() > 0.3
    assert abs(weights.mean() - 1) < 3 * standard_error < 0.05


def test_unchanged_model_has_full_effective_sample_size() -> None:
    """Breaks if both sides of the ratio are not the law that sampled."""
    trajectory, noise = sampled_from_old(12)
    same = log_ratio(
        trajectory.predictions[:, 0], trajectory.predictions[:, 0], noise[:, 1], torch.tensor(7.0)
    )
    assert effective_sample_size(same) == 12
    assert torch.equal(normalised_weights(same), torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("shift", [0.0, 1e5, -1e5])
def test_stable_for_huge_log_ratio(shift: float) -> None:
    """Breaks if weights are exponentiated before they are normalised."""
    log_w = torch.tensor([0.0, 0.0, -1e4], dtype=torch.float64) + shift
    torch.testing.assert_close(effective_sample_size(log_w), torch.tensor(2.0, dtype=torch.float64))
    expected = torch.tensor([1.5, 1.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(normalised_weights(log_w), expected)


def test_effective_sample_size_lies_between_one_and_n() -> None:
    """Breaks if one sample that dominates counts for more or less than one."""
    assert effective_sample_size(torch.tensor([500.0, 0.0, 3.0])) == 1
    log_w = normal((20,), 0, "w", [(0,)])[0]
    assert 1 < effective_sample_size(log_w) < 20
