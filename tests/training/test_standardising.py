"""A run standardises the parts of its reward by what they are on the base model's pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from soc_ft.config import check
from soc_ft.errors import RunError
from soc_ft.plain_yaml import read_mapping
from soc_ft.rewards.jpeg import JPEGCompressibility
from soc_ft.rewards.weighted import Weighted
from soc_ft.training.run import train
from soc_ft.training.standardising import standardise
from tests.conftest import TINY, composed, curve
from tests.rewards.test_weighted import SUM
from tests.scorers import Redness
from tests.trained import crash_at, largest_difference, weights

TinyRun = Callable[..., Path]

STANDARDISED = (
    "reward._target_=soc_ft.rewards.weighted.Weighted",
    "~reward.scale",
    "reward.normalise=true",
    "trainer.steps=3",
    "trainer.lr=1e-3",
)
"""Over two parts that are multiples of each other: 2 z - 0.5 z, whatever the multiple."""


def test_the_base_model_has_mean_0_and_parts_deviation_1(undisturbed: TinyRun) -> None:
    """Breaks when moments are of other pictures, follow the training, or the first row is not
    scored by them as the later ones are; or when the parts are not logged raw."""
    folder = undisturbed(*SUM, *STANDARDISED)
    moments = read_mapping(folder / "reward_statistics.yaml")
    mean, deviation = moments["red"]
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["soc_ft"][
        "validator"
    ]
    red = state["baseline"]["metric reward/red"].double()
    assert mean == pytest.approx(red.mean().item(), rel=1e-12)
    assert deviation == pytest.approx(red.std(correction=0).item(), rel=1e-12)
    of_base = state["baseline"]["reward"].double()
    assert of_base.mean().item() == pytest.approx(0, abs=1e-5)
    assert of_base.std(correction=0).item() == pytest.approx(1.5, rel=1e-5)
    assert moments["redder"] == pytest.approx([3 * mean, 3 * deviation], rel=1e-5)

    results = json.loads((folder / "results.json").read_text())
    assert results["0"]["reward"] == pytest.approx(0, abs=1e-5)
    assert results["0"]["gain"] == 0
    assert results["3"]["gain"] == pytest.approx(results["3"]["reward"], abs=1e-5)
    assert results["3"]["gain"] > 0.1
    rows = [metrics for _, metrics in curve(folder)]
    for stage, number in (("val", 3), ("train", 3)):
        logged = [metrics for metrics in rows if f"{stage}/reward" in metrics]
        assert len(logged) == number
        for metrics in logged:
            red = metrics[f"{stage}/reward/red"]
            assert metrics[f"{stage}/reward/redder"] == pytest.approx(3 * red, rel=1e-4)
            expected = 1.5 * (red - mean) / deviation
            assert metrics[f"{stage}/reward"] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_scale_of_a_part_means_nothing(undisturbed: TinyRun, tiny_run: TinyRun) -> None:
    """Breaks when a raw score reaches the gradient."""
    folder = tiny_run(*SUM, *STANDARDISED, "reward.rewards.redder.scale=24")
    expected = undisturbed(*SUM, *STANDARDISED)
    assert largest_difference(weights(folder), weights(expected)) < 1e-4
    for (_, a), (_, b) in zip(curve(folder), curve(expected), strict=True):
        for name in a.keys() - {"train/reward/redder", "val/reward/redder"}:
            if not name.endswith("redder_error"):
                assert b[name] == pytest.approx(a[name], rel=1e-2, abs=1e-3), name


def test_stated_moments_are_used_and_nothing_is_measured(
    undisturbed: TinyRun, tiny_run: TinyRun
) -> None:
    """Breaks when stated moments are measured over, or lose a digit on their way."""
    measured = undisturbed(*SUM, *STANDARDISED)
    moments = read_mapping(measured / "reward_statistics.yaml")
    said = ",".join(f"{name}:[{mean},{std}]" for name, (mean, std) in moments.items())
    stated = tiny_run(*SUM, *STANDARDISED, f"reward.statistics={{{said}}}")
    assert curve(stated) == curve(measured)
    assert read_mapping(stated / "reward_statistics.yaml") == moments
    others = "reward.statistics={red:[1,2],redder:[3,6]}"
    shifted = tiny_run(*SUM, *STANDARDISED, others, "trainer.steps=1", folder="shifted")
    base = json.loads((shifted / "results.json").read_text())["0"]
    assert base["reward"] == pytest.approx(1.5 * (base["reward/red"] - 1) / 2, rel=1e-4)


def test_a_reward_without_gradient_is_standardised(tmp_path: Path) -> None:
    """Breaks when moments reach only what is differentiated."""
    size = ("+reward@reward.rewards.size=jpeg_compressibility", "+reward.coefficients.size=2")
    shared = [override for override in TINY if not override.startswith("method.")]
    config = composed(*shared, *SUM, *STANDARDISED, *size, "method=ddpo", "trainer.steps=1")
    train(config, check(config), tmp_path)
    moments = read_mapping(tmp_path / "reward_statistics.yaml")
    for _, metrics in curve(tmp_path):
        stage = "val" if "val/reward" in metrics else "train"
        standard = {
            name: (metrics[f"{stage}/reward/{name}"] - mean) / deviation
            for name, (mean, deviation) in moments.items()
        }
        expected = 2 * standard["red"] - 0.5 * standard["redder"] + 2 * standard["size"]
        assert metrics[f"{stage}/reward"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert json.loads((tmp_path / "results.json").read_text())["0"]["reward"] == pytest.approx(
        0, abs=1e-4
    )


@pytest.mark.parametrize("step", [1, 2])
def test_a_crashed_run_goes_on_with_the_same_moments(
    undisturbed: TinyRun, tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Breaks when a resumed run measures the model that it has come to, or the moments round."""
    with monkeypatch.context() as patch:
        crash_at(step, patch)
        with pytest.raises(MemoryError):
            tiny_run(*SUM, *STANDARDISED, "trainer.checkpoint_every=1")
    resumed, expected = tiny_run(*SUM, *STANDARDISED), undisturbed(*SUM, *STANDARDISED)
    assert largest_difference(weights(expected), weights(resumed)) == 0
    assert curve(expected) == curve(resumed)


