"""A learned value against values that are known in closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from soc_ft.core import ValueFunction

STEPS = 4


def features_of(x: Tensor) -> Tensor:
    """States (N, 1, 2, 2) and their squares, as a network might see them."""
    return torch.cat([x, x.square()], dim=1).repeat(1, 2, 1, 1)


def value_of(x: Tensor, steps: Tensor) -> Tensor:
    """(N,) what is to be learned: another function at every step."""
    return (1.0 + steps) * (x[:, 0, 0, 0] - 0.5 * x.square().sum(dim=(1, 2, 3)))


def slope_of(x: Tensor, steps: Tensor) -> Tensor:
    direction = torch.zeros_like(x)
    direction[:, 0, 0, 0] = 1.0
    return (1.0 + steps).view(-1, 1, 1, 1) * (direction - x)


def round_of(number: int, samples: int = 64) -> tuple[Tensor, Tensor]:
    """States (samples, 3, 1, 2, 2) of a round, and their steps."""
    generator = torch.Generator().manual_seed(number)
    states = torch.randn((samples, 3, 1, 2, 2), generator=generator)
    return states, torch.randint(STEPS, (samples, 3), generator=generator)


def learned(rounds: int, noise: float, *, signal: float = 1.0, seed: int = 3) -> ValueFunction:
    value = ValueFunction(STEPS, memory=2000, updates=60, seed=seed)
    for number in range(rounds):
        states, steps = round_of(number)
        x = states.flatten(0, 1)
        generator = torch.Generator().manual_seed(1000 + number)
        clean = signal * value_of(x, steps.flatten())
        values = clean + noise * torch.randn(clean.shape, generator=generator)
        features = features_of(x).unflatten(0, steps.shape)
        value.learn(features, steps, values.view_as(steps), torch.device("cpu"))
    return value


def unseen() -> tuple[Tensor, Tensor]:
    states, steps = round_of(99, 200)
    return states.flatten(0, 1), steps.flatten()


def test_the_gradient_becomes_that_of_the_value() -> None:
    """Breaks if the value is scaled wrongly, steps are mixed up, or the trust does not come."""
    value = learned(30, noise=2.0)
    x, steps = unseen()
    gradient, features = value.gradient(features_of, x, steps)
    wanted = slope_of(x, steps)
    error = (gradient - wanted).square().sum() / wanted.square().sum()
    assert error < 0.1
    assert value.trust > 0.9
    assert torch.equal(features, features_of(x))
    assert not gradient.requires_grad


def test_noise_that_was_learned_by_heart_is_not_followed() -> None:
    """Breaks if the trust is measured on what the critic was trained on: its slope there is 1."""
    value = learned(6, noise=2.0, signal=0.0)
    assert value.trust < 0.2
    x, steps = unseen()
    assert value.gradient(features_of, x, steps)[0].abs().mean() < 0.2


def test_nothing_is_known_before_the_second_round() -> None:
    """Breaks if an untrained network, or one that nothing has tested, steers the first steps."""
    x, steps = unseen()
    for rounds in (0, 1):
        assert not learned(rounds, noise=1.0).gradient(features_of, x, steps)[0].any()


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_it_goes_on_as_if_never_interrupted(rounds: int) -> None:
    """Breaks if weights, optimizer, samples, scale, trust or the count of rounds are forgotten."""
    first = learned(rounds, noise=1.0)
    second = ValueFunction(STEPS, memory=2000, updates=60, seed=3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    states, steps = round_of(50)
    features = features_of(states.flatten(0, 1)).unflatten(0, steps.shape)
    values = value_of(states.flatten(0, 1), steps.flatten()).view_as(steps)
    for each in (first, second):
        each.learn(features, steps, values, torch.device("cpu"))
    x, places = unseen()
    gradients = [each.gradient(features_of, x, places)[0] for each in (first, second)]
    assert torch.equal(*gradients)


def test_only_the_latest_samples_are_held() -> None:
    """Breaks if memory grows with the run."""
    value = ValueFunction(STEPS, memory=100, updates=1, seed=0)
    for number in range(3):
        states, steps = round_of(number)
        features = features_of(states.flatten(0, 1)).unflatten(0, steps.shape)
        value.learn(features, steps, steps.float() + number, torch.device("cpu"))
    held = value.state_dict()["held"]["values"]
    assert held.shape == (100, 3)
    assert held.max() == 2 + STEPS - 1
    assert held[-64:].min() == 2
