"""Curves over the optimizer steps, and over the steps of the trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soc_ft.plotting.plots import new_figure, save_figure, tidy
from soc_ft.reporting.budgets import COSTS, at_equal_cost, budget_curve
from soc_ft.reporting.comparison import (
    BASE_LINE,
    GREY,
    INK,
    WIDTH,
    Comparison,
    Look,
    add_legend,
    wrapped,
)
from soc_ft.reporting.curves import Curve, adjoint_profile, metric_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_BAND = (
    "Means over the seeds that reached the step, with their standard error as a band; for one seed "
    "that over held-out prompts."
)


def plot_training(comparison: Comparison, path: Path) -> str:
    """Reward by optimizer step; returns the caption."""
    panels = [
        ("train/reward", True, "reward, training batches\n(moving mean)"),
        ("val/gain", False, "reward gain over the base\nmodel, held-out prompts"),
    ]
    drawn = _plot_panels(comparison, panels, path, log=False)
    return f"Reward by optimizer step. {_BAND}" if drawn else ""


def plot_budgets(comparison: Comparison, path: Path) -> str:
    """Gain by what was spent on it, where settings spend differently; returns the caption."""
    uneven = at_equal_cost(comparison.settings)
    if not uneven:
        return ""
    looks = comparison.looks()
    figure = new_figure(WIDTH, 3.8)
    for number, equal in enumerate(uneven):
        axes = figure.add_subplot(1, len(uneven), number + 1, sharey=next(iter(figure.axes), None))
        for setting in comparison.settings:
            if setting.label in equal.gains:
                points = budget_curve(setting, equal.cost)
                _draw(axes, points, setting.label, looks[setting.label], "o")
        axes.axhline(0, label="base model", **BASE_LINE)
        axes.axvline(equal.budget, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xscale("log", nonpositive="mask")
        axes.set_xlabel(wrapped(COSTS[equal.cost]))
        if number == 0:
            axes.set_ylabel("reward gain over the base\nmodel, held-out prompts")
        _plain_numbers(axes.xaxis, (1, 3))
        tidy(axes)
    add_legend(figure)
    save_figure(figure, path)
    return (
        "Gain on held-out prompts by what training had spent: evaluations of the network, rewards, "
        "seconds; logarithmic. The dotted line is what the cheapest setting spends in all, where "
        "the table compares. Means over seeds with their standard error as a band."
    )


def plot_control_cost(comparison: Comparison, path: Path) -> str:
    """Control cost by optimizer step; returns the caption."""
    panels = [
        ("train/control_cost", True, "control cost (nats),\ntraining batches (moving mean)"),
        ("val/control_cost", False, "control cost (nats),\nheld-out prompts"),
    ]
    if not _plot_panels(comparison, panels, path, log=True):
        return ""
    return (
        "Control cost, the distance from the base model, by optimizer step; logarithmic, without "
        f"what is below a thousandth of the largest value. {_BAND}"
    )


def plot_adjoint_norm(comparison: Comparison, path: Path) -> str:
    """Norm of the lean adjoint by step of the trajectory; returns the caption."""
    from matplotlib.ticker import MaxNLocator

    profiles = [(setting, adjoint_profile(setting)) for setting in comparison.settings]
    if not any(profile for _, profile in profiles):
        return ""
    looks = comparison.looks()
    figure = new_figure(WIDTH, 3.8)
    axes = figure.add_subplot()
    for setting, profile in profiles:
        _draw(axes, profile, setting.label, looks[setting.label], "o")
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("step k of the trajectory, from K (picture) back to 0 (noise)")
    axes.set_ylabel("mean norm of the adjoint $a_k$,\ndivided by that of the terminal $a_K$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_xaxis()
    _plain_numbers(axes.yaxis)
    tidy(axes)
    add_legend(figure)
    save_figure(figure, path)
    return (
        "Mean norm of the lean adjoint by step of the trajectory, divided by its norm at the "
        "terminal step K, where its solve begins. The ratio is averaged over all optimizer steps, "
        "then over seeds, with their standard error as a band. A solve stops at the smallest step "
        "that is regressed on, so fewer samples count the smaller k is."
    )


def _plot_panels(
    comparison: Comparison, panels: Sequence[tuple[str, bool, str]], path: Path, log: bool
) -> bool:
    """A panel for each (metric, whether to smooth it, label) that was recorded, if any was."""
    from matplotlib.ticker import MaxNLocator

    looks = comparison.looks()
    found = [
        (name, label, [(s, metric_curve(s, name, smooth)) for s in comparison.settings])
        for name, smooth, label in panels
    ]
    found = [panel for panel in found if any(c and c.x[-1] > 0 for _, c in panel[2])]
    if not found:
        return False
    figure = new_figure(WIDTH, 3.6)
    for number, (name, label, curves) in enumerate(found):
        axes = figure.add_subplot(1, len(found), number + 1)
        for setting, points in curves:
            marker = "o" if name.startswith("val/") or len(points.x) == 1 else ""
            _draw(axes, points, setting.label, looks[setting.label], marker)
        if log:
            _logarithmic(axes, [points for _, points in curves])
        elif name == "val/gain":
            axes.axhline(0, label="base model", **BASE_LINE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="optimizer step", ylabel=label)
        tidy(axes)
    add_legend(figure)
    save_figure(figure, path)
    return True


def _draw(axes: Axes, points: Curve, label: str, look: Look, marker: str) -> None:
    if not points:
        return
    axes.plot(
        points.x,
        points.mean,
        color=look.colour,
        linestyle=look.line,
        linewidth=1.6,
        marker=marker,
        markersize=4,
        label=wrapped(label),
    )
    if np.isfinite(points.error).any():
        low, high = points.mean - points.error, points.mean + points.error
        axes.fill_between(points.x, low, high, color=look.colour, alpha=0.15, linewidth=0)


def _logarithmic(axes: Axes, curves: Sequence[Curve]) -> None:
    """The cost begins close to zero, which would stretch the axis without end."""
    values = np.concatenate([points.mean for points in curves])
    if (values > 0).any():
        top, bottom = values.max(), values[values > 0].min()
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(max(top / 1000, bottom / 2), 2 * top)
        _plain_numbers(axes.yaxis)


def _plain_numbers(axis: Axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """No powers of ten; those numbers of each decade where there are few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=subs if high / low < 300 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """``30k`` for 30,000."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
