"""Estimates of the value's gradient, on processes whose value is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft import core
from soc_ft.world.estimators import Draws, draw_estimates, inner, summary
from tests.core.closed_forms import MixtureBase, cosine_process, no_condition

K, STEP, N = 6, 2, 40_000


def bump(x: Tensor) -> tuple[Tensor, Tensor]:
    """A reward with its maximum at 1, and its gradient."""
    reward = -((x - 1) ** 2)
    return reward[:, 0], -2 * (x - 1)


@pytest.fixture(scope="module")
def two_modes() -> tuple[MixtureBase, core.Process]:
    process = cosine_process(K)
    weights, means = torch.tensor([0.5, 0.5]), torch.tensor([[-1.5], [1.5]])
    return MixtureBase(process, weights.double(), means.double(), torch.full((2,), 0.04)), process


@pytest.fixture(scope="module")
def estimates(two_modes: tuple[MixtureBase, core.Process]) -> tuple[Draws, Tensor]:
    """Draws at one state, and g = sigma E[V'(x_{k+1})] by differences, without autograd."""
    base, process = two_modes
    noise = torch.randn((N, K - STEP + 1, 1), dtype=torch.float64, generator=seeded())
    noise[:, 0] = 0.1
    draws = draw_estimates(base, process, no_condition(N), STEP, noise, bump)
    shift = 1e-6
    ends = []
    for sign in (1, -1):
        moved = noise.clone()
        moved[:, 1] += sign * shift  # a shift of z_k by h moves x_{k+1} by sigma_k h
        ends.append(end_of(base, process, moved))
    slope = (bump(ends[0])[0] - bump(ends[1])[0]) / (2 * shift)
    return draws, slope


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def end_of(base: MixtureBase, process: core.Process, noise: Tensor) -> Tensor:
    x = noise[:, 0]
    for k in range(STEP, K):
        f = base(x, process.times_of(k, x), no_condition(len(x)))
        x = process.mean(k, x, f) + process.sigma_of(k, x) * noise[:, k - STEP + 1]
    return x


def test_adjoint_is_the_derivative_of_the_path(estimates: tuple[Draws, Tensor]) -> None:
    """Breaks if sigma, the sign or the step of the adjoint is another."""
    draws, slope = estimates
    torch.testing.assert_close(draws.adjoint[:, 0], slope, rtol=1e-3, atol=1e-4)


def test_score_has_the_same_mean(estimates: tuple[Draws, Tensor]) -> None:
    """Breaks if the score is taken with another step's noise, or its baseline looks at the draw."""
    draws, slope = estimates
    error = draws.score.std() / N**0.5
    assert abs(float(draws.score.mean() - slope.mean())) < 4 * float(error)
    assert float(slope.mean()) > 20 * float(error)


def test_clean_prediction_is_biased_between_modes(estimates: tuple[Draws, Tensor]) -> None:
    """Breaks if the gradient at x_{k+1} does not go through the network: then it has no bias of
    this size, for the clean prediction between two modes moves fast."""
    draws, slope = estimates
    found = summary([draws])
    bias = float(draws.clean.mean() - slope.mean())
    assert abs(bias) > 0.1
    assert found["clean bias"] == pytest.approx(bias**2, rel=0.05)


def test_summary_of_known_draws() -> None:
    """Breaks if a draw's product with itself counts as signal, or the weighting is not the best."""
    g = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)

    def noisy(scale: float, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return g + scale * torch.randn((N, 3), dtype=torch.float64, generator=generator)

    adjoint, score, clean = noisy(2.0, 1), noisy(1.0, 2), noisy(0.5, 3) + 1.0
    found = summary([Draws(adjoint, score, clean)])
    assert found["signal"] == pytest.approx(5.0, rel=0.03)
    assert found["adjoint noise"] == pytest.approx(12.0, rel=0.03)
    assert found["hybrid noise"] == pytest.approx(12 * 3 / 15, rel=0.03)
    assert found["clean bias"] == pytest.approx(3.0, rel=0.05)
    assert found["adjoint bias"] == pytest.approx(0.0, abs=1e-9)
    assert inner(adjoint, score) == pytest.approx(5.0, rel=0.03)
    # Of four draws at a time, a draw's product with itself would add 12 / 4.
    of_few = [inner(part, part) for part in adjoint.split(4)]
    assert sum(of_few) / len(of_few) == pytest.approx(5.0, rel=0.05)


def test_last_step_needs_no_network(two_modes: tuple[MixtureBase, core.Process]) -> None:
    """Breaks if the clean prediction at the end is asked of the network: it is the state."""
    base, process = two_modes
    noise = torch.randn((50, 2, 1), dtype=torch.float64, generator=seeded())
    draws = draw_estimates(base, process, no_condition(50), K - 1, noise, bump)
    torch.testing.assert_close(draws.clean, draws.adjoint)
