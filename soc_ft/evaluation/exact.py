"""The optimum beside a run: expectations under p_base exp(lambda r) from the base model's pictures.

:mod:`soc_ft.core.tilt` has the mathematics. A lambda at which too few samples carry the weight is
refused: neither its numbers nor their errors could be believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soc_ft.core import Tilt, TiltEstimate, nats_efficiency
from soc_ft.errors import ConfigError
from soc_ft.evaluation.plan import Exact, Measure
from soc_ft.evaluation.statistics import Estimate, Scores
from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal

LEAST_EFFECTIVE_SAMPLES = 50
"""Of every prompt: the bias of one of few is not averaged away by the others. Just above this the
stated errors are still too small, by less than half."""
GAIN, COST, OBJECTIVE, OBJECTIVE_GAIN = "gain", "KL", "objective", "objective gain"
EFFICIENCY = "efficiency of nats"


@dataclass(frozen=True)
class Optimum:
    """What is known of the optimum at one lambda.

    Attributes:
        reward_scale: lambda.
        effective_samples: of a prompt's N, the harmonic mean over prompts.
        fewest: the same of the worst prompt.
        estimates: by name; none if there are too few effective samples.
        refusal: why there are none, or nothing.
    """

    reward_scale: float
    effective_samples: float
    fewest: float
    estimates: dict[str, Estimate]
    refusal: str


def optima(
    exact: Exact, values: Mapping[str, Sequence[NDArray[Any]]], measures: Mapping[str, Measure]
) -> list[Optimum]:
    """The optimum at each lambda.

    Args:
        exact: reward and lambdas.
        values: by metric, P groups of the (N,) scores or (N, D) vectors of the base's pictures.
        measures: the metrics.

    Raises:
        ConfigError: a reward is not finite.
    """
    stacked = {label: torch.from_numpy(np.stack(groups)) for label, groups in values.items()}
    rewards = stacked[exact.reward]
    broken = int((~rewards.isfinite()).sum())
    if broken:
        raise ConfigError(
            f"exact=true: {exact.reward} of {broken} of {rewards.numel()} pictures of the base "
            "model is not finite, so there is no optimum"
        )
    return [_optimum(exact, scale, stacked, measures) for scale in exact.lambdas]


def _optimum(
    exact: Exact, scale: float, values: Mapping[str, Tensor], measures: Mapping[str, Measure]
) -> Optimum:
    tilt = Tilt(values[exact.reward], scale)
    effective, fewest = tilt.mean_effective_samples, float(tilt.effective_samples.min())
    if fewest < LEAST_EFFECTIVE_SAMPLES:
        needed = _rounded_up(exact.samples * LEAST_EFFECTIVE_SAMPLES / fewest)
        refusal = (
            f"lambda {scale:g}: no numbers, since {exact.samples} samples are worth "
            f"{fewest:.1f} for one of the prompts, fewer than {LEAST_EFFECTIVE_SAMPLES}; "
            f"it takes at least about exact_samples={needed}, or a smaller lambda"
        )
        return Optimum(scale, effective, fewest, {}, refusal)
    found = {
        exact.reward: tilt.reward(),
        GAIN: tilt.gain(values[exact.reward]),
        COST: tilt.divergence(),
        OBJECTIVE: tilt.objective(),
        OBJECTIVE_GAIN: tilt.objective_gain(),
        EFFICIENCY: tilt.efficiency(),
    }
    for label, of_label in values.items():
        if label != exact.reward:
            of_tilt = tilt.diversity if measures[label].embeds else tilt.mean
            found[label] = of_tilt(of_label)
    prompts = len(tilt.rewards)
    estimates = {label: _as_estimate(each, prompts) for label, each in found.items()}
    return Optimum(scale, effective, fewest, estimates, "")


def of_run(
    exact: Exact, tuned: Scores, values: Sequence[NDArray[Any]], run_dir: Path | None
) -> dict[str, Estimate]:
    """The run's own numbers under the same names, as far as they are known.

    Args:
        exact: the run's lambda, and the reward.
        tuned: scores of its pictures, with differences to the base model's.
        values: P groups of the (N,) rewards of the base's pictures.
        run_dir: its folder, whose last validation knows the control cost of the weights that are
            evaluated; None if it does not.
    """
    assert exact.own is not None
    reward, gain = tuned.estimates[exact.reward], tuned.differences[exact.reward]
    found = {exact.reward: reward, GAIN: gain}
    cost = _control_cost(run_dir) if run_dir is not None and exact.measured else None
    if cost is not None:
        variance = Tilt(torch.from_numpy(np.stack(values)), 0.0).base_variance().value
        efficiency = nats_efficiency(gain.mean, cost.mean, variance)
        found |= {
            COST: cost,
            OBJECTIVE: _minus(exact.own, reward, cost),
            OBJECTIVE_GAIN: _minus(exact.own, gain, cost),
            EFFICIENCY: Estimate(efficiency, math.nan, gain.count),
        }
    return found | {label: each for label, each in tuned.estimates.items() if label not in found}


def _control_cost(run_dir: Path) -> Estimate | None:
    """Of the run's last validation, if it was measured there."""
    for record in reversed(Journal(run_dir / JOURNAL_FILE).read()):
        if "val/control_cost" in record.metrics:
            metrics = record.metrics
            return Estimate(metrics["val/control_cost"], metrics["val/control_cost_error"], 0)
    return None


def _minus(scale: float, reward: Estimate, cost: Estimate) -> Estimate:
    """The reward times lambda minus a cost, measured on different pictures."""
    error = math.hypot(scale * reward.error, cost.error)
    return Estimate(scale * reward.mean - cost.mean, error, reward.count)


def _as_estimate(each: TiltEstimate, prompts: int) -> Estimate:
    return Estimate(each.value, each.error, prompts)


def _rounded_up(number: float) -> int:
    """To two digits, which is all that is known of it."""
    unit = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / unit) * unit
