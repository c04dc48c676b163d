"""What settings gain for the same cost, checked by hand: a step is 30 evaluations and 10 s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from soc_ft.reporting.budgets import EqualCost, at_equal_cost, budget_curve
from soc_ft.reporting.reading import read
from soc_ft.reporting.settings import Setting, group_by_setting
from tests.reporting.synthetic import configuration, metrics, write_run


def write_setting(
    folder: Path, label: str, gains: Sequence[float], seeds: Sequence[int] = (0,)
) -> None:
    """Runs with a validation every two steps, whose gains are those given plus the seed."""
    for seed in seeds:
        curve = {2 * n: metrics(1.0, gain + (seed if n else 0)) for n, gain in enumerate(gains)}
        steps = 2 * (len(gains) - 1)
        write_run(
            folder / f"{label}-{seed}",
            [label, f"seed={seed}"],
            curve,
            configuration(seed),
            train_steps=steps,
        )


def settings_of(folder: Path) -> list[Setting]:
    """The settings of the written runs."""
    return group_by_setting(read(folder).runs)


def by_cost(compared: Sequence[EqualCost]) -> dict[str, EqualCost]:
    """Each cost once."""
    return {each.cost: each for each in compared}


def test_gains_are_compared_where_the_cheapest_stops(tmp_path: Path) -> None:
    """Breaks if the last validation of the longer run is taken, or the one before instead of what
    lies between: a run of 6 steps against one of 3 (its gain at steps 2 and 4: 1 and 3)."""
    write_setting(tmp_path, "method=long", [0.0, 1.0, 3.0, 9.0])
    config = configuration(0)
    write_run(
        tmp_path / "short",
        ["method=short"],
        {0: metrics(1.0), 3: metrics(1.0, 5.0)},
        config,
        train_steps=3,
    )
    compared = by_cost(at_equal_cost(settings_of(tmp_path)))
    assert compared["evaluations"].budget == 90.0
    assert compared["seconds"].budget == 30.0
    gains = {label: gain.mean for label, gain in compared["evaluations"].gains.items()}
    assert gains == pytest.approx({"method=long": 2.0, "method=short": 5.0})


def test_intervals_are_over_seeds(tmp_path: Path) -> None:
    """Breaks if seeds are pooled: gains 1 and 2 at the common budget."""
    write_setting(tmp_path, "method=long", [0.0, 1.0, 9.0], seeds=(0, 1))
    write_setting(tmp_path, "method=short", [0.0, 4.0])
    gain = by_cost(at_equal_cost(settings_of(tmp_path)))["evaluations"].gains["method=long"]
    assert (gain.mean, gain.seeds) == (1.5, 2)


def test_what_costs_the_same_is_not_compared_again(tmp_path: Path) -> None:
    """Breaks if every sweep over lambda gets a table that repeats its result."""
    write_setting(tmp_path, "lambda=1", [0.0, 1.0])
    write_setting(tmp_path, "lambda=10", [0.0, 2.0])
    assert at_equal_cost(settings_of(tmp_path)) == []


def test_other_validations_are_left_out(tmp_path: Path) -> None:
    """Breaks if gains of different rewards stand in one column."""
    write_setting(tmp_path, "method=a", [0.0, 1.0])
    write_setting(tmp_path, "method=b", [0.0, 1.0, 2.0])
    other = configuration(0, reward={"_target_": "another"})
    write_run(tmp_path / "other", ["reward=another"], config=other)
    compared = at_equal_cost(settings_of(tmp_path))
    assert list(compared[0].gains) == ["method=a", "method=b"]


def test_a_gain_that_is_not_finite_counts_for_nothing(tmp_path: Path) -> None:
    """Breaks if a run that diverged gives its setting a number, or stops the report."""
    write_setting(tmp_path, "method=a", [0.0, math.inf])
    write_setting(tmp_path, "method=b", [0.0, 1.0, 2.0])
    gains = by_cost(at_equal_cost(settings_of(tmp_path)))["evaluations"].gains
    assert gains["method=a"].mean == 0.0
    assert gains["method=b"].mean == 1.0


def test_the_curve_has_a_point_for_each_validation(tmp_path: Path) -> None:
    """Breaks if costs are those of single steps, or evaluations forward alone."""
    write_setting(tmp_path, "method=a", [0.0, 1.0, 2.0], seeds=(0, 1))
    (setting,) = settings_of(tmp_path)
    curve = budget_curve(setting, "evaluations")
    assert curve.x.tolist() == [0.0, 60.0, 120.0]
    assert curve.mean == pytest.approx([0.0, 1.5, 2.5])
    assert budget_curve(setting, "seconds").x.tolist() == [0.0, 20.0, 40.0]
