"""The optimum of fine-tuning from base samples, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from soc_ft.core import Tilt, TiltEstimate, nats_efficiency

PROMPTS, SAMPLES = 4, 20_000
MEANS = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.float64)


def gaussian(seed: int, samples: int = SAMPLES) -> Tensor:
    """(P, N) samples of N(mean of the prompt, 1)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(PROMPTS, samples, generator=generator, dtype=torch.float64)
    return MEANS[:, None] + noise


def within(estimate: TiltEstimate, truth: float, errors: float = 3.5) -> bool:
    return abs(estimate.value - truth) <= errors * estimate.error


def test_gaussian_with_a_linear_reward() -> None:
    """Breaks when weights, divergence or objective have a wrong sign or scale.

    N(m, 1) tilted by exp(lambda x) is N(m + lambda, 1): KL lambda^2 / 2 at an efficiency of one.
    """
    x, scale = gaussian(0), 0.8
    tilt = Tilt(x, scale)
    mean = float(MEANS.mean())
    assert within(tilt.reward(), mean + scale)
    assert within(tilt.gain(x), scale)
    assert within(tilt.divergence(), scale**2 / 2)
    assert within(tilt.objective(), scale * mean + scale**2 / 2)
    assert within(tilt.objective_gain(), scale**2 / 2)
    assert within(tilt.base_variance(), 1.0)
    assert within(tilt.efficiency(), 1.0)
    assert within(tilt.mean(x.square()), float((MEANS + scale).square().mean()) + 1)
    assert tilt.reward().error < 0.02
    shares = tilt.effective_samples / SAMPLES
    assert shares.tolist() == pytest.approx([math.exp(-(scale**2))] * PROMPTS, rel=0.1)


def test_gaussian_with_a_quadratic_reward() -> None:
    """Breaks when diversity ignores the weights, or the expectation is of another prompt.

    N(0, 1) tilted by exp(-lambda x^2 / 2) is N(0, 1 / (1 + lambda)).
    """
    x, scale = gaussian(1) - MEANS[:, None], 3.0
    tilt = Tilt(-x.square() / 2, scale)
    variance = 1 / (1 + scale)
    reward, objective = -variance / 2, -math.log(1 + scale) / 2
    assert within(tilt.reward(), reward)
    assert within(tilt.objective(), objective)
    assert within(tilt.divergence(), scale * reward - objective)
    assert within(tilt.diversity(torch.stack([x, 2 * x], dim=2)), 5 * variance)
    efficiency = (reward + 0.5) / math.sqrt(2 * (scale * reward - objective) / 2)
    assert within(tilt.efficiency(), efficiency)


def test_discrete_base_that_is_enumerated() -> None:
    """Breaks when what is estimated is not the expectation under p_base exp(lambda r) / Z."""
    rewards = torch.tensor([0.0, 1.0, -0.5, 2.0], dtype=torch.float64)
    metric = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    base = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    tilted = base * (1.5 * rewards).exp()
    partition = float(tilted.sum())
    tilted = tilted / partition
    drawn = base.multinomial(
        PROMPTS * SAMPLES, replacement=True, generator=torch.Generator().manual_seed(2)
    ).view(PROMPTS, SAMPLES)
    tilt = Tilt(rewards[drawn], 1.5)
    assert within(tilt.objective(), math.log(partition))
    assert within(tilt.divergence(), float((tilted * (tilted / base).log()).sum()))
    assert within(tilt.mean(metric[drawn]), float(tilted @ metric))
    one_hot = torch.eye(4, dtype=torch.float64)[drawn]
    assert within(tilt.diversity(one_hot), 1 - float(tilted.square().sum()))


QUANTITIES: dict[str, tuple[Callable[[Tilt], TiltEstimate], float]] = {
    "reward": (Tilt.reward, float(MEANS.mean()) + 1),
    "gain": (lambda tilt: tilt.gain(tilt.rewards), 1.0),
    "divergence": (Tilt.divergence, 0.5),
    "objective": (Tilt.objective, float(MEANS.mean()) + 0.5),
    "objective gain": (Tilt.objective_gain, 0.5),
    "efficiency": (Tilt.efficiency, 1.0),
    "diversity": (lambda tilt: tilt.diversity(tilt.rewards[..., None]), 1.0),
}


