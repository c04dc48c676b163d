"""Curves over seeds, checked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.records.journal import Journal
from soc_ft.reporting.curves import adjoint_profile, metric_curve
from soc_ft.reporting.reading import read
from soc_ft.reporting.settings import Setting, group_by_setting
from tests.reporting.synthetic import configuration, metrics, write_run


def write_curves(folder: Path, *curves: dict[int, dict[str, float]]) -> Setting:
    """One setting with a seed for each of the given metrics by optimizer step."""
    for seed, curve in enumerate(curves):
        config = configuration(seed)
        run = write_run(folder / str(seed), [], {}, config, finished=False, train_steps=0)
        journal = Journal(run / "metrics.jsonl")
        for step, values in curve.items():
            journal.append(step, values)
    (setting,) = group_by_setting(read(folder).runs)
    return setting


def test_a_curve_is_the_mean_over_the_seeds_that_reached_a_step(tmp_path: Path) -> None:
    """Breaks if a seed that stopped early cuts the curve short, or counts as zero."""
    setting = write_curves(
        tmp_path / "s",
        {1: {"train/reward": 1.0}, 2: {"train/reward": 3.0}},
        {1: {"train/reward": 2.0}},
    )
    curve = metric_curve(setting, "train/reward")
    assert curve.x.tolist() == [1, 2]
    assert curve.mean == pytest.approx([1.5, 3.0])
    assert curve.error[0] == pytest.approx(0.5)
    assert curve.error[1] != curve.error[1]


def test_a_single_seed_has_the_error_over_prompts(tmp_path: Path) -> None:
    """Breaks if the only seed of a setting is drawn without a band."""
    write_run(tmp_path / "s/0", validations={0: metrics(1.0), 4: metrics(2.0, 1.0)})
    (setting,) = group_by_setting(read(tmp_path / "s").runs)
    curve = metric_curve(setting, "val/gain")
    assert curve.mean == pytest.approx([0.0, 1.0])
    assert curve.error == pytest.approx([0.1, 0.1])


def test_the_profile_is_relative_to_the_terminal_norm(tmp_path: Path) -> None:
    """Breaks if ratios mix the norms of different optimizer steps: step 0 is reached in one of
    two, whose adjoints are ten times as large."""
    setting = write_curves(
        tmp_path / "s",
        {
            1: {"train/adjoint_norm/00": 60.0, "train/adjoint_norm/10": 20.0},
            2: {"train/adjoint_norm/09": 4.0, "train/adjoint_norm/10": 2.0},
        },
    )
    profile = adjoint_profile(setting)
    assert profile.x.tolist() == [0, 9, 10]
    assert profile.mean == pytest.approx([3.0, 2.0, 1.0])


def test_profiles_are_averaged_over_seeds(tmp_path: Path) -> None:
    """Breaks if a seed with more optimizer steps counts more, or names without a stage do not."""
    step = {"adjoint_norm/00": 2.0, "adjoint_norm/01": 1.0}
    twice = {1: step, 2: step}
    once = {1: {"adjoint_norm/00": 4.0, "adjoint_norm/01": 1.0}}
    profile = adjoint_profile(write_curves(tmp_path / "s", twice, once))
    assert profile.mean == pytest.approx([3.0, 1.0])
    assert profile.error == pytest.approx([1.0, 0.0])


def test_without_records_there_is_no_curve(tmp_path: Path) -> None:
    """Breaks if a job that has not started stops the plots of the others."""
    setting = write_curves(tmp_path / "s", {})
    assert not metric_curve(setting, "train/reward")
    assert not adjoint_profile(setting)
