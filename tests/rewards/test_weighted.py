"""Weighted sums of rewards, and what a run logs of their parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.rewards.base import awaits_statistics
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


def test_standardised_parts_count_by_their_coefficients_alone() -> None:
    """Breaks when a mean is not taken off, a deviation multiplies, or two parts share moments."""
    moments = {"a": (0.25, 0.5), "b": (-1.0, 4.0)}
    weighted = Weighted(
        {"a": Redness(2.0), "b": Redness(3.0)}, {"a": 1.0, "b": -2.0}, True, moments
    )
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    red = Redness()(images, [""] * 5)
    found = weighted(images, [""] * 5)
    torch.testing.assert_close(found, (2 * red - 0.25) / 0.5 - 2 * (3 * red + 1) / 4)
    parts = weighted.part_scores(images, [""] * 5)
    assert torch.equal(parts["b"], 3 * red)
    (gradient,) = torch.autograd.grad(found.sum(), images)
    (single,) = torch.autograd.grad(red.sum(), images)
    torch.testing.assert_close(gradient, (2 / 0.5 - 2 * 3 / 4) * single)


def test_moments_are_a_run_s_unless_they_are_stated() -> None:
    """Breaks when a sum of unknown scale passes for the reward, or one run's moments stay with a
    reward that is given to the next."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    waiting = Weighted({"a": Redness()}, {"a": 2.0}, normalise=True)
    assert awaits_statistics(waiting)
    assert Weighted.lacks_statistics({"normalise": True, "statistics": None})
    with pytest.raises(ConfigError, match=r"^reward weighted: normalise=true, and no run has"):
        waiting(images, ["", ""])
    red = waiting.part_scores(images, ["", ""])["a"]
    given = waiting.standardised_by({"a": (1.0, 0.5)})
    torch.testing.assert_close(given(images, ["", ""]), 2 * (red - 1) / 0.5)
    torch.testing.assert_close(waiting.standardised_by({})(images, ["", ""]), 2 * red)
    assert awaits_statistics(waiting)
    for others in ({}, {"normalise": True, "statistics": {"a": [1.0, 0.5]}}):
        assert not awaits_statistics(Weighted({"a": Redness()}, {"a": 2.0}, **others))
        assert not Weighted.lacks_statistics(others)


@pytest.mark.parametrize(
    ("normalise", "statistics", "word"),
    [
        (False, {"a": [0.0, 1.0]}, "reward.statistics: means nothing without reward.normalise"),
        (True, {}, "reward.statistics.a=None: reward.rewards.a needs [mean, deviation]"),
        (True, {"a": 1.0}, "reward.statistics.a=1.0"),
        (True, {"a": [1.0]}, "reward.statistics.a=[1.0]"),
        (True, {"a": [0.0, 0.0]}, "reward.statistics.a=[0.0, 0.0]"),
        (True, {"a": [0.0, float("inf")]}, "reward.statistics.a=[0.0, inf]"),
        (True, {"a": [float("nan"), 1.0]}, "reward.statistics.a=[nan, 1.0]"),
        (True, {"a": [0.0, 1.0], "b": [0.0, 1.0]}, "reward.statistics.b: there is no"),
    ],
)
def test_moments_must_be_of_every_part(
    normalise: bool, statistics: dict[str, Any], word: str
) -> None:
    """Breaks when a part is divided by nothing, or stays raw beside others that do not."""
    with pytest.raises(ConfigError) as caught:
        Weighted({"a": Redness()}, {"a": 1.0}, normalise, statistics)
    assert word in str(caught.value)


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


def test_moments_are_stated_on_the_command_line() -> None:
    """Breaks when the mapping does not compose, or a wrong value of it passes the check."""
    stated = "reward.statistics={red:[0.5,1e-2],redder:[1,2]}"
    config = composed(*RUN, *SUM, "reward.normalise=true", stated)
    check(config)
    assert instantiate(config.reward).statistics == {"red": (0.5, 0.01), "redder": (1, 2)}
    for wrong, key in (
        ("reward.normalise=1", r"reward\.normalise=1: must be a valid boolean"),
        ("reward.statistics.red=[0,1,2]", r"reward\.statistics\.red="),
        ("reward.statistics.red=[0,much]", r"reward\.statistics\.red\.1=much"),
    ):
        with pytest.raises(ConfigError, match=key):
            check(composed(*RUN, *SUM, "reward.normalise=true", stated, wrong))


@pytest.mark.parametrize("key", ["reward.rewards.inner", "validation.metrics.inner"])
def test_only_the_reward_of_a_run_is_measured(key: str) -> None:
    """Breaks when a sum in a sum, or one that is only measured, waits for moments for ever."""
    inner = "{_target_:soc_ft.rewards.weighted.Weighted,normalise:true,coefficients:{red:1}"
    inner += ",rewards:{red:{_target_:tests.scorers.Redness}}"
    more = ("+reward.coefficients.inner=1",) if key.startswith("reward") else ()
    with pytest.raises(ConfigError, match=rf"{key}\.statistics: is needed, since only a run"):
        check(composed(*RUN, *SUM, *more, f"+{key}={inner}}}"))
    check(composed(*RUN, *SUM, *more, f"+{key}={inner},statistics:{{red:[0,1]}}}}"))


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
