"""The plots of a report. Each is drawn if its data exist."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soc_ft.evaluation.labels import place_labels
from soc_ft.evaluation.plots import new_figure, save_figure, tidy
from soc_ft.reporting.aggregating import BaseModel, Interval, Summary
from soc_ft.reporting.curves import Curve, adjoint_profile, metric_curve
from soc_ft.reporting.document import Picture
from soc_ft.reporting.settings import Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY = "#202124", "#5f6368"
_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c564b", "#7f7f7f")
_LINES = ("-", "--", ":", "-.")
_LABEL_WIDTH = 34


@dataclass(frozen=True)
class Look:
    """How a setting is drawn in all plots."""

    colour: Any
    line: str

    def arguments(self) -> dict[str, Any]:
        return {"color": self.colour, "linestyle": self.line}


@dataclass(frozen=True)
class Comparison:
    """What the plots show.

    Attributes:
        summaries: of the settings with a validation after training.
        bases: their base models.
        settings: all, also those that were not validated yet.
    """

    summaries: Sequence[Summary]
    bases: Sequence[BaseModel]
    settings: Sequence[Setting]

    def over_lambda(self) -> dict[str, list[Summary]]:
        """Summaries by what differs besides lambda, in rising lambda.

        Empty if no two settings differ in lambda alone.
        """
        lines: dict[str, list[Summary]] = {}
        for summary in self.summaries:
            if summary.setting.strength is None:
                return {}
            others = [o for o in summary.setting.overrides if not o.startswith("lambda=")]
            lines.setdefault(" ".join(others), []).append(summary)
        for line in lines.values():
            line.sort(key=_strength)
        swept = any(len({_strength(each) for each in line}) > 1 for line in lines.values())
        return lines if swept else {}

    def looks(self) -> dict[str, Look]:
        """Of each setting by label: shades if only lambda differs, colours otherwise."""
        labels = [setting.label for setting in self.settings]
        if len(self.over_lambda()) == 1 and len(labels) > 1:
            from matplotlib import colormaps

            shades = colormaps["viridis"](np.linspace(0.88, 0.08, len(labels)))
            return {label: Look(shade, "-") for label, shade in zip(labels, shades, strict=True)}
        return {
            label: Look(_PALETTE[n % len(_PALETTE)], _LINES[n // len(_PALETTE) % len(_LINES)])
            for n, label in enumerate(labels)
        }


def draw(comparison: Comparison, folder: Path) -> list[Picture]:
    """Write the plots whose data exist as PNG files, which the returned pictures name."""
    drawn = []
    for file, title, plot in PLOTS:
        caption = plot(comparison, folder / file)
        if caption:
            drawn.append(Picture(file, title, caption))
    return drawn


def _plot_reward(comparison: Comparison, path: Path) -> str:
    if not any("reward" in summary.metrics for summary in comparison.summaries):
        return ""
    names = [n for n in ("reward", "gain") if any(n in s.metrics for s in comparison.summaries)]
    lines = comparison.over_lambda()
    if lines:
        _reward_by_lambda(comparison, lines, names, path)
    else:
        _reward_by_setting(comparison, names, path)
    return (
        "Reward on held-out prompts after training, and its gain over the base model (paired: same "
        "prompts, same noise). Bars and bands are 95 % intervals. The seed decides noise and "
        "prompts of the validation too, which the gain is free of."
    )


def _reward_by_lambda(
    comparison: Comparison, lines: Mapping[str, list[Summary]], names: Sequence[str], path: Path
) -> None:
    figure = new_figure(4.6 * len(names), 3.6)
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for place, (label, line) in enumerate(lines.items()):
            colour = _PALETTE[place % len(_PALETTE)]
            shown = [summary for summary in line if name in summary.metrics]
            # Lines of several settings stand beside each other, so that no bar hides another.
            shift = 1.04 ** (place - (len(lines) - 1) / 2)
            axes.errorbar(
                [_strength(summary) * shift for summary in shown],
                [summary.metrics[name].mean for summary in shown],
                _bars([summary.metrics[name] for summary in shown]),
                color=colour,
                marker="o",
                markersize=5,
                linewidth=1.5,
                capsize=4,
                label=_wrapped(label) or "fine-tuned",
            )
        _base_levels(axes, comparison, name, [_colour_of(base, lines) for base in comparison.bases])
        axes.set_xscale("log")
        ticks = sorted({_strength(summary) for line in lines.values() for summary in line})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="λ (log axis)", ylabel=LABELS[name])
        tidy(axes)
    _legend(figure)
    save_figure(figure, path)


def _colour_of(base: BaseModel, lines: Mapping[str, list[Summary]]) -> str:
    """That of the line whose settings the base model belongs to."""
    for place, line in enumerate(lines.values()):
        if any(summary.setting in base.settings for summary in line):
            return _PALETTE[place % len(_PALETTE)]
    return GREY


def _base_levels(axes: Axes, comparison: Comparison, name: str, colours: Sequence[str]) -> None:
    """The base model as a dashed line with its band, one for each base model."""
    if name == "gain":
        axes.axhline(0, color=INK, linewidth=1.2, linestyle="--", label="base model")
        return
    alone = len(comparison.bases) == 1
    for base, colour in zip(comparison.bases, colours, strict=True):
        if name in base.metrics:
            shown = INK if alone else colour
            mean, half = base.metrics[name].mean, _finite(base.metrics[name].half_width)
            axes.axhline(mean, color=shown, linewidth=1.2, linestyle="--", label=base.label)
            axes.axhspan(mean - half, mean + half, color=shown, alpha=0.09, linewidth=0)


def _reward_by_setting(comparison: Comparison, names: Sequence[str], path: Path) -> None:
    """Settings from top to bottom, where long names have room."""
    looks = comparison.looks()
    summaries = comparison.summaries
    figure = new_figure(2.4 + 3.6 * len(names), 1.3 + 0.42 * len(summaries))
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for row, summary in enumerate(summaries):
            if name in summary.metrics:
                interval = summary.metrics[name]
                axes.errorbar(
                    interval.mean,
                    row,
                    xerr=_bars([interval]),
                    color=looks[summary.setting.label].colour,
                    marker="o",
                    markersize=6,
                    capsize=4,
                )
            base = _base_of(comparison, summary.setting)
            if name == "gain" or (base and name in base.metrics):
                level = Interval(0, 0, 0) if name == "gain" else base.metrics[name]  # type: ignore[union-attr]
                _base_row(axes, row, level)
        rows = range(len(summaries))
        labels = [_wrapped(summary.setting.label) for summary in summaries]
        axes.set_yticks(rows, labels if number == 0 else [""] * len(labels))
        axes.set_ylim(len(summaries) - 0.5, -0.5)
        axes.set_xlabel(LABELS[name])
        tidy(axes)
        axes.grid(visible=False, axis="y")
    _legend(figure)
    save_figure(figure, path)


def _base_row(axes: Axes, row: int, level: Interval) -> None:
    y = [row - 0.5, row + 0.5]
    half = _finite(level.half_width)
    label = {"label": "base model"} if row == 0 else {}
    axes.plot([level.mean] * 2, y, color=INK, linewidth=1.2, linestyle="--", **label)
    axes.fill_betweenx(
        y, level.mean - half, level.mean + half, color=INK, alpha=0.09, linewidth=0
    )


def _plot_tradeoff(comparison: Comparison, path: Path) -> str:
    both = ("reward", "diversity")
    summaries = [s for s in comparison.summaries if all(name in s.metrics for name in both)]
    if not summaries:
        return ""
    looks = comparison.looks()
    figure = new_figure(7.2, 5.0)
    axes = figure.add_subplot()
    named, numbered = [], []
    for summary in summaries:
        x, y = summary.metrics["diversity"], summary.metrics["reward"]
        colour = looks[summary.setting.label].colour
        axes.errorbar(
            x.mean, y.mean, fmt="o", color=colour, markersize=9, markeredgecolor="white", zorder=4
        )
        named.append((x.mean, y.mean, _wrapped(summary.setting.label)))
        step = summary.setting.step
        for run in summary.setting.measured.values():
            metrics = run.validations[step]
            if all(name in metrics for name in both) and len(summary.setting.measured) > 1:
                point = (metrics["diversity"], metrics["reward"])
                axes.plot(
                    [x.mean, point[0]], [y.mean, point[1]], color=colour, linewidth=0.8, alpha=0.5
                )
                axes.plot(*point, "o", color=colour, markersize=4, alpha=0.8)
                numbered.append((*point, str(run.job.number)))
    for base in comparison.bases:
        if all(name in base.metrics for name in both):
            x, y = base.metrics["diversity"], base.metrics["reward"]
            axes.plot(x.mean, y.mean, "D", color=INK, markersize=8, markeredgecolor="white")
            named.append((x.mean, y.mean, _wrapped(base.label)))
    axes.set(xlabel=LABELS["diversity"], ylabel=LABELS["reward"])
    axes.margins(0.12)
    tidy(axes)
    points = [(x, y) for x, y, _ in (*named, *numbered)]
    place_labels(axes, named, points, fontsize=9.5, color=INK, weight="bold", zorder=6)
    place_labels(axes, numbered, points, fontsize=8, color=GREY, zorder=5)
    save_figure(figure, path)
    small = " Small points are single runs under their job number." if numbered else ""
    return (
        f"Reward against diversity on held-out prompts after training, mean of each setting.{small}"
    )


def _plot_training(comparison: Comparison, path: Path) -> str:
    panels = [
        ("train/reward", True, "reward, training batches\n(moving mean)"),
        ("val/gain", False, "reward gain over the base\nmodel, held-out prompts"),
    ]
    if not _plot_curves(comparison, panels, path):
        return ""
    return f"Reward by optimizer step. {_BAND}"


def _plot_control_cost(comparison: Comparison, path: Path) -> str:
    panels = [
        ("train/control_cost", True, "control cost (nats),\ntraining batches (moving mean)"),
        ("val/control_cost", False, "control cost (nats),\nheld-out prompts"),
    ]
    if not _plot_curves(comparison, panels, path, log=True):
        return ""
    return (
        "Control cost, the distance from the base model, by optimizer step; logarithmic, from a "
        f"thousandth of the largest value. {_BAND}"
    )


_BAND = (
    "Means over the seeds that reached the step; the band is their standard error (over prompts "
    "on held-out prompts, if there is one seed)."
)


def _plot_curves(
    comparison: Comparison,
    panels: Sequence[tuple[str, bool, str]],
    path: Path,
    log: bool = False,
) -> bool:
    """A panel for each metric that was recorded; whether there was any."""
    from matplotlib.ticker import MaxNLocator

    looks = comparison.looks()
    found = [
        (name, label, [(s, metric_curve(s, name, smooth)) for s in comparison.settings])
        for name, smooth, label in panels
    ]
    found = [panel for panel in found if any(len(c.x) > 0 and c.x[-1] > 0 for _, c in panel[2])]
    if not found:
        return False
    figure = new_figure(4.4 * len(found) + 1.6, 3.6)
    for number, (name, label, curves) in enumerate(found):
        axes = figure.add_subplot(1, len(found), number + 1)
        for setting, points in curves:
            marker = "o" if name.startswith("val/") or len(points.x) == 1 else ""
            _draw(axes, points, setting.label, looks[setting.label], marker)
        if log:
            _log_from_a_thousandth(axes, [points for _, points in curves])
        elif name == "val/gain":
            axes.axhline(0, color=INK, linewidth=1.2, linestyle="--", label="base model")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="optimizer step", ylabel=label)
        tidy(axes)
    _legend(figure)
    save_figure(figure, path)
    return True


def _log_from_a_thousandth(axes: Axes, curves: Sequence[Curve]) -> None:
    """The cost begins at zero, which would stretch a logarithmic axis without end."""
    top = max((float(points.mean.max()) for points in curves if points), default=0.0)
    if top > 0:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(top / 1000, 2 * top)


def _plot_adjoint_norm(comparison: Comparison, path: Path) -> str:
    from matplotlib.ticker import MaxNLocator

    profiles = [(setting, adjoint_profile(setting)) for setting in comparison.settings]
    profiles = [(setting, profile) for setting, profile in profiles if profile]
    if not profiles:
        return ""
    looks = comparison.looks()
    figure = new_figure(6.6, 3.8)
    axes = figure.add_subplot()
    for setting, profile in profiles:
        _draw(axes, profile, setting.label, looks[setting.label], "o")
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("step k of the trajectory, from K (picture) back to 0 (noise)")
    axes.set_ylabel("norm of the adjoint $a_k$\ndivided by the terminal norm $|a_K|$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_xaxis()
    _readable_log(axes)
    tidy(axes)
    _legend(figure)
    save_figure(figure, path)
    return (
        "Mean norm of the lean adjoint by step of the trajectory, divided by its norm at the "
        "terminal step K, where the solve begins; averaged over all optimizer steps, then over "
        "seeds. The band is the standard error over seeds."
    )


def _readable_log(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 of each decade where there are few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if high / low < 1000:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _draw(axes: Axes, points: Curve, label: str, look: Look, marker: str) -> None:
    if not points:
        return
    axes.plot(
        points.x,
        points.mean,
        marker=marker,
        markersize=4,
        linewidth=1.6,
        label=_wrapped(label),
        **look.arguments(),
    )
    if np.isfinite(points.error).any():
        low, high = points.mean - points.error, points.mean + points.error
        axes.fill_between(points.x, low, high, color=look.colour, alpha=0.15, linewidth=0)


def _legend(figure: Figure) -> None:
    """One for all panels, beside them."""
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=9
        )


def _base_of(comparison: Comparison, setting: Setting) -> BaseModel | None:
    return next((base for base in comparison.bases if setting in base.settings), None)


def _strength(summary: Summary) -> float:
    assert summary.setting.strength is not None
    return summary.setting.strength


def _bars(intervals: Sequence[Interval]) -> list[float]:
    return [_finite(interval.half_width) for interval in intervals]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _wrapped(label: str) -> str:
    """Over several lines where it is long; a dollar sign would begin a formula."""
    lines = textwrap.wrap(label, _LABEL_WIDTH, break_on_hyphens=False)
    return "\n".join(lines).replace("$", r"\$")


LABELS = {
    "reward": "reward, held-out prompts",
    "gain": "reward gain over the base model",
    "diversity": "diversity of a prompt's pictures",
}
PLOTS: tuple[tuple[str, str, Callable[[Comparison, Path], str]], ...] = (
    ("reward.png", "Reward", _plot_reward),
    ("reward_diversity.png", "Reward against diversity", _plot_tradeoff),
    ("training.png", "Training curves", _plot_training),
    ("control_cost.png", "Control cost", _plot_control_cost),
    ("adjoint_norm.png", "Norm of the adjoint", _plot_adjoint_norm),
)
"""File, title, and what draws it and returns its caption, or "" without its data."""
