"""Surrogates: what they learn, which epoch is kept, and draws of their posterior."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from soc_ft.feedback import surrogate as surrogates
from soc_ft.feedback.options import Fit, Langevin
from soc_ft.feedback.surrogate import fit_surrogate, sample_posterior


def fit(**changes: Any) -> Fit:
    settings: dict[str, Any] = {
        "widths": [16],
        "activation": "silu",
        "dropout": [],
        "heads": 1,
        "epochs": 60,
        "batch_size": 32,
        "lr": 1e-2,
        "weight_decay": 1e-2,
        "held_out": 0.25,
    }
    return Fit(**(settings | changes))


def data(n: int = 400, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Features of very different scales, and labels that are no linear function of them."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 3, generator=generator) * torch.tensor([0.01, 1.0, 100.0])
    labels = 7 + 3 * (features[:, 0] * 100).tanh() + (features[:, 1] > 0)
    return features, labels + noise * torch.randn(n, generator=generator)


def test_it_learns_what_is_not_linear_whatever_the_units() -> None:
    """Breaks if features or labels are not standardised, or the activation is lost."""
    features, labels = data()
    fitted = fit_surrogate(features, labels, fit(), seed=0)
    linear = fit_surrogate(features, labels, fit(activation="none"), seed=0)
    assert fitted.held_out_correlation > 0.95
    assert fitted.held_out_error < 0.75 * linear.held_out_error < 0.5 * fitted.label_std
    predicted = fitted.surrogate(features)
    assert predicted.shape == (1, len(labels))
    assert abs(float(predicted.mean() - labels.mean())) < 0.2


def test_the_best_epoch_is_kept_not_the_last() -> None:
    """Breaks if the weights that are kept are a reference to those that go on being trained.

    The labels are noise: the first epochs predict held-out ones best, the last ones worst.
    """
    features, _ = data(64)
    labels = torch.randn(64, generator=torch.Generator().manual_seed(1))
    one, many = (
        fit_surrogate(features, labels, fit(epochs=epochs, widths=[256], weight_decay=0.0), 0)
        for epochs in (1, 200)
    )
    test = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:16]
    errors = [
        float((fitted.surrogate(features)[0] - labels)[test].square().mean())
        for fitted in (one, many)
    ]
    assert errors[1] <= errors[0] + 1e-6


def test_the_same_data_and_seed_give_the_same_surrogate() -> None:
    """Breaks if a fit depends on what was drawn before it, or changes what is drawn after it."""
    features, labels = data()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = fit_surrogate(features, labels, fit(dropout=[0.2], epochs=3), seed=3).surrogate
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(7)
    second = fit_surrogate(features, labels, fit(dropout=[0.2], epochs=3), seed=3).surrogate
    other = fit_surrogate(features, labels, fit(dropout=[0.2], epochs=3), seed=4).surrogate
    assert torch.equal(first(features), second(features))
    assert not torch.equal(first(features), other(features))
    assert torch.equal(first(features), first(features)), "dropout is on"


def test_heads_differ_most_where_there_are_no_data() -> None:
    """Breaks if heads share their resample or their initial weights."""
    features, labels = data()
    surrogate = fit_surrogate(features, labels, fit(heads=4), seed=0).surrogate
    far = torch.tensor([[0.0, 0.0, 3000.0], [0.0, 0.0, -3000.0]])
    spread = surrogate(far).std(dim=0).mean()
    assert spread > 2 * surrogate(features).std(dim=0).mean() > 0


def test_heads_are_fitted_to_resamples_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if all heads see the same data, or one is chosen by data that it was fitted to."""
    seen: list[tuple[list[int], list[int]]] = []

    def watched(head: nn.Module, inputs: Tensor, targets: Tensor, *rows: Any) -> None:
        seen.append((rows[0].tolist(), rows[1].tolist()))

    monkeypatch.setattr(surrogates, "_fit_head", watched)
    fit_surrogate(*data(100), fit(heads=3), seed=0)
    fitted_to = [Counter(train) for train, _ in seen]
    assert fitted_to[0] != fitted_to[1] != fitted_to[2]
    for train, test in seen:
        assert (len(train), len(test)) == (75, 25)
        assert len(set(train)) < 60
    assert not {row for train, _ in seen for row in train} & {row for _, t in seen for row in t}


def test_langevin_draws_from_the_posterior_of_a_linear_model() -> None:
    """Breaks if the noise, the prior or the number of data is weighted wrongly.

    With normal noise and a normal prior the posterior of a linear model is normal, with precision
    X'X / noise^2 + I / prior^2.
    """
    torch.manual_seed(0)
    inputs = torch.randn(20, 2, dtype=torch.float64) * torch.tensor([1.0, 0.5])
    design = torch.cat([inputs, torch.ones(20, 1)], dim=1)
    noise, prior = 0.5, 0.4
    targets = design @ torch.tensor([0.6, -0.3, 0.2], dtype=torch.float64)
    targets = targets + noise * torch.randn(20, dtype=torch.float64)
    precision = design.T @ design / noise**2 + torch.eye(3) / prior**2
    mean = torch.linalg.solve(precision, design.T @ targets / noise**2)
    network = nn.Linear(2, 1).double()
    settings = Langevin(steps=40, step=6e-3, label_noise=1.0, prior_std=prior)
    draws = []
    for _ in range(700):
        sample_posterior(network, inputs, targets, noise, settings)
        draws.append(torch.cat([network.weight.flatten(), network.bias]).detach())
    drawn = torch.stack(draws[20:])
    deviation = torch.linalg.inv(precision).diagonal().sqrt()
    assert ((drawn.mean(dim=0) - mean).abs() < 0.2 * deviation).all()
    assert (drawn.std(dim=0) / deviation - 1).abs().max() < 0.12
