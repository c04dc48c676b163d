"""Plots of a run's curves, and what all plots share."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from soc_ft.files import replace_file
from soc_ft.records.journal import (
    POSSIBLE_AT_LEAST,
    POSSIBLE_GAIN,
    POSSIBLE_OBJECTIVE,
    Record,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "reward": "reward",
    "gain": "reward gain over the base model",
    "objective": "λ·gain − control cost",
    "control_cost": "control cost (nats)\n(training: of drawn steps)",
}
"""Metrics of a training plot, without their stage, and their axis labels."""

POSSIBLE = {
    "gain": {
        POSSIBLE_GAIN: "exact optimum",
        POSSIBLE_AT_LEAST: "possible at least",
    },
    "objective": {POSSIBLE_OBJECTIVE: "exact optimum"},
}
"""What is possible by the metric that it bounds, if it is known, and how that is called; see
:mod:`soc_ft.evaluation.reference`."""

_TRAINING = ("reward", "control_cost")
"""The gain is paired, and so of held-out prompts alone."""
OPTIMUM_LINE: dict[str, Any] = {"color": "#54a24b", "linestyle": "--", "linewidth": 1.4}
TRAIN_COLOUR, VALIDATION_COLOUR = "#4c78a8", "#e45756"
DPI = 150


def curve(records: Sequence[Record], name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Optimizer steps and values of one metric, in the order of the journal."""
    points = [(record.step, record.metrics[name]) for record in records if name in record.metrics]
    steps, values = zip(*points, strict=True) if points else ((), ())
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def plot_training(records: Sequence[Record], path: Path, title: str = "") -> None:
    """Reward, gain, objective and control cost against the optimizer step, as a PNG.

    Training values are drawn faintly with their moving mean; validation values with the standard
    errors that stand beside them in the journal, and the exact optimum as a line where it is known.
    Metrics that were not recorded are left out.

    Raises:
        ValueError: none of the metrics was recorded.
    """
    from matplotlib.ticker import MaxNLocator

    names = [name for name in CURVES if _recorded(records, name)]
    if not names:
        raise ValueError(f"the journal holds none of {', '.join(CURVES)}")
    figure = new_figure(3.8 * len(names), 3.2)
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        _draw_curve(axes, records, name)
        axes.set(xlabel="optimizer step", ylabel=CURVES[name])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axes)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.axes[0].legend(handles.values(), handles.keys(), frameon=False)
    save_figure(figure, path, title)


def _recorded(records: Sequence[Record], name: str) -> bool:
    keys = {f"val/{name}", *([f"train/{name}"] if name in _TRAINING else [])}
    return any(keys & record.metrics.keys() for record in records)


def _draw_curve(axes: Axes, records: Sequence[Record], name: str) -> None:
    steps, values = curve(records, f"train/{name}")
    if len(steps) and name in _TRAINING:
        mean = moving_mean(values)
        marker = "o" if len(steps) == 1 else ""  # a line through one point is invisible
        axes.plot(steps, values, color=TRAIN_COLOUR, linewidth=1, alpha=0.3)
        axes.plot(steps, mean, f"-{marker}", c=TRAIN_COLOUR, linewidth=1.6, label="training")
    steps, values = curve(records, f"val/{name}")
    if len(steps):
        _, errors = curve(records, f"val/{name}_error")
        axes.errorbar(
            steps,
            values,
            errors if len(errors) == len(values) else None,
            color=VALIDATION_COLOUR,
            marker="o",
            markersize=4,
            linewidth=1.4,
            capsize=3,
            label="validation",
        )
    for key, label in POSSIBLE.get(name, {}).items():
        _, possible = curve(records, f"val/{key}")
        if len(possible):
            axes.axhline(possible[-1], label=label, **OPTIMUM_LINE)


def moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred, over a twentieth of the curve; shorter at the ends; deaf to NaN."""
    half = max(len(values) // 40, 1)
    windows = [values[max(i - half, 0) : i + half + 1] for i in range(len(values))]
    finite = [window[np.isfinite(window)] for window in windows]
    return np.array([window.mean() if len(window) else math.nan for window in finite])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, without pyplot's global state."""
    from matplotlib.figure import Figure  # without pyplot: no backend, no global state
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.05))


def tidy(axes: Axes) -> None:
    """A light grid, and no frame at the top and the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e2e4e8", linewidth=0.8)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path, title: str = "") -> None:
    """Write a PNG, atomically."""
    if title:
        figure.suptitle(title, fontsize=11)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    replace_file(path, content.getvalue())
