"""Means and intervals, checked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from soc_ft.reporting.aggregating import (
    Interval,
    base_models,
    evaluations,
    over_seeds,
    paired_differences,
    summarise,
)
from soc_ft.reporting.reading import read
from soc_ft.reporting.settings import Setting, group_by_setting
from soc_ft.reporting.tables import evaluation_table
from tests.reporting.synthetic import configuration, metrics, write_evaluation, write_run

T_OF_2, T_OF_1 = 4.302653, 12.706205
"""Student's t at 97.5 % with two degrees of freedom and with one, from a printed table."""


def settings_in(folder: Path) -> list[Setting]:
    return group_by_setting(read(folder).runs)


def write_seeds(
    folder: Path, setting: str, rewards: list[float], first: int = 0, **config: float
) -> None:
    """A run for each seed, with these rewards after training and seed / 10 before."""
    for seed, reward in enumerate(rewards, start=first):
        write_run(
            folder / f"{setting}-{seed}",
            [setting, f"seed={seed}"],
            {0: metrics(seed / 10), 4: metrics(reward, reward - seed / 10)},
            configuration(seed, **config),
        )


def test_three_seeds_have_students_interval() -> None:
    """Breaks if the interval is the normal one, or divides by n instead of n - 1."""
    interval = over_seeds([1.0, 2.0, 6.0])
    assert interval.mean == pytest.approx(3.0)
    assert interval.half_width == pytest.approx(T_OF_2 * math.sqrt(7.0) / math.sqrt(3), rel=1e-6)
    assert interval.seeds == 3


def test_the_summary_of_a_setting_is_over_its_seeds(tmp_path: Path) -> None:
    """Breaks if errors over prompts get into the interval of several seeds."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0, 1.4])
    summary = summarise(settings_in(tmp_path / "s")[0])
    reward, gain = summary.metrics["reward"], summary.metrics["gain"]
    assert reward.mean == pytest.approx(1.2)
    assert reward.half_width == pytest.approx(T_OF_1 * 0.2, rel=1e-6)
    assert gain.mean == pytest.approx((1.0 + 1.3) / 2)
    assert (summary.seconds, summary.evaluations, summary.peak_memory) == (40.0, 120.0, 104.0)


def test_one_seed_has_the_interval_over_prompts(tmp_path: Path) -> None:
    """Breaks if a single seed has no interval, or one that claims to be over seeds."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0])
    interval = summarise(settings_in(tmp_path / "s")[0]).metrics["reward"]
    assert interval.half_width == pytest.approx(1.96 * 0.1)
    assert interval.seeds == 1


def test_costs_are_those_until_the_step_of_the_row(tmp_path: Path) -> None:
    """Breaks if a running job counts the seconds after the validation that the row shows."""
    half = {0: metrics(1.0), 2: metrics(1.5)}
    write_run(tmp_path / "s/0", validations=half, finished=False, train_steps=3)
    summary = summarise(settings_in(tmp_path / "s")[0])
    assert (summary.seconds, summary.evaluations) == (20.0, 60.0)


def test_the_base_model_is_averaged_once_a_seed(tmp_path: Path) -> None:
    """Breaks if a seed that many settings share makes the base model look surer than it is."""
    for strength in (1.0, 10.0):
        write_seeds(tmp_path / "s", f"lambda={strength:g}", [1.0, 2.0], strength=strength)
    write_seeds(tmp_path / "s", "lambda=100", [1.0], first=5)
    (base,) = base_models(settings_in(tmp_path / "s"))
    assert base.seeds == 3
    assert base.metrics["reward"].mean == pytest.approx((0.0 + 0.1 + 0.5) / 3)
    assert not {"gain", "control_cost"} & set(base.metrics)
    assert base.label == "base model"


def test_two_rewards_have_two_base_models(tmp_path: Path) -> None:
    """Breaks if rewards of different kinds are averaged into one base model."""
    for name in ("shapes", "clip"):
        for strength in (1.0, 10.0):
            overrides = [f"reward={name}", f"lambda={strength:g}"]
            config = configuration(strength=strength, reward={"_target_": name})
            write_run(tmp_path / f"s/{name}{strength:g}", overrides, config=config)
    labels = [base.label for base in base_models(settings_in(tmp_path / "s"))]
    assert labels == ["base model of reward=clip", "base model of reward=shapes"]


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Breaks if the spread between seeds gets into the interval of a difference."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0, 5.0, 9.0], strength=1.0)
    write_seeds(tmp_path / "s", "lambda=10", [2.0, 5.8], strength=10.0)
    (difference,) = paired_differences(settings_in(tmp_path / "s"))
    assert difference.reference.label == "lambda=1"
    assert difference.seeds == 2
    interval = difference.metrics["reward"]
    assert interval.mean == pytest.approx(0.9)
    assert interval.half_width == pytest.approx(T_OF_1 * 0.1, rel=1e-6)
    assert "gain" not in difference.metrics


