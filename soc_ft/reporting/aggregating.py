"""Means over seeds with 95 % confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from soc_ft.evaluation.folders import BASE, OWN_SCHEDULE
from soc_ft.records.journal import OF_THE_OPTIMUM
from soc_ft.reporting.reading import Metrics, RunResult
from soc_ft.reporting.settings import Setting

NOT_OF_THE_BASE = ("gain", "control_cost", "objective", *OF_THE_OPTIMUM)
"""Metrics that say nothing of the base model alone."""

_FIRST = ("reward", "gain", "control_cost", "objective", *OF_THE_OPTIMUM, "diversity")
_NORMAL = 1.96


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % confidence interval (NaN if it has none).

    Attributes:
        seeds: how many seeds it is over. Of one seed, the interval is over prompts instead.
    """

    mean: float
    half_width: float
    seeds: int

    def __str__(self) -> str:
        """As many decimals as two digits of the half width take."""
        if not self.half_width > 1e-9 * abs(self.mean):  # equal but for rounding
            return f"{self.mean:.4g}"
        decimals = 3
        if math.isfinite(self.half_width):
            decimals = max(0, 1 - math.floor(math.log10(self.half_width)))
        return f"{self.mean:.{decimals}f} ± {self.half_width:.{decimals}f}"


@dataclass(frozen=True)
class Summary:
    """What the runs of one setting measured, all at the same optimizer step.

    Attributes:
        setting: whose.
        metrics: by name.
        seconds: in optimizer steps, mean over runs.
        evaluations: of the network, forward and backward, mean over runs.
        queries: pictures that the reward scored while training, mean over runs.
        peak_memory: MiB, the largest of the runs.
    """

    setting: Setting
    metrics: dict[str, Interval]
    seconds: float | None
    evaluations: float | None
    queries: float | None
    peak_memory: float | None


@dataclass(frozen=True)
class BaseModel:
    """The base model of settings that measured it alike, over all their seeds."""

    label: str
    settings: tuple[Setting, ...]
    metrics: dict[str, Interval]
    seeds: int


@dataclass(frozen=True)
class Difference:
    """Paired differences of a setting to another one: the same seeds at the same step."""

    setting: Setting
    reference: Setting
    metrics: dict[str, Interval]
    seeds: int


@dataclass(frozen=True)
class Evaluated:
    """What evaluations of a setting's runs measured under one sampling.

    Attributes:
        sampling: in words.
        setting: whose; None is the base model.
        model: what of it was sampled: the fine-tuned model, or the base model as its reward guides.
        metrics: by name; of a setting, each with the paired ``difference to the base model`` too.
        seeds: how many runs were evaluated.
    """

    sampling: str
    setting: Setting | None
    model: str
    metrics: dict[str, Interval]
    seeds: int


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of one value a seed, with Student's interval for two seeds or more."""
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    if count < 2:
        return Interval(float(array.mean()), math.nan, count)
    from scipy.special import stdtrit

    error = float(array.std(ddof=1)) / math.sqrt(count)
    return Interval(float(array.mean()), float(stdtrit(count - 1, 0.975)) * error, count)


def estimate(validations: Sequence[Metrics], name: str) -> Interval:
    """A metric over seeds; of one seed, over its prompts.

    Args:
        validations: one a seed.
        name: of the metric, whose standard error over prompts stands beside it.
    """
    if len(validations) > 1:
        return over_seeds([metrics[name] for metrics in validations])
    only = validations[0]
    return Interval(only[name], _NORMAL * only.get(f"{name}_error", math.nan), 1)


def metric_names(validations: Iterable[Metrics]) -> list[str]:
    """Metrics with a standard error, the usual ones first."""
    names = dict.fromkeys(
        name for metrics in validations for name in metrics if f"{name}_error" in metrics
    )
    return [n for n in _FIRST if n in names] + [n for n in names if n not in _FIRST]


