"""Curves of a setting, averaged over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soc_ft.evaluation.statistics import mean_and_error
from soc_ft.plotting.plots import moving_mean
from soc_ft.reporting.reading import RunResult
from soc_ft.reporting.settings import Setting

_ADJOINT_NORMS = ("train/adjoint_norm/", "adjoint_norm/")


@dataclass(frozen=True)
class Curve:
    """Means over runs with their standard errors, NaN where only one run has a value.

    Attributes:
        x: (n,) where, in rising order.
        mean, error: (n,).
    """

    x: NDArray[np.int64] | NDArray[np.float64]
    mean: NDArray[np.float64]
    error: NDArray[np.float64]

    def __bool__(self) -> bool:
        """Whether there is a point to draw."""
        return len(self.x) > 0


def metric_curve(setting: Setting, name: str, smooth: bool = False) -> Curve:
    """A metric of the journal by optimizer step, each step over the runs that have it.

    The error of a validation that only one run has is that over its prompts.

    Args:
        setting: whose runs are averaged.
        name: such as ``train/reward`` or ``val/gain``.
        smooth: take the moving mean of each run first.
    """
    runs = _with_journal(setting)
    points = [_points(run, name, smooth) for run in runs]
    found = _average(points)
    if len(runs) == 1:
        errors = _points(runs[0], f"{name}_error", smooth=False)
        error = np.array([errors.get(int(x), math.nan) for x in found.x])
        return Curve(found.x, found.mean, error)
    return found


def adjoint_profile(setting: Setting) -> Curve:
    """Norm of the lean adjoint by step of the trajectory, divided by that of the terminal step.

    The ratio is taken within each optimizer step, and averaged over those of a run that reached
    the step of the trajectory.
    """
    return _average([_profile(run) for run in _with_journal(setting)])


def _with_journal(setting: Setting) -> list[RunResult]:
    """One run a seed, the last."""
    return list({run.seed: run for run in setting.runs if run.journal}.values())


def _points(run: RunResult, name: str, smooth: bool) -> dict[int, float]:
    steps, values = run.journal.series(name)
    if smooth and len(values):
        values = moving_mean(values)
    return dict(zip(steps.tolist(), values.tolist(), strict=True))


def _profile(run: RunResult) -> dict[int, float]:
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for prefix in _ADJOINT_NORMS:
        for numbers, norms in run.journal.profiles(prefix):
            ratios = norms[norms[:, -1] > 0]
            ratios = ratios / ratios[:, -1:]
            finite = np.isfinite(ratios)
            for k, total, count in zip(
                numbers, np.where(finite, ratios, 0).sum(0), finite.sum(0), strict=True
            ):
                sums[k] = sums.get(k, 0.0) + float(total)
                counts[k] = counts.get(k, 0) + int(count)
    return {k: sums[k] / counts[k] for k in sorted(sums) if counts[k]}


def _average(points: Sequence[Mapping[int, float]]) -> Curve:
    places = sorted({x for each in points for x in each})
    return average_at([(x, [each.get(x, math.nan) for each in points]) for x in places])


def average_at(points: Sequence[tuple[float, Sequence[float]]]) -> Curve:
    """The curve through places x with the values of several runs there, NaN of which are none."""
    finite = [(x, [value for value in values if math.isfinite(value)]) for x, values in points]
    estimates = [(x, mean_and_error(values)) for x, values in finite if values]
    return Curve(
        np.array([x for x, _ in estimates]),
        np.array([estimate.mean for _, estimate in estimates]),
        np.array([estimate.error for _, estimate in estimates]),
    )
