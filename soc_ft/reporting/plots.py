"""The plots of a report. Each is drawn if its data exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from soc_ft.reporting.comparison import Comparison
from soc_ft.reporting.curve_plots import plot_adjoint_norm, plot_control_cost, plot_training
from soc_ft.reporting.document import Picture
from soc_ft.reporting.reward_plots import plot_reward, plot_tradeoff

PLOTS: tuple[tuple[str, str, Callable[[Comparison, Path], str]], ...] = (
    ("reward.png", "Reward", plot_reward),
    ("reward_diversity.png", "Reward against diversity", plot_tradeoff),
    ("training.png", "Training curves", plot_training),
    ("control_cost.png", "Control cost", plot_control_cost),
    ("adjoint_norm.png", "Norm of the adjoint", plot_adjoint_norm),
)
"""File, title, and what draws it and returns its caption, or "" without its data."""


def draw(comparison: Comparison, folder: Path) -> list[Picture]:
    """Write the plots as PNG files, which the returned pictures name.

    A plot of an earlier report whose data are gone is removed.
    """
    drawn = []
    for file, title, plot in PLOTS:
        caption = plot(comparison, folder / file)
        if caption:
            drawn.append(Picture(file, title, caption))
        else:
            (folder / file).unlink(missing_ok=True)
    return drawn
