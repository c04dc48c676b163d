"""Reward after training: by lambda or by setting, and against diversity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soc_ft.plotting.labels import place_labels
from soc_ft.plotting.plots import OPTIMUM_LINE, POSSIBLE, new_figure, save_figure, tidy
from soc_ft.reporting.aggregating import BaseModel, Interval, Summary
from soc_ft.reporting.comparison import (
    BASE_LINE,
    GREY,
    INK,
    MOST_NAMED,
    PALETTE,
    WIDTH,
    Comparison,
    add_legend,
    strength,
    wrapped,
)
from soc_ft.reporting.reading import Metrics, RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "reward": "reward, held-out prompts",
    "gain": "reward gain over the base model",
    "diversity": "diversity of a prompt's pictures",
}


def plot_reward(comparison: Comparison, path: Path) -> str:
    """Reward and gain over the base model after training; returns the caption."""
    names = [
        name
        for name in ("reward", "gain")
        if any(_finite(summary.metrics, name) for summary in comparison.summaries)
    ]
    if not names:
        return ""
    lines = comparison.over_lambda()
    if lines:
        _by_lambda(comparison, lines, names, path)
    else:
        _by_setting(comparison, names, path)
    return (
        "Reward on held-out prompts after training, and its gain over the base model (paired: same "
        "prompts, same noise). Bars and bands are 95 % intervals, over seeds or, of a single seed, "
        "over prompts. The seed decides the noise of the validation too; the gain is free of that."
        + (
            " What is possible at each λ is computed from pictures of the base model."
            if any(key in s.metrics for s in comparison.summaries for key in POSSIBLE["gain"])
            else ""
        )
        + (" Settings have not all come to the same step yet." if comparison.uneven else "")
    )


def _by_lambda(
    comparison: Comparison, lines: Mapping[str, list[Summary]], names: Sequence[str], path: Path
) -> None:
    figure = new_figure(WIDTH, 3.6)
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for place, (label, line) in enumerate(lines.items()):
            shown = [summary for summary in line if _finite(summary.metrics, name)]
            intervals = [summary.metrics[name] for summary in shown]
            # Lines stand a little beside each other, so that no bar hides another.
            shift = 1.07 ** (place - (len(lines) - 1) / 2)
            xs = [strength(summary) for summary in line]
            axes.errorbar(
                [strength(summary) * shift for summary in shown],
                [interval.mean for interval in intervals],
                [_half(interval) for interval in intervals],
                color=PALETTE[place % len(PALETTE)],
                marker="o",
                markersize=5,
                linewidth=1.5,
                capsize=4,
                label=wrapped(label) or "fine-tuned",
            )
            _draw_optima(axes, [summary.metrics for summary in line], name, xs)
        _draw_base_levels(axes, comparison, lines, name)
        axes.set_xscale("log")
        ticks = sorted({strength(summary) for line in lines.values() for summary in line})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="λ (log axis)", ylabel=_LABELS[name])
        tidy(axes)
    add_legend(figure)
    save_figure(figure, path)


def _draw_optima(
    axes: Axes, metrics: Sequence[Mapping[str, Interval]], name: str, xs: Sequence[float]
) -> None:
    """What the exact optimum gains, where it is known."""
    for (key, label), marker in zip(POSSIBLE.get(name, {}).items(), "x^", strict=False):
        known = [(x, each[key].mean) for x, each in zip(xs, metrics, strict=True) if key in each]
        if known:
            axes.plot(*zip(*known, strict=True), marker=marker, label=label, **OPTIMUM_LINE)


def _draw_base_levels(
    axes: Axes, comparison: Comparison, lines: Mapping[str, list[Summary]], name: str
) -> None:
    """Each base model as a dashed line with its band, in the colour of what it belongs to."""
    if name == "gain":
        axes.axhline(0, label="base model", **BASE_LINE)
        return
    for base in comparison.bases:
        if _finite(base.metrics, name):
            alone = len(comparison.bases) == 1
            colour = INK if alone else _colour_of(base, lines)
            mean, half = base.metrics[name].mean, _half(base.metrics[name])
            axes.axhline(mean, label=wrapped(base.label), **{**BASE_LINE, "color": colour})
            axes.axhspan(mean - half, mean + half, color=colour, alpha=0.09, linewidth=0)


def _colour_of(base: BaseModel, lines: Mapping[str, list[Summary]]) -> str:
    for place, line in enumerate(lines.values()):
        if any(summary.setting in base.settings for summary in line):
            return PALETTE[place % len(PALETTE)]
    return GREY


def _by_setting(comparison: Comparison, names: Sequence[str], path: Path) -> None:
    """Settings from top to bottom, where long names have room."""
    looks, summaries = comparison.looks(), comparison.summaries
    figure = new_figure(WIDTH, 1.1 + 0.45 * max(len(summaries), 2))
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for row, summary in enumerate(summaries):
            if not _finite(summary.metrics, name):
                continue
            interval = summary.metrics[name]
            axes.errorbar(
                interval.mean,
                row,
                xerr=_half(interval),
                color=looks[summary.setting.label].colour,
                marker="o",
                markersize=6,
                capsize=4,
            )
            for key, label in POSSIBLE.get(name, {}).items():
                if key in summary.metrics:
                    reach = [row - 0.3, row + 0.3]
                    axes.plot([summary.metrics[key].mean] * 2, reach, label=label, **OPTIMUM_LINE)
            base = comparison.base_of(summary.setting)
            if name == "gain":
                _draw_base_row(axes, row, Interval(0.0, math.nan, 0))
            elif base is not None and _finite(base.metrics, name):
                _draw_base_row(axes, row, base.metrics[name])
        labels = [wrapped(comparison.title(summary.setting)) for summary in summaries]
        axes.set_yticks(range(len(labels)), labels if number == 0 else [""] * len(labels))
        axes.set_ylim(len(summaries) - 0.5, -0.5)
        axes.set_xlabel(_LABELS[name])
        tidy(axes)
        axes.grid(visible=False, axis="y")
    add_legend(figure)
    save_figure(figure, path)


def _draw_base_row(axes: Axes, row: int, level: Interval) -> None:
    """A piece of the base model's line, which goes through the rows that share the base model."""
    y, half = [row - 0.5, row + 0.5], _half(level)
    axes.plot([level.mean] * 2, y, label="base model", **BASE_LINE)
    axes.fill_betweenx(y, level.mean - half, level.mean + half, color=INK, alpha=0.09, linewidth=0)


