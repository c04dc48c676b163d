"""Measuring the base and the fine-tuned model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from soc_ft.api.loading import is_trained, loaded_with
from soc_ft.api.prompts import prompt_list
from soc_ft.api.sampling import SamplingSettings, sampled
from soc_ft.checking import validated
from soc_ft.config.hydra_errors import own_hydra
from soc_ft.data.metadata import Metadata
from soc_ft.data.prompts import given_metadata
from soc_ft.errors import ConfigError
from soc_ft.evaluation.checks import (
    check_sizes,
    checked_measure,
    chosen_metric,
    metric_options,
    schedule_option,
)
from soc_ft.evaluation.folders import BASE, FINE_TUNED
from soc_ft.evaluation.statistics import Scores
from soc_ft.evaluation.tables import markdown_table, terminal_table
from soc_ft.models.availability import picture_size
from soc_ft.rewards.function import FunctionReward, name_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from soc_ft.models.model import DiffusionModel


class Evaluation(list[Scores]):
    """Scores of the base and, if one is trained, of the fine-tuned model; prints as a table."""

    def __str__(self) -> str:
        """The table of the command line."""
        return terminal_table(self)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return markdown_table(self)


@dataclass(frozen=True)
class _Metric:
    """A metric that was asked for: how it is come by, and whether it gives vectors."""

    build: Callable[[], Any]
    embeds: bool


def evaluate(
    model: DiffusionModel,
    metrics: Mapping[str, Any] | Sequence[Any] | str,
    prompts: Sequence[str] | str,
    *,
    samples_per_prompt: int = 2,
    num_steps: int = 50,
    eta: float = 1.0,
    guidance_scale: float | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Evaluation:
    """Measure the base and the fine-tuned model on the same prompts and noise.

    Args:
        model: from :func:`load_model`; with ``finetune=None`` there is the base model alone.
        metrics: by their names in the table, or a list of them: functions (images (B, 3, H, W) in
            [0, 1], B prompts) -> (B,), metric objects (with ``embeds`` if they give vectors, whose
            spread within a prompt is measured), names of options of conf/metric and conf/reward, or
            settings of one as a mapping.
        prompts: P prompts, or one; or a file or data set of them, as for ``prompts=file``.
        samples_per_prompt: n, at least 2 for metrics that give vectors.
        num_steps: of the sampler, at least 2, or 1 of a consistency model.
        eta: noise level; 1 is that of fine-tuning, 0 is deterministic.
        guidance_scale: w; None is the model's own.
        seed: of the noise, which is that of :func:`sample`.
        batch_size: pictures sampled and scored together; changes no result.

    Returns:
        A list: means over prompts with their standard errors of the base model; of the fine-tuned
        model these and paired differences. It prints as a table.

    Raises:
        ConfigError: names the argument or the metric that is wrong.
    """
    loaded = loaded_with(model)
    given = {
        "samples_per_prompt": samples_per_prompt,
        "num_steps": num_steps,
        "eta": eta,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "batch_size": batch_size,
    }
    settings = validated(SamplingSettings, given)
    texts = prompt_list("prompts", prompts)
    metadata = cache(partial(given_metadata, prompts if isinstance(prompts, str) else texts))
    with own_hydra():
        measures = _metrics(metrics, samples_per_prompt, metadata)
        schedule = schedule_option(loaded.sections.get("scheduler", {}))

    from soc_ft.evaluation.measuring import compared, try_measure

    size = picture_size(loaded.sections.get("model", {}).get("path", ""))
    for label, metric in measures.items():
        try_measure(metric.build(), f"metrics.{label}", model.device, size, texts)
    models = [BASE, FINE_TUNED] if is_trained(model) else [BASE]
    pictures = {of: sampled(model, texts, settings, base=of == BASE) for of in models}
    values: dict[str, dict[str, Any]] = {of: {} for of in models}
    for label, metric in measures.items():
        measured = _measured(metric, list(pictures.values()), texts, batch_size, model.device)
        for of, own in zip(models, measured, strict=True):
            values[of][label] = own
    block = {"schedule": schedule or "the model's schedule", "eta": eta, "num_steps": num_steps}
    return Evaluation(
        compared(
            Scores(block, of, len(pictures[of])),
            values[of],
            values[BASE] if of != BASE else None,
        )
        for of in models
    )


def _metrics(
    given: Any, samples_per_prompt: int, metadata: Callable[[], Metadata]
) -> dict[str, _Metric]:
    """The metrics by their names in the table."""
    if isinstance(given, str) or callable(given) or not isinstance(given, Iterable):
        given = [given]
    if not isinstance(given, Mapping):
        given = {each if isinstance(each, str) else name_of(each): each for each in given}
    if not given:
        known = ", ".join(metric_options())
        raise ConfigError(f"metrics: choose at least one ({known}), or give a function")
    metrics = {str(label): _metric(str(label), each, metadata) for label, each in given.items()}
    check_sizes([label for label in metrics if metrics[label].embeds], samples_per_prompt)
    return metrics


def _metric(label: str, given: Any, metadata: Callable[[], Metadata]) -> _Metric:
    from soc_ft.evaluation.measuring import built_measure
    from soc_ft.rewards.metadata import share_metadata

    key = f"metrics.{label}"
    if isinstance(given, str | Mapping):
        value = given if isinstance(given, str) else dict(given)
        _, component = chosen_metric(key, value)
        embeds = checked_measure(label, component).embeds
        return _Metric(partial(built_measure, component, key, metadata), embeds)
    if isinstance(given, type) or not callable(given):
        raise ConfigError(
            f"{key}={given!r}: give a function (images, prompts) -> (B,), a metric "
            f"object, or the name of an option ({', '.join(metric_options())})"
        )
    embeds = getattr(given, "embeds", False)
    metric = given if embeds else FunctionReward(given)
    share_metadata(metric, key, metadata)
    return _Metric(lambda: metric, embeds)


def _measured(
    metric: _Metric,
    sets: Sequence[Tensor],
    prompts: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> list[Any]:
    """(P,) what a metric says of each set of (P * n, 3, H, W) uint8 pictures; then it is gone."""
    import torch

    from soc_ft.evaluation.measuring import measured, of_prompts
    from soc_ft.methods.problem import chunks
    from soc_ft.models.devices import release_memory

    built = metric.build()
    built.to(device)
    found = []
    with torch.no_grad():
        for pictures in sets:
            texts = [each for each in prompts for _ in range(len(pictures) // len(prompts))]
            values = [
                measured(built, pictures[part].to(device).float() / 255, texts[part]).cpu()
                for part in chunks(len(pictures), batch_size)
            ]
            by_prompt = torch.cat(values).unflatten(0, (len(prompts), -1))
            found.append(of_prompts(by_prompt, metric.embeds))
    del built
    release_memory()
    return found