@pytest.fixture(scope="module")
def repeated() -> list[Tilt]:
    return [Tilt(gaussian(seed, samples=256), 1.0) for seed in range(300)]


@pytest.mark.parametrize("name", QUANTITIES)
def test_standard_errors_cover_and_bias_is_small(repeated: list[Tilt], name: str) -> None:
    """Breaks when an error is off by a factor, or a bias is as large as an error."""
    quantity, truth = QUANTITIES[name]
    found = [quantity(tilt) for tilt in repeated]
    values = torch.tensor([each.value for each in found])
    errors = torch.tensor([each.error for each in found])
    assert float(errors.mean() / values.std()) == pytest.approx(1, abs=0.2)
    assert abs(float(values.mean()) - truth) < 0.25 * float(values.std())
    covered = ((values - truth).abs() <= 1.96 * errors).double().mean()
    assert 0.87 <= float(covered) <= 0.99


def test_the_jackknife_takes_the_bias_of_the_log_partition() -> None:
    """Breaks when the logarithm's bias of few samples stays."""
    drawn = [gaussian(seed, samples=16) for seed in range(600)]
    plain = torch.stack([x.logsumexp(dim=1) - math.log(16) for x in drawn]).mean()
    corrected = torch.tensor([Tilt(x, 1.0).objective().value for x in drawn]).mean()
    truth = float(MEANS.mean()) + 0.5
    assert abs(float(corrected) - truth) < abs(float(plain) - truth) / 3


def test_nothing_is_tilted_at_lambda_zero_and_nothing_overflows_at_a_large_one() -> None:
    """Breaks when weights are not uniform without a tilt, or are exponentials themselves."""
    x = gaussian(3, samples=50)
    flat = Tilt(x, 0.0)
    assert flat.effective_samples.tolist() == pytest.approx([50] * PROMPTS)
    assert flat.gain(x).value == pytest.approx(0, abs=1e-12)
    assert flat.divergence().value == pytest.approx(0, abs=1e-12)
    steep = Tilt(x, 1e6)
    assert steep.mean_effective_samples == pytest.approx(1)
    assert math.isfinite(steep.objective().value)


def test_the_mean_effective_size_is_that_of_equal_prompts() -> None:
    """Breaks when prompts with many effective samples hide one with few."""
    rewards = torch.zeros(2, 100, dtype=torch.float64)
    rewards[1, 0] = 100.0
    assert Tilt(rewards, 1.0).mean_effective_samples == pytest.approx(2 / (1 / 100 + 1))


def test_efficiency_of_nothing_is_not_a_number() -> None:
    """Breaks when a run that has not moved divides by zero."""
    assert nats_efficiency(1.0, 0.5, 1.0) == 1.0
    assert math.isnan(nats_efficiency(0.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("rewards", "match"),
    [
        (torch.zeros(3), "prompts, samples"),
        (torch.zeros(3, 1), "samples >= 2"),
        (torch.full((1, 4), math.nan), "finite"),
    ],
)
def test_what_cannot_be_tilted_is_refused(rewards: Tensor, match: str) -> None:
    """Breaks when a broken score ends as a number."""
    with pytest.raises(ValueError, match=match):
        Tilt(rewards, 1.0)


def test_at_fifty_effective_samples_errors_are_too_small_by_less_than_half() -> None:
    """Breaks when the least that an evaluation asks for is said to be worth more than it is."""
    generator = torch.Generator().manual_seed(4)
    tilts = [
        Tilt(torch.randn(4, 400, generator=generator, dtype=torch.float64), 1.4) for _ in range(300)
    ]
    assert 45 < sum(float(tilt.effective_samples.min()) for tilt in tilts) / len(tilts) < 75
    for found in ([t.reward() for t in tilts], [t.divergence() for t in tilts]):
        values, errors = torch.tensor(found).T
        assert 1.05 < float(values.std() / errors.mean()) < 1.5
