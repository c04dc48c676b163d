"""What ``exact=true`` compares: the law that fine-tuning tilts, checked before anything loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from soc_ft.checking import validated
from soc_ft.config.schema import CFGMode
from soc_ft.errors import ConfigError
from soc_ft.evaluation.plan import Exact, Measure, SamplingSetup, Settings, guidance_of_run
from soc_ft.options import Positive

DEFAULT_SAMPLES = 256


class _TunedRun(BaseModel):
    """What of a run's configuration says which law it tilts, and how far."""

    lambda_: Positive = Field(alias="lambda")
    cfg_mode: CFGMode


@dataclass(frozen=True)
class TiltedLaw:
    """The law that a run tilts.

    Attributes:
        reward_scale: lambda of the run.
        guidance_scale: w of the base model's trajectories.
        measured: whether the run's own validation samples with the same guidance.
        note: what else has to be known to compare with it, or nothing.
    """

    reward_scale: float
    guidance_scale: float
    measured: bool
    note: str


def tilted_law(run_config: Mapping[str, Any]) -> TiltedLaw:
    """The law of a run's trajectories without a control.

    Raises:
        ConfigError: the run's configuration is none that soc_ft has written.
    """
    run = validated(_TunedRun, run_config)
    cfg = run.cfg_mode
    guided = set(cfg.guided) if cfg.guidance_scale != 1 else set()
    scale = cfg.guidance_scale if "trajectories" in guided else 1.0
    note = ""
    if guided and len(guided) < 3:
        note = (
            f"the run guides {' and '.join(sorted(guided))} only, which has no tilt of one law as "
            "its optimum; it is compared with the tilt of the law that its trajectories are "
            f"sampled from, the base model at guidance {scale:g}"
        )
    return TiltedLaw(run.lambda_, scale, guidance_of_run(run_config) == scale, note)


def check_exact(
    settings: Settings,
    law: TiltedLaw | None,
    blocks: Sequence[SamplingSetup],
    own_blocks: Sequence[SamplingSetup],
    measures: Mapping[str, Measure],
) -> Exact:
    """What the optimum is computed for.

    Args:
        settings: of the evaluation.
        law: of the run, or None for a base model alone.
        blocks: that are sampled.
        own_blocks: that the run itself samples, or else ``blocks``.
        measures: what is measured; the first is the reward.

    Raises:
        ConfigError: a key means nothing, or would compare different laws.
    """
    if law is not None and (
        list(blocks) != list(own_blocks)
        or settings.guidance_scale not in (None, law.guidance_scale)
    ):
        raise ConfigError(
            "exact=true: the run is compared with the optimum of the process that it fine-tuned; "
            f"leave out scheduler, eta, num_steps and guidance_scale (it is {law.guidance_scale:g})"
        )
    if len(blocks) > 1:
        raise ConfigError("exact=true: takes one scheduler and one eta, which make one law")
    if blocks[0].eta == 0:
        raise ConfigError("exact=true: eta=0 is deterministic, so there is nothing to control")
    reward, measure = next(iter(measures.items()))
    if measure.embeds:
        raise ConfigError(f"exact=true: metrics: the first is the reward, and {reward} is none")
    samples = settings.exact_samples or DEFAULT_SAMPLES
    if samples < max(2, settings.samples_per_prompt):
        raise ConfigError(
            f"exact_samples={samples}: must be at least 2, and samples_per_prompt="
            f"{settings.samples_per_prompt}, which are the first of them"
        )
    lambdas = settings.exact_lambdas or ([law.reward_scale] if law else [])
    if not lambdas:
        raise ConfigError("exact_lambdas: a base model has none of its own; give some: [1,10]")
    notes = [law.note] if law and law.note else []
    own_sampler = blocks[0].noise_levels.get("sampler", "ddim")
    if blocks[0].eta < 1 or own_sampler != "ddim":
        which = f"eta={blocks[0].eta:g}" if own_sampler == "ddim" else f"sampler={own_sampler}"
        notes.append(
            f"{which} is not memoryless: fine-tuning leaves the law of the initial noise as it is, "
            "so the objective here is an upper bound"
        )
    return Exact(
        reward,
        list(dict.fromkeys(lambdas)),
        samples,
        own=law.reward_scale if law else None,
        measured=law is not None and law.measured and settings.checkpoint in (None, "last"),
        notes=notes,
    )


def check_exact_keys(settings: Settings) -> None:
    """Check that keys of the optimum have one to set.

    Raises:
        ConfigError: names the key.
    """
    if settings.exact and settings.images is not None:
        raise ConfigError("exact=true: means nothing with images=, whose law is not known")
    for key in ("exact_samples", "exact_lambdas"):
        if getattr(settings, key) and not settings.exact:
            raise ConfigError(f"{key}={getattr(settings, key)}: means nothing without exact=true")
