"""Plots are drawn from the journal, whatever part of a run it holds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from soc_ft.plotting.plots import OPTIMUM_LINE, curve, plot_training
from soc_ft.records.journal import (
    POSSIBLE_AT_LEAST,
    POSSIBLE_GAIN,
    POSSIBLE_OBJECTIVE,
    Journal,
    Record,
)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Of a run whose reward was once not a number."""
    journal = Journal(tmp_path / "metrics.jsonl")
    for step in range(1, 31):
        reward = math.nan if step == 7 else step / 30
        journal.append(step, {"train/reward": reward, "train/control_cost": 3.0})
        if step % 10 == 0:
            journal.append(step, {"val/reward": step / 30, "val/reward_error": 0.1})
    return journal.read()


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5
        return image.size


def test_a_curve_has_the_points_of_the_journal(records: list[Record]) -> None:
    """Breaks if records of another stage shift the steps of a curve."""
    steps, values = curve(records, "val/reward")
    assert steps.tolist() == [10, 20, 30]
    assert values == pytest.approx([1 / 3, 2 / 3, 1])
    assert len(curve(records, "nothing")[0]) == 0


def test_training_is_plotted_with_what_was_recorded(records: list[Record], tmp_path: Path) -> None:
    """Breaks if a metric that is missing leaves an empty panel, or NaN stops the plot."""
    plot_training(records, tmp_path / "two.png", "λ = 10")
    with_objective = [Record(1, 1, 0.0, {"val/objective": 1.0}), *records]
    plot_training(with_objective, tmp_path / "three.png")
    two, three = size(tmp_path / "two.png"), size(tmp_path / "three.png")
    assert three[0] == pytest.approx(1.5 * two[0], abs=2)


@pytest.mark.parametrize(
    ("metric", "possible"),
    [("gain", POSSIBLE_GAIN), ("gain", POSSIBLE_AT_LEAST), ("objective", POSSIBLE_OBJECTIVE)],
)
def test_what_is_possible_is_a_line_where_it_is_known(
    metric: str, possible: str, tmp_path: Path
) -> None:
    """Breaks if the exact optimum is computed, recorded, and never drawn, or drawn elsewhere."""

    def rows_of_the_line(level: float) -> np.ndarray:
        path = tmp_path / f"{level}.png"
        metrics = {f"val/{metric}": 0.0} | ({f"val/{possible}": level} if level else {})
        end = Record(2, 2, 0.0, {**metrics, f"val/{metric}": 1.0})
        plot_training([Record(1, 1, 0.0, metrics), end], path)
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        colour = np.array(ImageColor.getrgb(OPTIMUM_LINE["color"]))
        line = np.abs(pixels - colour).max(axis=2) < 4
        return np.flatnonzero(line.sum(axis=1) > pixels.shape[1] / 4)

    assert len(rows_of_the_line(0.0)) == 0
    assert rows_of_the_line(0.75).max() < rows_of_the_line(0.25).min()


def test_a_run_that_just_began_is_plotted(records: list[Record], tmp_path: Path) -> None:
    """Breaks if a report on a running sweep fails on the first step of a job."""
    plot_training(records[:1], tmp_path / "first.png")
    assert size(tmp_path / "first.png")


def test_a_journal_without_curves_is_refused(tmp_path: Path) -> None:
    """Breaks if an empty picture is shown for a run that recorded nothing."""
    with pytest.raises(ValueError, match="holds none of reward"):
        plot_training([], tmp_path / "nothing.png")
