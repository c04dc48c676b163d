"""What a finished run tells the person at the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from soc_ft.config.schema import Run
from soc_ft.evaluation.scores import Scores
from soc_ft.evaluation.tables import terminal_table


def summarise(
    scores: Sequence[Scores],
    results: Mapping[int, Mapping[str, float]],
    run: Run,
    folder: Path,
    exported: Path | None,
) -> str:
    """The final evaluation, if there is one, what it cost, and where everything is."""
    last = max(results)
    lines = [""]
    if scores:
        count = next(iter(scores[0].estimates.values())).count
        lines += [
            f"Held-out prompts: {count}, pictures: {scores[0].pictures}, "
            f"optimizer steps: {last}, lambda: {run.lambda_:g}",
            "",
            terminal_table(scores),
            "",
            f"  control cost {_estimate(results[last], 'control_cost')} nats, "
            f"objective {_estimate(results[last], 'objective')}; differences are paired "
            "(same prompts, same noise)",
            "",
        ]
    lines += [
        f"  pictures    {shown(folder / 'samples' / f'step-{last:06d}.png')}",
        f"  curves      {shown(folder / 'curves.png')}",
        f"  evaluate    python -m soc_ft.evaluate run={shown(folder)}",
    ]
    if exported is not None:
        lines.append(f"  model       {shown(exported)}")
        lines.append(
            f"  sample      python -m soc_ft.sample run={shown(folder)} prompts='[\"...\"]'"
        )
    return "\n".join(lines)


def _estimate(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.3f} ± {values[f'{name}_error']:.3f}"


def shown(path: Path) -> str:
    """A path as the person would type it: relative where it lies below the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