def test_a_single_seed_has_no_difference(tmp_path: Path) -> None:
    """Breaks if a difference without an interval passes for a result."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0], strength=1.0)
    write_seeds(tmp_path / "s", "lambda=10", [2.0], strength=10.0)
    assert paired_differences(settings_in(tmp_path / "s")) == []


def test_evaluations_are_averaged_sampling_by_sampling(tmp_path: Path) -> None:
    """Breaks if samplings or models are mixed, a base model that all runs share counts as many, or
    a run without an evaluation is missed."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0, 2.0], strength=1.0)
    write_seeds(tmp_path / "s", "lambda=10", [3.0], strength=10.0)
    runs = sorted(each.parent for each in (tmp_path / "s").glob("*/config.yaml"))
    assert evaluations(settings_in(tmp_path / "s")) == []
    for run, tuned in zip(runs, (2.0, 4.0, 7.0), strict=True):
        write_evaluation(run, {"memoryless": (1.0, tuned), "pretrained": (0.5, tuned - 1)})
    found = evaluations(settings_in(tmp_path / "s"))
    assert [(each.sampling, each.setting and each.setting.label, each.seeds) for each in found] == [
        (f"{schedule}, eta 0, 5 steps", label, seeds)
        for schedule in ("memoryless", "pretrained")
        for label, seeds in ((None, 1), ("lambda=1", 2), ("lambda=10", 1))
    ]
    base, one, ten = (each.metrics for each in found[:3])
    assert base["reward"].half_width == pytest.approx(1.96 * 0.1)
    assert "reward_difference" not in base
    assert (one["reward"].mean, one["reward_difference"].mean) == (3.0, 2.0)
    assert one["reward"].half_width == pytest.approx(T_OF_1 * 1.0, rel=1e-6)
    assert ten["reward_difference"].half_width == pytest.approx(1.96 * 0.05)
    assert found[5].metrics["reward"].mean == 6.0


def test_what_training_leaves_is_no_other_sampling(tmp_path: Path) -> None:
    """Breaks if a report repeats its result as an evaluation, or mixes evaluated runs with one that
    was not; a single other sampling counts."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0, 2.0])
    first, second = sorted(each.parent for each in (tmp_path / "s").glob("*/config.yaml"))
    for run in (first, second):
        write_evaluation(run, {"fine-tuning schedule": (1.0, 2.0)})
    assert evaluations(settings_in(tmp_path / "s")) == []
    write_evaluation(first, {"pretrained": (1.0, 2.0)})
    found = evaluations(settings_in(tmp_path / "s"))
    assert [(each.sampling, each.seeds) for each in found] == [
        ("pretrained, eta 0, 5 steps", 1)
    ] * 2


def test_what_a_reward_guided_is_not_mixed_with_what_was_fine_tuned(tmp_path: Path) -> None:
    """Breaks if guidance of the base model passes for fine-tuning in a report's means."""
    write_seeds(tmp_path / "s", "lambda=1", [1.0, 2.0])
    first, second = sorted(each.parent for each in (tmp_path / "s").glob("*/config.yaml"))
    write_evaluation(first, {"pretrained": (1.0, 2.0)})
    write_evaluation(second, {"pretrained": (1.0, 9.0)}, "reward-guided, lambda 3")
    found = evaluations(settings_in(tmp_path / "s"))
    models = {each.model: each.metrics["reward"].mean for each in found}
    assert models == {"base model": 1.0, "fine-tuned": 2.0, "reward-guided, lambda 3": 9.0}
    table = evaluation_table(found)
    assert [row[table.header.index("instead")] for row in table.rows] == ["", "", found[2].model]


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.35123, 0.17654, 3), "0.35 ± 0.18"),
        (Interval(-0.0013, 0.00694, 3), "-0.0013 ± 0.0069"),
        (Interval(25.59, 2.668, 3), "25.6 ± 2.7"),
        (Interval(3.6, 13.63, 3), "4 ± 14"),
        (Interval(2.0, 0.0, 3), "2"),
        (Interval(0.45203673809933437, 1.7e-16, 3), "0.452"),
        (Interval(0.123456, math.nan, 1), "0.1235"),
        (Interval(math.nan, math.nan, 3), "nan"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_warrants(
    interval: Interval, text: str
) -> None:
    """Breaks if digits are shown that are noise, or a zero interval divides by zero."""
    assert str(interval) == text
