"""What a finished run tells the person at the terminal."""

from __future__ import annotations

import os
from pathlib import Path

from soc_ft.config.schema import Run
from soc_ft.validation import Validator


def summarise(validator: Validator, run: Run, folder: Path, exported: Path | None) -> str:
    """Reward before and after, what it cost, and where everything is."""
    first, last = min(validator.results), max(validator.results)
    before, after = validator.results[first], validator.results[last]
    pictures = len(validator.prompts) * run.validation.samples_per_prompt
    lines = [
        "",
        f"Held-out prompts: {len(validator.prompts)}, pictures: {pictures}, "
        f"optimizer steps: {last}, lambda: {run.lambda_:g}",
        f"  {'':<16}{'base model':>18}  {'fine-tuned':>18}",
    ]
    names = [name for name in after if f"{name}_error" in after and name != "gain"]
    lines += [
        f"  {name.replace('_', ' '):<16}{_estimate(before, name):>18}  {_estimate(after, name):>18}"
        for name in names
    ]
    lines += [
        f"  reward gain     {_estimate(after, 'gain'):>18}  (paired: same prompts, same noise)",
        "",
        f"  pictures    {shown(folder / 'samples' / f'step-{last:06d}.png')}",
        f"  curves      {shown(folder / 'curves.png')}",
    ]
    if exported is not None:
        lines.append(f"  model       {shown(exported)}")
        lines.append(
            f"  sample      python -m soc_ft.sample run={shown(folder)} prompts='[\"...\"]'"
        )
    return "\n".join(lines)


def _estimate(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.3f} ± {values[f'{name}_error']:.3f}"


def shown(path: Path) -> str:
    """A path as the person would type it: relative where it lies below the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
