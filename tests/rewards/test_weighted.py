"""Weighted sums of rewards, and what a run logs of their parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.rewards.jpeg import JPEGCompressibility, JPEGIncompressibility
from soc_ft.rewards.weighted import Weighted
from tests.conftest import TINY, composed, curve
from tests.scorers import Redness

SUM = (
    "reward=weighted",
    "~reward.rewards.hpsv2",
    "~reward.coefficients.hpsv2",
    "~reward.rewards.imagereward",
    "~reward.coefficients.imagereward",
    "+reward.rewards.red._target_=tests.scorers.Redness",
    "+reward.rewards.redder._target_=tests.scorers.Redness",
    "+reward.rewards.redder.scale=3",
    "+reward.coefficients.red=2",
    "+reward.coefficients.redder=-0.5",
)
"""2 r - 0.5 * 3 r = r / 2."""

RUN = [override for override in TINY if not override.startswith("reward")]


def test_the_sum_is_weighted_and_each_part_is_not() -> None:
    """Breaks when a coefficient is dropped, squared, or applied to what is logged."""
    weighted = Weighted({"red": Redness(2.0), "size": JPEGCompressibility()}, {"red": 3, "size": 1})
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = weighted.part_scores(images, ["", ""])
    red, size = Redness(2.0)(images, ["", ""]), JPEGCompressibility()(images, ["", ""])
    assert torch.equal(parts["red"], red)
    assert torch.equal(parts["size"], size)
    torch.testing.assert_close(weighted(images, ["", ""]), 3 * red + size)


def test_it_is_differentiable_if_all_its_parts_are() -> None:
    """Breaks when a part without a gradient is differentiated as a constant."""
    one = {"a": 1.0, "b": 1.0}
    assert Weighted({"a": Redness(), "b": Redness()}, one).differentiable
    assert not Weighted({"a": Redness(), "b": JPEGIncompressibility()}, one).differentiable


def test_the_gradient_is_the_weighted_sum_of_the_gradients() -> None:
    """Breaks when a part is detached."""
    images = torch.rand(1, 3, 4, 4, dtype=torch.float64).requires_grad_()
    weighted = Weighted({"a": Redness(2.0), "b": Redness(3.0)}, {"a": 1.0, "b": -2.0})
    (found,) = torch.autograd.grad(weighted(images, [""]).sum(), images)
    (single,) = torch.autograd.grad(Redness()(images, [""]).sum(), images)
    torch.testing.assert_close(found, (2.0 - 6.0) * single)


@pytest.mark.parametrize(
    ("rewards", "coefficients", "word"),
    [
        ({}, {}, "at least one reward"),
        ({"a": Redness()}, {}, "reward.coefficients.a=None"),
        ({"a": Redness()}, {"a": "much"}, "reward.coefficients.a=much"),
        ({"a": Redness()}, {"a": True}, "reward.coefficients.a=True"),
        ({"a": Redness()}, {"a": float("nan")}, "reward.coefficients.a=nan"),
        ({"a": Redness()}, {"a": 1.0, "b": 2.0}, "reward.coefficients.b"),
    ],
)
def test_names_and_numbers_must_match(
    rewards: dict[str, Redness], coefficients: dict[str, float], word: str
) -> None:
    """Breaks when a part without a coefficient is left out, or a typing error goes unnoticed."""
    with pytest.raises(ConfigError) as caught:
        Weighted(rewards, coefficients)
    assert word in str(caught.value)


def test_it_is_composed_from_shipped_rewards() -> None:
    """Breaks when the command line of the YAML's header no longer composes or builds."""
    config = composed(
        "reward=weighted",
        "+reward@reward.rewards.small=jpeg_compressibility",
        "+reward.coefficients.small=0.1",
        "~reward.rewards.hpsv2",
        "~reward.coefficients.hpsv2",
        "~reward.rewards.imagereward",
        "~reward.coefficients.imagereward",
    )
    reward = instantiate(config.reward)
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(
        reward(images, ["", ""]), 0.1 * JPEGCompressibility()(images, ["", ""])
    )


def test_a_run_logs_every_part(tiny_run: Callable[..., Path]) -> None:
    """Breaks when a part's mean is not that of the samples that were trained on."""
    this = ("reward._target_=soc_ft.rewards.weighted.Weighted", "~reward.scale")
    folder = tiny_run(*SUM, *this, "method.smoothing_copies=2")
    records = [metrics for _, metrics in curve(folder)]
    trained = [metrics for metrics in records if "train/reward" in metrics]
    assert trained
    for metrics in trained:
        red, redder = metrics["train/reward/red"], metrics["train/reward/redder"]
        assert redder == pytest.approx(3 * red, rel=1e-4)
    validated = [metrics for metrics in records if "val/reward" in metrics]
    assert validated
    for metrics in validated:
        assert metrics["val/reward/red"] == pytest.approx(2 * metrics["val/reward"], rel=1e-4)
    assert "reward/red" in json.loads((folder / "results.json").read_text())["0"]


def test_a_part_without_gradient_is_refused_by_its_key() -> None:
    """Breaks when the refusal names the sum, or waits until the part is called."""
    config = composed(*RUN, *SUM, "+reward@reward.rewards.size=jpeg_compressibility")
    with pytest.raises(ConfigError, match=r"reward\.rewards\.size=jpeg_compressibility: has no"):
        check(config)
