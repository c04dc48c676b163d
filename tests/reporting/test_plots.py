"""Plots are drawn from whatever part of a sweep there is."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
from PIL import Image

from soc_ft.reporting.aggregating import base_models, summarise
from soc_ft.reporting.comparison import Comparison
from soc_ft.reporting.reading import read
from soc_ft.reporting.settings import group_by_setting
from soc_ft.reporting.writing import PLOTS, draw
from tests.reporting.synthetic import configuration, metrics, write_run

ALL = [file for file, _, _ in PLOTS if file != "budgets.png"]
"""The last compares settings of unequal cost alone."""


def compare(folder: Path) -> Comparison:
    settings = group_by_setting(read(folder).runs)
    measured = [summarise(setting) for setting in settings if setting.measured]
    return Comparison(measured, base_models(settings), settings)


def drawn(folder: Path, output: Path) -> list[str]:
    """Files that were drawn, without a warning, in one width."""
    output.mkdir()
    comparison = compare(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = [picture.file for picture in draw(comparison, output)]
    assert sorted(files) == sorted(path.name for path in output.iterdir())
    for file in files:
        with Image.open(output / file) as image:
            assert image.format == "PNG"
            assert image.width == 1500
    return files


def write_grid(folder: Path, *labels: str, seeds: int = 2) -> None:
    for place, label in enumerate(labels):
        strength = float(label.partition("lambda=")[2] or 100)
        for seed in range(seeds):
            name = f"{place}-{seed}"
            write_run(folder / name, label.split(), config=configuration(seed, strength))


@pytest.mark.parametrize(
    "labels",
    [
        ("lambda=1", "lambda=10"),
        ("cfg_mode=none lambda=1", "cfg_mode=none lambda=10", "cfg_mode=full lambda=1"),
        ("cfg_mode=none", "cfg_mode=full"),
        (f"trainer.{'very' * 20}_long=1 prompts=$x_$^", "trainer.lr=1e-5"),
        tuple(f"trainer.lr={n}e-5" for n in range(1, 11)),
        ("only",),
    ],
)
def test_sweeps_of_any_kind_have_all_plots(labels: tuple[str, ...], tmp_path: Path) -> None:
    """Breaks if long names leave no room, a dollar sign is taken for a formula, ten settings run
    out of colours, or a sweep over two keys is not drawn."""
    write_grid(tmp_path / "s", *labels)
    assert drawn(tmp_path / "s", tmp_path / "out") == ALL


def test_lambda_is_the_axis_where_it_alone_tells_settings_apart(tmp_path: Path) -> None:
    """Breaks if lines join settings that differ in more than lambda."""
    labels = ("cfg_mode=none lambda=10", "cfg_mode=none lambda=1", "cfg_mode=full lambda=1")
    write_grid(tmp_path / "s", *labels)
    lines = compare(tmp_path / "s").over_lambda()
    assert {label: [s.setting.strength for s in line] for label, line in lines.items()} == {
        "cfg_mode=none": [1.0, 10.0],
        "cfg_mode=full": [1.0],
    }
    write_grid(tmp_path / "t", "experiment=a lambda=1", "experiment=b lambda=10")
    assert compare(tmp_path / "t").over_lambda() == {}


def test_settings_that_have_come_less_far_are_marked(tmp_path: Path) -> None:
    """Breaks if a plot of half a sweep compares different steps without a word."""
    write_run(tmp_path / "s/0", ["cfg_mode=none"])
    half = {0: metrics(1.0), 2: metrics(1.5)}
    write_run(tmp_path / "s/1", ["cfg_mode=full"], half, finished=False)
    comparison = compare(tmp_path / "s")
    titles = [comparison.title(setting) for setting in comparison.settings]
    assert titles == ["cfg_mode=none (step 4)", "cfg_mode=full (step 2)"]
    captions = [picture.caption for picture in draw(comparison, tmp_path)]
    assert captions[0].endswith("Settings have not all come to the same step yet.")


def test_two_rewards_are_drawn_with_their_own_base_models(tmp_path: Path) -> None:
    """Breaks if the second base model is missing, or drawing both fails."""
    for place, (reward, strength) in enumerate([("a", 1), ("a", 10), ("b", 1), ("b", 10)]):
        config = configuration(0, strength, reward={"_target_": reward})
        overrides = [f"reward={reward}", f"lambda={strength}"]
        write_run(tmp_path / f"s/{place}", overrides, config=config)
    comparison = compare(tmp_path / "s")
    assert len(comparison.bases) == 2
    owners = [comparison.base_of(setting) for setting in comparison.settings]
    assert owners == [comparison.bases[0]] * 2 + [comparison.bases[1]] * 2
    assert drawn(tmp_path / "s", tmp_path / "out") == ALL


def test_settings_that_cost_more_are_drawn_by_what_they_cost(tmp_path: Path) -> None:
    """Breaks if a comparison of methods shows the optimizer steps alone."""
    long = {0: metrics(1.0), 4: metrics(1.5, 0.5), 8: metrics(2.0, 1.0)}
    write_run(tmp_path / "s/0", ["method=a"], long, train_steps=8)
    write_run(tmp_path / "s/1", ["method=b"])
    assert "budgets.png" in drawn(tmp_path / "s", tmp_path / "out")


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    """Breaks if runs of an older version, without diversity and norms, fail or leave an empty
    picture, or an earlier report's picture stays."""
    values = {"reward": 1.0, "reward_error": 0.1}
    write_run(tmp_path / "s/0", validations={0: values, 4: values}, train_steps=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/adjoint_norm.png").touch()
    draw(compare(tmp_path / "s"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reward.png"]


def test_a_run_that_diverged_does_not_stop_the_plots(tmp_path: Path) -> None:
    """Breaks if NaN or an infinity reaches an axis."""
    bad = metrics(math.nan, math.inf, diversity=math.nan)
    write_run(tmp_path / "s/0", ["lambda=1"], {0: metrics(1.0), 4: bad}, configuration(0, 1.0))
    write_run(tmp_path / "s/1", ["lambda=10"], config=configuration(0, 10.0))
    write_run(tmp_path / "s/2", ["lambda=100"], config=configuration(0, 100.0))
    assert drawn(tmp_path / "s", tmp_path / "out") == ALL