def problem_of(*parts: str, **settings: Any) -> Any:
    one = dict.fromkeys(parts, 1.0)
    return SimpleNamespace(reward=Weighted({name: Redness() for name in parts}, one, **settings))


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[0.1, 0.1], [0.1, 0.1]], "all 4 of its scores .* are 0.1,"),
        ([[20.0, 20.00001], [20.0, 20.0]], "all 4 of its scores .* are 20,"),
        ([[0.0, 0.0]], "all 2 of its scores .* are 0,"),
        ([[3.0]], "all 1 of its scores .* are 3,"),
        ([[1.0, torch.nan], [torch.inf, 2.0]], "2 of its 4 scores .* are not finite,"),
    ],
)
def test_a_part_without_a_deviation_is_named(scores: list[list[float]], words: str) -> None:
    """Breaks when scores are divided by nothing, or by the rounding of scores that are equal."""
    parts = {"good": torch.tensor([[1.0, 2.0]]), "bad": torch.tensor(scores)}
    with pytest.raises(RunError, match=rf"^reward part bad: {words}.*reward\.statistics") as caught:
        standardise(problem_of("good", "bad", normalise=True), parts["good"], parts)
    assert "\n" not in str(caught.value)


def test_any_other_reward_is_left_alone() -> None:
    """Breaks when rewards that do not ask for it are standardised, or given ones are measured."""
    rewards, parts = torch.tensor([[1.0, 2.0]]), {"a": torch.tensor([[3.0, 3.0]])}
    stated = {"normalise": True, "statistics": {"a": (1.0, 2.0)}}
    for problem in (
        problem_of("a"),
        problem_of("a", **stated),
        SimpleNamespace(reward=JPEGCompressibility()),
    ):
        before: Any = problem.reward
        found: Tensor = standardise(problem, rewards, parts)
        assert found is rewards
        assert problem.reward is before


def test_a_run_that_cannot_standardise_its_reward_says_so(tiny_run: TinyRun) -> None:
    """Breaks when a run goes on without a reward."""
    broken = "reward.rewards.red._target_=tests.scorers.BrokenFor"
    with pytest.raises(RunError, match=r"^reward part red: 2 of its 4 scores"):
        tiny_run(*SUM, *STANDARDISED, broken)
