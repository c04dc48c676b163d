"""What settings gain for the same cost: evaluations of the network, rewards, or time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soc_ft.reporting.aggregating import Interval, over_seeds
from soc_ft.reporting.curves import Curve, average_at
from soc_ft.reporting.reading import RunResult
from soc_ft.reporting.settings import Setting

COSTS = {
    "evaluations": "evaluations of the network (forward and backward)",
    "queries": "pictures that the reward scored",
    "seconds": "seconds of optimizer steps",
}
"""In what training is paid for, and how an axis says it."""

_ALIKE = 1.1
"""Settings whose totals differ by less than this factor are compared step by step anyway."""


@dataclass(frozen=True)
class EqualCost:
    """The gains of settings where each has spent as much as the cheapest spends in all.

    Attributes:
        cost: of :data:`COSTS`.
        budget: how much of it.
        gains: by the setting's label, over its seeds; between validations they are interpolated.
    """

    cost: str
    budget: float
    gains: dict[str, Interval]


def at_equal_cost(settings: Sequence[Setting]) -> list[EqualCost]:
    """By each cost that was recorded; none if all settings spend about as much.

    What the clock says does not decide that. Settings whose gains were not measured as those of the
    first are left out.
    """
    measured = [setting for setting in settings if setting.measured]
    measured = [setting for setting in measured if setting.base_key == measured[0].base_key]
    found, uneven = [], False
    for cost in COSTS:
        totals = [
            sum(_spent(run, cost, s.step) for run in s.measured.values()) / len(s.measured)
            for s in measured
        ]
        if len(totals) < 2 or not min(totals) > 0:
            continue
        budget = min(totals)
        uneven |= cost != "seconds" and max(totals) > _ALIKE * budget
        gains = {setting.label: _gains_at(setting, cost, budget) for setting in measured}
        found.append(EqualCost(cost, budget, gains))
    return found if uneven else []


def budget_curve(setting: Setting, cost: str) -> Curve:
    """The gain on held-out prompts by what was spent, validation by validation.

    Args:
        setting: whose runs are averaged, each point over the runs that have its validation; what
            they had spent then is averaged too.
        cost: of :data:`COSTS`.
    """
    points = []
    for step in sorted({step for run in setting.measured.values() for step in run.validations}):
        runs = [run for run in setting.measured.values() if step in run.validations]
        gains = [run.validations[step].get("gain", math.nan) for run in runs]
        points.append((float(np.mean([_spent(run, cost, step) for run in runs])), gains))
    return average_at(points)


def _gains_at(setting: Setting, cost: str, budget: float) -> Interval:
    """Over seeds; a run that spent a little less than the budget counts with its last gain."""
    gains = []
    for run in setting.measured.values():
        points = [
            (_spent(run, cost, step), metrics["gain"])
            for step, metrics in sorted(run.validations.items())
            if math.isfinite(metrics.get("gain", math.nan))
        ]
        if points:
            spent, gained = zip(*points, strict=True)
            gains.append(float(np.interp(budget, spent, gained)))
    return over_seeds(gains) if gains else Interval(math.nan, math.nan, 0)


def _spent(run: RunResult, cost: str, step: int) -> float:
    """How much a run had spent when it had done so many optimizer steps."""
    if cost == "queries":
        return run.totals("reward_", step).get("queries", 0.0)
    return sum(run.totals(f"{cost}_", step).values())
