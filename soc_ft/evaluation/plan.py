"""What an evaluation is: its settings as typed, and the plan that they are turned into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from soc_ft.checking import validated
from soc_ft.data.metadata import Metadata
from soc_ft.evaluation.folders import BASE, PictureSet
from soc_ft.evaluation.reward_guidance import RewardGuidance
from soc_ft.options import (
    Count,
    CountOrZero,
    Device,
    NonNegative,
    Positive,
    Section,
    Seed,
    Steps,
    Threads,
    listed,
)

Choice = str | dict[str, Any]
GivenPrompts = Choice | list[str] | None
"""A prompt, a list of them, a file, a data set, or an option of conf/prompts (also as a mapping, of
``option`` and what differs from it), whose held-out prompts are taken; None are those of the run.
"""


class Settings(Section):
    """Keys of conf/commands/evaluate.yaml."""

    run: str | None
    model: Choice | None
    images: str | None
    checkpoint: str | None
    model_path: str | None
    prompts: GivenPrompts
    column: str | None
    num_prompts: Count | None
    samples_per_prompt: Count
    scheduler: Annotated[list[str], BeforeValidator(listed)]
    eta: Annotated[list[NonNegative], BeforeValidator(listed)]
    num_steps: Annotated[list[Steps], BeforeValidator(listed)]
    guidance_scale: NonNegative | None
    seed: Seed
    reward_guidance: Annotated[list[Positive], BeforeValidator(listed)]
    metrics: Annotated[list[Choice], BeforeValidator(listed)]
    exact: bool
    exact_samples: Count | None
    exact_lambdas: Annotated[list[Positive], BeforeValidator(listed)]
    batch_size: Count
    metric_batch: Count
    device: Device | None
    threads: Threads | None
    sheet_prompts: CountOrZero
    save_images: bool
    output: str
    store: str
    tracking: Choice | None
    trust: Annotated[list[str], BeforeValidator(listed)]


class _Validation(BaseModel):
    guidance_scale: NonNegative


class _Validated(BaseModel):
    validation: _Validation


def guidance_of_run(run_config: Mapping[str, Any]) -> float:
    """The guidance scale of a run's validations, and so of its pictures if none is asked for.

    Raises:
        ConfigError: the run's configuration is none that soc_ft has written.
    """
    return validated(_Validated, run_config).validation.guidance_scale


@dataclass(frozen=True)
class ModelSource:
    """What makes the pictures.

    Attributes:
        model: settings of conf/model.
        finetune: settings of conf/finetune, or None for a base model alone.
        weights: the checkpoint, or None for a base model alone.
        run_dir: folder of the run, or None for a base model alone.
        guidance_scale: of all pictures.
    """

    model: dict[str, Any]
    finetune: dict[str, Any] | None
    weights: Path | None
    run_dir: Path | None
    guidance_scale: float


@dataclass(frozen=True)
class SamplingSetup:
    """One way to sample: a part of the table.

    Attributes:
        schedule: its name.
        noise_levels: of conf/scheduler; None keeps the checkpoint's.
        num_steps: K.
        eta: noise level, 0 is deterministic.
    """

    schedule: str
    noise_levels: dict[str, Any]
    num_steps: int
    eta: float


@dataclass(frozen=True)
class Measure:
    """One column of the table.

    Attributes:
        component: what is built to measure it.
        embeds: it gives vectors, whose spread within a prompt is measured, instead of scores.
    """

    component: dict[str, Any]
    embeds: bool


@dataclass(frozen=True)
class Exact:
    """What the optimum p_base exp(lambda r) is computed for.

    Attributes:
        reward: label of the measure that is r.
        lambdas: at which it is.
        samples: pictures of the base model for each prompt.
        own: lambda of the run, or None for a base model alone.
        measured: the run's last validation measured its control cost for this law and these
            weights, if at all.
        notes: what has to be known to compare.
    """

    reward: str
    lambdas: list[float]
    samples: int
    own: float | None
    measured: bool
    notes: list[str]


@dataclass(frozen=True)
class Plan:
    """A checked evaluation: ``source``, ``prompts`` and ``blocks``, or else ``sets`` of files.

    ``metadata`` of its prompts is known if a metric uses it.
    """

    settings: Settings
    source: ModelSource | None
    prompts: list[str]
    blocks: list[SamplingSetup]
    sets: list[PictureSet]
    measures: dict[str, Measure]
    metadata: Metadata
    tracking: dict[str, Any]
    exact: Exact | None = None
    reward_guidance: RewardGuidance | None = None

    def samples_of(self, model: str) -> int:
        """Pictures of each prompt that are made of a model."""
        if self.exact is not None and model == BASE:
            return self.exact.samples
        return self.settings.samples_per_prompt
