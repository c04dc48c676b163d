"""What a configuration may hold: types and ranges of every key under conf/.

Pydantic alone is imported here, so that a wrong value is answered before anything heavy loads.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from soc_ft.models.distillation import Distilled, Sampler
from soc_ft.options import (
    BatchSize,
    Component,
    Count,
    CountOrZero,
    Decay,
    Device,
    NonNegative,
    Positive,
    Section,
    Seed,
    Share,
    Steps,
    Threads,
    WithoutEffect,
    listed,
)

GuidedPlace = Literal["trajectories", "adjoint", "control"]
"""Where guidance may enter; a method says which places it distinguishes."""


class CFGMode(Section):
    """How strong guidance is, and where it enters."""

    guidance_scale: NonNegative
    guided: list[GuidedPlace]


class Buffer(Section):
    """How often trajectories are used."""

    batches: Count
    passes: Count
    importance: Literal["none", "step", "future", "path"]
    log_ess: bool
    device: WithoutEffect[Device | None]


class Scheduler(Section):
    """The sampler, noise levels and the number of steps; None keeps the checkpoint's."""

    sampler: Sampler = "ddim"  # of runs from before there were others
    beta_start: Annotated[float, Field(gt=0, lt=1)] | None
    beta_end: Annotated[float, Field(gt=0, lt=1)] | None
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] | None
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None
    num_steps: Steps
    eta: NonNegative

    def noise_levels(self) -> dict[str, Any]:
        """What of it changes the checkpoint's own scheduler."""
        return self.model_dump(exclude={"num_steps", "eta"})


class Model(Component):
    """The base model."""

    guidance_scale: NonNegative
    distilled: Distilled | None = None


class Prompts(Section):
    """Where training and held-out prompts are: sources of ``data.prompts.load_prompts``.

    Attributes:
        train: sources, or one.
        validation: the same of held-out prompts, unless ``held_out`` says which these are.
        column: key or column that holds the prompt.
        limit: train on the first so many only, of all sources in turn.
        held_out: the last so many of each source of ``train`` are held out.
        style: of several sources of ``train``, the file of this name alone.
        folder: that sources may refer to.
        origin: where files come from that are not there, for the message.
    """

    train: Annotated[list[str], BeforeValidator(listed), Field(min_length=1)]
    validation: Annotated[list[str], BeforeValidator(listed)]
    column: str | None
    limit: Count | None = None
    held_out: Count | None = None
    style: str | None = None
    folder: str | None = None
    origin: WithoutEffect[str | None] = None


class Trainer(Section):
    """Optimisation, batches, devices and checkpoints."""

    steps: Count
    batch_size: Count
    rollout_batch: BatchSize
    reward_batch: BatchSize
    micro_batch: BatchSize
    lr: Positive
    betas: tuple[Decay, Decay]
    eps: Positive
    weight_decay: NonNegative
    warmup_steps: CountOrZero
    schedule: Literal["constant", "cosine", "linear"]
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    gradient_clip: Positive | None
    max_dropped: Share
    checkpoint_every: WithoutEffect[Count]
    keep_every: WithoutEffect[Count | None]
    accelerator: WithoutEffect[Literal["auto", "cpu", "gpu", "cuda"]]
    devices: WithoutEffect[Count]
    num_nodes: WithoutEffect[Count]
    strategy: WithoutEffect[Literal["auto", "ddp"]]
    precision: Literal["32-true", "bf16-mixed"]
    tf32: bool
    threads: WithoutEffect[Threads | None]


class Validation(Section):
    """What is measured on held-out prompts, and when."""

    every: Count
    prompts: Count
    samples_per_prompt: Count
    batch_size: BatchSize
    guidance_scale: NonNegative
    sheet_prompts: Count
    at_end: bool
    control_cost: Literal["every", "last", "never"]
    embedding: Component | None
    metrics: dict[str, Component]
    base_rewards: WithoutEffect[str | None]


def _file_name(value: str) -> str:
    if not value or "/" in value:
        raise ValueError("must be a name that a folder can have, without a slash")
    return value


class RunConfig(Section):
    """The whole configuration of ``python -m soc_ft``."""

    method: Component
    reward: Component
    model: Model
    finetune: Component
    cfg_mode: CFGMode
    scheduler: Scheduler
    buffer: Buffer
    features: Component | None = None
    feedback: Component = Component(_target_="soc_ft.feedback.direct.Direct")
    prompts: Prompts
    trainer: Trainer
    validation: Validation
    tracking: WithoutEffect[Component | None]
    lambda_: Positive = Field(alias="lambda")
    seed: Seed
    name: WithoutEffect[Annotated[str, AfterValidator(_file_name)]]
    run_dir: WithoutEffect[Annotated[str, Field(min_length=1)]]
    resume: WithoutEffect[Literal["auto", "never"]]
    export: WithoutEffect[bool]