def plot_tradeoff(comparison: Comparison, path: Path) -> str:
    """Reward against diversity, and the changes of both; returns the caption."""
    if not any(_both(summary.metrics) for summary in comparison.summaries):
        return ""
    figure = new_figure(WIDTH, 4.8)
    left, right = figure.subplots(1, 2)
    labels = [
        _draw_tradeoff(axes, comparison, paired) for axes, paired in ((left, False), (right, True))
    ]
    left.set(xlabel=_LABELS["diversity"], ylabel=_LABELS["reward"])
    right.set(xlabel="change of diversity to the base model", ylabel=_LABELS["gain"])
    for axes, (named, numbered) in zip((left, right), labels, strict=True):
        if len(named) > MOST_NAMED:
            continue
        points = [(x, y) for x, y, _ in (*named, *numbered)]
        bold: dict[str, Any] = {"fontsize": 9, "color": INK, "weight": "bold", "zorder": 6}
        taken = place_labels(axes, named, points, **bold)
        place_labels(axes, numbered, points, taken, fontsize=7.5, color=GREY, zorder=5)
    save_figure(figure, path)
    single = any(numbered for _, numbered in labels)
    crowded = any(len(named) > MOST_NAMED for named, _ in labels)
    return (
        "Reward against diversity on held-out prompts after training; on the right the changes to "
        "the base model with the same seed. Large points are means of a setting"
        + (", small ones single runs" if single else "")
        + (" with the number of their job." if single and not crowded else ".")
        + (" There is no room for the names of so many." if crowded else "")
    )


_Labels = list[tuple[float, float, str]]


def _draw_tradeoff(axes: Axes, comparison: Comparison, paired: bool) -> tuple[_Labels, _Labels]:
    """Points of settings and runs; returns the labels of both."""
    looks = comparison.looks()
    named: _Labels = []
    numbered: _Labels = []
    for base in comparison.bases:
        if _both(base.metrics) and (not paired or not named):
            x, y = (0.0, 0.0) if paired else (base.metrics[n].mean for n in ("diversity", "reward"))
            axes.plot(x, y, "D", color=INK, markersize=8, markeredgecolor="white", zorder=4)
            named.append((x, y, "base model" if paired else wrapped(base.label)))
    for summary in comparison.summaries:
        places = [
            (run, _place(run, summary.setting.step, paired))
            for run in summary.setting.measured.values()
        ]
        found = [(run, place) for run, place in places if place is not None]
        if not found:
            continue
        x, y = (sum(place[n] for _, place in found) / len(found) for n in (0, 1))
        colour = looks[summary.setting.label].colour
        axes.plot(x, y, "o", color=colour, markersize=9, markeredgecolor="white", zorder=4)
        named.append((x, y, wrapped(comparison.title(summary.setting))))
        for run, place in found if len(found) > 1 else []:
            axes.plot(*zip((x, y), place, strict=True), color=colour, linewidth=0.8, alpha=0.5)
            axes.plot(*place, "o", color=colour, markersize=4, alpha=0.8)
            numbered.append((*place, str(run.job.number)))
    axes.margins(0.14)
    axes.locator_params(axis="x", nbins=6)
    tidy(axes)
    return named, numbered


def _place(run: RunResult, step: int, paired: bool) -> tuple[float, float] | None:
    """(diversity, reward) of a run, or their changes to the base model with the same seed."""
    metrics, base = run.validations[step], run.base
    if not _both(metrics) or (paired and not (base and _both(base))):
        return None
    x, y = metrics["diversity"], metrics["reward"]
    return (x - base["diversity"], y - base["reward"]) if paired and base else (x, y)


def _both(metrics: Metrics | Mapping[str, Interval]) -> bool:
    return _finite(metrics, "reward") and _finite(metrics, "diversity")


def _finite(metrics: Metrics | Mapping[str, Interval], name: str) -> bool:
    """Whether it was measured, and by a model that has not diverged."""
    value = metrics.get(name, math.nan)
    return math.isfinite(value.mean if isinstance(value, Interval) else value)


def _half(interval: Interval) -> float:
    return interval.half_width if math.isfinite(interval.half_width) else 0.0
