"""The moments of the base model's scores, by which a reward standardises its parts."""

from __future__ import annotations

import math

from torch import Tensor

from soc_ft.errors import RunError
from soc_ft.methods.problem import Problem
from soc_ft.rewards.base import Moments, awaits_statistics

_ROUNDING = 1e-6
"""Of the largest score: float32 scores that are all the same differ by up to this."""


def standardise(problem: Problem, reward: Tensor, parts: dict[str, Tensor]) -> Tensor:
    """Give the reward the moments of its parts, if it awaits them.

    They are rounded once, so that a run goes on with the same ones wherever it is resumed.

    Args:
        problem: whose reward it is, which takes the moments.
        reward: (P, n) of the base model's pictures.
        parts: (P, n) scores of the reward's parts.

    Returns:
        (P, n) the rewards, now that there are moments.

    Raises:
        RunError: a part cannot be standardised.
    """
    awaiting = problem.reward
    if not awaits_statistics(awaiting):
        return reward
    moments = {name: _moments(name, scores) for name, scores in parts.items()}
    problem.reward = measured = awaiting.standardised_by(moments)
    return measured.combine(parts).float()


def _moments(part: str, scores: Tensor) -> Moments:
    values = scores.double().flatten().tolist()
    broken = sum(not math.isfinite(value) for value in values)
    if broken:
        raise _unfit(part, f"{broken} of its {len(values)} scores", "not finite")
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((v - mean) * (v - mean) for v in values) / len(values))
    if deviation <= _ROUNDING * max(map(abs, values)):
        raise _unfit(part, f"all {len(values)} of its scores", f"{mean:g}")
    return mean, deviation


def _unfit(part: str, which: str, what: str) -> RunError:
    return RunError(
        f"reward part {part}: {which} of the base model's held-out pictures are {what}, so it "
        "cannot be standardised by them; measure other ones (validation.prompts, "
        "validation.samples_per_prompt), state reward.statistics, or leave the part out"
    )
