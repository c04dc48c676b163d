"""The optimum and the run beside it as text, JSON and rows of a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soc_ft.evaluation.exact import COST, EFFICIENCY, GAIN, Optimum
from soc_ft.evaluation.plan import Exact
from soc_ft.evaluation.statistics import Estimate, Scores
from soc_ft.evaluation.tables import shown, terminal_table
from soc_ft.files import replace_file
from soc_ft.layout import EXACT_FILE


@dataclass(frozen=True)
class ExactResult:
    """The optimum at every lambda, and the run beside it.

    Attributes:
        exact: what was asked for.
        block: how the pictures were sampled.
        guidance_scale: with which guidance.
        prompts: P.
        optima: at every lambda.
        run: the run's own numbers under the same names; none of a base model alone.
    """

    exact: Exact
    block: Mapping[str, Any]
    guidance_scale: float
    prompts: int
    optima: list[Optimum]
    run: dict[str, Estimate]

    def rows(self) -> list[Scores]:
        """The optimum at each lambda where it is known, and the run if there is one."""
        pictures = self.prompts * self.exact.samples
        found = [
            Scores(self.block, f"optimum, lambda {each.reward_scale:g}", pictures, each.estimates)
            for each in self.optima
            if each.estimates
        ]
        if self.run:
            name = f"this run, lambda {self.exact.own:g}"
            found.append(Scores(self.block, name, pictures, self.run))
        return found

    def text(self) -> str:
        """What the terminal shows."""
        lines = [
            f"The optimum p_base exp(lambda {self.exact.reward}) at guidance "
            f"{self.guidance_scale:g}, from {self.exact.samples} base samples of each prompt"
        ]
        if self.rows():
            lines += [terminal_table(self.rows()), ""]
        for each in self.optima:
            lines.append(each.refusal or self._of_possible(each))
        lines += [f"note: {note}" for note in self.exact.notes]
        lines.append("errors of the optimum are those of sampling within these prompts")
        if self.run:
            known = "of its last validation" if COST in self.run else "not known for this law"
            lines.append(f"KL of the run: {known}")
        return "\n".join(lines)

    def write(self, folder: Path) -> Path:
        """Write everything as JSON; the path is returned.

        Raises:
            OSError: the file cannot be written.
        """
        content = {
            "reward": self.exact.reward,
            "sampling": {**self.block, "guidance_scale": self.guidance_scale},
            "prompts": self.prompts,
            "samples_per_prompt": self.exact.samples,
            "notes": self.exact.notes,
            "optima": [
                {
                    "lambda": each.reward_scale,
                    "effective_samples": each.effective_samples,
                    "fewest_effective_samples": each.fewest,
                    "refusal": each.refusal or None,
                    "estimates": _plain(each.estimates),
                }
                for each in self.optima
            ],
            "run": {"lambda": self.exact.own, "estimates": _plain(self.run)} if self.run else None,
        }
        replace_file(folder / EXACT_FILE, json.dumps(content, indent=1, allow_nan=False).encode())
        return folder / EXACT_FILE

    def _of_possible(self, each: Optimum) -> str:
        """How much of what is possible the run has, or how much the numbers are worth."""
        worth = f"{each.effective_samples:.0f} effective samples (fewest {each.fewest:.0f})"
        if not self.run or each.reward_scale != self.exact.own:
            return f"lambda {each.reward_scale:g}: {worth}"
        own, possible = self.run[GAIN], each.estimates[GAIN]
        said = f"{shown(own)} of {shown(possible)} possible"
        if EFFICIENCY in self.run:
            said += f", efficiency of nats {self.run[EFFICIENCY].mean:.2f}"
        return f"lambda {each.reward_scale:g}: the run gains {said}; {worth}"


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {
        label: {"mean": _number(each.mean), "error": _number(each.error)}
        for label, each in estimates.items()
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
