"""What all plots of a report share: the settings, and how each is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soc_ft.reporting.aggregating import BaseModel, Summary
from soc_ft.reporting.settings import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 10.0
"""Of all figures, in inches, so that a page shows their text in one size."""
INK, GREY = "#202124", "#5f6368"
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c564b", "#7f7f7f")
BASE_LINE: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": "--"}

MOST_NAMED = 24
"""Names that a figure has room for; placing more of them would take minutes, too."""

_LINES = ("-", "--", ":", "-.")
_LABEL_WIDTH = 34


@dataclass(frozen=True)
class Look:
    """How a setting is drawn in all plots."""

    colour: Any
    line: str


@dataclass(frozen=True)
class Comparison:
    """What the plots show.

    Attributes:
        summaries: of the settings that were validated after some training.
        bases: the base models.
        settings: all of them.
    """

    summaries: Sequence[Summary]
    bases: Sequence[BaseModel]
    settings: Sequence[Setting]

    def over_lambda(self) -> dict[str, list[Summary]]:
        """Summaries in rising lambda, by what differs besides lambda.

        Empty if no two settings differ in lambda alone.
        """
        lines: dict[str, list[Summary]] = {}
        for summary in self.summaries:
            if summary.setting.strength is None:
                return {}
            others = [o for o in summary.setting.overrides if not o.startswith("lambda=")]
            lines.setdefault(" ".join(others), []).append(summary)
        for line in lines.values():
            line.sort(key=strength)
        swept = any(len({strength(each) for each in line}) > 1 for line in lines.values())
        return lines if swept else {}

    def looks(self) -> dict[str, Look]:
        """Of each setting by label: shades if lambda alone differs, colours otherwise."""
        labels = [setting.label for setting in self.settings]
        if len(self.over_lambda()) == 1:
            from matplotlib import colormaps

            last = max(len(labels) - 1, 1)
            shades = [colormaps["viridis"](0.82 - 0.74 * n / last) for n in range(len(labels))]
            return {label: Look(shade, "-") for label, shade in zip(labels, shades, strict=True)}
        return {
            label: Look(PALETTE[n % len(PALETTE)], _LINES[n // len(PALETTE) % len(_LINES)])
            for n, label in enumerate(labels)
        }

    @property
    def uneven(self) -> bool:
        """Whether some settings have not come as far as others yet."""
        return len({summary.setting.step for summary in self.summaries}) > 1

    def title(self, setting: Setting) -> str:
        """Its label, with the optimizer step if that is not the same for all."""
        return f"{setting.label} (step {setting.step})" if self.uneven else setting.label

    def base_of(self, setting: Setting) -> BaseModel | None:
        """The base model of a setting, if it was measured."""
        return next((base for base in self.bases if setting in base.settings), None)


def strength(summary: Summary) -> float:
    """Lambda of a setting that has one."""
    assert summary.setting.strength is not None
    return summary.setting.strength


def wrapped(label: str) -> str:
    """Over several lines where it is long; a dollar sign would begin a formula."""
    words = [w if len(w) <= _LABEL_WIDTH else w.replace("=", "= ") for w in label.split()]
    lines = textwrap.wrap(" ".join(words), _LABEL_WIDTH, break_on_hyphens=False)
    return "\n".join(lines).replace("$", r"\$")


def add_legend(figure: Figure) -> None:
    """One for all panels, beside them."""
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if not handles:
        return
    shown, more = list(handles.items())[:MOST_NAMED], len(handles) - MOST_NAMED
    figure.legend(
        [handle for _, handle in shown],
        [label for label, _ in shown],
        title=f"the first {MOST_NAMED}, {more} more" if more > 0 else None,
        loc="outside right upper",
        frameon=False,
        fontsize=9,
    )
