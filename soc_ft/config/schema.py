"""What a configuration may hold: types and ranges of every key under conf/.

Pydantic alone is imported here, so that a wrong value is answered before anything heavy loads.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Quantile = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Component(BaseModel):
    """A section that is built by calling its ``_target_`` with its other keys."""

    model_config = ConfigDict(extra="allow")
    target: str = Field(alias="_target_", pattern=r"^\w+(\.\w+)+$")


class Method(Component):
    """What every method's file under conf/method states."""

    needs_reward_gradient: bool
    regression_steps: Count


class AdjointMatching(Method):
    """Keys of conf/method/adjoint_matching.yaml."""

    model_config = ConfigDict(extra="forbid")
    early_fraction: Share
    early_share: Share
    adjoint_at: Literal["current", "next"]
    prompt_dropout: Share
    mask_quantile: Quantile
    mask_decay: Annotated[float, Field(ge=0, lt=1)]
    smoothing_copies: CountOrZero
    smoothing_std: NonNegative
    smoothing_clip_quantile: Quantile


METHODS: dict[str, type[Method]] = {
    "soc_ft.methods.adjoint_matching.AdjointMatching": AdjointMatching,
}
"""Methods whose every key is checked; others are checked for the common ones."""


class CFGMode(Section):
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    guidance_in_adjoint: bool
    guidance_in_control: bool


class Buffer(Section):
    batches: Count
    passes: Count
    importance_weighting: bool
    log_ess: bool
    device: str | None


class Scheduler(Section):
    beta_start: Positive | None
    beta_end: Positive | None
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] | None
    timestep_spacing: Literal["leading", "trailing", "linspace"] | None
    num_steps: Annotated[int, Field(ge=2, strict=True)]
    eta: NonNegative

    def noise_levels(self) -> dict[str, Any]:
        """What of it changes the checkpoint's own scheduler."""
        return self.model_dump(exclude={"num_steps", "eta"})


class Model(Component):
    guidance_scale: NonNegative


class Prompts(Section):
    train: str
    validation: str
    column: str | None
    limit: Count | None = None


class Trainer(Section):
    steps: Count
    batch_size: Count
    rollout_batch: Count
    adjoint_batch: Count
    reward_batch: Count
    micro_batch: Count
    lr: Positive
    betas: tuple[Share, Share]
    eps: Positive
    weight_decay: NonNegative
    warmup_steps: CountOrZero
    gradient_clip: Positive | None
    max_dropped: Share
    checkpoint_every: Count
    keep_every: Count | None
    accelerator: str
    devices: Count
    num_nodes: Count
    strategy: str
    precision: Literal["32-true", "bf16-mixed"]
    threads: Count | None


class Validation(Section):
    every: Count
    prompts: Count
    samples_per_prompt: Count
    batch_size: Count
    guidance_scale: NonNegative
    sheet_prompts: Count
    at_end: bool
    embedding: Component | None
    metrics: dict[str, Component]


class RunConfig(Section):
    """The whole configuration of ``python -m soc_ft``."""

    method: Method
    reward: Component
    cfg_mode: CFGMode
    scheduler: Scheduler
    buffer: Buffer
    model: Model
    finetune: Component
    prompts: Prompts
    trainer: Trainer
    validation: Validation
    tracking: Component | None
    lambda_: Positive = Field(alias="lambda")
    seed: CountOrZero
    name: Annotated[str, Field(pattern=r"^[^/]+$")]
    run_dir: str
    resume: Literal["auto", "never"]
    export: bool

    def model_post_init(self, _: Any) -> None:
        """Check the method's own keys with the class that knows them."""
        known = METHODS.get(self.method.target)
        if known is not None and type(self.method) is Method:
            self.method = known.model_validate(self.method.model_dump(by_alias=True))