def summarise(setting: Setting) -> Summary:
    """Average the runs of a setting that were validated at its last step."""
    runs = list(setting.measured.values())
    step = setting.step
    seconds = [sum(run.totals("seconds_", step).values()) for run in runs]
    evaluations = [sum(run.totals("evaluations_", step).values()) for run in runs]
    queries = [run.totals("reward_", step).get("queries", 0.0) for run in runs]
    memory = [run.peak_memory for run in runs if run.peak_memory is not None]
    return Summary(
        setting,
        _estimates([run.validations[step] for run in runs]),
        sum(seconds) / len(runs) if runs and any(seconds) else None,
        sum(evaluations) / len(runs) if runs and any(evaluations) else None,
        sum(queries) / len(runs) if runs and any(queries) else None,
        max(memory, default=None),
    )


def base_models(settings: Sequence[Setting]) -> list[BaseModel]:
    """The base models that were measured: one, unless the settings change it or its measurement."""
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        if any(run.base for run in setting.runs):
            groups.setdefault(setting.base_key, []).append(setting)
    return [_base_model(group, len(groups) > 1) for group in groups.values()]


def evaluations(settings: Sequence[Setting]) -> list[Evaluated]:
    """Evaluations of the settings' runs, sampling by sampling.

    What training itself leaves at its end is none: validations tell of it. Runs whose base model
    drew the same pictures count once in the base model's means.
    """
    samplings = dict.fromkeys(
        each.sampling
        for setting in settings
        for run in setting.runs
        for each in run.evaluation
        if not each.sampling.startswith(OWN_SCHEDULE)
    )
    evaluated = []
    for sampling in samplings:
        base: list[Metrics] = []
        of_settings = []
        for setting in settings:
            others: dict[str, list[Metrics]] = {}
            for run in setting.runs:
                for each in run.evaluation:
                    if each.sampling != sampling:
                        continue
                    if each.model != BASE:
                        others.setdefault(each.model, []).append(each.metrics)
                    elif each.metrics not in base:
                        base.append(each.metrics)
            of_settings += [
                Evaluated(sampling, setting, model, _estimates(found), len(found))
                for model, found in others.items()
            ]
        if base:
            evaluated.append(Evaluated(sampling, None, BASE, _estimates(base), len(base)))
        evaluated += of_settings
    return evaluated


def paired_differences(settings: Sequence[Setting]) -> list[Difference]:
    """Each setting against the first, over the seeds that both have, if these are two or more.

    Settings whose rewards were not measured alike, or at another step, have no difference.
    """
    measured = [setting for setting in settings if setting.measured]
    differences = []
    for setting in measured[1:]:
        first = measured[0]
        seeds = [seed for seed in first.measured if seed in setting.measured]
        comparable = setting.base_key == first.base_key and setting.step == first.step
        if len(seeds) < 2 or not comparable:
            continue
        pairs = [(_last(setting, seed), _last(first, seed)) for seed in seeds]
        names = [
            name
            for name in metric_names(metrics for pair in pairs for metrics in pair)
            # The gains differ as the rewards do; objectives and optima depend on lambda.
            if name not in ("gain", "objective", *OF_THE_OPTIMUM)
            and all(name in m for pair in pairs for m in pair)
        ]
        metrics = {name: over_seeds([a[name] - b[name] for a, b in pairs]) for name in names}
        differences.append(Difference(setting, first, metrics, len(seeds)))
    return differences


def _last(setting: Setting, seed: int | None) -> Metrics:
    return setting.measured[seed].validations[setting.step]


def _estimates(validations: Sequence[Metrics]) -> dict[str, Interval]:
    return {
        name: estimate([metrics for metrics in validations if name in metrics], name)
        for name in metric_names(validations)
    }


def _base_model(settings: Sequence[Setting], one_of_several: bool) -> BaseModel:
    by_seed: dict[int | None, RunResult] = {}
    for run in (run for setting in settings for run in setting.runs):
        if run.base:
            by_seed.setdefault(run.seed, run)
    validations = [run.base for run in by_seed.values() if run.base]
    metrics = {
        name: interval
        for name, interval in _estimates(validations).items()
        if name not in NOT_OF_THE_BASE
    }
    label = "base model"
    if one_of_several:
        common = [
            each
            for each in settings[0].overrides
            if all(each in setting.overrides for setting in settings)
        ]
        label = f"base model of {' '.join(common) or settings[0].label}"
    return BaseModel(label, tuple(settings), metrics, len(validations))
